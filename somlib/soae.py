"""SOAE: the self-organizing autoencoder, a map whose sheet is a continuous space.

A decoder G draws what belongs at a place z, an encoder C finds the place of a sample, and wake and
sleep alternate: asleep, C learns to find the best match, wherever G has put it (equation 5);
awake, G learns to draw x at every place near C(x), as a map's neighbours learn from a winner
(equation 9). What "near" means shrinks.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from somlib import distributed
from somlib.loop import resolve_device, resolve_seed
from somlib.products import Precision, products
from somlib.schedules import Decay, Schedule
from somlib.spaces import Continuous, Euclidean, Kind, Torus
from somlib.storage import Check, instance
from somlib.training import ROWS_AT_ONCE, Array, DeepEstimator, Draws, load_state, require_count

Distance = Literal["l2", "l1"] | Callable[[Tensor, Tensor], Tensor]
Training = Literal["wake-sleep", "joint"]

TORUS = Torus(2)

UNIFORM_SHARE = 0.1
"""Share of importance sampling that stays uniform, so that no weight exceeds its inverse."""


# ---------------------------------------------------------------- the formulas


def distance(x: Tensor, decoded: Tensor, kind: Distance = "l2") -> Tensor:
    """Return d(x, G(z)) of each sample, shape (S, B), of x (B, d) or (S, B, d).

    Parameters
    ----------
    x, decoded : tensors
        Samples and what was drawn for them.
    kind : {"l2", "l1"} or callable
        Σ (x − y)², Σ |x − y|, or a function of two (n, d) tensors that returns (n,) distances. All
        are sums over features, not means.

    Raises
    ------
    ValueError
        When a callable returns another shape or, looked at where that costs nothing, a negative
        number.
    """
    if kind == "l2":
        difference = decoded - x
        return (difference * difference).sum(-1)  # a third faster than a power, with its gradient
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
            "distance is at least 0, else its minimum would not be where two samples are alike"
        )
    return d.reshape(decoded.shape[:-1])


def gradient_norms(model: "SOAE", X: ArrayLike, part: str = "encoder") -> Array:
    """Return the norm of the gradient of each sample's loss (5), shape (n,).

    How much each sample has to say to `part`; what importance sampling would like to know.

    Parameters
    ----------
    model : fitted SOAE
    X : array of shape (n, d)
    part : {"encoder", "decoder"}
        Whose parameters.
    """
    if part not in ("encoder", "decoder"):
        raise ValueError(f"part={part!r} is unknown; choose 'encoder' or 'decoder'")
    X, norms = model._valid(X, reset=False), []
    one = model._restored(torch.device("cpu")).state_dict()
    for rows in np.split(X, range(128, len(X), 128)):  # a stack with one network for each sample
        stack: Any = model._build(X.shape[1], [torch.Generator()] * len(rows))
        state = {name: value.repeat_interleave(len(rows), 0) for name, value in one.items()}
        load_state(stack, state, assign=True)
        d = model._sleep(stack, torch.from_numpy(rows)[:, None])
        gradients = torch.autograd.grad(d.sum(), tuple(getattr(stack, part).parameters()))
        squared = [g.flatten(1).square().sum(1) for g in gradients]
        norms.append(torch.stack(squared).sum(0).sqrt().numpy(force=True))
    return np.concatenate(norms)


# ---------------------------------------------------------------- the model


@dataclass(eq=False, repr=False)
class SOAE(DeepEstimator):
    """Self-organizing autoencoder, trained by wake and sleep (algorithm 2 of the paper).

    Each iteration t takes `encoder_steps` (T₁) steps of Adam on d(x, G(C(x))) for C, each on a new
    batch (fewer where the epoch ends), then `decoder_steps` (T₂) steps on d(x, G(z)) for G, each
    with new z ~ h_t(C(x), ·) for the last of these batches. No gradient passes through z.

    Parameters
    ----------
    space : Euclidean, Torus or Sphere, default=Torus(2)
        The latent space.
    hidden : sequence of int, default=(256, 256)
        Widths of the encoder's hidden layers, mirrored in the decoder; see `Autoencoder`.
    architecture, image_shape
        See `Autoencoder`.
    sigma : (float, float), default=(1.5, 0.05)
        Width of the neighbourhood kernel at the first and the last iteration, in units of the
        space's distance: radians on torus and sphere. The torus is 2π around, so that the first
        lets every place hear of every sample.
    decay : {"exponential", "linear", "constant"}, default="exponential"
        How it goes from start to end.
    neighborhood : {"radius", "gaussian"}, default="radius"
        Kind of kernel; see `Continuous.perturb`.
    distance : {"l2", "l1"} or callable, default="l2"
        d: Σ (x − y)² or Σ |x − y| over the features, or a function of two (n, d) tensors that
        returns n distances and has gradients.
    encoder_steps, decoder_steps : int, default=1
        T₁ and T₂.
    training : {"wake-sleep", "joint"}, default="wake-sleep"
        "joint" takes one step for both networks on d(x, G(z)), whose gradient then does pass
        through z: a denoising autoencoder whose noise is in the code. It has no separate steps.
    importance_sampling : bool, default=False
        Whether samples come with probability p proportional to the loss that they had when last
        seen, and are weighted by 1/(N p), instead of all in turn.
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
        The space; where it is Euclidean, with the box around the training codes from which to
        `sample` and to take a `mesh`.
    parameters_, history_, n_iter_, seed_
        See `training.DeepEstimator`; the history holds "sleep" (5), "wake" (9), which "loss"
        repeats, both per sample and summed over features, and "sigma".

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

    space: Continuous = TORUS
    hidden: Sequence[int] = (256, 256)
    architecture: Literal["mlp", "conv"] = "mlp"
    image_shape: tuple[int, int] | None = None
    sigma: tuple[float, float] = (1.5, 0.05)
    decay: Decay = "exponential"
    neighborhood: Kind = "radius"
    distance: Distance = "l2"
    encoder_steps: int = 1
    decoder_steps: int = 1
    training: Training = "wake-sleep"
    importance_sampling: bool = False
    n_iter: int = 4000
    batch_size: int = 256
    learning_rate: float = 1e-3
    shuffle: bool = True
    precision: Precision = "float32"
    random_state: Any = None
    device: str = "auto"
    progress: bool = False

    _may_differ: ClassVar[tuple[str, ...]] = ("sigma", "learning_rate")
    _learned: ClassVar[dict[str, Check]] = {"space_": instance(Continuous)}

    @property
    def _divisible(self) -> bool:  # type: ignore[override]
        return not self.importance_sampling

    # ------------------------------------------------------------ training

    def _build(self, d: int, generators: Sequence[torch.Generator]) -> nn.Module:
        stack: Any = super()._build(d, generators)
        B, m = self.batch_size, self.space.m
        stack.normals = Draws(generators, (self.decoder_steps, B, m + 1))
        stack.uniform = Draws(generators, (self._samples_per_iteration,), "random", stream=3)
        stack.weight = torch.ones(())  # of each sample of a batch in the estimate of the mean
        stack.register_buffer("last_seen", None)
        return stack  # type: ignore[no-any-return]

    def _working(self, S: int, n: int) -> dict[str, tuple[int, ...]]:
        return {"last_seen": (S, n)} if self.importance_sampling else {}

    def _initialise(self, stack: Any, X: Tensor, generators: Sequence[torch.Generator]) -> None:
        if self.importance_sampling:
            first = [self._sleep(stack, rows) for rows in torch.split(X, ROWS_AT_ONCE)]
            stack.last_seen = torch.cat(first, -1)

    def _schedules(self, n_iter: int) -> dict[str, Array]:
        return {"sigma": np.array(self._width().values(0, n_iter, n_iter))}

    def _before(self, stack: Any, X: Tensor, i: int) -> None:
        stack.normals.turn_to(i, X)

    def _draw(self, stack: Any, X: Tensor, i: int) -> Tensor | None:
        if not self.importance_sampling:
            return None
        N, p = len(X), _probabilities(stack.last_seen)
        up_to = p.cumsum(-1, dtype=torch.float32 if X.device.type == "mps" else torch.float64)
        u = stack.uniform.turn_to(i, up_to) * up_to[:, -1:]
        rows = torch.searchsorted(up_to, u, right=True).clamp(max=N - 1)
        weight = 1 / (N * p.gather(-1, rows))
        stack.weight = weight if stack.weight.ndim == 0 else stack.weight.copy_(weight)
        return rows

    def _updates(
        self, stack: Any, x: Tensor, rows: Tensor, values: dict[str, Tensor]
    ) -> Iterator[tuple[dict[str, Tensor], Iterable[Tensor]]]:
        sigma, normals, w = values["sigma"], stack.normals.now, stack.weight
        if self.training == "joint":
            d = self._wake(stack, x, self._places(stack, x), normals[:, 0], sigma)
            if self.importance_sampling:
                stack.last_seen.scatter_(-1, rows, d.detach())
            L = (w * d).mean(-1)
            yield {"loss": L, "wake": L}, stack.parameters()
            return
        B = len(range(self.batch_size)[distributed.stripe()])  # all, where one process trains
        for t1 in range(0, rows.shape[-1], B):
            batch = slice(t1, t1 + B)
            x_t, w_t = x[..., batch, :], w[..., batch] if w.ndim else w
            d = self._sleep(stack, x_t)
            if self.importance_sampling:
                stack.last_seen.scatter_(-1, rows[:, batch], d.detach())
            L = (w_t * d).mean(-1)
            yield {"loss": L, "sleep": L}, stack.encoder.parameters()  # (5)
        with torch.no_grad():
            center = self._places(stack, x_t)  # C rests while G learns
        for t2 in range(self.decoder_steps):
            L = (w_t * self._wake(stack, x_t, center, normals[:, t2], sigma)).mean(-1)
            yield {"loss": L, "wake": L}, stack.decoder.parameters()  # (9)

    def _places(self, stack: Any, x: Tensor) -> Tensor:
        """Return C(x), (S, B, m)."""
        return cast("Tensor", self.space.project(stack.encoder(x)))

    def _sleep(self, stack: Any, x: Tensor) -> Tensor:
        """Return d(x, G(C(x))) of each sample, (S, B): equation 5."""
        decoded = stack.decoder(self.space.embed(self._places(stack, x)))
        return distance(x, decoded, self.distance)

    def _wake(
        self, stack: Any, x: Tensor, center: Tensor, normals: Tensor, sigma: Tensor
    ) -> Tensor:
        """Return d(x, G(z)) with z ~ h_t(C(x), ·) of each sample, (S, B): equation 9."""
        z = self.space.displace(center, sigma, normals[:, : x.shape[-2]], self.neighborhood)
        return distance(x, stack.decoder(self.space.embed(z)), self.distance)

    def _learn(self, stack: nn.Module, s: int) -> None:
        super()._learn(stack, s)
        self.space_ = self.space

    def _after(self, X: Array) -> None:
        if isinstance(self.space, Euclidean):
            codes = self._through("encoder", X).astype(float)
            low, high = codes.min(0), codes.max(0)
            high = np.maximum(high, low + np.finfo(np.float32).eps)
            self.space_ = replace(self.space, low=tuple(low.tolist()), high=tuple(high.tolist()))

    def _require_whole(self) -> None:
        if type(self.space_) is not type(self.space) or self.space_.m != self.space.m:
            raise ValueError(f"space_ is {self.space_}, which is none of {self.space}")
        super()._require_whole()

    # ------------------------------------------------------------ using

    @property
    def _n_features_out(self) -> int:
        return self.space.m

    @property
    def _code_width(self) -> int:
        return self.space.n_embedded

    @property
    def _samples_per_iteration(self) -> int:
        return self.batch_size * self.encoder_steps

    def transform(self, X: ArrayLike) -> Array:
        """Return the place C(x) of each sample, shape (n, m): angles on the torus."""
        return np.asarray(self.space.project(torch.from_numpy(super().transform(X))).numpy())

    def inverse_transform(self, Z: ArrayLike) -> Array:
        """Return what is drawn at places Z, shape (n, d)."""
        check_is_fitted(self)
        Z = np.array(Z, dtype=self._dtype())
        if Z.ndim != 2 or Z.shape[1] != self.space.m or not np.isfinite(Z).all():
            raise ValueError(
                f"Z has shape {Z.shape}; expected finite places of shape (n, {self.space.m})"
            )
        return self._through("decoder", self.space.embed(torch.from_numpy(Z)).numpy())

    def sample(self, n: int = 1, random_state: Any = None) -> Array:
        """Return what is drawn at n places of `space_`, drawn uniformly: shape (n, d).

        Every place of a torus or sphere has had its samples, those of a Euclidean box may not.
        """
        check_is_fitted(self)
        require_count("n", n)
        generator = np.random.default_rng(resolve_seed(random_state))
        return self.inverse_transform(self.space_.sample(n, generator))

    def sheet(self, n: int = 15) -> Array:
        """Return what is drawn at a regular sheet of places, shape (rows, cols, d).

        See `Continuous.mesh` for which places: n rows, on the torus and in the plane n columns.
        """
        check_is_fitted(self)
        require_count("n", n)
        mesh = self.space_.mesh(n)
        drawn = self.inverse_transform(mesh.reshape(-1, self.space.m))
        return drawn.reshape(*mesh.shape[:2], -1)

    def interpolate(self, a: ArrayLike, b: ArrayLike, n: int = 10) -> Array:
        """Return what is drawn on the shortest ways between the places of samples.

        Parameters
        ----------
        a, b : arrays of shape (k, d)
            Samples where k ways begin and end.
        n : int, default=10
            Pictures on each way, both ends included.

        Returns
        -------
        ndarray of shape (k, n, d)
        """
        require_count("n", n)
        ends = self.transform(a), self.transform(b)
        if ends[0].shape != ends[1].shape:
            raise ValueError(
                f"a has {len(ends[0])} samples, b {len(ends[1])}; a way has one of each"
            )
        places = self.space.geodesic(*ends, np.linspace(0, 1, n))
        drawn = self.inverse_transform(places.reshape(-1, self.space.m))
        return drawn.reshape(*places.shape[:2], -1)

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Return −d(x, G(C(x))) per feature, the mean over samples: minus the MSE for "l2"."""
        X = self._valid(X, reset=False)
        device = resolve_device(self.device)
        stack = self._restored(device)
        with torch.no_grad(), products(self.precision, device):
            total = sum(
                float(self._sleep(stack, torch.from_numpy(rows).to(device)).sum())
                for rows in np.split(X, range(ROWS_AT_ONCE, len(X), ROWS_AT_ONCE))
            )
        return -total / X.size

    # ------------------------------------------------------------ parameters

    def _width(self) -> Schedule:
        try:
            return Schedule(*self.sigma, self.decay)
        except (TypeError, ValueError) as error:
            raise ValueError(f"sigma={self.sigma!r}: {error}") from None

    def _check(self, n: int, d: int) -> None:
        if not isinstance(self.space, Continuous):
            raise ValueError(
                f"space={self.space!r} is no continuous space; choose Euclidean(m), Torus(m) or "
                "Sphere(m). (On a Grid, SOM is this model.)"
            )
        if self.space.dimension > d:
            raise ValueError(
                f"space={self.space} has more dimensions than the {d} features of X: such a code "
                f"need not compress anything; choose at most {d}"
            )
        self._width()
        for name, value, choices in (
            ("neighborhood", self.neighborhood, get_args(Kind)),
            ("training", self.training, get_args(Training)),
        ):
            if value not in choices:
                raise ValueError(f"{name}={value!r} is unknown; choose one of {list(choices)}")
        if self.distance not in ("l2", "l1") and not callable(self.distance):
            raise ValueError(
                f"distance={self.distance!r} is unknown; choose 'l2', 'l1' or a function of two "
                "(n, d) tensors that returns n distances"
            )
        require_count("encoder_steps", self.encoder_steps)
        require_count("decoder_steps", self.decoder_steps)
        if self._samples_per_iteration > n:
            raise ValueError(
                f"encoder_steps={self.encoder_steps} batches of {self.batch_size} are more than "
                f"the {n} samples; choose fewer steps or a smaller batch_size"
            )
        if self.training == "joint" and (self.encoder_steps, self.decoder_steps) != (1, 1):
            raise ValueError(
                f"training='joint' takes one step for both networks, but encoder_steps="
                f"{self.encoder_steps} and decoder_steps={self.decoder_steps} were asked for; "
                "leave them at 1"
            )


def _probabilities(last_seen: Tensor) -> Tensor:
    """Return p, (S, N): the loss when last seen, as a stand-in for the gradient's norm."""
    N = last_seen.shape[-1]
    some = last_seen + torch.finfo(last_seen.dtype).tiny  # also where nothing is lost any more
    return (1 - UNIFORM_SHARE) * some / some.sum(-1, keepdim=True) + UNIFORM_SHARE / N
