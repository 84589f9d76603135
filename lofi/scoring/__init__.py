"""Answer parsing and scoring: one file per rule, pure functions on strings."""
