"""SOAE: the self-organizing autoencoder, a self-organizing map with a continuous latent space.

A decoder G replaces the prototypes, G(z) for every latent code z; an encoder C replaces the search
for the best-matching unit, C(x). Wake and sleep steps alternate: a sleep step trains C to minimize
d(x, G(C(x))) with G fixed (equation 5); a wake step trains G to minimize d(x, G(z)) for codes z in
the neighborhood of C(x) (equation 9), whose width decreases. In this file: the formulas, the
network (parameters, forward pass, steps), algorithm 2 of the paper, and the estimator.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from somlib import checks
from somlib.spaces import Continuous, Euclidean, Kind, Torus
from somlib.training import ROWS_AT_ONCE, Array, DeepEstimator, Losses, Noise, saving
from somlib.training.layers import Architecture, AutoencoderNetwork
from somlib.training.loop import resolve_seed
from somlib.training.network import hyperparameter
from somlib.training.schedules import Decay, Range, schedule

Distance = Literal["l2", "l1"] | Callable[[Tensor, Tensor], Tensor]
Training = Literal["wake-sleep", "joint"]

Space = Annotated[
    Continuous,
    checks.Rule(
        "a continuous space: Euclidean(m), Torus(m) or Sphere(m) (on a Grid, SOM is this model)",
        lambda space: isinstance(space, Continuous),
    ),
]
TORUS = Torus(2)

UNIFORM_SHARE = 0.1
"""Weight of the uniform distribution in importance sampling; weights are at most its inverse."""

_GRADIENT_BLOCK = 128
"""Number of samples per block of per-sample gradients, each as large as the network."""


# ---------------------------------------------------------------- the formulas


def distance(x: Tensor, decoded: Tensor, kind: Distance = "l2") -> Tensor:
    """Return d(x, G(z)) of each sample, shape (B,).

    Parameters
    ----------
    x, decoded : tensors of shape (B, d)
        Samples and decoded codes.
    kind : {"l2", "l1"} or callable
        Σ (x − y)², Σ |x − y|, or a function of two (n, d) tensors that returns (n,) distances. The
        first two are sums over features, not means.

    Raises
    ------
    ValueError
        When a callable returns another shape or a negative number. (On a GPU the sign is not
        checked, because that would synchronize.)
    """
    if kind == "l2":
        difference = decoded - x
        return (difference * difference).sum(-1)  # with its gradient a third faster than a power
    if kind == "l1":
        return (decoded - x).abs().sum(-1)
    x = x.expand_as(decoded)
    d = kind(x.flatten(0, -2), decoded.flatten(0, -2))
    n = decoded.shape[:-1].numel()
    if not isinstance(d, Tensor) or d.shape != (n,):
        found = tuple(d.shape) if isinstance(d, Tensor) else f"a {type(d).__name__}"
        raise ValueError(
            f"distance={kind!r} returned {found} for {n} pairs of samples; it must return a tensor "
            f"of shape ({n},), one distance for each row"
        )
    if d.device.type == "cpu" and (d < 0).any():
        raise ValueError(
            f"distance={kind!r} returned the negative number {float(d.detach().min()):.4g}; a "
            "distance must be at least 0, with its minimum where the two samples are equal"
        )
    return d.reshape(decoded.shape[:-1])


@checks.arguments
def gradient_norms(
    model: "SOAE", X: ArrayLike, part: Literal["encoder", "decoder"] = "encoder"
) -> Array:
    """Return the norm of the gradient of each sample's loss (5), shape (n,).

    Probabilities proportional to it minimize the variance of importance sampling.

    Parameters
    ----------
    model : fitted SOAE
    X : array of shape (n, d)
    part : {"encoder", "decoder"}
        The network with respect to whose parameters the gradient is taken.
    """
    X, norms = model._valid(X, reset=False), []
    for rows in np.split(X, range(_GRADIENT_BLOCK, len(X), _GRADIENT_BLOCK)):
        network = model._network(torch.device("cpu"))
        for parameter in network.parameters():  # one copy of the network for each sample
            parameter.data = parameter.data.expand(len(rows), *parameter.shape)
        d = network.sleep(torch.from_numpy(rows)[:, None])
        gradients = torch.autograd.grad(d.sum(), tuple(getattr(network, part).parameters()))
        squared = [g.flatten(1).square().sum(1) for g in gradients]
        norms.append(torch.stack(squared).sum(0).sqrt().numpy(force=True))
    return np.concatenate(norms)


def importance(last_seen: Tensor) -> Tensor:
    """Return the probability of each sample, shape (n,).

    A mixture of the uniform distribution (weight `UNIFORM_SHARE`) and one proportional to the
    sample's last known loss, which approximates the norm of its gradient (see `gradient_norms`).
    """
    losses = last_seen + torch.finfo(last_seen.dtype).tiny  # avoids 0 / 0
    proportional = (1 - UNIFORM_SHARE) * losses / losses.sum(-1, keepdim=True)
    return proportional + UNIFORM_SHARE / last_seen.shape[-1]


# ---------------------------------------------------------------- the network


class SOAENetwork(AutoencoderNetwork):
    """Encoder C and decoder G, and the latent space between them.

    Parameters
    ----------
    config : SOAE
        Its parameters.
    n_features : int
        d.
    generator : torch.Generator
        Draws the weights.
    """

    weight: Tensor
    last_seen: Tensor
    training_buffers: ClassVar = {"last_seen": ("n",)}

    def __init__(self, config: "SOAE", n_features: int, generator: torch.Generator) -> None:
        c = config
        super().__init__(
            n_features, c.hidden, c.space.n_embedded, generator, c.architecture, c.image_shape
        )
        self.config, self.space = config, c.space
        # for importance sampling: the weight of each sample of the batch in the estimate of the
        # mean loss, and the loss of each sample of X when last seen
        self.register_buffer("weight", hyperparameter(1.0), persistent=False)
        if c.importance_sampling:
            self.register_buffer("last_seen", None)

    def encode(self, x: Tensor) -> Tensor:
        """Return C(x): the latent codes of samples, (B, m)."""
        return cast("Tensor", self.space.project(super().encode(x)))

    def decode(self, z: Tensor) -> Tensor:
        """Return G(z): decoded codes, (B, d)."""
        return super().decode(self.space.embed(z))

    def sleep(self, x: Tensor) -> Tensor:
        """Return d(x, G(C(x))) of each sample, (B,): equation 5."""
        return distance(x, self.decode(self.encode(x)), self.config.distance)

    def wake(self, x: Tensor, center: Tensor, sigma: Tensor, normals: Tensor) -> Tensor:
        """Return d(x, G(z)) with z ~ h_t(C(x), ·) of each sample, (B,): equation 9.

        Parameters
        ----------
        x : tensor of shape (B, d)
        center : tensor of shape (B, m)
            C(x).
        sigma : tensor of shape ()
            Width of the neighborhood kernel.
        normals : tensor of shape (at least B, m + 1)
            Standard normal numbers, from which z is made; see `Continuous.displace`.
        """
        normals = normals[..., : x.shape[-2], :]
        z = self.space.displace(center, sigma, normals, self.config.neighborhood)
        return distance(x, self.decode(z), self.config.distance)

    def schedules(self, n_iter: int) -> dict[str, Array]:
        """Return σ at each iteration."""
        sigma = schedule("sigma", self.config.sigma, self.config.decay)
        return {"sigma": np.array(sigma.values(0, n_iter, n_iter))}

    def noise(self, batch_size: int) -> dict[str, Noise]:
        """Return the random numbers that sample z in each decoder step, and those for the rows."""
        c = self.config
        noise = {"normals": Noise((c.decoder_steps, batch_size, self.space.m + 1))}
        if c.importance_sampling:
            samples = batch_size * c.encoder_steps
            noise["uniform"] = Noise((samples,), "uniform", stream=3, dtype=torch.float64)
        return noise

    def initialize(self, X: Tensor, generator: torch.Generator) -> None:
        """For importance sampling, compute the first loss of each sample."""
        if self.config.importance_sampling:
            self.last_seen = torch.cat([self.sleep(rows) for rows in torch.split(X, ROWS_AT_ONCE)])

    def prepare(
        self, X: Tensor, i: int, uniform: Tensor | None = None, **_: Tensor
    ) -> Tensor | None:
        """For importance sampling, choose the samples of an iteration and set their weights."""
        if uniform is None:
            return None
        n, p = len(X), importance(self.last_seen)
        cumulative = p.cumsum(-1, dtype=uniform.dtype)
        u = uniform * cumulative[..., -1:]
        rows = torch.searchsorted(cumulative, u, right=True).clamp(max=n - 1)
        weight = 1 / (n * p.gather(-1, rows))
        # in place, because a captured CUDA graph reads this memory
        self.weight = self.weight.copy_(weight) if self.weight.ndim else weight
        return rows

    def updates(  # type: ignore[override]
        self, x: Tensor, rows: Tensor, sigma: Tensor, normals: Tensor, **_: Tensor
    ) -> Iterator[tuple[Losses, Iterable[Tensor]]]:
        """Yield the steps of an iteration of algorithm 2; `train_soae` states it literally.

        Differences: all seeds are computed together, each step differentiates only with respect to
        the parameters that it updates, and C(x), which the T₂ steps of G do not change, is computed
        once. Samples may have weights, and joint training takes a single step.
        """
        w, B = self.weight, normals.shape[-2]
        if self.config.training == "joint":
            d = self.wake(x, self.encode(x), sigma, normals[..., 0, :, :])
            self._remember(rows, d)
            L = (w * d).mean(-1)
            yield {"loss": L, "wake": L}, self.parameters()
            return
        for first in range(0, rows.shape[-1], B):  # T₁ batches
            batch = slice(first, first + B)
            x_t, w_t = x[..., batch, :], w[..., batch] if w.ndim else w
            d = self.sleep(x_t)
            self._remember(rows[..., batch], d)
            L = (w_t * d).mean(-1)
            yield {"loss": L, "sleep": L}, self.encoder.parameters()  # (5)
        with torch.no_grad():
            center = self.encode(x_t)
        for numbers in normals.unbind(-3):  # T₂ of them
            L = (w_t * self.wake(x_t, center, sigma, numbers)).mean(-1)
            yield {"loss": L, "wake": L}, self.decoder.parameters()  # (9)

    def _remember(self, rows: Tensor, d: Tensor) -> None:
        """Store the losses of samples for importance sampling."""
        if self.config.importance_sampling:
            self.last_seen.scatter_(-1, rows, d.detach())


def train_soae(network: SOAENetwork, X: Tensor, normals: Tensor, batch_size: int = 256) -> None:
    """Train literally by algorithm 2 of the paper, one seed.

    Samples are taken in the order of X. The paper does not state which samples the wake steps take;
    here they are those of the last sleep step. `SOAE.fit` gives the same result faster: all seeds
    in one pass, no gradients for fixed parameters, C(x) computed once for all T₂ steps, and on a
    GPU the whole iteration captured as a graph.

    Parameters
    ----------
    network : SOAENetwork
        Trained in place; its `config` holds T₁, σ, the kernel and d.
    X : tensor of shape (n, d)
    normals : tensor of shape (T, T₂, batch_size, m + 1)
        Standard normal numbers for all steps of the decoder in T iterations.
    batch_size : int, default=256
    """
    c, C, G, T = network.config, network.encode, network.decode, len(normals)
    adam_C, adam_G = (
        torch.optim.Adam(part.parameters(), lr=c.learning_rate, eps=1e-7)
        for part in (network.encoder, network.decoder)
    )
    batches = cycle(torch.split(X, batch_size))
    for t in range(T):
        sigma = c.sigma[0] * (c.sigma[1] / c.sigma[0]) ** (t / (T - 1))
        for _ in range(c.encoder_steps):  # T₁ sleep steps: G is fixed
            x = next(batches)
            loss = distance(x, G(C(x)), c.distance).mean()  # (5)
            adam_C.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam_C.step()
        for numbers in normals[t]:  # T₂ wake steps: z ~ h_t(C(x), ·), without a gradient
            z = c.space.displace(C(x).detach(), sigma, numbers[: len(x)], c.neighborhood)
            loss = distance(x, G(z), c.distance).mean()  # (9)
            adam_G.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam_G.step()


# ---------------------------------------------------------------- the estimator


@dataclass(eq=False, repr=False)
class SOAE(DeepEstimator):
    """Self-organizing autoencoder, trained by wake and sleep steps (algorithm 2 of the paper).

    Each iteration t takes `encoder_steps` (T₁) steps of Adam on d(x, G(C(x))) for C, each on a new
    batch (fewer at the end of an epoch), then `decoder_steps` (T₂) steps on d(x, G(z)) for G, each
    with new z ~ h_t(C(x), ·) for the last of these batches. No gradient passes through z.

    Parameters
    ----------
    space : Euclidean, Torus or Sphere, default=Torus(2)
        The latent space.
    hidden : sequence of int, default=(256, 256)
        Widths of the encoder's hidden layers, in reverse in the decoder; see `Autoencoder`.
    architecture, image_shape
        See `Autoencoder`.
    sigma : (float, float), default=(1.5, 0.05)
        σ, the width of the neighborhood kernel, at the first and the last iteration, in units of
        the space's distance: radians on torus and sphere. The torus has a circumference of 2π, so
        at first G(z) is trained on every sample for every z.
    decay : {"exponential", "linear", "constant"}, default="exponential"
        How σ decreases from start to end.
    neighborhood : {"radius", "gaussian"}, default="radius"
        Kind of kernel; see `Continuous.perturb`.
    distance : {"l2", "l1"} or callable, default="l2"
        d: Σ (x − y)² or Σ |x − y| over the features, or a function of two (n, d) tensors that
        returns n distances and has gradients.
    encoder_steps, decoder_steps : int, default=1
        T₁ and T₂.
    training : {"wake-sleep", "joint"}, default="wake-sleep"
        "joint" takes one step for both networks on d(x, G(z)), with a gradient through z: a
        denoising autoencoder with noise in the code.
    importance_sampling : bool, default=False
        Whether samples are chosen with probability p proportional to their last known loss (see
        `importance`) and weighted by 1/(n p), instead of once per epoch.
    n_iter : int, default=4000
        Iterations.
    batch_size : int, default=256
    learning_rate : float, default=1e-3
        Adam's.
    shuffle, precision, random_state, device, progress
        See `Autoencoder`.

    Attributes
    ----------
    space_ : Euclidean, Torus or Sphere
        The space; if it is Euclidean, with the bounding box of the training codes, from which
        `sample` and `mesh` take codes.
    parameters_, history_, n_iter_, seed_
        See `training.DeepEstimator`; the history holds "sleep" (5) and "wake" (9), the latter also
        as "loss", both per sample and summed over features, and "sigma".

    Raises
    ------
    ValueError
        From `fit`, when a parameter or the data is unusable.

    References
    ----------
    "Self-Organizing Autoencoder", anonymous manuscript.

    Examples
    --------
    >>> from somlib import data
    >>> X = data.load("digits").X
    >>> soae = SOAE(hidden=(64,), n_iter=200, random_state=0).fit(X)
    >>> soae.transform(X).shape, soae.sample(3, random_state=0).shape  # two angles; digits
    ((1797, 2), (3, 64))
    """

    space: Space = TORUS
    hidden: Sequence[checks.Count] = (256, 256)
    architecture: Architecture = "mlp"
    image_shape: checks.ImageShape | None = None
    sigma: Range = (1.5, 0.05)
    decay: Decay = "exponential"
    neighborhood: Kind = "radius"
    distance: Distance = "l2"
    encoder_steps: checks.Count = 1
    decoder_steps: checks.Count = 1
    training: Training = "wake-sleep"
    importance_sampling: bool = False
    n_iter: checks.Count = 4000
    learning_rate: checks.Positive = 1e-3

    _may_differ: ClassVar[tuple[str, ...]] = ("sigma", "learning_rate")
    _learned: ClassVar[dict[str, saving.Check]] = {"space_": saving.typed(Continuous)}

    @property
    def _divisible(self) -> bool:  # type: ignore[override]
        return not self.importance_sampling

    # ------------------------------------------------------------ training

    def _build(self, d: int, generator: torch.Generator) -> SOAENetwork:
        return SOAENetwork(self, d, generator)

    def _learn(self, state: dict[str, Array]) -> None:
        super()._learn(state)
        self.space_ = self.space

    def _finish(self, X: Array) -> None:
        if isinstance(self.space, Euclidean):
            codes = self._apply("encode", X).astype(float)
            low, high = codes.min(0), codes.max(0)
            high = np.maximum(high, low + np.finfo(np.float32).eps)
            self.space_ = replace(self.space, low=tuple(low.tolist()), high=tuple(high.tolist()))

    def _require_whole(self) -> None:
        if type(self.space_) is not type(self.space) or self.space_.m != self.space.m:
            raise ValueError(f"space_ is {self.space_}, but space is {self.space}")
        super()._require_whole()

    # ------------------------------------------------------------ using

    @property
    def _n_features_out(self) -> int:
        return self.space.m

    @property
    def _samples_per_iteration(self) -> int:
        return self.batch_size * self.encoder_steps

    @checks.arguments
    def sample(self, n: checks.Count = 1, random_state: checks.Seed = None) -> Array:
        """Return n decoded codes, sampled uniformly from `space_`: shape (n, d).

        On torus and sphere the decoder was trained at all codes while σ was large; a Euclidean box
        may contain codes at which it was never trained.
        """
        check_is_fitted(self)
        generator = np.random.default_rng(resolve_seed(random_state))
        return self.inverse_transform(self.space_.sample(n, generator))

    @checks.arguments
    def decode_grid(self, n: checks.Count = 15) -> Array:
        """Return the decoded codes of a regular grid, shape (rows, cols, d).

        See `Continuous.mesh` for the grid: n rows, on the torus and in the plane n columns.
        """
        check_is_fitted(self)
        return self._decoded_rows(self.space_.mesh(n))

    @checks.arguments
    def interpolate(self, a: ArrayLike, b: ArrayLike, n: checks.Count = 10) -> Array:
        """Return the decoded geodesic interpolation between the codes of samples.

        Parameters
        ----------
        a, b : arrays of shape (k, d)
            Samples at the start and the end of the k geodesics.
        n : int, default=10
            Codes on each geodesic, both ends included.

        Returns
        -------
        ndarray of shape (k, n, d)
        """
        begin, end = self._codes_of_pairs(a=a, b=b)
        return self._decoded_rows(self.space.geodesic(begin, end, np.linspace(0, 1, n)))

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Return the mean of −d(x, G(C(x))) per feature: for "l2" the negative MSE."""
        X = self._valid(X, reset=False)
        return -float(self._apply("sleep", X).sum(dtype=float)) / X.size

    # ------------------------------------------------------------ parameters

    def _check(self, n: int, d: int) -> None:
        if self.space.dimension > d:
            raise ValueError(
                f"space={self.space} has more dimensions than the {d} features of X, so the "
                f"code would not compress; choose at most {d}"
            )
        schedule("sigma", self.sigma, self.decay)
        if self._samples_per_iteration > n:
            raise ValueError(
                f"encoder_steps={self.encoder_steps} batches of {self.batch_size} are more than "
                f"the {n} samples; choose fewer steps or a smaller batch_size"
            )
        if self.training == "joint" and (self.encoder_steps, self.decoder_steps) != (1, 1):
            raise ValueError(
                f"training='joint' takes one step for both networks, but encoder_steps="
                f"{self.encoder_steps} and decoder_steps={self.decoder_steps}; set both to 1"
            )
