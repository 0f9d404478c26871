"""PCA and three autoencoders in one grid search.

The 8 x 8 digits that come with scikit-learn are scaled, reduced to 4, 8 or 16 components and
classified. One grid search tries four reducers in the second step and scores each by the accuracy
of the classifier behind it; a table adds what each reducer keeps of rows it has not seen, and a
figure shows their reconstructions and samples.

Run it as ``python demo.py [figure.png]``; the figure goes to ``demo.png`` unless told otherwise.
"""

import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae.metrics import explained_variance_scorer

REDUCERS = [PCA, AutoencoderTransformer, VAETransformer, VQVAETransformer]
N_COMPONENTS = [4, 8, 16]
N_COMPONENTS_SHOWN = 8


def to_unit(X):
    """Bring pixels from 0..16 to 0..1: one number for all, so that no reducer gains by it."""
    return X / 16


def to_pixels(X):
    """Bring pixels back to 0..16."""
    return X * 16


def make_search():
    """Return the grid search; PCA and the autoencoders differ in the name of the class only."""
    pipeline = Pipeline(
        [
            ("scale", FunctionTransformer(to_unit, to_pixels)),
            ("reduce", PCA()),
            # The penalty of the classifier sees codes of unit variance, whoever made them.
            ("classify", make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))),
        ]
    )
    grid = {
        "reduce": [reducer(random_state=0) for reducer in REDUCERS],
        "reduce__n_components": N_COMPONENTS,
    }
    return GridSearchCV(pipeline, grid, scoring="accuracy", cv=5, verbose=3)


def refit_all(search, X, y):
    """Fit every candidate of the search, without its classifier, on all training rows."""
    reductions = []
    for params in search.cv_results_["params"]:
        params = {key: clone(value, safe=False) for key, value in params.items()}
        reductions.append(clone(search.estimator).set_params(**params)[:-1].fit(X, y))
    return reductions


def name(reduction):
    return type(reduction["reduce"]).__name__


def print_table(search, reductions, X_test):
    """Print a line per candidate: what it keeps of test rows, what that is worth, what it costs."""
    results = search.cv_results_
    print("\n                                     variance explained    accuracy    seconds")
    print("reducer                 n_components       on test rows  (5 folds)    per fit")
    for i, reduction in enumerate(reductions):
        print(
            f"{name(reduction):<23} {reduction['reduce'].n_components:>12}"
            f" {explained_variance_scorer(reduction, X_test):>18.3f}"
            f" {results['mean_test_score'][i]:>10.3f} {results['mean_fit_time'][i]:>10.2f}"
        )


def sample(reduction, n_samples):
    """Draw new digits; PCA has no `sample`, so its codes are drawn from a Gaussian.

    Samples of the VAE include the noise of its likelihood.
    """
    reducer = reduction["reduce"]
    if isinstance(reducer, PCA):
        codes = np.random.RandomState(0).standard_normal((n_samples, reducer.n_components_))
        rows = reducer.inverse_transform(codes * np.sqrt(reducer.explained_variance_))
    else:
        rows = reducer.sample(n_samples, random_state=0)
    return reduction["scale"].inverse_transform(rows)


def plot(reductions, X, y, path):
    """Draw test digits, their reconstructions and samples, a row per reducer."""
    one_of_each = [np.flatnonzero(y == digit)[0] for digit in range(10)]
    others = np.setdiff1d(np.arange(len(X)), one_of_each)[:10]
    rows = [("test digits", X[one_of_each], X[others])]
    for reduction in reductions:
        codes = reduction.transform(X[one_of_each])
        label = name(reduction).removesuffix("Transformer")
        rows.append((label, reduction.inverse_transform(codes), sample(reduction, 10)))

    figure, axes = plt.subplots(len(rows), 2, figsize=(12, 3.7), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.06, hspace=0)
    for line, (label, *strips) in zip(axes, rows, strict=True):
        for ax, digits in zip(line, strips, strict=True):
            strip = np.hstack([np.pad(digit.reshape(8, 8), 1) for digit in digits])
            ax.imshow(strip, cmap="gray_r", vmin=0, vmax=16)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=11)
    axes[0, 0].set_title(f"reconstructed from {N_COMPONENTS_SHOWN} components", fontsize=12, pad=10)
    axes[0, 1].set_title("sampled (first row: more test digits)", fontsize=12, pad=10)
    figure.savefig(path, dpi=150)


def main(path="demo.png"):
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    search = make_search().fit(X_train, y_train)
    print("Fitting every candidate on all training rows")
    reductions = refit_all(search, X_train, y_train)
    print_table(search, reductions, X_test)
    best = search.best_estimator_
    print(
        f"\nBest: {name(best)} with {best['reduce'].n_components} components, "
        f"accuracy {search.score(X_test, y_test):.3f} on the test rows"
    )
    shown = [r for r in reductions if r["reduce"].n_components == N_COMPONENTS_SHOWN]
    plot(shown, X_test, y_test, path)
    print(f"Reconstructions and samples: {path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
