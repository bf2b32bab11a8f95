"""Autoencoders: plain, denoising, sparse and contractive.

An encoder maps a sample to a latent code, a decoder reconstructs the sample from it. One idea per
class: a narrow code, corrupted inputs, few active units, a penalty on the encoder's Jacobian.
`layerwise` and `boltzmann` have layer-wise pre-training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from somlib import checks
from somlib.training import Array, DeepEstimator, Losses, Noise, fit_seeds
from somlib.training.layers import (
    DERIVATIVES,
    Activation,
    Architecture,
    AutoencoderNetwork,
)

Likelihood = Literal["gaussian", "bernoulli"]
Corruption = Literal["gaussian", "masking", "salt-and-pepper"]
Sparsity = Literal["kl", "l1", "k-sparse"]
Clip = Annotated[
    tuple[float, float],
    checks.Rule(
        "(lowest, highest)",
        lambda pair: checks.rule(tuple[float, float]).accepts(pair) and pair[0] < pair[1],
    ),
]

_JACOBIAN_BLOCK = 128
"""Number of samples per block of Jacobians, each of latent_dim × d numbers."""


# ---------------------------------------------------------------- the formulas


def reconstruction_error(x: Tensor, decoded: Tensor) -> Tensor:
    """Return the squared error of the reconstruction, the mean over samples and features.

    ℒ_r of the DESOM slides, with the mean over features as in the released code. The sum would
    have d times the weight relative to the other term of the loss.
    """
    difference = decoded - x
    return (difference * difference).mean((-2, -1))


def cross_entropy(x: Tensor, logits: Tensor) -> Tensor:
    """Return −x log p − (1 − x) log (1 − p), p = sigmoid(logits), per feature.

    The lecture's loss of the 784-128-32 autoencoder: a negative Bernoulli log-likelihood per
    feature.
    """
    loss = nn.functional.binary_cross_entropy_with_logits
    return loss(logits, x.expand_as(logits), reduction="none").mean((-2, -1))


def bernoulli_divergence(rho: float, active: Tensor) -> Tensor:
    """Return Σ_j ρ log ρ/ρ̂_j + (1 − ρ) log (1 − ρ)/(1 − ρ̂_j), the lecture's KL sparsity.

    Parameters
    ----------
    rho : float
        ρ: target activation of a unit.
    active : tensor of shape (m,)
        ρ̂: mean activation of each unit over a batch.

    Examples
    --------
    >>> float(bernoulli_divergence(0.1, torch.tensor([0.1, 0.5])))  # doctest: +ELLIPSIS
    0.368...
    """
    q = active.clamp(1e-6, 1 - 1e-6)  # keeps the divergence finite where a unit is never active
    return (rho * (rho / q).log() + (1 - rho) * ((1 - rho) / (1 - q)).log()).sum(-1)


def keep_largest(z: Tensor, k: Tensor | int, at_most: int | None = None) -> Tensor:
    """Return z with all but the k largest of the last axis set to 0, with gradient 0.

    Parameters
    ----------
    z : tensor of shape (..., m)
    k : int or tensor of shape ()
    at_most : int, optional
        An upper bound of k, where reading a tensor k would synchronize with the GPU.

    Examples
    --------
    >>> keep_largest(torch.tensor([[3.0, -5.0, 1.0, 2.0]]), 2)
    tensor([[3., -0., 0., 2.]])
    """
    order = z.topk(int(k) if at_most is None else at_most, dim=-1).indices
    kept = (torch.arange(order.shape[-1], device=z.device) < k).to(z).expand(order.shape)
    return z * torch.zeros_like(z).scatter(-1, order, kept)


def jacobian(encoder: nn.Module, x: Tensor) -> Tensor:
    """Return ∂z_j/∂x_i of each sample, shape (B, m, d), by reverse differentiation.

    One backward pass per code dimension, in one batch.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        z = encoder(x)
        m = z.shape[-1]
        which = torch.eye(m, dtype=z.dtype, device=z.device)
        which = which.reshape(m, *[1] * (z.ndim - 1), m).expand(m, *z.shape)
        (J,) = torch.autograd.grad(z, x, which, is_grads_batched=True, create_graph=True)
    return J.movedim(0, -2)


