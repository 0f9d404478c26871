"""How soon this version reaches the held-out score of another one, and what whole fits take.

    python tests/benchmarks/time_to_score.py --before CHECKOUT --data FOLDER --out times.jsonl
    python tests/benchmarks/time_to_score.py --report times.jsonl

CHECKOUT is a folder with the sources of the version to compare with. Both versions fit
`AutoencoderTransformer` with its defaults to the cells of ``pca_floor.py`` and to MNIST with 32
codes, in turn, each in a process of its own that stays open. Each cell is fitted twice:

- with a quarter of the rows as ``X_val``, where both versions see the same held-out rows after each
  epoch. The first time at which the other version has its final held-out score is compared with the
  first time at which this one has it, or more;
- without ``X_val``, as users do. Tables of fewer than 2000 rows are then cross-fitted.

The report is of cells in which the version before gains 0.015 of score over PCA.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import mnist
import numpy as np
import pca_floor

from skae import AutoencoderTransformer

LEAST_GAIN = 0.015


def timed_fit(k, seed, train, test, X_val):
    """Fit with defaults; return the score, seconds, and seconds and held-out losses by epoch."""
    estimator = AutoencoderTransformer(k, random_state=seed, verbose=1)
    times, start = [], time.perf_counter()
    type(estimator)._report = lambda self, *_: times.append(time.perf_counter() - start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(train, X_val=X_val)
    seconds = time.perf_counter() - start
    return {
        "score": estimator.score(test),
        "seconds": seconds,
        "times": times,
        "held_out": estimator.validation_loss_curve_,
        "best": estimator.best_loss_,
    }


def cell(request, folder):
    """Return what comes of a cell, both ways."""
    name, k, seed = request
    if name == "mnist_whole":
        train, test = mnist.load(folder)
        train, held_out = train[:54_000], train[54_000:]
        pca = pca_floor.pca_score(k, train, test)
        return {"pca": pca, "with X_val": timed_fit(k, seed, train, test, held_out)}
    source, standardise = pca_floor.sources(folder)[name]
    train, test = pca_floor.split(pca_floor.load(source), standardise, seed)
    pca = pca_floor.pca_score(k, train, test)
    ways = {"with X_val": test, "alone": None}
    return {"pca": pca} | {way: timed_fit(k, seed, train, test, X) for way, X in ways.items()}


def work(folder):
    """Answer requests, a line each, until there are no more."""
    for line in sys.stdin:
        print(json.dumps(cell(json.loads(line), folder)), flush=True)


class Version:
    """A process with the sources in a folder."""

    def __init__(self, folder, data):
        command = [sys.executable, __file__, "--work"] + (["--data", str(data)] if data else [])
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        environment = os.environ | {"PYTHONPATH": str(folder)}
        self.process = subprocess.Popen(command, env=environment, **pipes)

    def ask(self, request):
        """Return what it makes of a request."""
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def run(options):
    """Fit all cells by both versions in turn; append a line for each."""
    here = Path(__file__).parents[2]
    versions = {"before": options.before, "now": here}
    versions = {name: Version(folder, options.data) for name, folder in versions.items()}
    done = {tuple(record["cell"]) for record in pca_floor.read(options.out)}
    names = options.datasets or [*pca_floor.sources(options.data), "mnist_whole"]
    for seed in range(options.seeds):
        for name in names:
            for k in (32,) if name == "mnist_whole" else options.n_components:
                few = name != "mnist_whole" and k >= min(
                    pca_floor.load(pca_floor.sources(options.data)[name][0]).shape
                )
                if (name, k, seed) in done or few:
                    continue
                found = {key: each.ask((name, k, seed)) for key, each in versions.items()}
                with options.out.open("a") as file:
                    file.write(json.dumps({"cell": (name, k, seed), **found}) + "\n")
                print(name, k, seed, flush=True)


def first_at(fit, loss):
    """Return the seconds after which a fit's held-out loss is not above `loss`, or infinity."""
    reached = np.flatnonzero(np.array(fit["held_out"]) <= loss * (1 + 1e-9))
    return fit["times"][reached[0]] if len(reached) else np.inf


def report(path):
    """Print a line for each cell and the medians."""
    cells = {}
    for record in pca_floor.read(path):
        cells.setdefault(tuple(record["cell"][:2]), []).append(record)
    print("| dataset | k | score before | now | time to score | whole, with X_val | whole |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for (name, k), records in cells.items():
        before, now = ([r[key]["with X_val"] for r in records] for key in ("before", "now"))
        alone = [[r[key].get("alone") for r in records] for key in ("before", "now")]
        whole = [sum(f["seconds"] for f in fits if f) for fits in alone]
        old, new = (np.mean([f["score"] for f in fits]) for fits in (before, now))
        ratios = [
            first_at(n, b["best"]) / first_at(b, b["best"])
            for b, n in zip(before, now, strict=True)
        ]
        fits = sum(f["seconds"] for f in now) / sum(f["seconds"] for f in before)
        gain = np.mean([r["before"]["with X_val"]["score"] - r["before"]["pca"] for r in records])
        row = [np.median(ratios), fits, whole[1] / whole[0] if whole[0] else np.nan]
        shown = " | ".join(f"{value:.2f}" for value in row)
        print(f"| {name} | {k} | {old:.4f} | {new:.4f} | {shown} |")
        if gain > LEAST_GAIN:
            rows.append(row)
    print(f"\nMedians of the {len(rows)} cells with a gain before: {np.nanmedian(rows, axis=0)}")


def main():
    """Read the options; fit, answer or report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="folder with the other version's sources")
    parser.add_argument("--data", type=Path, help="folder of pca_floor.py's files")
    parser.add_argument("--out", type=Path, help="file of JSON lines to append to")
    parser.add_argument("--datasets", nargs="+")
    parser.add_argument("--n-components", nargs="+", type=int, default=pca_floor.N_COMPONENTS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.data)
    elif options.report:
        report(options.report)
    else:
        run(options)


if __name__ == "__main__":
    main()
