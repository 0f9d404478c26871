"""Encode, decode and score without gradients."""
