"""How the embedded `digits-llava` is trained, from a seed."""
