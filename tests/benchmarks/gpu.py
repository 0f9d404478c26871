"""How fast skae trains on a GPU, beside loops written by hand on the same GPU and skae on the CPU.

    python tests/benchmarks/gpu.py
    python tests/benchmarks/gpu.py --data FOLDER
    python tests/benchmarks/gpu.py --device cpu --quick

It runs the tests that are marked `gpu`, and then times autoencoders on the workloads of
``speed.py`` and on images with convolutions. FOLDER holds ``mnist.npz`` with ``X_train``; without
it rows of the same shape are generated. It prints a table for the documentation, and takes less
than nine minutes.

All contestants train the same networks from skae's modules on the same number of batches. The loops
use torch's fused Adam at 1e-3, take batches by `index_select` from rows that are on the device, and
read nothing back while they train; one of them replays a CUDA graph of a step. A time is that of a
whole fit from rows in NumPy, after a small one: it includes the copy to the device, the capture of
graphs and, of skae, the description of the codes. Everything else of torch is left at its
defaults, such as TF32 in convolutions. Fits are interleaved, and the table holds medians; a fit
that would end after eight minutes is not repeated. With ``--device cpu`` the script runs where
there is no CUDA, to try it out, and with ``--quick`` on few rows.
"""

import argparse
import statistics
import subprocess
import sys
import time
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from contestants import RATE, rows
from speed import WORKS as TABLES

from skae import AutoencoderTransformer
from skae.architectures import Convolutional
from skae.modules import MLP

ROOT = Path(__file__).parents[2]
IMAGES = Convolutional((28, 28), channels=(32, 64))
WORKS = TABLES | {
    "images": dict(data="mnist", hidden=(), codes=32, batch=512, epochs=2, encoder=IMAGES)
}
BUDGET = 8 * 60
LONGEST_TESTS = 150
ROWS_AT_ONCE = 2048


# -- contestants -----------------------------------------------------------------------------------


def skae(X, work, seed, device):
    """Train the network by skae; return what reconstructs rows."""
    model = AutoencoderTransformer(
        work["codes"],
        encoder=work.get("encoder"),
        hidden_layer_sizes=work["hidden"],
        init="random",
        scale=None,
        early_stopping=False,
        batch_size=work["batch"],
        max_iter=work["epochs"],
        random_state=seed,
        device=device,
    ).fit(X)
    return lambda rows: model.inverse_transform(model.transform(rows))


def hand_written(X, work, seed, device, *, captured=False):
    """Train the network by a loop, whose steps are graphs if `captured`; return the same."""
    torch.manual_seed(seed)
    data = torch.from_numpy(X).to(device)
    network = make_network(work, X.shape[1], seed).to(device)
    adam = torch.optim.Adam(network.parameters(), lr=RATE, fused=True, capturable=captured)
    total = torch.zeros((), device=device)
    sizes = {len(part) for part in data.split(work["batch"])}
    batches = {size: data[:size].clone() for size in sizes}
    steps = {size: partial(take_step, network, adam, x, total) for size, x in batches.items()}
    if captured:
        steps = captured_steps(steps, network, adam, total)
    for _ in range(work["epochs"]):
        total.zero_()
        for index in torch.randperm(len(data), device=device).split(work["batch"]):
            torch.index_select(data, 0, index, out=batches[len(index)])
            steps[len(index)]()
    return partial(reconstruct, network, device)


def make_network(work, n_features, seed):
    """Return encoder and decoder, one after the other, as skae builds them without a PCA start."""
    generator = torch.Generator().manual_seed(seed)
    widths, codes = list(work["hidden"]), work["codes"]
    if "encoder" in work:
        sizes = dict(n_features=n_features, n_encoded=codes, n_components=codes)
        how = dict(hidden_layer_sizes=widths, activation="relu", skip=False, generator=generator)
        return torch.nn.Sequential(*work["encoder"].build(**sizes, **how))
    encoder = MLP(n_features, codes, widths, generator=generator)
    decoder = MLP(codes, n_features, widths[::-1], generator=generator)
    return torch.nn.Sequential(encoder, decoder)


def take_step(network, adam, x, total):
    """Take a step on a batch, and add its loss to the total."""
    adam.zero_grad()
    loss = (network(x) - x).square().sum(1).mean()
    loss.backward()
    adam.step()
    total.add_(loss.detach(), alpha=len(x))


def captured_steps(steps, network, adam, total):
    """Return steps as CUDA graphs; the weights and the optimiser stay as they are before a step."""
    before = [weight.detach().clone() for weight in network.parameters()]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for step in steps.values():
            for _ in range(3):
                step()
    torch.cuda.current_stream().wait_stream(side)
    with torch.no_grad():
        for weight, saved in zip(network.parameters(), before, strict=True):
            weight.copy_(saved)
    for state in adam.state.values():
        for moment in state.values():
            moment.zero_()
    total.zero_()
    return {size: captured_step(step, adam) for size, step in steps.items()}


def captured_step(step, adam):
    """Return what makes a step as one launch, with gradients in memory of its own."""
    adam.zero_grad()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


@torch.no_grad()
def reconstruct(network, device, X):
    """Return what a network makes of rows."""
    parts = torch.from_numpy(X).split(ROWS_AT_ONCE)
    return torch.cat([network(part.to(device)).cpu() for part in parts]).numpy()


