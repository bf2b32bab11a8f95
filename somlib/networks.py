"""Networks in stacks: S networks of one shape, as one.

Every parameter carries a leading axis of length S, one entry per seed, and every layer takes
(S, B, d) to (S, B, d'). Ten small matrix products become one batched product, so training ten
seeds costs little more than training one wherever starting an operation costs more than the
operation itself: small networks on a CPU, nearly every network on a GPU. No layer mixes seeds, so
what one of them learns does not depend on its neighbours in the stack.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn

Architecture = Literal["mlp", "conv"]
Activation = Literal["relu", "sigmoid", "tanh", "linear"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "linear": lambda x: x,
}
SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda a: (a > 0).to(a),
    "sigmoid": lambda a: a * (1 - a),
    "tanh": lambda a: 1 - a * a,
    "linear": torch.ones_like,
}
"""Of each activation, its slope where it has the value a."""
_KERNEL = 3
"""Side of a convolution's kernel; with stride 2 each layer halves the image."""


def glorot_uniform(
    shape: Sequence[int], fan_in: int, fan_out: int, generators: Sequence[torch.Generator]
) -> nn.Parameter:
    """Return S arrays of weights, uniform within ±√(6 / (fan_in + fan_out)), one per generator.

    Drawn one seed at a time on the CPU, so that a seed starts alike alone or in a stack, on any
    device. Source: Glorot and Bengio, AISTATS 2010, equation 16; Keras' default, which the DESOM
    code ran with.

    Examples
    --------
    >>> alone, among = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    >>> one = glorot_uniform((4, 2), 4, 2, [alone])
    >>> two = glorot_uniform((4, 2), 4, 2, [torch.Generator(), among])
    >>> tuple(two.shape), bool((one[0] == two[1]).all())
    ((2, 4, 2), True)
    """
    if torch.get_default_device().type == "meta":  # a network of which only the shapes are asked
        return nn.Parameter(torch.empty(len(generators), *shape))
    bound = math.sqrt(6 / (fan_in + fan_out))
    drawn = [torch.rand(*shape, generator=g) * (2 * bound) - bound for g in generators]
    return nn.Parameter(torch.stack(drawn))


class Dense(nn.Module):
    """x W + b for each seed: (S, B, d_in), or (B, d_in) shared by all seeds, to (S, B, d_out)."""

    def __init__(self, d_in: int, d_out: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.weight = glorot_uniform((d_in, d_out), d_in, d_out, generators)
        self.bias = nn.Parameter(torch.zeros(len(generators), 1, d_out))

    def forward(self, x: Tensor) -> Tensor:
        """Return x W + b."""
        if len(self.weight) == 1:  # the plain product is a tenth faster than a batch of one
            weight, bias = self.weight.flatten(0, 1), self.bias.flatten()
            return torch.addmm(bias, x.reshape(x.shape[-2:]), weight).unsqueeze(0)
        return torch.baddbmm(self.bias, x.expand(len(self.weight), *x.shape[-2:]), self.weight)


class MLP(nn.Module):
    """Dense layers with one activation between them and one at the end.

    Parameters
    ----------
    sizes : sequence of int
        Width of the input, of each hidden layer, of the output.
    generators : sequence of S torch.Generator
        One per seed; see `glorot_uniform`.
    inside, output : {"relu", "sigmoid", "tanh", "linear"}
        Activations.

    Examples
    --------
    >>> net = MLP((5, 8, 2), [torch.Generator().manual_seed(s) for s in range(3)])
    >>> tuple(net(torch.zeros(7, 5)).shape)
    (3, 7, 2)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        generators: Sequence[torch.Generator],
        inside: Activation = "relu",
        output: Activation = "linear",
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Dense(d_in, d_out, generators) for d_in, d_out in pairwise(sizes)
        )
        self.inside, self.output = inside, output

    def forward(self, x: Tensor) -> Tensor:
        """Return the output layer's values, (S, B, d_out)."""
        *hidden, last = self.layers
        for layer in hidden:
            x = ACTIVATIONS[self.inside](layer(x))
        return ACTIVATIONS[self.output](last(x))


class Mirror(nn.Module):
    """An MLP's layers backwards, with the same weights, transposed, and biases of its own.

    Parameters
    ----------
    of : MLP
        Whose weights these are; a change of its weights is a change of these.
    inside, output : {"relu", "sigmoid", "tanh", "linear"}
        Activations.
    """

    def __init__(self, of: MLP, inside: Activation = "relu", output: Activation = "linear") -> None:
        super().__init__()
        self.of = (of,)  # in a tuple, so that its parameters are not counted here again
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(len(W), 1, W.shape[2])) for W in self._weights()
        )
        self.inside, self.output = inside, output

    def forward(self, x: Tensor) -> Tensor:
        """Return the output layer's values, (S, B, d_out)."""
        for n, (W, b) in enumerate(zip(self._weights(), self.biases, strict=True), start=1):
            a = torch.baddbmm(b, x.expand(len(b), *x.shape[-2:]), W)
            x = ACTIVATIONS[self.output if n == len(self.biases) else self.inside](a)
        return x

    def _weights(self) -> list[Tensor]:
        return [cast("Dense", layer).weight.mT for layer in self.of[0].layers][::-1]


