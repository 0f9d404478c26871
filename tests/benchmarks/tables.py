"""Draws of VQVAETransformer for real tables: how a classifier tells them from held-out rows.

    python tests/benchmarks/tables.py --data FOLDER
    python tests/benchmarks/tables.py --data FOLDER --tvae

FOLDER holds ``adult.csv`` (its numeric columns are used) and ``adbench_10_cover.npz``. For each
seed 20,000 rows are fitted, 10,000 drawn and rounded to whole numbers within the range of the
training rows, as all columns of both tables are. Prints means, in standard deviations, and
correlations, averaged over pairs, that are off, and the area under the ROC curve of gradient
boosting that tells draws from 10,000 held-out rows, on halves that it has not seen. The
estimator has identity networks and a codebook for each column; "independent"
has the same codes, whose frequencies are drawn from. "bootstrap" are the training
rows themselves: what is reached at best. With ``--tvae`` also CTGAN's TVAE, which has to be
installed, with as many epochs as fit into VQVAETransformer's time.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from skae import VQVAETransformer
from skae.priors import AutoregressivePrior, IndependentPrior

N_FITTED, N_DRAWN = 20_000, 10_000
SETTINGS = dict(
    encoder=torch.nn.Identity(),
    decoder=torch.nn.Identity(),
    scale="standard",
    prior=AutoregressivePrior(learning_rate=1e-3),
    max_iter=0,
)


def load(folder):
    """Return the tables by name."""
    columns = (0, 2, 4, 10, 11, 12)
    adult = np.loadtxt(folder / "adult.csv", delimiter=",", skiprows=1, usecols=columns)
    return {"adult": adult, "cover": np.load(folder / "adbench_10_cover.npz")["X"].astype(float)}


def fit_and_draw(train, seed):
    """Return draws by method, and the seconds that fitting took."""
    started = time.perf_counter()
    n_features = train.shape[1]
    model = VQVAETransformer(n_features, n_codes=n_features, random_state=seed, **SETTINGS)
    model.fit(train)
    seconds = time.perf_counter() - started
    draws = {"autoregressive": model.sample(N_DRAWN, random_state=seed)}
    model.prior_ = IndependentPrior(model.codebook_.shape[1]).fit(model._integer_codes(train))
    draws["independent"] = model.sample(N_DRAWN, random_state=seed)
    return draws, seconds


def draw_tvae(train, seed, seconds):
    """Return draws of TVAE, trained for about as long."""
    import pandas as pd
    from ctgan import TVAE

    frame = pd.DataFrame(train, columns=[f"x{i}" for i in range(train.shape[1])])
    torch.manual_seed(seed)
    times = []
    for epochs in (1, 3):
        started = time.perf_counter()
        TVAE(epochs=epochs).fit(frame)
        times.append(time.perf_counter() - started)
    per_epoch = max((times[1] - times[0]) / 2, 1e-3)
    model = TVAE(epochs=max(1, int((seconds - times[0]) / per_epoch)))
    model.fit(frame)
    return model.sample(N_DRAWN).to_numpy()


def measure(draws, train, test, seed):
    """Return errors of means and correlations, and the classifier's area under the curve."""
    varies = (train.std(0) > 0) & (draws.std(0) > 0)
    means = np.abs(draws.mean(0) - train.mean(0))[varies] / train.std(0)[varies]
    pairs = np.triu_indices(int(varies.sum()), 1)
    correlations = [np.corrcoef(X[:, varies].T)[pairs] for X in (draws, train)]
    X, y = np.vstack([test, draws]), np.repeat([0, 1], [len(test), len(draws)])
    order = np.random.default_rng(seed).permutation(len(X))
    seen, unseen = np.array_split(order, 2)
    classifier = HistGradientBoostingClassifier(random_state=seed).fit(X[seen], y[seen])
    area = roc_auc_score(y[unseen], classifier.predict_proba(X[unseen])[:, 1])
    return means.max(), np.abs(correlations[0] - correlations[1]).mean(), area


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tvae", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for name, table in load(arguments.data).items():
        results = {}
        for seed in range(arguments.seeds):
            order = np.random.default_rng(seed).permutation(len(table))
            train, test = np.split(table[order[: N_FITTED + N_DRAWN]], [N_FITTED])
            draws, seconds = fit_and_draw(train, seed)
            if arguments.tvae:
                draws["TVAE"] = draw_tvae(train, seed, seconds)
            draws["bootstrap"] = train[:N_DRAWN]
            for method, drawn in draws.items():
                drawn = np.clip(np.rint(drawn), train.min(0), train.max(0))
                results.setdefault(method, []).append(measure(drawn, train, test, seed))
            print(f"{name} seed {seed}: fitted in {seconds:.0f} s", flush=True)
        for method, rows in results.items():
            means, correlations, areas = np.transpose(rows)
            print(
                f"| {name} | {method} | {means.max():.3f} | {correlations.mean():.3f} | "
                f"{np.mean(areas):.3f} | {' '.join(f'{area:.3f}' for area in areas)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
