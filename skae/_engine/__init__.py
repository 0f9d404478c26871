"""Gradients written out: a small compiler from networks and terms to a list of calls."""
