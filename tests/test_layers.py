"""Layers, for one seed and stacked, against PyTorch's own; stacked seeds do not mix."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from somlib.training.layers import ACTIVATIONS as THEIRS
from somlib.training.layers import (
    DERIVATIVES,
    MLP,
    AutoencoderNetwork,
    Convolutions,
    Dense,
    PooledConvolutions,
    TiedDecoder,
    glorot_uniform,
)
from somlib.training.network import stacked

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "linear": nn.Identity}


def generators(seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def of_seeds(seeds, build):
    """Return the network that `build(generator)` makes for each seed, stacked if they are many."""
    return stacked([build(generator) for generator in generators(seeds)])


def entry(value, s, S):
    """Return the part of seed s: a single network has no axis of seeds."""
    return value[s] if S > 1 else value


def numbers(*shape):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9)) - 0.5


def stirred(stack):
    """Return the stack in float64 with biases that are not zero, so that they matter."""
    stack.double()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter += 0.1 * numbers(*parameter.shape)
    return stack


def per_seed(x, S):
    """Return each seed's input, whether it has its own or shares one."""
    return x if x.ndim == 3 else x.expand(S, *x.shape)


def batch(S, shared, *shape):
    """Return random numbers: one batch for all seeds, or one for each."""
    return numbers(*shape) if shared or S == 1 else numbers(S, *shape)


# ---------------------------------------------------------------- dense layers


def linear(weight, bias):
    """Return PyTorch's layer with these weights, which it keeps transposed."""
    layer = nn.Linear(*weight.shape, dtype=torch.float64)
    layer.weight.data, layer.bias.data = weight.T.detach().clone(), bias.flatten().detach().clone()
    return layer


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("S", [1, 3])
def test_dense_is_a_linear_layer_for_each_seed(S, shared):
    dense = stirred(of_seeds(range(S), lambda g: Dense(5, 4, g)))
    x = batch(S, shared, 7, 5)
    out = dense(x)
    (out**3).sum().backward()
    assert out.shape == ((S, 7, 4) if S > 1 else (7, 4))
    for s, own in enumerate(per_seed(x, S)):
        layer = linear(entry(dense.weight, s, S), entry(dense.bias, s, S))
        theirs = layer(own)
        (theirs**3).sum().backward()
        torch.testing.assert_close(entry(out, s, S), theirs)
        torch.testing.assert_close(entry(dense.weight.grad, s, S), layer.weight.grad.T)
        torch.testing.assert_close(entry(dense.bias.grad, s, S)[0], layer.bias.grad)


@pytest.mark.parametrize("output", ACTIVATIONS)
@pytest.mark.parametrize("inside", ACTIVATIONS)
def test_mlp_is_linear_layers_with_an_activation_between_and_one_at_the_end(inside, output):
    mlp = stirred(of_seeds((0, 1), lambda g: MLP((6, 5, 4, 2), g, inside, output)))
    x = numbers(9, 6)
    for s in range(2):
        layers = []
        for layer in mlp.layers:
            layers += [linear(layer.weight[s], layer.bias[s]), ACTIVATIONS[inside]()]
        layers[-1] = ACTIVATIONS[output]()
        torch.testing.assert_close(mlp(x)[s], nn.Sequential(*layers)(x))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_are_those_of_the_activations_as_functions_of_their_values(name):
    x = torch.linspace(-3, 3, 61, dtype=torch.float64, requires_grad=True)  # 0 is among them
    a = THEIRS[name](x)
    torch.testing.assert_close(a, ACTIVATIONS[name]()(x))
    (slopes,) = torch.autograd.grad(a.sum(), x)
    torch.testing.assert_close(DERIVATIVES[name](a.detach()), slopes, rtol=0, atol=1e-14)


# ---------------------------------------------------------------- tied weights


class Tied(nn.Module):
    """An MLP and its tied decoder, as an autoencoder holds them."""

    def __init__(self, mlp, *activations):
        super().__init__()
        self.mlp, self.decoder = mlp, TiedDecoder(mlp, *activations)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("S", [1, 3])
