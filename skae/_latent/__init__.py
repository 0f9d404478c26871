"""What the codes mean: their basis, moments, density and noise."""
