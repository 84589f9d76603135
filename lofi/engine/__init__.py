"""Evaluation: plan the shared work, do it once, store what every cell needs."""
