"""One adapter over the Hugging Face vision-language families, driven by a description of each."""
