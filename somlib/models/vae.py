"""VAE: the variational autoencoder, with a stochastic code and a bound on the likelihood as loss.

The encoder maps each sample to a Gaussian posterior over codes. The decoder reconstructs the sample
from a code sampled from it. A divergence keeps the posteriors close to a standard Gaussian prior,
from which new samples can be generated. SOAE perturbs codes too; there the width is a schedule,
here it is learned.

All losses are in nats per sample: sums over features, because means would change β.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from somlib import arrays, checks
from somlib.models.autoencoders import Likelihood
from somlib.training import ROWS_AT_ONCE, Array, DeepEstimator, Losses, Noise
from somlib.training.layers import Architecture, AutoencoderNetwork
from somlib.training.loop import random_source
from somlib.training.network import hyperparameter

LOG_VARIANCE_LIMIT = 15.0
"""Log-variances are clamped to ± this value."""


# ---------------------------------------------------------------- the formulas


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return D_KL(𝒩(μ, σ²) ‖ 𝒩(0, 1)) = ½ Σ (μ² + σ² − log σ² − 1), over the last axis.

    Examples
    --------
    >>> float(divergence(torch.tensor([1.0, 0.0]), torch.zeros(2)))
    0.5
    """
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(-1)


def gaussian_log_density(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return log 𝒩(x; μ, σ²), summed over the last axis."""
    deviation = (x - mean).square() * (-log_variance).exp()
    return -0.5 * (deviation + log_variance + math.log(2 * math.pi)).sum(-1)


def bernoulli_log_density(x: Tensor, logits: Tensor) -> Tensor:
    """Return Σ x log p + (1 − x) log (1 − p) over the last axis, with p = sigmoid(logits)."""
    x = x.expand_as(logits)
    log_density = -nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none")
    return log_density.sum(-1)


# ---------------------------------------------------------------- the network


class VAENetwork(AutoencoderNetwork):
    """An encoder of posterior means and log-variances, and a decoder of p(x|z).

    Parameters
    ----------
    config : VAE
        Its parameters.
    n_features : int
        d.
    generator : torch.Generator
        Draws the weights.
    """

    beta: Tensor

    def __init__(self, config: "VAE", n_features: int, generator: torch.Generator) -> None:
        c, m = config, config.latent_dim
        layers = (generator, c.architecture, c.image_shape)
        super().__init__(n_features, c.hidden, 2 * m, *layers)  # μ and log σ² of each code
        self.decoder = AutoencoderNetwork(n_features, c.hidden, m, *layers).decoder
        learned = isinstance(c.noise, str)
        self.log_noise = nn.Parameter(torch.zeros(1, 1), requires_grad=learned)
        self.register_buffer("beta", hyperparameter(c.beta), persistent=False)
        self.config = c

    def initialize(self, X: Tensor, generator: torch.Generator) -> None:
        """Set the variance of the Gaussian likelihood."""
        given = self.config.noise
        if isinstance(given, str):  # initially that of a decoder whose output is the data's mean
            variance = float(X.var(0, correction=0).mean().clamp(min=math.exp(-LOG_VARIANCE_LIMIT)))
        else:
            variance = given**2
        self.log_noise.fill_(math.log(variance))

    def noise(self, batch_size: int) -> dict[str, Noise]:
        """Return ε, and the random numbers that binarize the samples."""
        noise = {"epsilon": Noise((batch_size, self.config.latent_dim))}
        if self.config.binarize:
            noise["uniform"] = Noise((batch_size, self.n_features), "uniform", stream=3, block=2)
        return noise

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return μ and log σ² of q(z|x), and where the latter was clamped."""
        mean, log_variance = self.encoder(x).chunk(2, -1)
        clamped = log_variance.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)
        return mean, clamped, clamped != log_variance

    def encode(self, x: Tensor) -> Tensor:
        """Return the posterior means μ, (B, m)."""
        return self.posterior(x)[0]

    def log_likelihood(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Return log p(x|z) of each sample, (B,), given the decoder's output for z."""
        if self.config.likelihood == "bernoulli":
            return bernoulli_log_density(x, decoded)
        log_noise = self.log_noise.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)
        return gaussian_log_density(x, decoded, log_noise.expand_as(decoded))

    def losses(self, x: Tensor, epsilon: Tensor, uniform: Tensor | None = None) -> Losses:
        """Return −log p(x|z) + β D_KL with one z = μ + σ ε per sample, and both terms."""
        if uniform is not None:
            x = (uniform < x).to(x)
        mean, log_variance, clamped = self.posterior(x)
        z = mean + (log_variance / 2).exp() * epsilon  # not σ²: see notebook 05
        L_r = -self.log_likelihood(x, self.decode(z)).mean(-1)
        L_d = divergence(mean, log_variance).mean(-1)
        return {
            "loss": L_r + self.beta * L_d,
            "reconstruction": L_r,
            "divergence": L_d,
            "clamped": clamped.to(x).mean((-1, -2)),
        }


