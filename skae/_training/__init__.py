"""The loop: steps, validation, early stopping. It knows no estimator."""