@pytest.mark.parametrize("output", ACTIVATIONS)
@pytest.mark.parametrize("inside", ACTIVATIONS)
def test_a_tied_decoder_is_the_layers_in_reverse_with_weights_transposed(inside, output, S, shared):
    tied = stirred(of_seeds(range(S), lambda g: Tied(MLP((6, 5, 4, 2), g), inside, output)))
    mlp, decoder = tied.mlp, tied.decoder
    z = batch(S, shared, 9, 2)
    out = decoder(z)
    assert out.shape == ((S, 9, 6) if S > 1 else (9, 6))
    for s, own in enumerate(per_seed(z, S)):
        layers = []
        for layer, bias in zip(mlp.layers[::-1], decoder.biases, strict=True):
            weight, b = entry(layer.weight, s, S), entry(bias, s, S)
            layers += [linear(weight.T, b), ACTIVATIONS[inside]()]
        layers[-1] = ACTIVATIONS[output]()
        torch.testing.assert_close(entry(out, s, S), nn.Sequential(*layers)(own))


def test_tied_weights_stay_tied():
    stack = stirred(of_seeds((0, 1), lambda g: AutoencoderNetwork(6, (5, 4), 2, g, tied=True)))
    names = [name for name, _ in stack.named_parameters()]
    assert names == list(stack.state_dict()) == [
        *(f"encoder.layers.{i}.{what}" for i in range(3) for what in ("weight", "bias")),
        *(f"decoder.biases.{i}" for i in range(3)),
    ]  # fmt: skip
    free = of_seeds((0, 1), lambda g: AutoencoderNetwork(6, (5, 4), 2, g))
    count = [sum(p.numel() for p in net.parameters()) for net in (stack, free)]
    assert count[1] - count[0] == 2 * (6 * 5 + 5 * 4 + 4 * 2)

    def assert_tied(z):
        h = z
        for i, weight in enumerate([layer.weight for layer in stack.encoder.layers][::-1]):
            h = h @ weight.mT + stack.decoder.biases[i]
            h = h.relu() if i < 2 else h
        torch.testing.assert_close(stack.decoder(z), h)

    z = numbers(2, 9, 2)
    assert_tied(z)
    sgd = torch.optim.SGD(stack.parameters(), lr=0.1)
    before = stack.decoder(z).detach()
    (stack.decoder(stack.encoder(numbers(9, 6))) ** 2).sum().backward()
    sgd.step()  # changes weights in place
    assert_tied(z)
    assert not torch.allclose(stack.decoder(z), before)
    others = {name: value + 0.1 for name, value in stack.state_dict().items()}
    for assign in (False, True):  # in place, and by parameters that are new
        stack.load_state_dict(others, assign=assign)
        assert_tied(z)
    stack.double().float()
    assert_tied(z.float())


def test_the_gradient_of_a_tied_weight_is_the_sum_of_both_uses():
    stack = stirred(AutoencoderNetwork(6, (), 2, torch.Generator(), code="sigmoid", tied=True))
    x, W = numbers(9, 6), stack.encoder.layers[0].weight
    ((stack.decoder(stack.encoder(x)) - x) ** 2).sum().backward()
    c, b = stack.encoder.layers[0].bias, stack.decoder.biases[0]
    z = torch.sigmoid(x @ W + c)
    error = 2 * (z @ W.T + b - x)
    upwards = x.T @ ((error @ W) * z * (1 - z))  # by way of the code
    torch.testing.assert_close(stack.encoder.layers[0].weight.grad, upwards + error.T @ z)


# ---------------------------------------------------------------- convolutions

IMAGES = [
    [(1, 8, 8), (3, 4, 4), (4, 2, 2)],
    [(1, 7, 5), (2, 4, 3), (5, 2, 2)],  # odd sides
    [(2, 1, 9), (3, 1, 5), (2, 1, 3)],
    [(1, 6, 3), (4, 3, 2)],
]


