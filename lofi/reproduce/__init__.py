"""What a report was made from, in one file, and what of it is another today."""
