"""Whether a large beta gives each factor of generated sprites a code of its own, by its start.

    python tests/benchmarks/disentanglement.py
    python tests/benchmarks/disentanglement.py --betas 1 --starts pca --total-correlation 8 25

Sprites of 16 x 16 pixels are made from six independent factors: shape (3 levels), size (4), angle
(8), x (8), y (8) and brightness (4); x and y reach 3 pixels from the middle, or ``--reach``. Of
5000, a VAE with ten codes and hidden layers of 128 and 64 units is trained for 100 epochs in
batches of 128, and measured on 3000 others. Prints PCA's row of a markdown table, and one for each
beta and start, means over seeds: the mutual information gap of codes drawn from the posterior
(PCA's as they are) and its range over seeds, the gap of each factor, the correlation of means of
active codes, their number, the divergence in nats per row, what is maximised (the bound less
``beta - 1`` times the divergence, in nats per row), and the fraction of variance explained. With
``--total-correlation`` a further term with these weights, which the figures leave out, is the
codes' total correlation, estimated from each batch (Chen, Li, Grosse and Duvenaud, "Isolating
Sources of Disentanglement in Variational Autoencoders", 2018, equations 2 and 3).
"""

import argparse
import itertools
import math
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
from sklearn.decomposition import PCA

from skae import VAETransformer
from skae.metrics import code_correlation, explained_variance_scorer, mutual_information_gap
from skae.objectives import Term

N_TRAINING, N_TEST, N_PIXELS, N_CODES = 5000, 3000, 16, 10
FACTORS = {"shape": 3, "size": 4, "angle": 8, "x": 8, "y": 8, "brightness": 4}

gaps_of = partial(mutual_information_gap, multioutput="raw_values")


def make_sprites(n_sprites, seed, reach):
    """Return images as rows, and the level of each factor."""
    levels = np.array(list(FACTORS.values()))
    factors = np.random.default_rng(seed).integers(levels, size=(n_sprites, len(levels)))
    shape, _, turn, _, _, _ = factors.T[:, :, None, None]
    _, size, _, x, y, brightness = (factors / (levels - 1)).T[:, :, None, None]
    radius, angle, center = 1.6 + 1.4 * size, np.pi / 8 * turn, (N_PIXELS - 1) / 2
    right = np.arange(N_PIXELS)[None, :] - center - reach * (2 * x - 1)
    down = np.arange(N_PIXELS)[:, None] - center - reach * (2 * y - 1)
    along = (np.cos(angle) * right + np.sin(angle) * down) / radius
    across = (np.cos(angle) * down - np.sin(angle) * right) / radius
    ellipse = np.hypot(along, 2 * across)
    rectangle = 1.2 * np.maximum(np.abs(along), 2 * np.abs(across))
    triangle = np.maximum(-1.5 * along, 0.7 * along + 1.4 * np.abs(across))
    outside = np.choose(shape, [ellipse, rectangle, triangle]) - 1
    images = (0.4 + 0.6 * brightness) / (1 + np.exp(3 * radius * outside))
    return images.reshape(n_sprites, -1), factors


class TotalCorrelation(Term):
    """How far codes of a batch, drawn from their posteriors, are from independent, in nats."""

    needs_outputs = ("mean", "log_variance")

    def __call__(self, x, out):
        """Return each row's log q(z) less those of its codes; a constant is left out."""
        distances = (out.z[:, None] - out.mean).square() / out.log_variance.exp()
        log_densities = -0.5 * (distances + out.log_variance)  # (drawn, posterior, code)
        together = log_densities.sum(2).logsumexp(1) - math.log(len(x))
        return together - (log_densities.logsumexp(1) - math.log(len(x))).sum(1)


def estimator_with(weight):
    """Return the class of models whose objective has the total correlation with a weight."""

    class Penalized(VAETransformer):
        def _make_recipe(self):
            recipe = super()._make_recipe()
            return replace(recipe, terms=(*recipe.terms, TotalCorrelation(weight)))

    return Penalized if weight else VAETransformer


def run(beta, init, weight, seed, X, X_test, factors):
    """Fit a model; return the gap of each factor, and the other figures."""
    model = estimator_with(weight)(
        N_CODES,
        beta=beta,
        init=init,
        hidden_layer_sizes=(128, 64),
        batch_size=128,
        max_iter=100,
        early_stopping=False,
        random_state=seed,
    ).fit(X)
    mean, std = model.posterior(X_test)
    drawn = mean + std * np.random.default_rng(seed).normal(size=mean.shape)
    active = model.active_components_
    divergence = model.kl_per_component_.sum()
    others = [
        code_correlation(mean[:, active]) if active.any() else 0.0,
        active.sum(),
        divergence,
        model.score(X_test) - (beta - 1) * divergence,
        explained_variance_scorer(model, X_test),
    ]
    return gaps_of(drawn, factors), others


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--betas", nargs="+", type=float, default=[1, 8, 20, 32])
    parser.add_argument("--starts", nargs="+", choices=["pca", "random"], default=["pca", "random"])
    parser.add_argument("--total-correlation", nargs="+", type=float, default=[0])
    parser.add_argument("--reach", type=float, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    X, _ = make_sprites(N_TRAINING, 1, arguments.reach)
    X_test, factors = make_sprites(N_TEST, 2, arguments.reach)
    pca = PCA(N_CODES).fit(X)
    codes, explained = pca.transform(X_test), explained_variance_scorer(pca, X_test)
    report("PCA", "", [(gaps_of(codes, factors), [code_correlation(codes), N_CODES, explained])])
    for beta, weight in itertools.product(arguments.betas, arguments.total_correlation):
        name = f"beta {beta:g}" + (f", total correlation {weight:g}" if weight else "")
        for init in arguments.starts:
            models = [(beta, init, weight, seed) for seed in range(arguments.seeds)]
            report(name, init, [run(*each, X, X_test, factors) for each in models])


def report(name, init, results):
    """Print a row of the table: means over seeds."""
    gaps = np.array([each for each, _ in results])
    correlation, n_active, *bounds, explained = np.mean([each for _, each in results], axis=0)
    means = gaps.mean(1)
    print(
        f"| {name} | {init} | {means.mean():.3f} ({means.min():.3f} to {means.max():.3f}) | "
        f"{' '.join(f'{gap:.2f}' for gap in gaps.mean(0))} | {correlation:.2f} | {n_active:.1f} | "
        f"{' | '.join(f'{bound:.1f}' for bound in bounds) or ' | '} | {explained:.3f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
