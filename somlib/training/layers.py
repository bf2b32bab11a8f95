"""Layers and networks: dense, tied, convolutional, and the autoencoder made of them.

Each is written for one seed and computes any number. After `network.stacked` has given the
parameters a leading axis of S seeds, a layer maps (S, B, d), or one batch (B, d) shared by all
seeds, to (S, B, d'): ten small matrix products become one batched product, so ten seeds cost little
more than one if the overhead per operation dominates (small networks on a CPU, most networks on a
GPU). Only this file depends on the axis.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn

from somlib.checks import ImageShape
from somlib.training.network import Network

Architecture = Literal["mlp", "conv"]
Activation = Literal["relu", "sigmoid", "tanh", "linear"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "linear": lambda x: x,
}
DERIVATIVES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda a: (a > 0).to(a),
    "sigmoid": lambda a: a * (1 - a),
    "tanh": lambda a: 1 - a * a,
    "linear": torch.ones_like,
}
"""The derivative of each activation as a function of its value a."""
_KERNEL = 3
"""Side of a convolution's kernel; with stride 2 each layer halves the image."""


def image_size(image_shape: ImageShape | None, n_features: int) -> ImageShape:
    """Return the rows and columns of a sample as an image: square by default."""
    return (math.isqrt(n_features),) * 2 if image_shape is None else image_shape


def glorot_uniform(
    shape: Sequence[int], fan_in: int, fan_out: int, generator: torch.Generator
) -> nn.Parameter:
    """Return weights sampled uniformly within ±√(6 / (fan_in + fan_out)).

    Sampled on the CPU, so that a seed gives the same weights on any device. Source: Glorot and
    Bengio, AISTATS 2010, equation 16; Keras' default, which the DESOM code used.

    Examples
    --------
    >>> W = glorot_uniform((4, 2), 4, 2, torch.Generator().manual_seed(3))
    >>> tuple(W.shape), bool(W.abs().max() <= 1)
    ((4, 2), True)
    """
    if torch.get_default_device().type == "meta":  # a network without values
        return nn.Parameter(torch.empty(*shape))
    bound = math.sqrt(6 / (fan_in + fan_out))
    return nn.Parameter(torch.rand(*shape, generator=generator) * (2 * bound) - bound)


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x W + b: (B, d) by (d, d') or, stacked, (S, B, d) or (B, d) by (S, d, d')."""
    if weight.ndim == 2:  # a tenth faster than a batched product of one
        return torch.addmm(bias, x, weight)
    return torch.baddbmm(bias, x.expand(len(weight), *x.shape[-2:]), weight)


class Dense(nn.Module):
    """A dense layer, x W + b.

    Parameters
    ----------
    d_in, d_out : int
    generator : torch.Generator
        Initializes the weights; see `glorot_uniform`. Biases are 0.
    """

    def __init__(self, d_in: int, d_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = glorot_uniform((d_in, d_out), d_in, d_out, generator)
        self.bias = nn.Parameter(torch.zeros(1, d_out))

    def forward(self, x: Tensor) -> Tensor:
        """Return x W + b."""
        return affine(x, self.weight, self.bias)


class MLP(nn.Module):
    """A multilayer perceptron: one activation for the hidden layers and one for the output.

    Parameters
    ----------
    sizes : sequence of int
        Width of the input, of each hidden layer, of the output.
    generator : torch.Generator
        See `glorot_uniform`.
    hidden_activation, output : {"relu", "sigmoid", "tanh", "linear"}
        Activations.

    Examples
    --------
    >>> net = MLP((5, 8, 2), torch.Generator().manual_seed(0))
    >>> tuple(net(torch.zeros(7, 5)).shape)
    (7, 2)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        generator: torch.Generator,
        hidden_activation: Activation = "relu",
        output: Activation = "linear",
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Dense(d_in, d_out, generator) for d_in, d_out in pairwise(sizes)
        )
        self.hidden_activation, self.output = hidden_activation, output

    def forward(self, x: Tensor) -> Tensor:
        """Return the values of the output layer, (B, d_out)."""
        *hidden, last = self.layers
        for layer in hidden:
            x = ACTIVATIONS[self.hidden_activation](layer(x))
        return ACTIVATIONS[self.output](last(x))


