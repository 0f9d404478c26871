"""What the user calls: the three transformers."""
