"""The contestants of ``speed.py``: one net trained by skae and by what people use instead.

Each is a function ``(X, work, seed) -> Fitted``, whose call is what is timed. All train the same
perceptrons in the same batches with Adam at 1e-3 for the same number of epochs; peers are imported
when they are called.
"""

import io
import itertools
import logging
import os
import pickle
import tempfile
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

RATE = 1e-3


@dataclass
class Fitted:
    """What a contestant has learned: how it reconstructs and encodes rows, and how large it is."""

    reconstruct: Any
    encode: Any
    n_bytes: Any


def _layers(widths):
    """Return a perceptron of torch's own layers."""
    from torch import nn

    layers = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _network(kind, widths, n_codes):
    """Return a plain torch network of a kind that returns reconstructions and a penalty."""
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            n_encoded = 2 * widths[-1] if kind == "vae" else widths[-1]
            self.encoder = _layers([*widths[:-1], n_encoded])
            self.decoder = _layers(widths[::-1])
            if kind == "vqvae":
                codebook = torch.randn(n_codes, widths[-1])
                self.register_buffer("codebook", codebook)
                self.register_buffer("counts", torch.ones(n_codes))
                self.register_buffer("sums", codebook.clone())

        def forward(self, x):
            encoded = self.encoder(x)
            if kind == "vae":
                mean, log_variance = encoded.chunk(2, 1)
                z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
                excess = mean.square() + log_variance.exp() - 1 - log_variance
                return self.decoder(z), 0.5 * excess.sum(1)
            if kind == "vqvae":
                codes = torch.cdist(encoded, self.codebook).argmin(1)
                if self.training:
                    self.follow(encoded.detach(), codes)
                vectors = self.codebook[codes]
                z = encoded + (vectors - encoded).detach()
                return self.decoder(z), 0.25 * (encoded - vectors).square().sum(1)
            return self.decoder(encoded), encoded.new_zeros(len(x))

        @torch.no_grad()
        def follow(self, encoded, codes):
            chosen = nn.functional.one_hot(codes, len(self.codebook)).to(encoded)
            self.counts.lerp_(chosen.sum(0), 0.01)
            self.sums.lerp_(chosen.T @ encoded, 0.01)
            self.codebook.copy_(self.sums / self.counts[:, None].clamp(min=1e-5))

        def mean_code(self, x):
            encoded = self.encoder(x)
            if kind == "vqvae":
                return self.codebook[torch.cdist(encoded, self.codebook).argmin(1)]
            return encoded.chunk(2, 1)[0] if kind == "vae" else encoded

    return Network()


def _of_network(network):
    """Return what a torch network has learned, called as bare as can be."""
    import torch

    network.eval()

    def encode(X):
        with torch.inference_mode():
            return network.mean_code(torch.from_numpy(X)).numpy()

    def reconstruct(X):
        with torch.inference_mode():
            return network.decoder(network.mean_code(torch.from_numpy(X))).numpy()

    def n_bytes():
        file = io.BytesIO()
        torch.save(network.state_dict(), file)
        return len(file.getvalue())

    return Fitted(reconstruct, encode, n_bytes)


def hand_written(X, work, seed):
    """Train by the loop that a person writes: DataLoader, Adam, a loss read back at every step."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(seed)
    network = _network(work["kind"], [X.shape[1], *work["hidden"], work["codes"]], work["size"])
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    batches = DataLoader(TensorDataset(torch.from_numpy(X)), work["batch"], shuffle=True)
    for _ in range(work["epochs"]):
        total = 0.0
        for (x,) in batches:
            optimizer.zero_grad()
            x_hat, penalty = network(x)
            loss = ((x_hat - x).square().sum(1) + penalty).mean()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
    return _of_network(network)


def mlp_regressor(X, work, seed):
    """Train scikit-learn's MLPRegressor to reproduce its input."""
    from sklearn.neural_network import MLPRegressor

    widths = *work["hidden"], work["codes"], *work["hidden"][::-1]
    settings = dict(batch_size=work["batch"], max_iter=work["epochs"], learning_rate_init=RATE)
    settings["n_iter_no_change"] = 10**6
    model = MLPRegressor(
        hidden_layer_sizes=widths, alpha=0.0, tol=0, random_state=seed, **settings
    ).fit(X, X)
    return Fitted(model.predict, model.predict, lambda: len(pickle.dumps(model)))


