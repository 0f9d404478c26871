"""Tests of how cores are put together."""

from functools import partial

import pytest
import torch

from skae.modules import MLP, Autoencoder, build_core


def build(seed=0, **changes):
    """Build a small autoencoder core."""
    settings = dict(
        n_features=6,
        n_encoded=2,
        n_components=2,
        hidden_layer_sizes=[5, 4],
        activation="relu",
        skip=False,
        encoder=None,
        decoder=None,
        generator=torch.Generator().manual_seed(seed),
    )
    return build_core(Autoencoder, **{**settings, **changes})


def test_decoder_mirrors_the_encoder():
    """The decoder's hidden layers are the encoder's in reverse order."""
    core = build()

    assert [tuple(p.shape) for p in core.encoder.parameters() if p.ndim == 2] == [
        (5, 6),
        (4, 5),
        (2, 4),
    ]
    assert [tuple(p.shape) for p in core.decoder.parameters() if p.ndim == 2] == [
        (4, 2),
        (5, 4),
        (6, 5),
    ]


def test_factory_is_called_with_widths_and_draws_reproducibly():
    """A factory's own draws depend on the seed, not on torch's global generator, left as it was."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build(encoder=torch.nn.Linear)
    torch.manual_seed(2)
    again = build(encoder=torch.nn.Linear)
    other = build(seed=3, encoder=torch.nn.Linear)
    torch.manual_seed(1)

    assert first.encoder.module.weight.shape == (2, 6)
    assert torch.equal(first.encoder.module.weight, again.encoder.module.weight)
    assert not torch.equal(first.encoder.module.weight, other.encoder.module.weight)
    assert torch.equal(before, torch.get_rng_state())


def test_a_module_is_copied():
    """A module of the user's starts with its weights and is not changed by what the core does."""
    own = torch.nn.Linear(6, 2)
    core = build(encoder=own)
    with torch.no_grad():
        core.encoder.module.weight.zero_()

    assert own.weight.abs().sum() > 0


@pytest.mark.parametrize(
    ("role", "part", "message"),
    [
        (
            "encoder",
            torch.nn.Linear(6, 3),
            r"encoder must map .*\(2, 6\) to shape \(2, 2\).*\(2, 3\)",
        ),
        ("decoder", partial(MLP, hidden_layer_sizes=[3]), None),
        (
            "decoder",
            torch.nn.Linear(2, 5),
            r"decoder must map .*\(2, 2\) to shape \(2, 6\).*\(2, 5\)",
        ),
    ],
)
def test_wrong_output_shape_is_told_in_one_sentence(role, part, message):
    """A part that returns another shape than it must is refused with both shapes."""
    if message is None:
        assert build(**{role: part}).decoder(torch.zeros(1, 2)).shape == (1, 6)
        return
    with pytest.raises(ValueError, match=message):
        build(**{role: part})


def test_linear_start_needs_a_linear_path():
    """A plain perceptron cannot start at a linear map."""
    import numpy as np

    with pytest.raises(TypeError, match="linear path"):
        build().start_linear(np.eye(2, 6), np.eye(6, 2), np.zeros(6))


def test_linear_start_is_the_given_map():
    """The start reproduces (x - shift) @ encode.T + bias and z @ decode.T + shift."""
    import numpy as np

    rng = np.random.default_rng(0)
    encode, decode, shift, bias = (rng.normal(size=s) for s in ((2, 6), (6, 2), 6, 2))
    core = build(skip=True)
    core.start_linear(encode, decode, shift, bias)
    x = rng.normal(size=(3, 6)).astype(np.float32)
    z = (x - shift) @ encode.T + bias

    np.testing.assert_allclose(core.encode(torch.tensor(x)).detach(), z, rtol=1e-5, atol=1e-5)
    reconstruction = core(torch.tensor(x)).x_hat.detach()
    np.testing.assert_allclose(reconstruction, z @ decode.T + shift, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("part", [lambda: torch.nn.Linear(6, 2), torch.nn.Sequential])
def test_a_callable_that_cannot_be_called_with_widths_is_named(part):
    """The message says which part it is and what it must take."""
    with pytest.raises(TypeError, match=r"encoder must be .*callable \(n_in, n_out\).*\(6, 2\)"):
        build(encoder=part)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_dtype_is_brought_back(dtype):
    """What a part returns has the dtype of what it was given."""

    class Other(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x).to(dtype)

    core = build(encoder=Other, decoder=Other)
    assert core(torch.zeros(3, 6)).x_hat.dtype == torch.float32


@pytest.mark.parametrize("width", [1, 5])
def test_another_shape_in_training_is_told_too(width):
    """It would otherwise be stretched to the right one, or fail elsewhere."""

    class Shy(torch.nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return y[:, :1].expand(-1, width) if self.training else y

    core = build(encoder=Shy)
    with pytest.raises(ValueError, match=rf"Shy must map .*\(3, 2\), but returned.*\(3, {width}\)"):
        core(torch.zeros(3, 6))