def contestants_on(device):
    """Return the contestants by name; those on the CPU are one where that is the device."""
    both = {
        f"skae, {device}": partial(skae, device=device),
        f"loop, {device}": partial(hand_written, device=device),
    }
    if device == "cpu":
        return both
    graphs = partial(hand_written, device=device, captured=True)
    return both | {f"loop of graphs, {device}": graphs, "skae, cpu": partial(skae, device="cpu")}


# -- measuring -------------------------------------------------------------------------------------


@cache
def data_of(name, folder, quick):
    """Return a workload's rows, float32; generated ones in place of images that are not there."""
    if name != "mnist" or folder is not None:
        X = rows(name, folder)
    else:
        rng = np.random.default_rng(0)
        codes = rng.standard_normal((3000 if quick else 60_000, 32), dtype=np.float32)
        X = 1 / (1 + np.exp(-codes @ rng.standard_normal((32, 784), dtype=np.float32)))
    return np.ascontiguousarray(X[:3000] if quick else X)


def rows_of(work, arguments):
    """Return the rows that a workload is to be timed on."""
    X = data_of(work["data"], arguments.data, arguments.quick)
    return X[: 2 * work["batch"] + 3] if arguments.quick else X


def measure(fit, X, work, seed):
    """Return the seconds of a fit and its squared error."""
    wait()
    start = time.perf_counter()
    reconstructed = fit(X, work, seed)
    wait()
    seconds = time.perf_counter() - start
    error = np.mean([np.square(reconstructed(part) - part).mean() for part in parts_of(X)])
    return seconds, float(error)


def parts_of(X):
    """Return about equal parts of rows, small enough to be reconstructed as a whole."""
    return np.array_split(X, -(-len(X) // 10_000))


def wait():
    """Wait for what the GPU, if there is one, has been given to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def race(works, contestants, arguments, deadline):
    """Return pairs of seconds and error, by workload and contestant, of fits that take turns."""
    found = {label: {name: [] for name in contestants} for label in works}
    for repeat in range(arguments.repeats):
        for label, work in works.items():
            names = list(found[label])
            for name in names[:: 1 if repeat % 2 == 0 else -1]:
                past = found[label][name]
                if past and time.monotonic() + past[-1][0] > deadline:
                    continue
                X, fit = rows_of(work, arguments), contestants[name]
                try:
                    if not past:
                        fit(X[: 2 * work["batch"] + 3], work | {"epochs": 1}, 0)
                    past.append(measure(fit, X, work, repeat))
                except Exception as error:
                    print(f"\n{name} is left out on {label}: {type(error).__name__}: {error}")
                    del found[label][name]
    return found


# -- reporting -------------------------------------------------------------------------------------


def run_tests():
    """Run the tests that need a GPU, print how they ended, and return whether they passed."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "tests"]
    how = dict(cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        ended = subprocess.run(command, timeout=LONGEST_TESTS, check=False, **how)
    except subprocess.TimeoutExpired:
        print(f"Tests marked gpu: not done after {LONGEST_TESTS} seconds.", flush=True)
        return False
    lines = ended.stdout.strip().splitlines()
    summary = lines if ended.returncode else lines[-1:]
    print("\n".join(["Tests marked gpu:", *summary]), flush=True)
    return ended.returncode == 0


def processor():
    """Return the name of the processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "an unknown processor"


def print_machine(arguments):
    """Print what was measured on, and what is not as it should be."""
    device = arguments.device
    name = torch.cuda.get_device_name(device) if device != "cpu" else "no GPU"
    print(
        f"\n{name}; {processor()}, {torch.get_num_threads()} threads; torch {torch.__version__}, "
        f"CUDA {torch.version.cuda}.\n"
    )
    if device == "cpu":
        print("The column of CUDA graphs is left out: the device is the CPU.")
    if arguments.data is None:
        print("In place of MNIST there are generated rows of its shape: --data is not given.")
    if arguments.quick:
        print("These are few rows, to try the script out; the times mean nothing.")


def print_table(found, contestants):
    """Print the medians as a table."""
    print(f"\n| seconds (squared error) | {' | '.join(contestants)} | fits |")
    print("| --- " * (len(contestants) + 2) + "|")
    for label, answers in found.items():
        cells = [cell_of(answers.get(name)) for name in contestants]
        counts = [len(each) for each in answers.values()]
        fits = f"{min(counts)} to {max(counts)}" if counts else "-"
        print(f"| {label} | {' | '.join(cells)} | {fits} |", flush=True)


def cell_of(pairs):
    """Return the medians of seconds and errors as they stand in the table."""
    if not pairs:
        return "-"
    seconds, error = (statistics.median(each) for each in zip(*pairs, strict=True))
    return f"{seconds:.3f} ({error:.5f})"


def main():
    """Run tests and measurements; end with 1 if a test failed."""
    deadline = time.monotonic() + BUDGET
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--works", nargs="+", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few rows and one epoch")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --device cpu tries the script out without one")
    passed = arguments.device == "cpu" or run_tests()
    works = {label: WORKS[label] for label in arguments.works}
    if arguments.quick:
        works = {label: work | {"epochs": 1} for label, work in works.items()}
    contestants = contestants_on(arguments.device)
    print_machine(arguments)
    print_table(race(works, contestants, arguments, deadline), contestants)
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
