"""Strategies of rows: ordinary ones, and those on which careless arithmetic fails."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

DTYPES = st.sampled_from([np.float64, np.float32])
LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "strided": lambda X: np.repeat(np.repeat(X, 2, 0), 2, 1)[::2, ::2],
    "reversed": lambda X: np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1],
    "CSR": sparse.csr_array,
}


def shapes(least=1, most=12, n_features=6):
    """Return a strategy of numbers of rows and features, with more features than rows too."""
    return st.tuples(st.integers(least, most), st.integers(1, n_features))


def ordinary_rows(shape=None, scale=10.0):
    """Return a strategy of float64 rows of moderate size."""
    elements = st.floats(-scale, scale, width=32)
    return hnp.arrays(np.float64, shapes() if shape is None else shape, elements=elements)


@st.composite
def normal_rows(draw):
    """Return a strategy of float64 rows from a normal distribution that is far from degenerate."""
    n_rows, n_features = draw(st.tuples(st.integers(10, 40), st.integers(1, 6)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mixing = np.eye(n_features) + 0.2 * rng.normal(size=(n_features, n_features))
    return rng.normal(size=(n_rows, n_features)) @ mixing + rng.normal(size=n_features)


@st.composite
def hostile_rows(draw, least=1):
    """Return a strategy of rows whose features are constant, tiny, huge, denormal, far from zero.

    Each feature is of a kind of its own, rows may be repeated, and all that is finite may come.
    """
    dtype = draw(DTYPES)
    info = np.finfo(dtype)
    n_rows, n_features = draw(shapes(least))
    columns = [draw(_columns(n_rows, info)) for _ in range(n_features)]
    X = np.stack(columns, axis=1).astype(dtype)
    if draw(st.booleans()):
        X = X[draw(hnp.arrays(np.int64, n_rows, elements=st.integers(0, n_rows - 1)))]
    return X


def _columns(n_rows, info):
    """Return a strategy of one feature's values, of a kind that is drawn.

    The sum of all rows stays finite, for scikit-learn's validation warns where it overflows.
    """
    largest, tiny = float(info.max) / 2**10, float(info.tiny)
    values = st.one_of(
        st.floats(-10, 10, width=32),
        st.sampled_from([0.0, -0.0, 1.0, tiny, -tiny, largest, -largest]),
        st.floats(-largest, largest, width=info.bits),
    )
    units = st.floats(-1, 1, width=32)
    sizes = st.integers(int(np.log10(tiny)) - 4, int(np.log10(largest)))
    column = hnp.arrays(np.float64, n_rows, elements=units)
    return st.one_of(
        hnp.arrays(np.float64, n_rows, elements=values),
        st.builds(lambda value: np.full(n_rows, value), values),
        st.builds(lambda column, size: column * 10.0**size, column, sizes),
        st.builds(lambda column, size: 10.0**size + column, column, st.integers(0, 16)),
        hnp.arrays(np.float64, n_rows, elements=st.integers(0, 3).map(float)),
    )
