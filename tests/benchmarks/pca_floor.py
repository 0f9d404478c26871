"""Defaults against PCA on test rows: never worse, and better wherever a wide net is.

    python tests/benchmarks/pca_floor.py --data FOLDER --out default.jsonl
    python tests/benchmarks/pca_floor.py --data FOLDER --out reference.jsonl --reference
    python tests/benchmarks/pca_floor.py --report default.jsonl reference.jsonl

A cell is a dataset and a number of codes. The first command fits `AutoencoderTransformer` with
defaults for three seeds per cell; the second, for seed 0, wide nets from random weights on a long
budget with three learning rates, of which the best test score counts. Both append a JSON line per
fit or cell and skip what the file already holds: use a new file after a change of skae. The third
prints a table and the two percentages asked for:

- in all cells the mean score is at least PCA's minus 0.002 minus two standard errors;
- in 70 % of the cells in which a wide net beats PCA by 0.015, the defaults do by over 0.01.

Standard errors are those of the mean paired difference: PCA and net see the same rows.

FOLDER holds mnist.npz, freyfaces.npz, oilflow.npz, adbench_10_cover.npz, uci_kin8nm.npz,
uci_protein-tertiary-structure.npz and adult.csv; without it, these are left out.
"""

import argparse
import json
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer

N_COMPONENTS = (1, 2, 4, 8, 16)
SEEDS = range(5)
MOST_ROWS = 2000
LEARNING_RATES = (1e-4, 1e-3, 3e-3)
FLOOR, REFERENCE_GAIN = 0.002, 0.015


def circles():
    """Return two concentric circles, mapped linearly into 20 dimensions, with noise."""
    rng = np.random.default_rng(0)
    plane, _ = datasets.make_circles(MOST_ROWS, noise=0.02, factor=0.5, random_state=0)
    return plane @ rng.normal(size=(2, 20)) + 0.05 * rng.normal(size=(MOST_ROWS, 20))


def torus():
    """Return 1,600 points around a torus in three dimensions."""
    rng = np.random.default_rng(0)
    around, across = rng.uniform(0, 2 * np.pi, size=(2, 1600))
    radius = 2 + 0.7 * np.cos(across)
    points = radius * np.cos(around), radius * np.sin(around), 0.7 * np.sin(across)
    return np.column_stack(points) + 0.05 * rng.normal(size=(1600, 3))