class TiedDecoder(nn.Module):
    """The layers of an MLP in reverse order, with its weights transposed and separate biases.

    Parameters
    ----------
    encoder : MLP
        Owns the weights.
    hidden_activation, output : {"relu", "sigmoid", "tanh", "linear"}
        Activations.
    """

    def __init__(
        self, encoder: MLP, hidden_activation: Activation = "relu", output: Activation = "linear"
    ) -> None:
        super().__init__()
        self._encoder = (encoder,)  # a tuple, so that its parameters are not registered twice
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(1, W.shape[-1])) for W in self._weights()
        )
        self.hidden_activation, self.output = hidden_activation, output

    def forward(self, x: Tensor) -> Tensor:
        """Return the values of the output layer, (B, d_out)."""
        for n, (W, b) in enumerate(zip(self._weights(), self.biases, strict=True), start=1):
            last = n == len(self.biases)
            x = ACTIVATIONS[self.output if last else self.hidden_activation](affine(x, W, b))
        return x

    def _weights(self) -> list[Tensor]:
        return [cast("Dense", layer).weight.mT for layer in self._encoder[0].layers][::-1]


class Convolutions(nn.Module):
    """Convolutions of stride 2, each followed by ReLU: images to flat features, or back.

    Stacked seeds are the groups of one grouped convolution.

    Parameters
    ----------
    shapes : sequence of (channels, rows, cols)
        Of the input and after each layer; each layer halves the sides (rounding up), or doubles
        them if the shapes increase.
    generator : torch.Generator
    output : {"relu", "linear", ...}
        Activation after the last layer.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, int, int]],
        generator: torch.Generator,
        output: Activation = "relu",
    ) -> None:
        super().__init__()
        self.shapes, self.output = list(shapes), output
        self.transposed = shapes[-1][1:] > shapes[0][1:]
        area = _KERNEL**2
        pairs = list(pairwise(shapes))
        self.weights = nn.ParameterList(
            glorot_uniform(
                (*((a, b) if self.transposed else (b, a)), _KERNEL, _KERNEL),
                a * area,
                b * area,
                generator,
            )
            for (a, *_), (b, *_) in pairs
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(b)) for _, (b, *_) in pairs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the values of the last layer, flat: (B, channels · rows · cols)."""
        seeds = self.biases[0].shape[:-1]  # () or (S,)
        S, x = seeds.numel(), _as_images(x, seeds, self.shapes[0])
        for n, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True), start=1):
            W, b = weight.reshape(-1, *weight.shape[-3:]), bias.flatten()
            if self.transposed:
                x = nn.functional.conv_transpose2d(
                    x, W, b, stride=2, padding=1, groups=S, output_padding=self._output_padding(n)
                )
            else:
                x = nn.functional.conv2d(x, W, b, stride=2, padding=1, groups=S)
            last = n == len(self.weights)
            x = ACTIVATIONS[self.output if last else "relu"](x)
        return _as_rows(x, seeds)

    def _output_padding(self, n: int) -> list[int]:
        """Return PyTorch's `output_padding` of layer n: 1 for an even side, else 0."""
        before, after = self.shapes[n - 1][1:], self.shapes[n][1:]
        return [b - (2 * a - 1) for a, b in zip(before, after, strict=True)]


def _as_images(x: Tensor, seeds: torch.Size, shape: tuple[int, int, int]) -> Tensor:
    """Return flat images (B, d) or (S, B, d) as (B, S · channels, rows, cols): a group per seed."""
    S = seeds.numel()
    x = x.expand(S, *x.shape[-2:]).transpose(0, 1)  # seeds next to channels
    return x.reshape(len(x), S * shape[0], *shape[1:])


def _as_rows(x: Tensor, seeds: torch.Size) -> Tensor:
    """Return images (B, S · channels, rows, cols) as rows, (B, d) or (S, B, d)."""
    return x.reshape(len(x), seeds.numel(), -1).transpose(0, 1).reshape(*seeds, len(x), -1)


