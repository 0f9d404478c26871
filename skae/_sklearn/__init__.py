"""scikit-learn's side: validation of input and parameters, state that is never half-fitted."""