# ---------------------------------------------------------------- the estimator


@dataclass(eq=False, repr=False)
class VAE(DeepEstimator):
    """Variational autoencoder: q(z|x) = 𝒩(μ(x), σ²(x)), p(z) = 𝒩(0, 1), decoder p(x|z).

    The loss is −log p(x|z) + β D_KL(q(z|x) ‖ p(z)) with z = μ + σ ε, ε ~ 𝒩(0, 1). With β = 1 it is
    the negative evidence lower bound (ELBO) of log p(x), in nats: the divergence in closed form,
    the first term estimated with one z per sample.

    Parameters
    ----------
    latent_dim : int, default=2
        m: dimensions of the code.
    hidden : sequence of int, default=(256, 256)
        Widths of the encoder's hidden layers, in reverse in the decoder; see `Autoencoder`. Without
        hidden layers both are linear: probabilistic PCA.
    architecture, image_shape
        See `Autoencoder`.
    beta : float, default=1.0
        Weight of the divergence; the loss is a bound only at 1.
    likelihood : {"gaussian", "bernoulli"}, default="gaussian"
        p(x|z): Gaussian, with the decoder's output as mean and variance `noise`²; or Bernoulli,
        with the decoder's output as logits, for features in [0, 1].
    noise : float or "learned", default="learned"
        Standard deviation of the Gaussian likelihood, the same for all features and samples:
        fixed, or learned, starting from that of the data. Halving it multiplies the weight of the
        reconstruction by four.
    binarize : bool, default=False
        Whether each training sample is binarized at random in every iteration, each feature being 1
        with its value as probability ("dynamic binarization"); for "bernoulli".
    n_iter : int, default=4000
        Iterations.
    n_epochs : int, optional
        Passes over the data, if `n_iter` is None.
    batch_size : int, default=256
    learning_rate : float, default=1e-3
        Adam's.
    shuffle, precision, random_state, device, progress
        See `Autoencoder`.

    Attributes
    ----------
    noise_ : float
        Standard deviation of the Gaussian likelihood.
    parameters_, history_, n_iter_, seed_
        See `training.DeepEstimator`; the history holds "loss", "reconstruction" (−log p(x|z)),
        "divergence", in nats per sample, and "clamped", the fraction of log-variances that were
        clamped to ± `LOG_VARIANCE_LIMIT`.

    Raises
    ------
    ValueError
        From `fit`, when a parameter or the data is unusable.

    Warns
    -----
    UserWarning
        When log-variances were clamped: the training was diverging.

    References
    ----------
    D. Kingma and M. Welling, "Auto-Encoding Variational Bayes", ICLR 2014; I. Higgins et al.,
    "β-VAE", ICLR 2017; Y. Burda, R. Grosse and R. Salakhutdinov, "Importance Weighted
    Autoencoders", ICLR 2016.

    Examples
    --------
    >>> from somlib import data
    >>> X = data.load("digits").X
    >>> vae = VAE(hidden=(64,), n_iter=200, random_state=0).fit(X)
    >>> vae.transform(X).shape, vae.sample(3, random_state=0).shape
    ((1797, 2), (3, 64))
    """

    latent_dim: checks.Count = 2
    hidden: Sequence[checks.Count] = (256, 256)
    architecture: Architecture = "mlp"
    image_shape: checks.ImageShape | None = None
    beta: checks.NotNegative = 1.0
    likelihood: Likelihood = "gaussian"
    noise: checks.Positive | Literal["learned"] = "learned"
    binarize: bool = False
    n_iter: checks.Count | None = 4000
    n_epochs: checks.Count | None = None
    learning_rate: checks.Positive = 1e-3

    _divisible: ClassVar[bool] = True
    _may_differ: ClassVar[tuple[str, ...]] = ("beta", "learning_rate")

    # ------------------------------------------------------------ training

    def _build(self, d: int, generator: torch.Generator) -> VAENetwork:
        return VAENetwork(self, d, generator)

    def _finish(self, X: Array) -> None:
        if self.history_["clamped"].any():
            worst = float(self.history_["clamped"].max())
            warnings.warn(
                f"log-variances were clamped to ±{LOG_VARIANCE_LIMIT} in "
                f"{int((self.history_['clamped'] > 0).sum())} of {self.n_iter_} iterations, up to "
                f"{worst:.0%} of them; lower learning_rate={self.learning_rate}, or check the "
                "scale of X",
                stacklevel=5,
            )

    def _check(self, n: int, d: int) -> None:
        if self.binarize and self.likelihood != "bernoulli":
            raise ValueError("binarize=True samples binary values; it needs likelihood='bernoulli'")

    # ------------------------------------------------------------ using

    @property
    def noise_(self) -> float:
        """Standard deviation of the Gaussian likelihood."""
        check_is_fitted(self)
        return float(np.exp(self.parameters_["log_noise"].item() / 2))

    def transform(self, X: ArrayLike) -> Array:
        """Return the posterior mean μ of each sample, shape (n, latent_dim)."""
        return self.posterior(X)[0]

    def posterior(self, X: ArrayLike) -> tuple[Array, Array]:
        """Return mean and standard deviation of q(z|x), each of shape (n, latent_dim)."""
        both = self._apply("encoder", self._valid(X, reset=False))
        mean, log_variance = np.split(both, 2, axis=1)
        return mean, np.exp(log_variance.clip(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT) / 2)

    @checks.arguments
    def sample(self, n: checks.Count = 1, random_state: checks.Seed = None) -> Array:
        """Return the means of p(x|z) for n codes sampled from the prior, shape (n, d)."""
        check_is_fitted(self)
        normal = random_source(random_state).standard_normal((n, self.latent_dim))
        return self.inverse_transform(normal)

    @checks.arguments
    def interpolate(self, x_0: ArrayLike, x_1: ArrayLike, n: checks.Count = 10) -> Array:
        """Return the decoded interpolation between pairs of samples, shape (pairs, n, d).

        Parameters
        ----------
        x_0, x_1 : arrays of shape (pairs, d)
        n : int, default=10
            Codes on the line segment between the two codes, both ends included.
        """
        begin, end = self._codes_of_pairs(x_0=x_0, x_1=x_1)
        t = np.linspace(0, 1, n, dtype=begin.dtype)[:, None]
        return self._decoded_rows(begin[:, None] + t * (end - begin)[:, None])

    def direction(self, X: ArrayLike, values: ArrayLike) -> Array:
        """Return the direction in latent space in which an attribute increases by 1, (latent_dim,).

        The least-squares slope of the codes on the attribute: decoding `transform(X) + t *
        direction` increases the attribute by about t.

        Parameters
        ----------
        X : array of shape (n, d)
        values : array of shape (n,)
            An attribute of each sample, such as the slant of a digit; or 0 and 1.
        """
        a = arrays.samples(values, "values", axes=1, dtype=np.float64)
        Z = self.transform(X)
        if len(a) != len(Z) or a.std() == 0:
            raise ValueError(
                f"values has shape {a.shape}; expected {len(Z)} numbers that are not all the same"
            )
        a = a - a.mean()
        return np.asarray(a @ (Z - Z.mean(0)) / (a @ a), dtype=Z.dtype)

    @checks.arguments
    def elbo(
        self, X: ArrayLike, n_draws: checks.Count = 1, random_state: checks.Seed = None
    ) -> Array:
        """Return the evidence lower bound (ELBO) of each sample, in nats, shape (n,).

        Parameters
        ----------
        X : array of shape (n, d)
        n_draws : int, default=1
            Number k of codes sampled per sample, over which the bound is averaged.
        random_state : int, Generator, RandomState or None, default=None
        """
        return np.concatenate([w.mean(1) for w in self._log_weights(X, n_draws, random_state)])

    @checks.arguments
    def log_likelihood(
        self, X: ArrayLike, n_draws: checks.Count = 100, random_state: checks.Seed = None
    ) -> Array:
        """Return the importance-weighted bound of log p(x), in nats, shape (n,): IWAE-k.

        log 1/k Σ_k p(x|z_k) p(z_k) / q(z_k|x) with z_k ~ q(z|x): for k = 1 the ELBO; it converges
        to log p(x) as k grows.

        Parameters
        ----------
        X, n_draws, random_state
            As for `elbo`.
        """
        return np.concatenate(
            [
                np.logaddexp.reduce(w, axis=1) - math.log(w.shape[1])
                for w in self._log_weights(X, n_draws, random_state)
            ]
        )

    def _log_weights(self, X: ArrayLike, k: int, random_state: checks.Seed) -> Iterator[Array]:
        """Return log p(x|z) p(z) / q(z|x) for k codes per sample, (rows, k) at a time."""
        X, rng = self._valid(X, reset=False), random_source(random_state)

        def log_weights(network: VAENetwork, x: Tensor) -> Tensor:
            epsilon = torch.from_numpy(rng.standard_normal((len(x), k, self.latent_dim))).to(x)
            mean, log_variance, _ = (part[:, None] for part in network.posterior(x))
            z = mean + (log_variance / 2).exp() * epsilon
            decoded = network.decode(z.flatten(0, 1)).reshape(*z.shape[:2], -1)
            log_p = network.log_likelihood(x[:, None], decoded)
            prior = gaussian_log_density(z, torch.zeros_like(z), torch.zeros_like(z))
            log_w = log_p + prior - gaussian_log_density(z, mean, log_variance.expand_as(z))
            return log_w.double()

        return self._in_blocks(log_weights, X, max(1, ROWS_AT_ONCE // k))
