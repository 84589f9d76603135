"""Datasets: declarative cards, and what prepares and reads their questions and images."""
