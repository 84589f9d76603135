"""Two answer channels must not be mixed: generated text, and the best option by its logits.

The logit channel names a label. To score it with the dataset's own rule, the label is written as the
prediction that the rule reads as exactly that label.
"""

from collections.abc import Sequence


def restricted(option_logprobs: Sequence[float], labels: Sequence[str]) -> str:
    """The label with the highest log-probability; the first of them on a tie."""
    if not labels or len(option_logprobs) != len(labels):
        raise ValueError(f"{len(option_logprobs)} log-probabilities do not fit the labels {list(labels)}")
    best = max(range(len(labels)), key=lambda at: option_logprobs[at])
    return labels[best]


def label_to_prediction(label: str, labels: Sequence[str]) -> str:
    """The text that every letter or yes/no rule parses as `label`: the bare label."""
    if label not in labels:
        raise ValueError(f"{label!r} is not one of the labels {', '.join(labels)}")
    return label