def skorch(X, work, seed):
    """Train the hand-written network by skorch."""
    import torch
    from skorch import NeuralNet

    class Net(NeuralNet):
        def get_loss(self, y_pred, y_true, *_, **__):
            x_hat, penalty = y_pred
            return ((x_hat - y_true).square().sum(1) + penalty).mean()

    torch.manual_seed(seed)
    widths = [X.shape[1], *work["hidden"], work["codes"]]
    net = Net(
        _network(work["kind"], widths, work["size"]),
        criterion=torch.nn.MSELoss,
        optimizer=torch.optim.Adam,
        lr=RATE,
        max_epochs=work["epochs"],
        batch_size=work["batch"],
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    ).fit(X, X)
    return _of_network(net.module_)


def pythae(X, work, seed):
    """Train the same layers by pythae's pipeline."""
    import torch

    with redirect_stderr(io.StringIO()):
        from pythae.models import AE, VAE, VQVAE, AEConfig, VAEConfig, VQVAEConfig
        from pythae.models.base.base_utils import ModelOutput
        from pythae.models.nn import BaseDecoder, BaseEncoder
        from pythae.pipelines import TrainingPipeline
        from pythae.trainers import BaseTrainerConfig
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("pythae")]:
        logging.getLogger(name).setLevel(logging.ERROR)
    kind, widths = work["kind"], [X.shape[1], *work["hidden"], work["codes"]]

    class Encoder(BaseEncoder):
        def __init__(self):
            BaseEncoder.__init__(self)
            self.latent_dim = widths[-1]
            self.layers = _layers([*widths[:-1], (2 if kind == "vae" else 1) * widths[-1]])

        def forward(self, x):
            if kind != "vae":
                return ModelOutput(embedding=self.layers(x))
            mean, log_variance = self.layers(x).chunk(2, 1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self):
            BaseDecoder.__init__(self)
            self.layers = _layers(widths[::-1])

        def forward(self, z):
            return ModelOutput(reconstruction=self.layers(z))

    torch.manual_seed(seed)
    shape = dict(input_dim=(widths[0],), latent_dim=widths[-1])
    ema = dict(num_embeddings=work["size"], use_ema=True, decay=0.99)
    model = {
        "autoencoder": lambda: AE(AEConfig(**shape), Encoder(), Decoder()),
        "vae": lambda: VAE(VAEConfig(**shape, reconstruction_loss="mse"), Encoder(), Decoder()),
        "vqvae": lambda: VQVAE(VQVAEConfig(**shape, **ema), Encoder(), Decoder()),
    }[kind]()
    folder = tempfile.mkdtemp()
    config = BaseTrainerConfig(
        output_dir=folder,
        num_epochs=work["epochs"],
        per_device_train_batch_size=work["batch"],
        learning_rate=RATE,
        seed=seed,
    )
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        TrainingPipeline(model=model, training_config=config)(train_data=X)
    model.eval()

    def encode(X):
        with torch.inference_mode():
            return model.embed(torch.from_numpy(X)).numpy()

    def reconstruct(X):
        with torch.inference_mode():
            x = torch.from_numpy(X)
            if kind == "vae":
                return model.decoder(model.encoder(x).embedding).reconstruction.numpy()
            return model.reconstruct(x).numpy()

    def n_bytes():
        files = [os.path.join(where, name) for where, _, names in os.walk(folder) for name in names]
        return sum(map(os.path.getsize, files))

    return Fitted(reconstruct, encode, n_bytes)


def pyod(X, work, seed):
    """Train PyOD's detector, whose fit scores the rows too."""
    import torch

    settings = dict(
        preprocessing=False, epoch_num=work["epochs"], batch_size=work["batch"], lr=RATE
    )
    settings |= dict(random_state=seed, verbose=0, batch_norm=False, dropout_rate=0.0)
    hidden = list(work["hidden"])
    if work["kind"] == "vae":
        from pyod.models.vae import VAE

        widths = dict(encoder_neuron_list=hidden, decoder_neuron_list=hidden[::-1])
        model = VAE(latent_dim=work["codes"], **widths, **settings)
    else:
        from pyod.models.auto_encoder import AutoEncoder

        model = AutoEncoder(hidden_neuron_list=[*hidden, work["codes"]], **settings)
    model.fit(X)

    def reconstruct(X):
        with torch.inference_mode():
            out = model.model.eval()(torch.from_numpy(X))
        return (out[0] if isinstance(out, tuple) else out).numpy()

    return Fitted(reconstruct, model.decision_function, lambda: len(pickle.dumps(model)))


def pca(X, work, seed):
    """Fit PCA, for scale."""
    from sklearn.decomposition import PCA

    model = PCA(work["codes"], random_state=seed).fit(X)
    return _of_estimator(model)


