"""VAE: an autoencoder whose code is a cloud, and whose loss is a bound on a likelihood.

The encoder gives each sample a Gaussian over codes, the decoder learns to draw the sample from
codes drawn of it, and a divergence keeps all the clouds near one standard Gaussian, from which new
samples can then be drawn. SOAE draws codes near a code, too; there the width is a schedule, here it
is learned.

Everything is in nats per sample: sums over features, never means, which would be a hidden β.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from somlib.autoencoders import Likelihood
from somlib.loop import resolve_device
from somlib.networks import AutoencoderStack
from somlib.products import Precision, products
from somlib.training import ROWS_AT_ONCE, Array, DeepEstimator, Draws, require_count

LIMIT = 15.0
"""Log-variances are kept within ± this: beyond it, their exponentials say nothing more."""


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


# ---------------------------------------------------------------- the model


@dataclass(eq=False, repr=False)
class VAE(DeepEstimator):
    """Variational autoencoder: q(z|x) = 𝒩(μ(x), σ²(x)), p(z) = 𝒩(0, 1), p(x|z) by the decoder.

    The loss is −log p(x|z) + β D_KL(q(z|x) ‖ p(z)) with z = μ + σ ε, ε ~ 𝒩(0, 1). With β = 1 it is
    minus a lower bound of log p(x), in nats: the divergence in closed form, the first term
    estimated with one z per sample.

    Parameters
    ----------
    latent_dim : int, default=2
        m: dimensions of the code.
    hidden : sequence of int, default=(256, 256)
        Widths of the encoder's hidden layers, mirrored in the decoder; see `Autoencoder`. None at
        all makes both linear: probabilistic PCA.
    architecture, image_shape
        See `Autoencoder`.
    beta : float, default=1.0
        Weight of the divergence; the loss is a bound only at 1.
    likelihood : {"gaussian", "bernoulli"}, default="gaussian"
        p(x|z): values around the decoder's output, with variance `noise`²; or ones and zeros, and
        values between them as their probabilities, with the sigmoid of the decoder's output.
    noise : float or "learned", default="learned"
        Standard deviation of the Gaussian likelihood, the same for all features and samples:
        given, or learned with the rest, from that of the data on. Halving it weighs the
        reconstruction four times as much.
    binarize : bool, default=False
        Whether each training sample is drawn anew each time, every feature 1 with its value for a
        probability ("dynamic binarisation"); for "bernoulli".
    n_iter : int, default=4000
        Iterations.
    n_epochs : int, optional
        Passes over the data, where `n_iter` is None.
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
        "divergence", in nats per sample, and "clamped", the share of log-variances that had to be
        kept within ± `LIMIT`.

    Raises
    ------
    ValueError
        From `fit`, when a parameter or the data is unusable.

    Warns
    -----
    UserWarning
        When log-variances had to be clamped: the training was on its way to explode.

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

    latent_dim: int = 2
    hidden: Sequence[int] = (256, 256)
    architecture: Literal["mlp", "conv"] = "mlp"
    image_shape: tuple[int, int] | None = None
    beta: float = 1.0
    likelihood: Likelihood = "gaussian"
    noise: float | Literal["learned"] = "learned"
    binarize: bool = False
    n_iter: int | None = 4000
    n_epochs: int | None = None
    batch_size: int = 256
    learning_rate: float = 1e-3
    shuffle: bool = True
    precision: Precision = "float32"
    random_state: Any = None
    device: str = "auto"
    progress: bool = False

    _divisible: ClassVar[bool] = True
    _may_differ: ClassVar[tuple[str, ...]] = ("beta", "learning_rate")

    # ------------------------------------------------------------ training

    def _build(self, d: int, generators: Sequence[torch.Generator]) -> nn.Module:
        m = self.latent_dim
        build = (generators, self.architecture, self._image_shape(d))
        stack: Any = AutoencoderStack(d, self.hidden, 2 * m, *build)  # μ and log σ² of each code
        stack.decoder = AutoencoderStack(d, self.hidden, m, *build).decoder
        learned = isinstance(self.noise, str)
        log_noise = torch.zeros(len(generators), 1, 1)
        stack.log_noise = nn.Parameter(log_noise, requires_grad=learned)
        stack.epsilon = Draws(generators, (self.batch_size, m))
        if self.binarize:
            size = (self.batch_size, d)
            stack.uniform = Draws(generators, size, "random", stream=3, at_once=2)
        return stack  # type: ignore[no-any-return]

    def _initialise(self, stack: Any, X: Tensor, generators: Sequence[torch.Generator]) -> None:
        if isinstance(self.noise, str):  # at first that of a decoder which always draws the mean
            variance = float(X.var(0, correction=0).mean().clamp(min=math.exp(-LIMIT)))
        else:
            variance = self.noise**2
        stack.log_noise.fill_(math.log(variance))

    def _tell(self, stack: Any, models: Sequence[Any]) -> None:
        stack.beta = stack.log_noise.new_tensor([model.beta for model in models])

    def _before(self, stack: Any, X: Tensor, i: int) -> None:
        stack.epsilon.turn_to(i, X)
        if self.binarize:
            stack.uniform.turn_to(i, X)

    def _losses(
        self, stack: Any, x: Tensor, rows: Tensor, values: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        B = x.shape[-2]
        if self.binarize:
            x = (stack.uniform.now[:, :B] < x).to(x)
        mean, log_variance, clamped = _clouds(stack, x)
        z = mean + (log_variance / 2).exp() * stack.epsilon.now[:, :B]  # not σ²: see notebook 05
        log_p = self._log_density(x, stack.decoder(z), stack.log_noise)
        D = divergence(mean, log_variance)
        L_r, L_d = -log_p.mean(-1), D.mean(-1)
        return {
            "loss": L_r + stack.beta * L_d,
            "reconstruction": L_r,
            "divergence": L_d,
            "clamped": clamped.to(x).mean((-1, -2)),
        }

    def _log_density(self, x: Tensor, drawn: Tensor, log_noise: Tensor) -> Tensor:
        """Return log p(x|z), (S, B), of what the decoder drew at z."""
        if self.likelihood == "bernoulli":
            return bernoulli_log_density(x, drawn)
        return gaussian_log_density(x, drawn, log_noise.clamp(-LIMIT, LIMIT).expand_as(drawn))

    def _after(self, X: Array) -> None:
        if self.history_["clamped"].any():
            worst = float(self.history_["clamped"].max())
            warnings.warn(
                f"log-variances had to be kept within ±{LIMIT} in "
                f"{int((self.history_['clamped'] > 0).sum())} of {self.n_iter_} iterations, up to "
                f"{worst:.0%} of them; lower learning_rate={self.learning_rate}, or look at the "
                "scale of X",
                stacklevel=4,
            )

    def _check(self, n: int, d: int) -> None:
        if not 0 <= self.beta < float("inf"):
            raise ValueError(f"beta={self.beta!r} must be a number of at least 0")
        if self.likelihood not in get_args(Likelihood):
            raise ValueError(
                f"likelihood={self.likelihood!r} is unknown; choose 'gaussian' or 'bernoulli'"
            )
        given: Any = self.noise
        if given != "learned" and (isinstance(given, str) or not 0 < given < float("inf")):
            raise ValueError(f"noise={self.noise!r} must be a positive number or 'learned'")
        if self.binarize and self.likelihood != "bernoulli":
            raise ValueError("binarize=True draws ones and zeros; it needs likelihood='bernoulli'")

    # ------------------------------------------------------------ using

    @property
    def noise_(self) -> float:
        """Standard deviation of the Gaussian likelihood."""
        check_is_fitted(self)
        return float(np.exp(self.parameters_["log_noise"].item() / 2))

    def transform(self, X: ArrayLike) -> Array:
        """Return the mean μ of each sample's cloud, shape (n, latent_dim)."""
        return self.posterior(X)[0]

    def posterior(self, X: ArrayLike) -> tuple[Array, Array]:
        """Return mean and standard deviation of q(z|x), each of shape (n, latent_dim)."""
        both = self._through("encoder", self._valid(X, reset=False))
        mean, log_variance = np.split(both, 2, axis=1)
        return mean, np.exp(log_variance.clip(-LIMIT, LIMIT) / 2)

    def sample(self, n: int = 1, random_state: Any = None) -> Array:
        """Return the means of p(x|z) for n codes drawn from the prior, shape (n, d)."""
        check_is_fitted(self)
        require_count("n", n)
        normal = check_random_state(random_state).standard_normal((n, self.latent_dim))
        return self.inverse_transform(normal)

    def interpolate(self, x_0: ArrayLike, x_1: ArrayLike, n: int = 10) -> Array:
        """Return what lies between pairs of samples, decoded, shape (pairs, n, d).

        Parameters
        ----------
        x_0, x_1 : arrays of shape (pairs, d)
        n : int, default=10
            Places on the straight line between the codes, both ends included.
        """
        require_count("n", n)
        begin, end = self.transform(x_0), self.transform(x_1)
        if begin.shape != end.shape:
            raise ValueError(f"x_0 has {len(begin)} samples, x_1 {len(end)}; a way has one of each")
        t = np.linspace(0, 1, n, dtype=begin.dtype)[:, None]
        codes = begin[:, None] + t * (end - begin)[:, None]
        return self.inverse_transform(codes.reshape(-1, self.latent_dim)).reshape(
            *codes.shape[:2], -1
        )

    def direction(self, X: ArrayLike, values: ArrayLike) -> Array:
        """Return the way through code space along which an attribute grows by one, (latent_dim,).

        The least-squares slope of the codes over the attribute: `transform(X) + t * direction`,
        decoded, has t more of it.

        Parameters
        ----------
        X : array of shape (n, d)
        values : array of shape (n,)
            A measured attribute, such as the slant of each digit; or 0 and 1.
        """
        a = np.asarray(values, dtype=float)
        Z = self.transform(X)
        if a.shape != (len(Z),) or not np.isfinite(a).all() or a.std() == 0:
            raise ValueError(
                f"values has shape {a.shape}; expected {len(Z)} finite numbers that are not all "
                "the same"
            )
        a = a - a.mean()
        return np.asarray(a @ (Z - Z.mean(0)) / (a @ a), dtype=Z.dtype)

    def elbo(self, X: ArrayLike, n_draws: int = 1, random_state: Any = None) -> Array:
        """Return a lower bound of log p(x) of each sample, in nats, shape (n,).

        Parameters
        ----------
        X : array of shape (n, d)
        n_draws : int, default=1
            k codes per sample, over which the bound is averaged.
        random_state : int, generator or None
        """
        return np.concatenate([w.mean(1) for w in self._log_weights(X, n_draws, random_state)])

    def log_likelihood(self, X: ArrayLike, n_draws: int = 100, random_state: Any = None) -> Array:
        """Return a tighter bound of log p(x) of each sample, in nats, shape (n,): IWAE-k.

        log 1/k Σ_k p(x|z_k) p(z_k) / q(z_k|x) with z_k ~ q(z|x): for k = 1 the ELBO, for large k
        log p(x) itself.

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

    def _log_weights(
        self, X: ArrayLike, k: int, random_state: Any
    ) -> Iterator[NDArray[np.float64]]:
        """Yield log p(x|z) p(z) / q(z|x) for k codes per sample, (rows, k) at a time."""
        X = self._valid(X, reset=False)
        require_count("n_draws", k)
        device, rng = resolve_device(self.device), check_random_state(random_state)
        stack = self._restored(device)
        at_once = max(1, ROWS_AT_ONCE // k)
        for rows in np.split(X, range(at_once, len(X), at_once)):
            epsilon = rng.standard_normal((len(rows), k, self.latent_dim)).astype(X.dtype)
            with torch.no_grad(), products(self.precision, device):
                x = torch.from_numpy(rows).to(device)
                mean, log_variance, _ = _clouds(stack, x[None])
                mean, log_variance = mean[0, :, None], log_variance[0, :, None]
                z = mean + (log_variance / 2).exp() * torch.from_numpy(epsilon).to(device)
                drawn = stack.decoder(z.flatten(0, 1)[None])[0].unflatten(0, z.shape[:2])
                log_p = self._log_density(x[:, None], drawn, stack.log_noise)
                prior = gaussian_log_density(z, torch.zeros_like(z), torch.zeros_like(z))
                log_w = log_p + prior - gaussian_log_density(z, mean, log_variance.expand_as(z))
            yield log_w.double().numpy(force=True)


def _clouds(stack: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return μ and log σ² of q(z|x), and where the latter had to be clamped."""
    mean, log_variance = stack.encoder(x).chunk(2, -1)
    kept = log_variance.clamp(-LIMIT, LIMIT)
    return mean, kept, kept != log_variance
