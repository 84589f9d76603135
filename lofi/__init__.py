"""Does a vision-language model still give the same answers when visual tokens are dropped."""

__version__ = "0.1.0"

# Part of every cell key. Raise it whenever a change in lofi changes stored numbers.
NUMERICS_VERSION = 1
