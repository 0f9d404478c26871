"""The row-slice rule: how a batch is cut into slices changes nothing but rounding."""

from functools import partial

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from skae._training.step import even_slices

from . import steps

N_FEATURES = st.shared(st.integers(1, 5), key="n_features")


@pytest.mark.parametrize("make", [steps.compiled, steps.by_autograd])
@given(
    model=N_FEATURES.flatmap(partial(steps.models, row_by_row=True)),
    settings=steps.step_settings(),
    n_features=N_FEATURES,
    n_rows=st.integers(1, 30),
    cut=st.integers(1, 30),
    seed=steps.SEEDS,
)
def test_any_cut_of_a_batch_gives_the_whole_gradient(
    make, model, settings, n_features, n_rows, cut, seed
):
    """Gradient, loss and moving averages of slices are those of the whole batch."""
    x = steps.normals(seed, n_rows, n_features)
    whole, sliced = (
        steps.after(make(*model, learning_rate=1e-3, slice_rows=rows, **settings), x)
        for rows in (1000, cut)
    )
    steps.assert_agree(sliced, whole)
    torch.testing.assert_close(sliced["weights"], whole["weights"], rtol=0, atol=1e-9)


@given(n_rows=st.integers(1, 10**5), most=st.integers(1, 10**5))
def test_slices_cover_a_batch(n_rows, most):
    """They follow each other, are as few as can be, none is too long, and lengths are alike."""
    assume(n_rows / most <= 1000)
    slices = even_slices(n_rows, most)
    lengths = [len(range(n_rows)[rows]) for rows in slices]
    ends = [rows.stop for rows in slices]

    assert [rows.start for rows in slices] == [0, *ends[:-1]]
    assert sum(lengths) == n_rows
    assert 0 < min(lengths) <= max(lengths) <= most
    assert len(slices) == -(-n_rows // most)
