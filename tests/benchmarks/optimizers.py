"""Update rules compared: epochs until the held-out score that Adam ends with, and the best score.

    python tests/benchmarks/optimizers.py --data FOLDER

Each rule trains the default network from the PCA start on the same training rows, batches and
held-out rows of `TABLES`, for 8000 steps or 150 epochs at most. Adam at 1e-3 is stopped by a
patience of 10 epochs, as it was the default; what others are measured by is the epoch at which it
had the score that it ended with. Prints medians and means over tables.
"""

import argparse
import math
import warnings
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pca_floor
import torch

from skae import AutoencoderTransformer
from skae._training import adam, step

TABLES = {
    "wine": 2,
    "diabetes": 2,
    "breast_cancer": 2,
    "torus": 2,
    "swiss_roll": 2,
    "skewed": 2,
    "blobs": 4,
    "digits": 8,
    "oilflow": 2,
    "protein": 2,
    "kin8nm": 4,
    "cover": 2,
    "adult": 2,
    "freyfaces": 8,
    "mnist": 8,
}
MOST_EPOCHS, MOST_STEPS, PATIENCE, TOL = 150, 8000, 10, 1e-4


class Adam(adam.ScheduleFreeAdam):
    """Adam, or the average of its weights, with a warm-up."""

    averages, warmup = False, 1

    def begin(self):
        """Take the iterate for the weights."""
        super().begin()
        self._first = getattr(self, "_first", torch.zeros_like(self.weights))
        self.weights.copy_(self._iterate)

    def __call__(self, divisor):
        """Make the update of Adam with both moments."""
        self._t += 1
        rate = self._rate * min(self._t / self.warmup, 1.0)
        gradient = self.gradient / divisor
        self._first.lerp_(gradient, 0.1)
        self._second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        first = self._first / (1 - 0.9**self._t)
        root = (self._second / (1 - 0.999**self._t)).sqrt_().add_(1e-8)
        self._iterate.addcdiv_(first, root, value=-rate)
        self._total += self._t
        self._average.lerp_(self._iterate, self._t / self._total if self.averages else 1.0)
        self.weights.copy_(self._iterate)


class AveragedAdam(Adam):
    """The average of Adam's weights, by steps."""

    averages, warmup = True, 100


def schedule_free(momentum=0.9, warmup=100):
    """Return what sets constants of the default rule for a while."""
    return patch.multiple(adam, _MOMENTUM=momentum, _WARMUP_STEPS=warmup)


def other(rule):
    """Return what puts another rule in place for a while."""
    return patch.object(step, "ScheduleFreeAdam", rule)


RULES = {
    "Adam 1e-3": (other(Adam), {"learning_rate": 1e-3, "weight_decay": 0.0}),
    "Adam 3e-3": (other(Adam), {"learning_rate": 3e-3, "weight_decay": 0.0}),
    "averaged Adam 3e-3": (other(AveragedAdam), {"learning_rate": 3e-3, "weight_decay": 0.0}),
    "averaged Adam 1e-2": (other(AveragedAdam), {"learning_rate": 1e-2, "weight_decay": 0.0}),
    "schedule-free 3e-3": (schedule_free(), {"learning_rate": 3e-3, "weight_decay": 0.0}),
    "schedule-free 1e-2": (schedule_free(), {"learning_rate": 1e-2, "weight_decay": 0.0}),
    "schedule-free by width": (schedule_free(), {"weight_decay": 0.0}),
    "and decay of 0.1 (default)": (schedule_free(), {}),
    "decay of 0.5": (schedule_free(), {"weight_decay": 0.5}),
    "momentum of 0.95": (schedule_free(momentum=0.95), {}),
    "momentum of 0.8": (schedule_free(momentum=0.8), {}),
    "warm-up of 30 steps": (schedule_free(warmup=30), {}),
}


def curve(rule, k, train, held_out):
    """Return the held-out score after each epoch."""
    change, settings = RULES[rule]
    n_steps = math.ceil(len(train) / min(max(2 ** round(math.log2(len(train) / 200)), 32), 512))
    n_epochs = min(MOST_EPOCHS, MOST_STEPS // n_steps)
    how = {"max_iter": n_epochs, "n_iter_no_change": n_epochs, "random_state": 0}
    with change, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = AutoencoderTransformer(k, **how, **settings).fit(train, X_val=held_out)
    total = np.square(held_out - train.mean(0)).sum() / len(held_out) / fit._net.scaling.unit**2
    return 1 - np.array(fit.validation_loss_curve_) / total


def target(scores):
    """Return the best score until patience ends, and its epoch."""
    best, at, waiting = -np.inf, 0, 0
    for epoch, score in enumerate(scores, start=1):
        waiting = 0 if score > best + TOL else waiting + 1
        if score > best:
            best, at = score, epoch
        if waiting == PATIENCE:
            break
    return best, at


def main():
    """Read the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of pca_floor.py's files")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    options = parser.parse_args()
    sources, found = pca_floor.sources(options.data), {rule: [] for rule in RULES}
    for name in [name for name in options.tables if name in sources]:
        source, standardise = sources[name]
        parts = pca_floor.split(pca_floor.load(source), standardise, 0)
        for rule, outcomes in found.items():
            outcomes.append(curve(rule, TABLES[name], *parts))
    print("| rule | epochs, share of Adam's | best score, against Adam's | worst table |")
    print("| --- | --- | --- | --- |")
    before = found["Adam 1e-3"]
    for rule, outcomes in found.items():
        shares, gains = [], []
        for scores, reference in zip(outcomes, before, strict=True):
            best, epoch = target(reference)
            reached = np.flatnonzero(scores >= best)
            shares.append((1 + reached[0]) / epoch if len(reached) else np.inf)
            gains.append(scores.max() - reference.max())
        print(
            f"| {rule} | {np.median(shares):.2f} | {np.mean(gains):+.4f} | {np.min(gains):+.4f} |"
        )


if __name__ == "__main__":
    main()
