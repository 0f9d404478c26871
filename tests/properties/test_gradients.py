"""Gradients: those that are compiled equal those of automatic differentiation."""

from hypothesis import given
from hypothesis import strategies as st

from . import steps

N_FEATURES = st.shared(st.integers(1, 5), key="n_features")


@given(
    model=N_FEATURES.flatmap(steps.models),
    settings=steps.step_settings(),
    n_features=N_FEATURES,
    n_rows=st.integers(1, 12),
    slice_rows=st.integers(1, 20),
    seed=steps.SEEDS,
    progress=st.floats(0, 1),
    in_buffer=st.booleans(),
)
def test_compiled_gradients_are_those_of_autograd(
    model, settings, n_features, n_rows, slice_rows, seed, progress, in_buffer
):
    """Any network, with any terms, weights, settings and number of rows, to 1e-10."""
    x = steps.normals(seed, n_rows, n_features)
    settings = dict(learning_rate=1e-3, slice_rows=slice_rows, **settings)
    found = steps.after(steps.compiled(*model, **settings), x, progress, in_buffer)
    steps.assert_agree(found, steps.after(steps.by_autograd(*model, **settings), x, progress))
