"""Where training starts: PCA, probabilistic PCA."""