@pytest.mark.parametrize("S", [1, 3])
@pytest.mark.parametrize("shapes", IMAGES, ids=str)
def test_convolutions_are_conv2d_for_each_seed(shapes, S):
    stack = stirred(of_seeds(range(S), lambda g: Convolutions(shapes, g, output="tanh")))
    channels, rows, cols = shapes[0]
    for shared in (True, False):
        x = batch(S, shared, 6, channels * rows * cols)
        out = stack(x)
        for s, own in enumerate(per_seed(x, S)):
            h = own.reshape(6, channels, rows, cols)
            for n, ((a, *_), (b, *sides)) in enumerate(pairwise(shapes)):
                layer = nn.Conv2d(a, b, 3, stride=2, padding=1, dtype=torch.float64)
                layer.weight.data = entry(stack.weights[n], s, S)
                layer.bias.data = entry(stack.biases[n], s, S)
                h = layer(h)
                h = h.tanh() if n == len(shapes) - 2 else h.relu()
                assert list(h.shape[2:]) == sides
            torch.testing.assert_close(entry(out, s, S), h.flatten(1))


@pytest.mark.parametrize("S", [1, 3])
@pytest.mark.parametrize("shapes", [shapes[::-1] for shapes in IMAGES], ids=str)
def test_transposed_convolutions_are_conv_transpose_2d_for_each_seed(shapes, S):
    stack = stirred(of_seeds(range(S), lambda g: Convolutions(shapes, g, output="linear")))
    channels, rows, cols = shapes[0]
    x = batch(S, False, 6, channels * rows * cols)
    for s in range(S):
        h = entry(x, s, S).reshape(6, channels, rows, cols)
        for n, ((a, *_), (b, *sides)) in enumerate(pairwise(shapes)):
            layer = nn.ConvTranspose2d(a, b, 3, stride=2, padding=1, dtype=torch.float64)
            layer.weight.data = entry(stack.weights[n], s, S)
            layer.bias.data = entry(stack.biases[n], s, S)
            h = layer(h, output_size=sides)
            h = h if n == len(shapes) - 2 else h.relu()
        torch.testing.assert_close(entry(stack(x), s, S), h.flatten(1))


@pytest.mark.parametrize("shapes", [shapes[::way] for shapes in IMAGES for way in (1, -1)], ids=str)
def test_pooled_convolutions_of_stacked_seeds_are_those_of_each_alone(shapes):
    def build(g):
        return PooledConvolutions(shapes, g, output="tanh")

    stack = stirred(of_seeds(range(3), build))
    for shared in (True, False):
        x = batch(3, shared, 6, math.prod(shapes[0]))
        for s, own in enumerate(per_seed(x, 3)):
            alone = build(torch.Generator()).double()
            alone.load_state_dict({name: value[s] for name, value in stack.state_dict().items()})
            torch.testing.assert_close(stack(x)[s], alone(own))
            assert alone(own).shape == (6, math.prod(shapes[-1]))


def test_pooled_convolutions_begin_as_the_released_code_does():
    layer = PooledConvolutions([(1, 8, 8), (50, 4, 4), (60, 2, 2)], *generators([0]))
    W = layer.weights[1].detach()
    assert W.abs().max() <= 0.2
    assert W.std() == pytest.approx(0.088, rel=0.02)  # of a normal cut at two standard deviations
    assert all((b == 0.1).all() for b in layer.biases)


@given(rows=st.integers(1, 13), cols=st.integers(1, 13), depth=st.integers(1, 3))
def test_a_convolutional_decoder_has_the_shape_of_any_image(rows, cols, depth):
    how = "conv", (rows, cols)
    stack = of_seeds(
        (0, 1), lambda g: AutoencoderNetwork(rows * cols, range(2, 2 + depth), 2, g, *how)
    )
    z = stack.encoder(torch.rand(3, rows * cols))
    assert z.shape == (2, 3, 2)
    assert stack.decoder(z).shape == (2, 3, rows * cols)


# ---------------------------------------------------------------- first weights


