"""Tests of how rows reach the device."""

import numpy as np
import pytest
import torch
from scipy import sparse

from skae._data import batches as module
from skae._data.batches import ResidentRows, StreamedRows, make_rows
from skae._data.scaling import fit_scaling

CPU = torch.device("cpu")


def generator(seed=0):
    """Return a seeded generator."""
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def X():
    """Return rows with zeros."""
    rng = np.random.default_rng(0)
    return np.where(rng.random((103, 5)) < 0.4, rng.normal(size=(103, 5)), 0.0)


@pytest.mark.parametrize("storage", ["dense", "columns first", "csr", "memmap"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", ["standard", None])
@pytest.mark.parametrize("placed", [True, False])
@pytest.mark.parametrize("resident", [True, False])
def test_every_way_yields_the_same_batches(
    X, storage, dtype, kind, placed, resident, monkeypatch, tmp_path
):
    """Stored and fed in any way, an epoch is the same tensors in the same order, to the bit."""
    for name in ("_LARGEST_RESIDENT", "_LARGEST_DENSIFIED"):
        monkeypatch.setattr(module, name, 2**20 if resident else 0)
    monkeypatch.setattr(module, "_COPY_BYTES", 8 * 5 * 10)
    index = np.arange(1, 103)
    X = X.astype(dtype)
    scaling = fit_scaling(X, kind)
    order = torch.randperm(102, generator=generator())
    expected = torch.tensor(scaling.to_scaled(X)[index], dtype=torch.float32)[order].split(20)
    source = X
    if storage == "columns first":
        source = np.asfortranarray(X)
    elif storage == "csr":
        source = sparse.csr_array(X)
    elif storage == "memmap":
        X.tofile(tmp_path / "rows")
        source = np.memmap(tmp_path / "rows", mode="r", dtype=X.dtype, shape=X.shape)
    rows = make_rows(source, index, scaling, CPU)
    places = {n_rows: torch.empty(n_rows, 5) for n_rows in (20, 2)} if placed else {}
    batches = [batch.clone() for batch in rows.epoch(20, generator(), places.get)]

    assert isinstance(rows, ResidentRows if resident else StreamedRows)
    assert [len(batch) for batch in batches] == [20] * 5 + [2]
    assert all(torch.equal(*pair) for pair in zip(batches, expected, strict=True))
    assert torch.equal(torch.cat(list(rows.in_order(7))), torch.cat(expected)[order.argsort()])


def test_a_sample_has_no_row_twice(X):
    """Drawing as many rows as there are gives each once; asking for more gives all."""
    rows = make_rows(X, np.arange(103), fit_scaling(X, None), CPU)
    drawn = torch.cat(list(rows.sample(500, generator())))

    assert torch.equal(drawn.sort(0).values, torch.tensor(X, dtype=torch.float32).sort(0).values)
    assert [len(piece) for piece in rows.sample(10, generator())] == [10]