class Convolutions(nn.Module):
    """Convolutions of stride 2, each followed by ReLU: images to flat features, or back.

    The seeds are the groups of one grouped convolution.

    Parameters
    ----------
    shapes : sequence of (channels, rows, cols)
        Of the input and after each layer; each layer halves the sides (rounding up), or, from
        small to large, doubles them.
    generators : sequence of S torch.Generator
    output : {"relu", "linear", ...}
        Activation after the last layer.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, int, int]],
        generators: Sequence[torch.Generator],
        output: Activation = "relu",
    ) -> None:
        super().__init__()
        self.shapes, self.output = list(shapes), output
        self.upwards = shapes[-1][1:] > shapes[0][1:]
        area = _KERNEL**2
        pairs = list(pairwise(shapes))
        self.weights = nn.ParameterList(
            glorot_uniform(
                (*((a, b) if self.upwards else (b, a)), _KERNEL, _KERNEL),
                a * area,
                b * area,
                generators,
            )
            for (a, *_), (b, *_) in pairs
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(len(generators), b)) for _, (b, *_) in pairs
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the last layer's values, flat: (S, B, channels · rows · cols)."""
        S = len(self.biases[0])
        x = x.expand(S, *x.shape[-2:]).transpose(0, 1)  # the seeds beside the channels
        x = x.reshape(len(x), S * self.shapes[0][0], *self.shapes[0][1:])
        for n, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True), start=1):
            W, b = weight.flatten(0, 1), bias.flatten()
            if self.upwards:
                x = nn.functional.conv_transpose2d(
                    x, W, b, stride=2, padding=1, groups=S, output_padding=self._missing(n)
                )
            else:
                x = nn.functional.conv2d(x, W, b, stride=2, padding=1, groups=S)
            last = n == len(self.weights)
            x = ACTIVATIONS[self.output if last else "relu"](x)
        return x.reshape(len(x), S, -1).transpose(0, 1)

    def _missing(self, n: int) -> list[int]:
        """Return the rows and columns that doubling alone leaves out: an even side needs one."""
        before, after = self.shapes[n - 1][1:], self.shapes[n][1:]
        return [b - (2 * a - 1) for a, b in zip(before, after, strict=True)]


class AutoencoderStack(nn.Module):
    """S encoders and their mirrored decoders.

    Parameters
    ----------
    n_features : int
        Width of a sample, d.
    hidden : sequence of int
        Widths of the encoder's hidden layers, or channels of its convolutions; the decoder has
        them in reverse.
    latent_dim : int
        Width of the code.
    generators : sequence of S torch.Generator
    architecture : {"mlp", "conv"}, default="mlp"
        Dense layers, or convolutions of stride 2 and one dense layer on either side of the code.
    image_shape : (int, int), optional
        Rows and columns of a sample; for "conv".
    code, output : {"linear", "sigmoid", ...}, default="linear"
        Activations of code and reconstruction.
    inside : {"relu", "sigmoid", ...}, default="relu"
        Activation of dense hidden layers.
    tied : bool, default=False
        Whether the decoder's dense layers have the encoder's weights, transposed.
    """

    def __init__(
        self,
        n_features: int,
        hidden: Sequence[int],
        latent_dim: int,
        generators: Sequence[torch.Generator],
        architecture: Architecture = "mlp",
        image_shape: tuple[int, int] | None = None,
        code: Activation = "linear",
        output: Activation = "linear",
        inside: Activation = "relu",
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.encoder: nn.Module
        self.decoder: nn.Module
        if architecture == "mlp":
            sizes = (n_features, *hidden, latent_dim)
            self.encoder = encoder = MLP(sizes, generators, inside, code)
            if tied:
                self.decoder = Mirror(encoder, inside, output)
            else:
                self.decoder = MLP(sizes[::-1], generators, inside, output)
            return
        rows, cols = image_shape or (n_features, 1)
        shapes = [(1, rows, cols)]
        for channels in hidden:
            _, rows, cols = shapes[-1]
            shapes.append((channels, -(-rows // 2), -(-cols // 2)))
        flat = math.prod(shapes[-1])
        self.encoder = nn.Sequential(
            Convolutions(shapes, generators), MLP((flat, latent_dim), generators, output=code)
        )
        self.decoder = nn.Sequential(
            MLP((latent_dim, flat), generators, output="relu"),
            Convolutions(shapes[::-1], generators, output=output),
        )
