"""One adapter over the Hugging Face vision-language families, driven by a description of each."""

import logging

# transformers imports torchao wherever it is installed, which then names every kernel that this machine cannot load,
# and has torch complain of how it registers its enums. None of them is used here.
logging.getLogger("torchao").addFilter(lambda record: not record.getMessage().startswith("Failed to load "))
logging.getLogger("torch.utils._pytree").addFilter(lambda record: "register_constant()" not in record.getMessage())
