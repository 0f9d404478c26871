"""Tests of the policy of threads: small work starts no pool, large work has all that are given."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits

from skae import AutoencoderTransformer
from skae._runtime.threads import OneThread, available_threads, threads_for

FORK = """
import os, sys, time, warnings
import numpy as np
import torch
from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
warnings.simplefilter("ignore")
torch.set_num_threads(2)
X = np.random.default_rng(0).normal(size=(3000, 20))
settings = dict(hidden_layer_sizes=(16,), early_stopping=False, max_iter=1, random_state=0)
for kind in (AutoencoderTransformer, VAETransformer, VQVAETransformer):
    kind(3, **settings).fit(X).transform(X)
child = os.fork()
if child == 0:
    kind(3, **settings).fit(X).transform(X)
    os._exit(7)
for _ in range(300):
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        sys.exit(os.waitstatus_to_exitcode(status))
    time.sleep(0.1)
os.kill(child, 9)
sys.exit(1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_forked_child_can_fit_after_its_parent_did():
    """No pool of threads is started by small fits, which a child would wait for in vain."""
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 7, ended.stderr


def num_threads(n_threads, function):
    """Return what a function returns while torch has some threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        return function()
    finally:
        torch.set_num_threads(before)


def test_large_work_inside_small_work_has_all_threads():
    """A fit is small work, but for what says otherwise; limits come back in order."""

    def nest():
        seen = [torch.get_num_threads()]
        with OneThread():
            seen += [torch.get_num_threads(), available_threads()]
            with threads_for(10**12):
                seen += [torch.get_num_threads(), available_threads()]
                with threads_for(10):
                    seen += [torch.get_num_threads(), available_threads()]
            seen.append(torch.get_num_threads())
        return [*seen, torch.get_num_threads()]

    assert num_threads(2, nest) == [2, 1, 2, 2, 2, 1, 2, 1, 2]


def test_greedy_pretraining_does_not_depend_on_threads():
    """Its small layers train on one, so the bits are the same."""
    X = load_digits().data[:400]
    model = AutoencoderTransformer(
        4, pretraining="greedy", init="random", max_iter=10, early_stopping=False, random_state=0
    )
    one, two = (num_threads(n, lambda: clone(model).fit(X).transform(X)) for n in (1, 2))
    assert np.array_equal(one, two)