def test_initial_weights_are_uniform_within_glorots_bound():
    drawn = np.stack(
        [glorot_uniform((300, 200), 300, 200, g).detach().numpy() for g in generators((0, 1))]
    )
    bound = math.sqrt(6 / 500)
    assert np.abs(drawn).max() <= bound
    for one in drawn:  # mean 0, variance bound²/3, as many in each tenth
        assert abs(one.mean()) < 4 * bound / math.sqrt(3 * one.size)
        assert one.var() == pytest.approx(bound**2 / 3, rel=0.02)
        counts, _ = np.histogram(one, bins=10, range=(-bound, bound))
        np.testing.assert_allclose(counts, one.size / 10, rtol=0.06)
    assert (drawn[0] != drawn[1]).mean() > 0.99


@pytest.mark.parametrize(("upwards", "shape"), [(False, (3, 2, 3, 3)), (True, (2, 3, 3, 3))])
def test_fans_of_a_convolution_count_its_area(upwards, shape):
    shapes = [(2, 4, 4), (3, 8, 8)] if upwards else [(2, 8, 8), (3, 4, 4)]
    many = of_seeds(range(200), lambda g: Convolutions(shapes, g))
    weight = many.weights[0].detach()
    assert tuple(weight.shape[1:]) == shape
    bound = math.sqrt(6 / (9 * 2 + 9 * 3))
    assert 0.99 * bound < weight.abs().max() <= bound
    assert not many.biases[0].any()


@pytest.mark.parametrize(("architecture", "tied"), [("mlp", False), ("mlp", True), ("conv", False)])
def test_initial_weights_of_a_seed_are_independent_of_the_ensemble(architecture, tied):
    def stack(seeds):
        shape = (architecture, (5, 7))
        return of_seeds(
            seeds, lambda g: AutoencoderNetwork(35, (3, 4), 2, g, *shape, tied=tied)
        ).state_dict()

    alone, among = stack([3]), stack(range(5))
    for name, value in alone.items():
        assert torch.equal(value, among[name][3])
        assert "bias" not in name or not value.any()


# ---------------------------------------------------------------- stacks


def test_the_decoder_mirrors_the_encoder():
    stack = AutoencoderNetwork(20, (9, 7), 3, *generators([0]), code="tanh", output="sigmoid")
    sizes = [tuple(layer.weight.shape) for layer in stack.encoder.layers]
    assert sizes == [(20, 9), (9, 7), (7, 3)]
    assert [tuple(layer.weight.shape)[::-1] for layer in stack.decoder.layers] == sizes[::-1]
    x = 100 * torch.randn(50, 20, generator=torch.Generator().manual_seed(0))
    z = stack.encoder(x)
    assert -1 <= z.min() < 0 < z.max() <= 1
    assert 0 <= stack.decoder(z).min() <= stack.decoder(z).max() <= 1


@pytest.mark.parametrize("tied", [False, True])
def test_hidden_layers_of_encoder_and_decoder_have_one_activation(tied):
    how = {"code": "tanh", "output": "relu", "hidden_activation": "sigmoid", "tied": tied}
    stack = AutoencoderNetwork(6, (5, 4), 2, *generators([0]), **how)
    for part, output in ((stack.encoder, "tanh"), (stack.decoder, "relu")):
        assert (part.hidden_activation, part.output) == ("sigmoid", output)
    assert isinstance(stack.decoder, TiedDecoder) == tied


@pytest.mark.parametrize(("architecture", "tied"), [("mlp", False), ("mlp", True), ("conv", False)])
def test_no_layer_mixes_seeds(architecture, tied):
    shape = (architecture, (5, 7))
    how = {"tied": tied, "hidden_activation": "tanh"}  # so that every unit is active
    stack = of_seeds((0, 1, 2), lambda g: AutoencoderNetwork(35, (3, 4), 2, g, *shape, **how))
    x = torch.rand(6, 35, generator=torch.Generator().manual_seed(0))
    ((stack.decoder(stack.encoder(x))[0] - x) ** 2).mean().backward()
    touched = 0
    for parameter in stack.parameters():
        assert not parameter.grad[1:].any()
        touched += int(parameter.grad[0].any())
    assert touched == len(list(stack.parameters()))