class PooledConvolutions(nn.Module):
    """Convolutions of 4 × 4 weights, each between ReLU and 2 × 2 max-pooling, or in reverse.

    In reverse, each convolution follows an enlargement that repeats rows and columns. These are the
    layers of the released SOM-VAE, with its initial values: weights of a normal distribution with
    standard deviation 0.1, cut at 0.2, and biases of 0.1. Stacked seeds are the groups of one
    grouped convolution.

    Parameters
    ----------
    shapes : sequence of (channels, rows, cols)
        Of the input and after each layer, as for `Convolutions`.
    generator : torch.Generator
    output : {"relu", "sigmoid", ...}
        Activation of the last convolution.

    Examples
    --------
    >>> down = PooledConvolutions([(1, 8, 8), (3, 4, 4)], torch.Generator().manual_seed(0))
    >>> tuple(down(torch.zeros(5, 64)).shape)
    (5, 48)
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, int, int]],
        generator: torch.Generator,
        output: Activation = "relu",
    ) -> None:
        super().__init__()
        self.shapes, self.output = list(shapes), output
        self.enlarges = shapes[-1][1:] > shapes[0][1:]
        channels = [(a, b) for (a, *_), (b, *_) in pairwise(shapes)]
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(b, a, 4, 4)) for a, b in channels)
        self.biases = nn.ParameterList(nn.Parameter(torch.full((b,), 0.1)) for _, b in channels)
        if torch.get_default_device().type != "meta":  # a network without values
            for weight in self.weights:
                nn.init.trunc_normal_(weight, std=0.1, a=-0.2, b=0.2, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return the values of the last layer, flat: (B, channels · rows · cols)."""
        seeds = self.biases[0].shape[:-1]  # () or (S,)
        S, x = seeds.numel(), _as_images(x, seeds, self.shapes[0])
        for n, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True), start=1):
            _, rows, cols = self.shapes[n]
            if self.enlarges:
                x = nn.functional.interpolate(x, scale_factor=2)[..., :rows, :cols]
            x = nn.functional.pad(x, (1, 2, 1, 2))  # the size stays, as with TensorFlow's "SAME"
            W, b = weight.reshape(-1, *weight.shape[-3:]), bias.flatten()
            x = nn.functional.conv2d(x, W, b, groups=S)
            x = ACTIVATIONS[self.output if n == len(self.weights) else "relu"](x)
            if not self.enlarges:
                x = nn.functional.max_pool2d(x, 2, ceil_mode=True)
        return _as_rows(x, seeds)


def halved(image_shape: ImageShape, channels: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return (channels, rows, cols) of an image and after each layer, which halves its sides.

    Examples
    --------
    >>> halved((28, 28), (8, 16))
    [(1, 28, 28), (8, 14, 14), (16, 7, 7)]
    """
    shapes = [(1, *image_shape)]
    for c in channels:
        _, rows, cols = shapes[-1]
        shapes.append((c, -(-rows // 2), -(-cols // 2)))
    return shapes


class AutoencoderNetwork(Network):
    """An encoder and a decoder with the same layers in reverse.

    Parameters
    ----------
    n_features : int
        Width of a sample, d.
    hidden : sequence of int
        Widths of the encoder's hidden layers, or channels of its convolutions; the decoder has
        them in reverse.
    latent_dim : int
        Width of the latent code.
    generator : torch.Generator
        Initializes the weights.
    architecture : {"mlp", "conv"}, default="mlp"
        Dense layers, or convolutions of stride 2 and one dense layer before and after the code.
    image_shape : (int, int), optional
        Rows and columns of a sample, for "conv"; square by default.
    code, output : {"linear", "sigmoid", ...}, default="linear"
        Activations of code and reconstruction.
    hidden_activation : {"relu", "sigmoid", ...}, default="relu"
        Activation of dense hidden layers.
    tied : bool, default=False
        Whether the decoder's weights are the encoder's, transposed.
    """

    encoder: nn.Module
    decoder: nn.Module

    def __init__(
        self,
        n_features: int,
        hidden: Sequence[int],
        latent_dim: int,
        generator: torch.Generator,
        architecture: Architecture = "mlp",
        image_shape: ImageShape | None = None,
        code: Activation = "linear",
        output: Activation = "linear",
        hidden_activation: Activation = "relu",
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.n_features = n_features
        if architecture == "mlp":
            sizes = (n_features, *hidden, latent_dim)
            self.encoder = encoder = MLP(sizes, generator, hidden_activation, code)
            if tied:
                self.decoder = TiedDecoder(encoder, hidden_activation, output)
            else:
                self.decoder = MLP(sizes[::-1], generator, hidden_activation, output)
            return
        shapes = halved(image_size(image_shape, n_features), hidden)
        flat = math.prod(shapes[-1])
        self.encoder = nn.Sequential(
            Convolutions(shapes, generator), MLP((flat, latent_dim), generator, output=code)
        )
        self.decoder = nn.Sequential(
            MLP((latent_dim, flat), generator, output="relu"),
            Convolutions(shapes[::-1], generator, output=output),
        )

    def encode(self, x: Tensor) -> Tensor:
        """Return the latent codes of samples, (B, latent_dim)."""
        return cast("Tensor", self.encoder(x))

    def decode(self, z: Tensor) -> Tensor:
        """Return the decoded codes, (B, d)."""
        return cast("Tensor", self.decoder(z))