def _of_estimator(model):
    """Return what a transformer has learned."""

    def reconstruct(X):
        return model.inverse_transform(model.transform(X))

    return Fitted(reconstruct, model.transform, lambda: len(pickle.dumps(model)))


def _skae(X, work, seed, **settings):
    from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer

    kinds = {
        "autoencoder": AutoencoderTransformer,
        "vae": VAETransformer,
        "vqvae": VQVAETransformer,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = kinds[work["kind"]](work["codes"], random_state=seed, **settings).fit(X)
    return _of_estimator(model)


def _same(work):
    """Return the settings by which skae trains the net that the others train."""
    settings = dict(init="random", scale=None, early_stopping=False, max_iter=work["epochs"])
    settings |= dict(hidden_layer_sizes=work["hidden"], batch_size=work["batch"])
    if work["kind"] == "vae":
        from skae.objectives import Gaussian

        settings["likelihood"] = Gaussian(0.5)
    if work["kind"] == "vqvae":
        settings |= dict(n_codes=1, codebook_size=work["size"], dead_code_threshold=0)
    return settings


def skae(X, work, seed):
    """Train the net by skae."""
    return _skae(X, work, seed, **_same(work))


def skae_bfloat16(X, work, seed):
    """Train the net by skae with factors of large products rounded."""
    return _skae(X, work, seed, precision="bfloat16", **_same(work))


def skae_own_modules(X, work, seed):
    """Train networks of the user's own by skae, which differentiates them automatically."""
    hidden = list(work["hidden"])
    encoder, decoder = partial(_between, hidden), partial(_between, hidden[::-1])
    return _skae(X, work, seed, encoder=encoder, decoder=decoder, **_same(work))


def _between(hidden, n_in, n_out):
    return _layers([n_in, *hidden, n_out])


def skae_own_loss(X, work, seed):
    """Train the net by skae with a squared error defined here, which brings its gradient."""
    import torch

    from skae.objectives import Loss

    class Squares(Loss):
        def __call__(self, x, out):
            return (out.x_hat - x).square().sum(1)

        def bind(self, buffers):
            x, x_hat, gradient = buffers.x, buffers.out.x_hat, buffers.grad.x_hat
            total = buffers.total(*x.shape)

            def run():
                torch.sub(x_hat, x, out=gradient)
                total.addcmul_(gradient, gradient)
                gradient.mul_(2 * buffers.factor)

            return run

    return _skae(X, work, seed, loss=Squares(), **_same(work))


def skae_defaults(X, work, seed):
    """Train skae's default net, for information: other widths, batches, start and stop."""
    return _skae(X, work, seed)


def skae_bookkeeping(X, work, seed):
    """Train the net by skae with held-out rows, scaling and a PCA start, for as many epochs."""
    settings = _same(work)
    for name in ("scale", "early_stopping"):
        del settings[name]
    return _skae(X, work, seed, n_iter_no_change=10**6, **settings)


CONTESTANTS = {
    "hand-written loop": (hand_written, ("autoencoder", "vae", "vqvae")),
    "MLPRegressor": (mlp_regressor, ("autoencoder",)),
    "skorch": (skorch, ("autoencoder", "vae", "vqvae")),
    "pythae": (pythae, ("autoencoder", "vae", "vqvae")),
    "PyOD": (pyod, ("autoencoder", "vae")),
    "PCA": (pca, ("autoencoder",)),
    "skae": (skae, ("autoencoder", "vae", "vqvae")),
    "skae, bfloat16": (skae_bfloat16, ("autoencoder", "vae", "vqvae")),
    "skae, own loss": (skae_own_loss, ("autoencoder",)),
    "skae, own modules": (skae_own_modules, ("autoencoder", "vae", "vqvae")),
    "skae, bookkeeping": (skae_bookkeeping, ("autoencoder", "vae", "vqvae")),
    "skae, defaults": (skae_defaults, ("autoencoder", "vae", "vqvae")),
}


def rows(name, folder):
    """Return a workload's rows, float32: digits, MNIST from `folder`, or a made-up table."""
    if name == "digits":
        from sklearn.datasets import load_digits

        return (load_digits().data / 16).astype(np.float32)
    if name == "mnist":
        with np.load(os.path.join(folder, "mnist.npz")) as file:
            return file["X_train"].reshape(-1, 784).astype(np.float32) / np.float32(255)
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((100_000, 8))
    bent, straight = rng.standard_normal((2, 8, 30)) / np.sqrt(8)
    X = np.tanh(1.5 * codes @ bent) + 0.5 * codes @ straight
    X += 0.1 * rng.standard_normal(X.shape)
    return ((X - X.mean(0)) / X.std(0)).astype(np.float32)
