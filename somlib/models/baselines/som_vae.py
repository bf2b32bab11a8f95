"""SOM-VAE: the code is replaced by the nearest embedding of a grid."""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from somlib import checks
from somlib.models.autoencoders import reconstruction_error
from somlib.models.baselines.centers import EmbeddedMap, assigned_centers, squared_distance
from somlib.training import Array, Losses
from somlib.training.layers import (
    MLP,
    Architecture,
    AutoencoderNetwork,
    PooledConvolutions,
    halved,
    image_size,
)
from somlib.training.schedules import in_steps


class SOMVAENetwork(AutoencoderNetwork):
    """An autoencoder, and embeddings of its codes on a grid.

    Parameters
    ----------
    config : SOMVAE
        Its parameters.
    n_features : int
        d.
    generator : torch.Generator
        Initializes the weights.
    """

    def __init__(self, config: "SOMVAE", n_features: int, generator: torch.Generator) -> None:
        c = config
        convolutional = c.architecture == "conv"
        super().__init__(n_features, () if convolutional else c.hidden, c.latent_dim, generator)
        if convolutional:
            shapes = halved(image_size(c.image_shape, n_features), c.hidden)
            self.encoder, self.decoder = _pooled(shapes, c.latent_dim, generator)
        self.config = c
        self.centers = nn.Parameter(torch.zeros(c.grid_.n_units, c.latent_dim))
        self.grid = c.grid_
        self.alpha, self.beta, self.straight_through = c.alpha, c.beta, c.straight_through

    @cached_property
    def share(self) -> Tensor:
        """Weight of each unit in the mean over a unit and its neighbors, (K, K)."""
        near = self.grid.adjacency() + np.eye(self.grid.n_units)
        return torch.from_numpy(near / (self.grid.connectivity + 1)).to(self.centers)

    def initialize(self, X: Tensor, generator: torch.Generator) -> None:
        """Sample the embeddings from 𝒩(0, 0.05²)."""
        self.centers.copy_(0.05 * torch.randn(self.centers.shape, generator=generator))

    def schedules(self, n_iter: int) -> dict[str, Array]:
        """Return the learning rate at each iteration."""
        c = self.config
        return {"learning_rate": in_steps(c.learning_rate, c.rate_decay, c.rate_interval, n_iter)}

    def losses(self, x: Tensor) -> Losses:
        """Return ℒ of a batch (see `SOMVAE`), and its four terms before weighting."""
        z_e, e = self.encode(x), self.centers
        d2 = squared_distance(z_e.detach(), e) / z_e.shape[-1]  # ‖e − sg(z_e)‖²
        chi = d2.argmin(-1)
        z_q = assigned_centers(e, chi)
        decoded = z_e + (z_q - z_e).detach() if self.straight_through else z_q
        L_q = reconstruction_error(x, self.decode(decoded))
        L_e = reconstruction_error(x, self.decode(z_e))
        L_commit = (z_e - z_q).square().mean((-2, -1))
        L_som = (self.share[chi] * d2).sum(-1).mean(-1)
        losses = {"reconstruction_q": L_q, "reconstruction_e": L_e}
        losses |= {"commitment": L_commit, "som": L_som}
        return losses | {"loss": L_q + L_e + self.alpha * L_commit + self.beta * L_som}


def _pooled(
    shapes: Sequence[tuple[int, int, int]], latent_dim: int, generator: torch.Generator
) -> tuple[nn.Module, nn.Module]:
    """Return encoder and decoder of the released code, for images of these shapes."""
    flat = math.prod(shapes[-1])
    encoder = PooledConvolutions(shapes, generator), MLP((flat, latent_dim), generator)
    decoder = (
        MLP((latent_dim, flat), generator),
        PooledConvolutions(shapes[::-1], generator, output="sigmoid"),
    )
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


@dataclass(eq=False, repr=False)
class SOMVAE(EmbeddedMap):
    """SOM-VAE, its static part: the code z_e is replaced by the nearest embedding z_q of a grid.

    ℒ = ‖x − x̂_q‖² + ‖x − x̂_e‖² + α ‖z_e − z_q‖² + β Σ_{e ∈ N(z_q)} ‖e − sg(z_e)‖², all as means:
    over pixels, over the code's dimensions and over z_q and its neighbors, as in the released code,
    from which α and β are taken. A neighbor beyond the border of the map counts as 0.

    Parameters
    ----------
    grid : (int, int) or Grid, default=(8, 8)
        Its embeddings are initialized from 𝒩(0, 0.05²).
    alpha, beta : float, default=1.0, 0.9
        Weights of the commitment and the neighborhood term.
    straight_through : bool, default=False
        Whether the gradient of x̂_q is passed to the encoder, as in VQ-VAE, instead of to the
        embeddings. In the released SOM-VAE, the gradient of x̂_q reaches the embeddings and that of
        x̂_e the encoder.
    latent_dim, n_iter, batch_size, learning_rate : default=64, 28_125, 32, 5e-4
        Those of the released code: 20 epochs of 45 000 images.
    rate_decay, rate_interval : float, int, default=0.9, 1000
        The learning rate is multiplied by `rate_decay` after every `rate_interval` iterations, as
        in the released code; the history holds it as "learning_rate".
    architecture : {"mlp", "conv"}, default="mlp"
        Dense layers, or the released network for images, with `hidden=(256, 256)`: convolutions of
        as many channels with pooling (see `PooledConvolutions`), and a sigmoid after the decoder,
        so that the samples should be in [0, 1].
    image_shape : (int, int), optional
        Rows and columns of a sample as an image, for "conv"; square by default.
    pretrain_epochs, shuffle : default=0, True
    hidden, ...
        See `EmbeddedClustering`.

    Raises
    ------
    ValueError
        From `fit`, also when an autoencoder with convolutions is to be pre-trained.

    References
    ----------
    V. Fortuin, M. Hüser, F. Locatello, H. Strathmann and G. Rätsch, "SOM-VAE: Interpretable
    Discrete Representation Learning on Time Series", ICLR 2019.
    """

    alpha: checks.NotNegative = 1.0
    beta: checks.NotNegative = 0.9
    straight_through: bool = False
    _: KW_ONLY
    latent_dim: checks.Count = 64
    n_iter: checks.Count = 28_125
    batch_size: checks.Count = 32
    learning_rate: checks.Positive = 5e-4
    pretrain_epochs: checks.CountOrZero = 0
    shuffle: bool = True
    rate_decay: checks.Fraction = 0.9
    rate_interval: checks.Count = 1000
    architecture: Architecture = "mlp"
    image_shape: checks.ImageShape | None = None

    def _check(self, n: int, d: int) -> None:
        super()._check(n, d)
        if self.architecture == "conv" and self.pretrain_epochs:
            raise ValueError(
                f"pretrain_epochs={self.pretrain_epochs!r}: only dense layers are pre-trained; "
                "choose architecture='mlp' or pretrain_epochs=0"
            )

    def _build(self, d: int, generator: torch.Generator) -> SOMVAENetwork:
        return SOMVAENetwork(self, d, generator)