def contraction(encoder: Any, x: Tensor, activation: Activation | None = None) -> Tensor:
    """Return ‖J(x)‖²_F = Σ_ij (∂z_j/∂x_i)², the mean over samples.

    Parameters
    ----------
    encoder : network
    x : tensor of shape (B, d)
    activation : {"sigmoid", ...}, optional
        That of an encoder of one dense layer, for which the closed form Σ_j a'_j² Σ_i W_ij² is
        used (Rifai et al. 2011, equation 7); None computes the Jacobian.
    """
    if activation is None:
        return jacobian(encoder, x).square().sum((-1, -2)).mean(-1)
    W = encoder.layers[0].weight
    derivative = DERIVATIVES[activation](encoder(x))
    squared = derivative.square() * W.square().sum(-2, keepdim=True)
    return cast("Tensor", squared.sum(-1).mean(-1))


# ---------------------------------------------------------------- the plain autoencoder


class ReconstructionNetwork(AutoencoderNetwork):
    """Encoder, decoder and reconstruction error: the base of the networks in this file."""

    def __init__(self, config: "Autoencoder", n_features: int, generator: torch.Generator) -> None:
        c = config
        super().__init__(
            n_features,
            c.hidden,
            c.latent_dim,
            generator,
            c.architecture,
            c.image_shape,
            c.code,
            hidden_activation=c.activation,
            tied=c.tied,
        )
        self.config = config

    def error(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Return the reconstruction error: squared, or the cross-entropy of Bernoulli features."""
        if self.config.likelihood == "bernoulli":
            return cross_entropy(x, decoded)
        return reconstruction_error(x, decoded)


class PlainNetwork(ReconstructionNetwork):
    """The autoencoder whose loss is the reconstruction error alone."""

    def losses(self, x: Tensor) -> Losses:
        """Return the reconstruction error of a batch."""
        return {"loss": self.error(x, self.decode(self.encode(x)))}


@dataclass(eq=False, repr=False)
class Autoencoder(DeepEstimator):
    """Autoencoder: encoder and decoder trained to minimize the reconstruction error.

    Parameters
    ----------
    hidden : sequence of int, default=(500, 500, 2000)
        Widths of the encoder's hidden layers, in reverse in the decoder; for "conv" the channels
        of its convolutions. The default is the network of DEC, IDEC and DESOM.
    latent_dim : int, default=10
        Width of the code.
    architecture : {"mlp", "conv"}, default="mlp"
        Dense layers, or convolutions of stride 2.
    image_shape : (int, int), optional
        Rows and columns of a sample as an image, for "conv"; square by default.
    n_epochs : int, default=200
        Passes over the data; 200 is the pre-training of the DESOM code.
    n_iter : int, optional
        Total number of iterations; overrides `n_epochs`.
    batch_size : int, default=256
    learning_rate : float, default=1e-3
        Adam's.
    shuffle : bool, default=True
        Whether the samples are permuted each epoch, for each seed independently.
    precision : {"highest", "high", "medium"}, default="highest"
        Precision of float32 matrix products, in PyTorch's words: "high" and "medium" may round
        their factors; see `search.products.products`.
    random_state : int, Generator, RandomState or None, default=None
        Determines the initial weights and the order of the samples.
    device : {"auto", "cpu", "cuda", "mps"}, default="auto"
    progress : bool, default=False
        Show a progress bar.
    likelihood : {"gaussian", "bernoulli"}, default="gaussian"
        Distribution of a feature given the decoder's output: the loss is the squared error, or,
        for features in [0, 1], the cross-entropy with a sigmoid after the decoder. Both are means
        over features.
    activation : {"relu", "sigmoid", "tanh", "linear"}, default="relu"
        Of dense hidden layers.
    code : {"linear", "relu", "sigmoid", "tanh"}, default="linear"
        Activation of the code.
    tied : bool, default=False
        Whether the decoder's weights are the encoder's, transposed, which halves the number of
        parameters. For "mlp".

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

    hidden: Sequence[checks.Count] = (500, 500, 2000)
    latent_dim: checks.Count = 10
    architecture: Architecture = "mlp"
    image_shape: checks.ImageShape | None = None
    n_epochs: checks.Count = 200
    n_iter: checks.Count | None = None
    learning_rate: checks.Positive = 1e-3
    likelihood: Likelihood = "gaussian"
    activation: Activation = "relu"
    code: Activation = "linear"
    tied: bool = False

    _divisible: ClassVar[bool] = True
    _may_differ: ClassVar[tuple[str, ...]] = ("learning_rate",)

    def _build(self, d: int, generator: torch.Generator) -> AutoencoderNetwork:
        return PlainNetwork(self, d, generator)

    def _check(self, n: int, d: int) -> None:
        if self.tied and self.architecture != "mlp":
            raise ValueError(
                f"tied=True needs dense layers, but architecture={self.architecture!r} has "
                "convolutions; choose architecture='mlp' or tied=False"
            )

    def jacobian(self, X: ArrayLike) -> Array:
        """Return the Jacobian of the encoder at each sample, ∂z_j/∂x_i: shape (n, latent_dim, d).

        Its right singular vectors are the directions of the sample to which the code is sensitive,
        its singular values the sensitivities.
        """
        X = self._valid(X, reset=False)

        def of_block(network: AutoencoderNetwork, x: Tensor) -> Tensor:
            return jacobian(network.encoder, x)

        return np.concatenate([*self._in_blocks(of_block, X, _JACOBIAN_BLOCK)])


def pretrained(
    model: Any, names: Sequence[str], X: ArrayLike, seeds: Sequence[int], checkpoint: Path | None
) -> list[Autoencoder] | None:
    """Return autoencoders with the named parameters of a model, trained for `pretrain_epochs`."""
    if not model.pretrain_epochs:
        return None
    parameters = {name: getattr(model, name) for name in names}
    autoencoder = Autoencoder(n_epochs=model.pretrain_epochs, **parameters)
    return fit_seeds(autoencoder, X, seeds, checkpoint=checkpoint)


@checks.arguments
def principal_components(model: Autoencoder, X: ArrayLike) -> Array:
    """Return the principal components learned by a linear autoencoder, as rows of length d.

    The rows of its decoder W span the principal subspace, but are an arbitrary basis of it. With C
    the covariance of the codes, the right singular vectors of C^½ W are the principal axes of the
    reconstructions, by decreasing variance. (With weight decay, those of W alone are.)

    Parameters
    ----------
    model : fitted Autoencoder
        With `hidden=()` and linear code.
    X : array of shape (n, d)
        The training data.

    Raises
    ------
    ValueError
        When the autoencoder is not linear.

    References
    ----------
    E. Plaut, "From Principal Subspaces to Principal Components with Linear Autoencoders",
    arXiv:1804.10253, 2018; D. Kunin et al., "Loss Landscapes of Regularized Linear Autoencoders",
    ICML 2019.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(200, 3)) * [3, 2, 0.1]
    >>> linear = Autoencoder((), 2, n_iter=800, batch_size=200, learning_rate=0.02, random_state=0)
    >>> np.abs(principal_components(linear.fit(X), X)).round(1) + 0
    array([[1., 0., 0.],
           [0., 1., 0.]])
    """
    check_is_fitted(model)
    k_sparse = getattr(model, "sparsity", None) == "k-sparse"
    linear = model.code == "linear" and model.likelihood == "gaussian" and not k_sparse
    if len(tuple(model.hidden)) or not linear:
        raise ValueError(
            f"{model!r} is not linear; only Autoencoder(hidden=(), code='linear', "
            "likelihood='gaussian') has principal components"
        )
    C = np.atleast_2d(np.cov(model.transform(X), rowvar=False))
    zero = np.zeros((1, model.latent_dim), model._dtype())
    W = model.inverse_transform(np.eye(model.latent_dim)) - model.inverse_transform(zero)
    variance, axes = np.linalg.eigh(C)
    half = axes * np.sqrt(variance.clip(0)) @ axes.T
    return np.asarray(np.linalg.svd(half @ W, full_matrices=False)[2])


# ---------------------------------------------------------------- denoising, sparse, contractive


class DenoisingNetwork(ReconstructionNetwork):
    """An autoencoder that reconstructs clean samples from corrupted ones."""

    config: "DenoisingAutoencoder"

    def noise(self, batch_size: int) -> dict[str, Noise]:
        """Return the random numbers that corrupt the samples."""
        normal = self.config.corruption == "gaussian"
        shape = (batch_size, self.n_features)
        return {"random": Noise(shape, "normal" if normal else "uniform", block=2)}

    def losses(self, x: Tensor, random: Tensor) -> Losses:
        """Return the reconstruction error of the clean samples."""
        corrupted = self.config.corrupt(x, random)
        return {"loss": self.error(x, self.decode(self.encode(corrupted)))}


@dataclass(eq=False, repr=False)
class DenoisingAutoencoder(Autoencoder):
    """Denoising autoencoder: reconstructs clean samples from corrupted ones.

    The identity is no solution, whatever the width of the code: the network must learn the
    dependencies between features.

    Parameters
    ----------
    hidden, latent_dim, ...
        See `Autoencoder`; the code may be wider than a sample.
    corruption : {"gaussian", "masking", "salt-and-pepper"}, default="gaussian"
        Gaussian noise is added; features are set to 0; or to 0 and 1, half each.
    noise : float, default=0.1
        Standard deviation of Gaussian noise, or the fraction of features that are replaced.
    clip : (float, float) or None, default=(0.0, 1.0)
        Range to which samples with Gaussian noise are clipped; None does not clip.

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

    corruption: Corruption = "gaussian"
    noise: checks.NotNegative = 0.1
    clip: Clip | None = (0.0, 1.0)

    _overcomplete: ClassVar[bool] = True

    def _build(self, d: int, generator: torch.Generator) -> DenoisingNetwork:
        return DenoisingNetwork(self, d, generator)

    def corrupt(self, x: Tensor, random: Tensor) -> Tensor:
        """Return corrupted samples, given standard normal or uniform random numbers."""
        if self.corruption == "gaussian":
            noisy = x + self.noise * random
            return noisy if self.clip is None else noisy.clamp(*self.clip)
        if self.corruption == "masking":
            return torch.where(random < self.noise, 0.0, x)
        salt, pepper = random > 1 - self.noise / 2, random < self.noise / 2
        return torch.where(pepper, 0.0, torch.where(salt, 1.0, x))

    def _check(self, n: int, d: int) -> None:
        super()._check(n, d)
        if self.corruption != "gaussian" and self.noise > 1:
            raise ValueError(
                f"noise={self.noise!r} must be a number from 0 to 1: with "
                f"corruption={self.corruption!r} it is the fraction of features replaced"
            )


class SparseNetwork(ReconstructionNetwork):
    """An autoencoder with a penalty or a hard limit on the activations of its code."""

    config: "SparseAutoencoder"

    def schedules(self, n_iter: int) -> dict[str, Array]:
        """Return k at each iteration, for "k-sparse"."""
        if self.config.sparsity != "k-sparse":
            return {}
        first, last = self.config._ks()
        t = np.minimum(np.arange(n_iter) / max(n_iter // 2, 1), 1)
        return {"k": np.round(first + (last - first) * t)}

    def losses(self, x: Tensor, k: Tensor | None = None) -> Losses:
        """Return the reconstruction error plus the weighted sparsity penalty, and both terms."""
        z, c = self.encode(x), self.config
        if k is not None:
            L_r = self.error(x, self.decode(keep_largest(z, k, max(c._ks()))))
            return {"loss": L_r, "reconstruction": L_r}
        L_r = self.error(x, self.decode(z))
        if c.sparsity == "kl":
            L_s = bernoulli_divergence(c.rho, z.mean(-2))
        else:
            L_s = z.abs().sum(-1).mean(-1)
        return {"loss": L_r + c.weight * L_s, "reconstruction": L_r, "sparsity": L_s}


@dataclass(eq=False, repr=False)
class SparseAutoencoder(Autoencoder):
    """Sparse autoencoder: a wide code, of which few units are active for each sample.

    The loss is the error per feature + `weight` · the sparsity term. "k-sparse" has no such term:
    all but the k largest activations of the code are set to 0.

    Parameters
    ----------
    hidden, latent_dim, ...
        See `Autoencoder`; the code may be wider than a sample, and is a sigmoid by default.
        Makhzani and Frey's k-sparse autoencoder has `hidden=()`, `code="linear"`, `tied=True`.
    sparsity : {"kl", "l1", "k-sparse"}, default="kl"
        Divergence between the target and the measured mean activation of each unit, summed over
        units (for a sigmoid code); Σ_j |z_j|, the mean over samples; or a hard limit.
    weight : float, default=1e-3
        β: weight of the sparsity term, relative to an error that is a mean over features.
    rho : float, default=0.05
        ρ: target mean activation, for "kl".
    k : int or (int, int), default=25
        Number of activations kept, for "k-sparse"; (first, last) decreases linearly during the
        first half of training, so that all units receive gradients before few are kept.

    Attributes
    ----------
    parameters_, history_, n_iter_, seed_
        See `training.DeepEstimator`; the history also holds "reconstruction" and, but for
        "k-sparse", "sparsity", before weighting; for "k-sparse", "k".

    Raises
    ------
    ValueError
        From `fit`, when a parameter or the data is unusable.

    References
    ----------
    A. Makhzani and B. Frey, "k-Sparse Autoencoders", ICLR 2014; the KL term as in the lecture
    "Unsupervised learning" (INF5860, Oslo 2018). (The lecture "Autoencoders" prints the L2 norm
    as L1.)

    Examples
    --------
    >>> from somlib import data
    >>> X = data.load("digits").X
    >>> few = SparseAutoencoder((), 100, sparsity="k-sparse", k=5, code="linear", n_epochs=2)
    >>> (few.set_params(random_state=0).fit(X).transform(X) != 0).sum(1).max()
    np.int64(5)
    """

    code: Activation = "sigmoid"
    sparsity: Sparsity = "kl"
    weight: checks.NotNegative = 1e-3
    rho: checks.OpenFraction = 0.05
    k: checks.Count | tuple[checks.Count, checks.Count] = 25

    _overcomplete: ClassVar[bool] = True

    @property
    def _divisible(self) -> bool:  # type: ignore[override]
        return self.sparsity != "kl"  # which compares mean activations of the whole batch

    def _build(self, d: int, generator: torch.Generator) -> SparseNetwork:
        return SparseNetwork(self, d, generator)

    def transform(self, X: ArrayLike) -> Array:
        """Return the code of each sample, shape (n, latent_dim)."""
        Z = super().transform(X)
        if self.sparsity != "k-sparse":
            return Z
        return np.asarray(keep_largest(torch.from_numpy(Z), self._ks()[1]))

    def jacobian(self, X: ArrayLike) -> Array:
        """Return ∂z_j/∂x_i, shape (n, latent_dim, d), for "k-sparse" 0 for inactive units."""
        J = super().jacobian(X)
        return J * (self.transform(X) != 0)[:, :, None] if self.sparsity == "k-sparse" else J

    def _ks(self) -> tuple[int, int]:
        first, last = np.broadcast_to(self.k, 2).tolist()
        return first, last

    def _check(self, n: int, d: int) -> None:
        super()._check(n, d)
        if self.sparsity == "kl" and self.code != "sigmoid":
            raise ValueError(
                f"sparsity='kl' compares probabilities, which code={self.code!r} does not give; "
                "choose code='sigmoid', or sparsity='l1'"
            )
        if self.sparsity == "k-sparse" and max(self._ks()) > self.latent_dim:
            raise ValueError(
                f"k={self.k!r} is more than latent_dim={self.latent_dim}; choose at most that many"
            )


class ContractiveNetwork(ReconstructionNetwork):
    """An autoencoder with a penalty on the Jacobian of its encoder."""

    config: "ContractiveAutoencoder"

    def losses(self, x: Tensor) -> Losses:
        """Return the reconstruction error plus the weighted contraction, and both terms."""
        c = self.config
        one_layer = c.architecture == "mlp" and not len(tuple(c.hidden))
        L_r = self.error(x, self.decode(self.encode(x)))
        x = x.expand(*L_r.shape, *x.shape[-2:])
        L_c = contraction(self.encoder, x, c.code if one_layer else None)
        return {"loss": L_r + c.weight * L_c, "reconstruction": L_r, "contraction": L_c}


@dataclass(eq=False, repr=False)
class ContractiveAutoencoder(Autoencoder):
    """Contractive autoencoder: penalizes the squared norm of the encoder's Jacobian.

    The loss is the error per feature + `weight` · ‖∂z/∂x‖²_F. Reconstruction keeps the code
    sensitive to the directions in which the data vary; the penalty reduces it in all others.

    Parameters
    ----------
    hidden, latent_dim, ...
        See `Autoencoder`; the code may be wider than a sample, and is a sigmoid by default. An
        encoder of one layer has the penalty in closed form; for others it is computed by autograd.
    weight : float, default=1e-2
        λ: weight of the penalty, relative to an error that is a mean over features.

    Attributes
    ----------
    parameters_, history_, n_iter_, seed_
        See `training.DeepEstimator`; the history also holds "reconstruction" and "contraction",
        before weighting.

    Raises
    ------
    ValueError
        From `fit`, when a parameter or the data is unusable.

    References
    ----------
    S. Rifai, P. Vincent, X. Muller, X. Glorot and Y. Bengio, "Contractive Auto-Encoders: Explicit
    Invariance During Feature Extraction", ICML 2011.

    Examples
    --------
    >>> from somlib import data
    >>> X = data.load("digits").X
    >>> model = ContractiveAutoencoder((), 100, n_epochs=2, random_state=0).fit(X)
    >>> model.jacobian(X[:3]).shape
    (3, 100, 64)
    """

    code: Activation = "sigmoid"
    weight: checks.NotNegative = 1e-2

    _overcomplete: ClassVar[bool] = True

    def _build(self, d: int, generator: torch.Generator) -> ContractiveNetwork:
        return ContractiveNetwork(self, d, generator)
