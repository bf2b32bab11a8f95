"""Autoencoders: a code from which a network can draw the sample again."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from somlib.training import DeepEstimator, Draws, Precision

Corruption = Literal["gaussian", "masking", "salt-and-pepper"]


def reconstruction_error(x: Tensor, decoded: Tensor) -> Tensor:
    """Return the squared error per feature of each seed, (S,), of shapes (B, d) and (S, B, d).

    ℒ_r of the DESOM slides with the mean over features that the released code takes: summed, it
    would weigh d times as much against the other term of the loss.
    """
    difference = decoded - x
    return (difference * difference).mean(dim=(1, 2))


class Autoencoder(DeepEstimator):
    """The plain autoencoder: encode, decode, lower the squared error.

    Parameters
    ----------
    hidden : sequence of int, default=(500, 500, 2000)
        Widths of the encoder's hidden layers, mirrored in the decoder; for "conv" the channels of
        its convolutions. The default is the network of DEC, IDEC and DESOM.
    latent_dim : int, default=10
        Width of the code.
    architecture : {"mlp", "conv"}, default="mlp"
        Dense layers, or convolutions of stride 2.
    image_shape : (int, int), optional
        Rows and columns that a sample folds into, for "conv"; square by default.
    n_epochs : int, default=200
        Passes over the data; 200 is the pre-training of the DESOM code.
    n_iter : int, optional
        Iterations in all, where a budget counts those; overrides `n_epochs`.
    batch_size : int, default=256
    learning_rate : float, default=1e-3
        Adam's.
    shuffle : bool, default=True
        Whether the samples come in a new order each epoch, its own for each seed.
    precision : {"float32", "fast"}, default="float32"
        "fast" rounds the factors of matrix products; see `training.products`.
    random_state : int, Generator, RandomState or None, default=None
        Decides first weights and order.
    device : {"auto", "cpu", "cuda", "mps"}, default="auto"
    progress : bool, default=False
        Show a progress bar.

    Attributes
    ----------
    parameters_, history_, n_iter_, seed_
        See `training.DeepEstimator`.

    Raises
    ------
    ValueError
        From `fit`, when a parameter or the data is unusable.

    Examples
    --------
    >>> from somlib import data
    >>> X = data.load("digits").X
    >>> ae = Autoencoder(hidden=(64,), latent_dim=4, n_epochs=5, random_state=0).fit(X)
    >>> ae.transform(X).shape, ae.inverse_transform(ae.transform(X[:2])).shape
    ((1797, 4), (2, 64))
    """

    def __init__(
        self,
        hidden: Sequence[int] = (500, 500, 2000),
        latent_dim: int = 10,
        architecture: Literal["mlp", "conv"] = "mlp",
        image_shape: tuple[int, int] | None = None,
        n_epochs: int = 200,
        n_iter: int | None = None,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        shuffle: bool = True,
        precision: Precision = "float32",
        random_state: Any = None,
        device: str = "auto",
        progress: bool = False,
    ) -> None:
        self.hidden = hidden
        self.latent_dim = latent_dim
        self.architecture = architecture
        self.image_shape = image_shape
        self.n_epochs = n_epochs
        self.n_iter = n_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.shuffle = shuffle
        self.precision = precision
        self.random_state = random_state
        self.device = device
        self.progress = progress

    def _losses(
        self, stack: Any, x: Tensor, rows: Tensor, values: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        return {"loss": reconstruction_error(x, stack.decoder(stack.encoder(x)))}


class DenoisingAutoencoder(Autoencoder):
    """An autoencoder that is given damaged samples and has to draw the whole ones.

    Copying no longer helps, whatever the width of the code: what is missing must come from what
    samples have in common.

    Parameters
    ----------
    corruption : {"gaussian", "masking", "salt-and-pepper"}, default="gaussian"
        Noise is added; features are set to 0; or to 0 and 1, half each.
    noise : float, default=0.1
        Standard deviation of Gaussian noise, or the share of features that are replaced.
    clip : (float, float) or None, default=(0.0, 1.0)
        Limits of what is damaged by Gaussian noise; None for data that have none.
    hidden, latent_dim, architecture, image_shape, n_epochs, n_iter, batch_size, learning_rate, ...
        See `Autoencoder`.

    Attributes
    ----------
    parameters_, history_, n_iter_, seed_
        See `training.DeepEstimator`.

    Raises
    ------
    ValueError
        From `fit`, when a parameter or the data is unusable.

    References
    ----------
    P. Vincent, H. Larochelle, Y. Bengio and P.-A. Manzagol, "Extracting and Composing Robust
    Features with Denoising Autoencoders", ICML 2008.

    Examples
    --------
    >>> from somlib import data
    >>> X = data.load("digits").X
    >>> model = DenoisingAutoencoder((64,), 4, n_epochs=5, random_state=0).fit(X)
    >>> model.inverse_transform(model.transform(X[:2])).shape
    (2, 64)
    """

    def __init__(
        self,
        hidden: Sequence[int] = (500, 500, 2000),
        latent_dim: int = 10,
        corruption: Corruption = "gaussian",
        noise: float = 0.1,
        clip: tuple[float, float] | None = (0.0, 1.0),
        architecture: Literal["mlp", "conv"] = "mlp",
        image_shape: tuple[int, int] | None = None,
        n_epochs: int = 200,
        n_iter: int | None = None,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        shuffle: bool = True,
        precision: Precision = "float32",
        random_state: Any = None,
        device: str = "auto",
        progress: bool = False,
    ) -> None:
        super().__init__(
            hidden,
            latent_dim,
            architecture,
            image_shape,
            n_epochs,
            n_iter,
            batch_size,
            learning_rate,
            shuffle,
            precision,
            random_state,
            device,
            progress,
        )
        self.corruption = corruption
        self.noise = noise
        self.clip = clip

    def _build(self, d: int, generators: Sequence[torch.Generator]) -> nn.Module:
        stack: Any = super()._build(d, generators)
        method: Literal["standard_normal", "random"] = (
            "standard_normal" if self.corruption == "gaussian" else "random"
        )
        stack.damage = Draws(generators, (self.batch_size, d), method, at_once=2)
        return stack  # type: ignore[no-any-return]

    def _before(self, stack: Any, X: Tensor, i: int) -> None:
        stack.damage.turn_to(i, X)

    def _losses(
        self, stack: Any, x: Tensor, rows: Tensor, values: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        damaged = self.corrupt(x, stack.damage.now[:, : x.shape[-2]])
        return {"loss": reconstruction_error(x, stack.decoder(stack.encoder(damaged)))}

    def corrupt(self, x: Tensor, drawn: Tensor) -> Tensor:
        """Return damaged samples, given standard normal or uniform random numbers."""
        if self.corruption == "gaussian":
            damaged = x + self.noise * drawn
            return damaged if self.clip is None else damaged.clamp(*self.clip)
        if self.corruption == "masking":
            return torch.where(drawn < self.noise, 0.0, x)
        salt, pepper = drawn > 1 - self.noise / 2, drawn < self.noise / 2
        return torch.where(pepper, 0.0, torch.where(salt, 1.0, x))

    def _check(self, n: int, d: int) -> None:
        if self.corruption not in get_args(Corruption):
            raise ValueError(
                f"corruption={self.corruption!r} is unknown; choose one of "
                f"{list(get_args(Corruption))}"
            )
        most = float("inf") if self.corruption == "gaussian" else 1.0
        if not 0 <= self.noise <= most or self.noise == float("inf"):
            raise ValueError(
                f"noise={self.noise!r} must be a number of at least 0"
                + ("" if self.corruption == "gaussian" else " and at most 1, a share of features")
            )
        if self.clip is not None and not (
            np.shape(self.clip) == (2,) and self.clip[0] < self.clip[1]
        ):
            raise ValueError(f"clip={self.clip!r} must be (lowest, highest) or None")
