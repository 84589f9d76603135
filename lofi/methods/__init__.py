"""Reducers: one file each, one line each in `lofi.methods.registry`, run through `lofi.methods.select`."""
