"""Tiny models of every family, and what lofi promises of each."""
