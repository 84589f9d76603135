"""How the embedded models are trained, from a seed."""
