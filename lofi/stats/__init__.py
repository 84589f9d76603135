"""From samples to tables: how consistent each cell is with its full model, with honest uncertainty."""
