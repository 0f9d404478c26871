"""How fast skae and its peers are, on the same nets, batches and number of steps.

    python tests/benchmarks/speed.py
    python tests/benchmarks/speed.py --data FOLDER --figure docs/_static/speed.png
    python tests/benchmarks/speed.py --kinds autoencoder --works "W1, batch 32" --repeats 7
    python tests/benchmarks/speed.py --before CHECKOUT --contestants skae

FOLDER holds ``mnist.npz`` with ``X_train``; without it the workload on MNIST is left out. Peers
that are not installed (skorch, pythae, pyod) are left out too. CHECKOUT holds skae at another
commit, which then is a contestant. Every contestant has a process of
its own, warm after a small fit; fits are interleaved, A B C A B C, and the tables hold medians. The
squared error that each reached stands beside its time: a fast fit that learned less does not count.

Beside whole fits it measures, on W1 and W2, `transform` of all rows and of one, the peak of memory
above the data during a fit, the size of a pickle; and in fresh processes, imports and a first fit.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from contestants import CONTESTANTS, rows

WORKS = {
    "W1, batch 32": dict(data="digits", hidden=(32,), codes=8, batch=32, epochs=100, size=64),
    "W1, batch 200": dict(data="digits", hidden=(32,), codes=8, batch=200, epochs=100, size=64),
    "W3": dict(data="table", hidden=(64, 32), codes=8, batch=512, epochs=5, size=128),
    "W2": dict(data="mnist", hidden=(512, 256), codes=32, batch=256, epochs=3, size=512),
}
BEFORE = "skae, before"
KINDS = ("autoencoder", "vae", "vqvae")
LATENCY_CALLS = 300
IMPORTS = ("sklearn.base", "skae", "torch", "skorch", "pythae.models", "pyod.models.auto_encoder")
FIRST_FIT = """
import time
start = time.perf_counter()
import sys
sys.path.insert(0, {folder!r})
from contestants import CONTESTANTS, rows
CONTESTANTS[{name!r}][0](rows("digits", None), {work!r}, 0)
print(time.perf_counter() - start)
"""


# -- in a contestant's process ---------------------------------------------------------------------


def serve(name, folder):
    """Answer requests, one JSON object per line, until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what peers print is no answer
    fit, data, warm = CONTESTANTS[name][0], {}, set()
    for line in sys.stdin:
        work = json.loads(line)
        if work["data"] not in data:
            data[work["data"]] = rows(work["data"], folder)
        X = data[work["data"]]
        try:
            if work["kind"] not in warm:
                fit(X[: 4 * work["batch"] + 3].copy(), work | {"epochs": 1}, 0)
                warm.add(work["kind"])
            answer = measure(fit, X, work)
        except Exception as error:
            answer = {"missing": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def measure(fit, X, work):
    """Return the seconds of a fit and its error, or what else is asked for."""
    before = reset_peak()
    start = time.perf_counter()
    fitted = fit(X, work, work["seed"])
    seconds = time.perf_counter() - start
    answer = {"seconds": seconds, "memory": (peak() - before) / X.nbytes}
    error = np.square(fitted.reconstruct(X).astype(np.float64) - X).mean()
    answer["error"] = float(error)
    if work["closer"]:
        answer["bytes"] = fitted.n_bytes()
        answer["all rows"] = best_of(lambda: fitted.encode(X), 5)
        row = X[:1].copy()
        answer["one row"] = best_of(lambda: [fitted.encode(row) for _ in range(LATENCY_CALLS)], 5)
        answer["one row"] /= LATENCY_CALLS
    return answer


def best_of(function, repeats):
    """Return the median of some times, in seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def reset_peak():
    """Start measuring the peak of memory anew, and return the memory used now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def peak():
    """Return the largest memory used since `reset_peak`, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


# -- in the process that asks ----------------------------------------------------------------------


class Contestant:
    """A warm process of a contestant."""

    def __init__(self, name, folder, checkout):
        self.name = name
        before = name == BEFORE
        served = "skae" if before else name
        command = [sys.executable, __file__, "--serve", served, "--data", str(folder)]
        environment = os.environ | ({"PYTHONPATH": str(checkout)} if before else {})
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **pipes)

    def ask(self, work):
        """Return the answer to a request."""
        self.process.stdin.write(json.dumps(work) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"missing": "its process died"}

    def leave(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def race(work, names, folder, repeats, checkout=None):
    """Return the answers of each contestant, interleaved."""
    contestants = [Contestant(name, folder, checkout) for name in names]
    answers = {name: [] for name in names}
    for repeat in range(repeats):
        for contestant in contestants[:: 1 if repeat % 2 == 0 else -1]:
            if any("missing" in answer for answer in answers[contestant.name]):
                continue
            request = work | {"seed": repeat, "closer": repeat == repeats - 1}
            answers[contestant.name].append(contestant.ask(request))
    for contestant in contestants:
        contestant.leave()
        for answer in answers[contestant.name][-1:]:
            if "missing" in answer:
                print(f"\n{contestant.name} is left out: {answer['missing']}.")
    return {n: a for n, a in answers.items() if a and not any("missing" in each for each in a)}


def print_race(label, answers):
    """Print a table of whole fits, and return the medians in seconds."""
    seconds = {n: statistics.median(each["seconds"] for each in a) for n, a in answers.items()}
    errors = {n: statistics.median(each["error"] for each in a) for n, a in answers.items()}
    hand, own = seconds.get("hand-written loop"), seconds.get("skae")
    print(f"\n**{label}**\n")
    print(
        "| contestant | seconds | times faster than the loop | skae is faster by | squared error |"
    )
    print("| --- | --- | --- | --- | --- |")
    for name, value in seconds.items():
        ratios = [
            f"{top / bottom:.2f}" if top and bottom else "-"
            for top, bottom in ((hand, value), (value, own))
        ]
        print(
            f"| {name} | {value:.3f} | {ratios[0]} | {ratios[1]} | {errors[name]:.5f} |", flush=True
        )
    return seconds


def print_closer(label, answers, n_rows):
    """Print a table of what was measured beside the time of a fit."""
    print(f"\n**{label}: use, memory and size**\n")
    print("| contestant | all rows, rows per s | one row, us | memory above X | pickle, KB |")
    print("| --- | --- | --- | --- | --- |")
    for name, each in answers.items():
        last = each[-1]
        memory = statistics.median(answer["memory"] for answer in each)
        rate = n_rows / last["all rows"]
        print(
            f"| {name} | {rate:,.0f} | {1e6 * last['one row']:.0f} | {memory:.2f} x | "
            f"{last['bytes'] / 1024:,.1f} |",
            flush=True,
        )


def print_imports(repeats):
    """Print the seconds of imports and of an import with a first fit, each in a fresh process."""
    print("\n**A fresh process**\n\n| | seconds |\n| --- | --- |")
    commands = {f"`import {name}`": f"import {name}" for name in IMPORTS}
    work = WORKS["W1, batch 200"] | {"kind": "autoencoder"}
    for name in ("PCA", "MLPRegressor", "hand-written loop", "skorch", "pythae", "PyOD", "skae"):
        folder = str(Path(__file__).parent)
        commands[f"import and first fit, {name}"] = FIRST_FIT.format(
            folder=folder, name=name, work=work
        )
    times = {label: [] for label in commands}
    for _ in range(repeats):
        for label, code in commands.items():
            start = time.perf_counter()
            ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
            if ended.returncode == 0:
                times[label].append(time.perf_counter() - start)
    for label, seconds in times.items():
        if seconds:
            print(f"| {label} | {statistics.median(seconds):.2f} |", flush=True)


def draw(medians, path):
    """Draw how many times faster than the hand-written loop each contestant is."""
    import matplotlib.pyplot as plt

    names = [
        "skae",
        "skae, own modules",
        "MLPRegressor",
        "hand-written loop",
        "skorch",
        "pythae",
        "PyOD",
    ]
    figure, axes = plt.subplots(1, len(medians), figsize=(3.2 * len(medians), 2.8), sharey=True)
    for axis, (label, seconds) in zip(np.atleast_1d(axes), medians.items(), strict=True):
        shown = [name for name in names if name in seconds][::-1]
        ratios = [seconds["hand-written loop"] / seconds[name] for name in shown]
        colors = ["#b5442f" if name.startswith("skae") else "#8a94a0" for name in shown]
        bars = axis.barh(shown, ratios, color=colors)
        axis.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
        axis.set_title(label, fontsize=10)
        axis.margins(x=0.2)
        axis.axvline(1, color="#444444", linewidth=0.8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("times faster than a hand-written loop, whole fit", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--works", nargs="+", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--contestants", nargs="+", choices=list(CONTESTANTS))
    parser.add_argument("--before", type=Path, help="a checkout of skae at another commit")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--imports", action="store_true", help="measure fresh processes too")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.data)
        sys.exit()
    medians = {}
    for label in arguments.works:
        if label == "W2" and arguments.data is None:
            print("\nW2 is left out: it needs --data.")
            continue
        for kind in arguments.kinds:
            chosen = arguments.contestants or CONTESTANTS
            names = [name for name in chosen if kind in CONTESTANTS[name][1]]
            if label in ("W2", "W3"):
                names = [name for name in names if name != "skae, defaults"]
            if label != "W2":
                names = [name for name in names if name != "skae, bfloat16"]
            names += [BEFORE] * (arguments.before is not None)
            work = WORKS[label] | {"kind": kind}
            answers = race(work, names, arguments.data, arguments.repeats, arguments.before)
            seconds = print_race(f"{label}, {kind}", answers)
            if kind == "autoencoder":
                medians[label] = seconds
                print_closer(label, answers, len(rows(work["data"], arguments.data)))
    if arguments.imports:
        print_imports(arguments.repeats)
    if arguments.figure:
        draw(medians, arguments.figure)
