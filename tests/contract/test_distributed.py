"""Tests that ranks of a process group share batches: several equal one."""

import subprocess
import sys
from pathlib import Path

import numpy as np

# Each rank fits the same estimators to the same rows and saves what they have learned.
FIT = """
import sys
import numpy as np
import torch.distributed as dist
from sklearn.datasets import load_digits
from skae import VAETransformer, VQVAETransformer
from skae.priors import AutoregressivePrior

rank, n_ranks, rendezvous, result = sys.argv[1:]
if int(n_ranks) > 1:
    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=int(rank), world_size=int(n_ranks)
    )
X = load_digits(return_X_y=True)[0][:500] / 16
seed = 0 if n_ranks == "1" or rank == "0" else None  # the first rank's seed is everyone's
settings = dict(hidden_layer_sizes=(16,), batch_size=50, early_stopping=False, random_state=seed)
discrete = dict(quantizer="residual", codebook_size=16, prior="uniform", **settings)
models = {
    "vae": VAETransformer(4, likelihood="gaussian", dropout=0.2, max_iter=3, **settings),
    "ema": VQVAETransformer(8, max_iter=3, **discrete),
    "gradient": VQVAETransformer(8, max_iter=3, codebook_update="gradient", **discrete),
}
prior = AutoregressivePrior(max_iter=3, random_state=seed).fit(np.hstack([X, X])[:, ::16] > 0.5)
learned = {f"prior {name}": array for name, array in prior._net.arrays.items()}
for kind, model in models.items():
    arrays = {"loss": model.fit(X).loss_curve_, **model._net.arrays}
    learned |= {f"{kind} {name}": array for name, array in arrays.items()}
np.savez(f"{result}{rank}.npz", **learned)
"""


def fit(n_ranks, folder):
    """Return what each of some ranks has learned."""
    processes = []
    for rank in range(n_ranks):
        arguments = [str(rank), str(n_ranks), str(folder / "rendezvous"), str(folder / "r")]
        processes.append(subprocess.Popen([sys.executable, "-c", FIT, *arguments]))
    assert [process.wait(timeout=120) for process in processes] == [0] * n_ranks
    return [dict(np.load(folder / f"r{rank}.npz")) for rank in range(n_ranks)]


def test_two_ranks_equal_one(tmp_path: Path):
    """Weights, codebooks, their averages, noise and losses, to 1e-5; both ranks to the bit."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    (one,) = fit(1, folders[0])
    first, second = fit(2, folders[1])

    assert {name.split()[0] for name in one} == {"vae", "ema", "gradient", "prior"}
    for name, expected in one.items():
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], expected, rtol=1e-5, atol=1e-5)