def skewed():
    """Return a table of 12 log-normal columns that share three factors."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(MOST_ROWS, 3)) @ rng.normal(size=(3, 12)) / np.sqrt(3)
    return np.exp(factors + 0.3 * rng.normal(size=factors.shape))


def from_npz(name, key, columns=slice(None), *, folder):
    """Return an array of a file, without the columns that are not features."""
    with np.load(folder / f"{name}.npz") as file:
        return file[key][:, columns]


def adult(folder):
    """Return the numeric columns of the adult table."""
    return np.loadtxt(
        folder / "adult.csv", delimiter=",", skiprows=1, usecols=(0, 2, 4, 10, 11, 12)
    )


def sources(folder):
    """Return, by name and quick ones first, what gives the rows and whether to standardise."""
    swiss_roll = partial(datasets.make_swiss_roll, MOST_ROWS, noise=0.1, random_state=0)
    s_curve = partial(datasets.make_s_curve, MOST_ROWS, noise=0.05, random_state=0)
    low_rank = partial(
        datasets.make_low_rank_matrix, MOST_ROWS, 50, effective_rank=8, random_state=0
    )
    friedman = partial(datasets.make_friedman1, MOST_ROWS, random_state=0)
    blobs = partial(datasets.make_blobs, MOST_ROWS, 20, centers=10, random_state=0)
    found = {
        "iris": (lambda: datasets.load_iris().data, False),
        "wine": (lambda: datasets.load_wine().data, True),
        "diabetes": (lambda: datasets.load_diabetes().data, True),
        "breast_cancer": (lambda: datasets.load_breast_cancer().data, True),
        "swiss_roll": (lambda: swiss_roll()[0], False),
        "s_curve": (lambda: s_curve()[0], False),
        "torus": (torus, False),
        "circles": (circles, False),
        "friedman1": (lambda: friedman()[0], False),
        "skewed": (skewed, True),
        "blobs": (lambda: blobs()[0], False),
        "low_rank": (low_rank, False),
        "digits": (lambda: datasets.load_digits().data, False),
    }
    if folder is not None:
        npz = partial(partial, from_npz, folder=folder)
        found |= {
            "oilflow": (npz("oilflow", "DataTrn"), False),
            "kin8nm": (npz("uci_kin8nm", "X", slice(-1)), True),
            "protein": (npz("uci_protein-tertiary-structure", "X", slice(-1)), True),
            "adult": (partial(adult, folder), True),
            "cover": (npz("adbench_10_cover", "X"), True),
            "freyfaces": (npz("freyfaces", "X"), False),
            "mnist": (npz("mnist", "X_train"), False),
        }
    return found


def load(source):
    """Return at most 2,000 rows of a source, always the same ones."""
    X = np.asarray(source(), dtype=np.float64)
    chosen = np.random.default_rng(0).permutation(len(X))[:MOST_ROWS]
    return X[np.sort(chosen)]


def split(X, standardise, seed):
    """Return training and test rows, the features in units of the training rows if asked for."""
    train, test = train_test_split(X, test_size=0.25, random_state=seed)
    if standardise:
        scaler = StandardScaler().fit(train)
        train, test = scaler.transform(train), scaler.transform(test)
    return train, test


def pca_score(k, train, test):
    """Return PCA's 1 - SSE / SST on test rows, with the training mean as in skae's `score`."""
    pca = PCA(k, svd_solver="full").fit(train)
    error = np.square(test - pca.inverse_transform(pca.transform(test))).sum()
    return float(1 - error / np.square(test - pca.mean_).sum())


def fit(estimator, train, test):
    """Fit an estimator; return its test score, how it got there and what it warned of."""
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(train)
    return {
        "score": estimator.score(test),
        "seconds": round(time.perf_counter() - start, 2),
        "n_iter": estimator.n_iter_,
        "warnings": [f"{w.category.__name__}: {w.message}" for w in caught],
    }


def with_defaults(k, seed, train, test):
    """Return what comes of the defaults, one record."""
    estimator = AutoencoderTransformer(k, random_state=seed)
    outcome = fit(estimator, train, test)
    return {**outcome, "gain_over_pca": estimator.gain_over_pca_}


def with_wide_nets(k, seed, train, test):
    """Return what comes of wide nets on a long budget, the best test score first."""
    outcomes = []
    for rate in LEARNING_RATES:
        estimator = AutoencoderTransformer(
            k,
            hidden_layer_sizes=(512, 512),
            init="random",
            learning_rate=rate,
            early_stopping=True,
            n_iter_no_change=50,
            max_iter=400,
            random_state=seed,
        )
        outcome = {"learning_rate": rate, **fit(estimator, train, test)}
        outcomes.append({**outcome, "held_out_loss": estimator.best_loss_})
    best = min(outcomes, key=lambda outcome: outcome["held_out_loss"])
    return {"score": best["score"], "fits": outcomes}


def read(path):
    """Return the records of a file, none if it does not exist."""
    return [json.loads(line) for line in path.open()] if path.exists() else []


def run(options):
    """Run all fits that the output file does not hold yet; append their records to it."""
    seeds, outcome = ((0,), with_wide_nets) if options.reference else (SEEDS, with_defaults)
    done = {(r["dataset"], r["k"], r["seed"]) for r in read(options.out)}
    known = sources(options.data)
    for name in options.datasets or known:
        source, standardise = known[name]
        X = load(source)
        for k in options.n_components:
            for seed in seeds:
                train, test = split(X, standardise, seed)
                if (name, k, seed) in done or k >= min(train.shape):
                    continue
                pca = pca_score(k, train, test)
                record = {"dataset": name, "k": k, "seed": seed, "pca": pca}
                record |= outcome(k, seed, train, test)
                with options.out.open("a") as file:
                    file.write(json.dumps(record) + "\n")
                print(f"{name} k={k} seed={seed}: {record['score'] - pca:+.4f}", flush=True)


def report(default, reference):
    """Print the table of finished cells, the floor and the shares from two files of records."""
    records, cells = read(default), {}
    for record in records:
        cells.setdefault((record["dataset"], record["k"]), []).append(record)
    gains = {(r["dataset"], r["k"]): r["score"] - r["pca"] for r in read(reference)}
    print("| dataset | k | PCA | skae | standard error | own estimate | wide nets' gain | share |")
    print("| --- " * 8 + "|")
    kept, shares = 0, {}
    finished = [cell for cell, fits in cells.items() if len(fits) == len(SEEDS)]
    for name, k in finished:
        fits = cells[name, k]
        pca, score, estimate = (
            np.array([fit[key] for fit in fits]) for key in ("pca", "score", "gain_over_pca")
        )
        mean, error = np.mean(score - pca), np.std(score - pca, ddof=1) / np.sqrt(len(fits))
        kept += mean >= -FLOOR - 2 * error
        gain = gains.get((name, k))
        if gain is not None and gain > REFERENCE_GAIN:
            shares[name, k] = mean / gain
        shown = "-" if gain is None else f"{gain:+.4f}"
        share = f"{shares[name, k]:.2f}" if (name, k) in shares else ""
        print(
            f"| {name} | {k} | {pca.mean():.4f} | {score.mean():.4f} | {error:.4f} "
            f"| {estimate.mean():+.4f} | {shown} | {share} |"
        )
    print(f"\nFloor kept in {kept} of {len(finished)} cells{percent(kept, len(finished))}.")
    values = np.array(list(shares.values()))
    print(
        f"Share of the wide nets' gain in {len(values)} cells: {values.mean():.2f} on average, "
        f"{np.minimum(values, 1).mean():.2f} if none counts for more than 1; smallest "
        f"{min(shares, key=shares.get)}."
    )
    seconds = np.median([record["seconds"] for record in records])
    print(f"Median fit: {seconds:.1f} s.")


def percent(part, whole):
    """Return a share in brackets, nothing for a share of nothing."""
    return f" ({100 * part / whole:.0f} %)" if whole else ""


def main():
    """Read the options; fit or report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with the files named above")
    parser.add_argument("--out", type=Path, help="file of JSON lines to append to")
    parser.add_argument("--reference", action="store_true", help="train wide nets instead")
    parser.add_argument("--datasets", nargs="+", help="only these, in this order")
    parser.add_argument("--n-components", nargs="+", type=int, default=N_COMPONENTS)
    parser.add_argument("--report", nargs=2, type=Path, metavar=("DEFAULT", "REFERENCE"))
    options = parser.parse_args()
    if options.report:
        report(*options.report)
    elif options.out:
        unknown = set(options.datasets or ()) - set(sources(options.data))
        if unknown:
            parser.error(f"unknown datasets, or --data is missing: {sorted(unknown)}")
        run(options)
    else:
        parser.error("either --out or --report is needed")


if __name__ == "__main__":
    main()
