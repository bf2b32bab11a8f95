"""The training that all deep models share: S seeds in one pass, one loop in the house.

A deep model is an estimator whose network is a stack (see `networks`): parameters with a leading
axis of seeds. It says what it is by a few methods, `DeepEstimator`'s hooks, and `fit_seeds` does
the rest. Data are shared; each seed has its own generator, its own order of samples where these
are shuffled, its own losses; the sum of the losses sends each seed the gradient of its own.
"""

import math
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from somlib import distributed
from somlib.loop import (
    Callback,
    Checkpoint,
    Logs,
    fingerprint,
    resolve_device,
    resolve_seed,
    run_loop,
)
from somlib.networks import AutoencoderStack
from somlib.products import Precision, products
from somlib.storage import (
    Check,
    Saveable,
    array,
    count,
    each,
    reading,
    require_moments,
    require_names,
)

Array = NDArray[np.floating]
Deep = TypeVar("Deep", bound="DeepEstimator")

ITERATIONS_PER_LOG = 50
"""Losses are looked at, callbacks called and checkpoints considered this often: reading a number
from a GPU makes it wait for the processor."""

ROWS_AT_ONCE = 4096
"""Samples that pass through a fitted network together."""


# -------------------------------------------------------------------- the estimators' base


class DeepEstimator(Saveable, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """What an encoder and a decoder have in common, whatever is learned between them.

    A model is a subclass with a constructor that takes at least `n_iter` or `n_epochs`,
    `batch_size`, `learning_rate`, `shuffle`, `precision`, `random_state`, `device` and `progress`,
    and these hooks, all but the second optional:

    - `_check(n, d)`: refuse parameters that cannot work;
    - `_losses(stack, x, rows, values)`: the losses of a batch, each of shape (S,), as a dict whose
      entry "loss" is minimised; `values` holds what `_schedules` gives at this iteration;
    - `_updates(stack, x, rows, values)`: where an iteration has several steps, the losses of one
      after the other and which parameters each teaches;
    - `_draw(stack, X, i)`: which samples come, where it is not all of them in turn;
    - `_build(d, generators)`: the stack, by default encoder and decoder;
    - `_initialise(stack, X, generators)`: what depends on data, such as first prototypes;
    - `_working(S, n)`: buffers that are needed while a stack of S trains on n samples, and their
      shapes: checkpoints hold them, models do not;
    - `_before(stack, X, i)`: what is done now and then, such as new assignments;
    - `_tell(stack, models)`: what follows from parameters and is needed to train, above all where
      the models of a stack differ, as `_may_differ` lets them;
    - `_schedules(n_iter)`: what changes from iteration to iteration, in each model its own way
      where that is named by `_may_differ`;
    - `_after(X)`: learned attributes beside the parameters.

    Attributes
    ----------
    parameters_ : dict of str to ndarray
        The network's weights.
    history_ : dict of str to ndarray of shape (n_iter_,)
        Losses and scheduled values at each iteration; losses are those of its batch before the
        step.
    n_iter_ : int
        Iterations done.
    seed_ : int
        The number that stands for `random_state`.
    """

    parameters_: dict[str, Array]
    history_: dict[str, Array]
    n_iter_: int
    seed_: int
    n_iter: int | None = None
    n_epochs: int | None = None
    batch_size: int
    learning_rate: float
    shuffle: bool
    precision: Precision
    random_state: Any
    device: str
    progress: bool
    hidden: Sequence[int]
    latent_dim: int
    architecture: Literal["mlp", "conv"] = "mlp"
    image_shape: tuple[int, int] | None = None

    likelihood: str = "gaussian"
    _in_unit_range: ClassVar[bool] = False  # are samples in [0, 1] needed, whatever the likelihood?
    _learned: ClassVar[dict[str, Check]] = {
        "parameters_": each(lambda *_: None),  # compared with the network, in `_require_whole`
        "history_": each(array("f", "iterations")),
        "n_iter_": count("iterations"),
        "seed_": count(),
    }
    _divisible: ClassVar[bool] = False  # are losses means over a batch of what each sample loses?
    _overcomplete: ClassVar[bool] = False
    _may_differ: ClassVar[tuple[str, ...]] = ()
    _adam_rate: ClassVar[str] = "learning_rate"
    _code: ClassVar[Any] = "linear"
    _output: ClassVar[Any] = "linear"

    # ------------------------------------------------------------ hooks

    def _check(self, n: int, d: int) -> None:
        """Refuse what cannot work with n samples of d features."""

    def _build(self, d: int, generators: Sequence[torch.Generator]) -> nn.Module:
        """Return the stack of networks, one per generator."""
        return AutoencoderStack(
            d,
            self.hidden,
            self._code_width,
            generators,
            self.architecture,
            self._image_shape(d),
            self._code,
            self._output,
        )

    def _initialise(self, stack: Any, X: Tensor, generators: Sequence[torch.Generator]) -> None:
        """Set what depends on the data."""

    def _working(self, S: int, n: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the buffers that training alone needs."""
        return {}

    def _before(self, stack: Any, X: Tensor, i: int) -> None:
        """Do what is due before iteration i."""

    def _losses(
        self, stack: Any, x: Tensor, rows: Tensor, values: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the losses of a batch, each of shape (S,)."""
        raise NotImplementedError

    def _updates(
        self, stack: Any, x: Tensor, rows: Tensor, values: dict[str, Tensor]
    ) -> Iterator[tuple[dict[str, Tensor], Iterable[Tensor]]]:
        """Yield the losses of each step of an iteration, and the parameters that it moves.

        What comes after a yield sees the parameters as moved. Where an iteration has several
        batches, each step is taken on the next of them, and all after that on the last.
        """
        yield self._losses(stack, x, rows, values), stack.parameters()

    def _draw(self, stack: Any, X: Tensor, i: int) -> Tensor | None:
        """Return the samples of iteration i, (S, B), or None to take all of them in turn."""
        return None

    def _tell(self, stack: Any, models: Sequence[Any]) -> None:
        """Give the stack what follows from its models' parameters."""

    @property
    def _samples_per_iteration(self) -> int:
        return self.batch_size

    def _schedules(self, n_iter: int) -> dict[str, Array]:
        """Return what changes from iteration to iteration: by name, its value at each."""
        return {}

    def _after(self, X: Array) -> None:
        """Learn what is left once the parameters are there."""

    def _pretrain(
        self, X: Array, seeds: Sequence[int], checkpoint: Path | None
    ) -> "list[Any] | None":
        """Return fitted estimators, one per seed, whose encoder and decoder to begin with."""
        return None

    # ------------------------------------------------------------ fitting and using

    def fit(
        self,
        X: ArrayLike,
        y: Any = None,
        *,
        start: "DeepEstimator | None" = None,
        callbacks: Iterable[Callback] = (),
        checkpoint: str | PathLike[str] | None = None,
    ) -> Self:
        """Train a new model.

        Parameters
        ----------
        X : array of shape (n, d)
            Samples, all held in memory. float64 is computed in float64, everything else in float32.
        y : ignored
        start : DeepEstimator, optional
            A fitted model with an encoder and decoder of the same shape: training begins with
            copies of theirs, instead of random ones and of any pre-training.
        callbacks : iterable of callables
            Each is called as f(i, logs) every `ITERATIONS_PER_LOG` iterations, i being the last
            one done, with this model as of then; one that returns True ends the training.
        checkpoint : path-like, optional
            File that keeps the state every few seconds and when interrupted; a later `fit` with
            the same data, parameters and file goes on from there. While a model pre-trains, the
            state lies beside it, with the suffix ".pretraining".

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For parameters or data that cannot work (parameters are only stored before).
        FloatingPointError
            When a loss is no longer a number. The last checkpoint stays, and so does the model as
            it was at most `ITERATIONS_PER_LOG` iterations before.
        MemoryError
            When the model does not fit.
        KeyboardInterrupt
            Passed on; the model is then usable as of the last iteration, unless it was still
            pre-training.
        """
        starts = None if start is None else [start]
        _train([self], X, starts, callbacks, checkpoint)
        return self

    def transform(self, X: ArrayLike) -> Array:
        """Return the code of each sample, shape (n, latent_dim)."""
        return self._through("encoder", self._valid(X, reset=False))

    def inverse_transform(self, Z: ArrayLike) -> Array:
        """Return the decoded codes, shape (n, d)."""
        check_is_fitted(self)
        Z = np.array(Z, dtype=self._dtype())
        if Z.ndim != 2 or Z.shape[1] != self._n_features_out or not np.isfinite(Z).all():
            raise ValueError(
                f"Z has shape {Z.shape}; expected finite codes of shape (n, {self._n_features_out})"
            )
        drawn = self._through("decoder", Z)
        if self.likelihood != "bernoulli":
            return drawn
        return np.asarray(torch.from_numpy(drawn).sigmoid())  # networks learn with logits

    @property
    def _n_features_out(self) -> int:
        return self.latent_dim

    @property
    def _code_width(self) -> int:
        """What the encoder gives and the decoder takes."""
        return self.latent_dim

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "parameters_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        # the nearest that there is to "in [0, 1]"
        tags.input_tags.positive_only = self._in_unit_range or self.likelihood == "bernoulli"
        return tags

    # ------------------------------------------------------------ inside

    def _dtype(self) -> np.dtype[Any]:
        return next(iter(self.parameters_.values())).dtype

    def _valid(self, X: ArrayLike, *, reset: bool) -> Array:
        """Return finite samples of the right width and precision, or say what is wrong."""
        if isinstance(X, Tensor):
            X = X.numpy(force=True)
        if not reset:
            check_is_fitted(self)
        double = getattr(X, "dtype", None) == np.float64 if reset else self._dtype() == np.float64
        minimum = 2 if reset else 1
        dtype = np.float64 if double else np.float32
        checked: Array = validate_data(
            self, X, reset=reset, dtype=dtype, ensure_min_samples=minimum
        )
        low, high = checked.min(), checked.max()
        slack = 4 * np.finfo(checked.dtype).eps  # scikit-learn's scaling is exact up to that
        if self.likelihood == "bernoulli" and (low < -slack or high > 1 + slack):
            other = "likelihood" in self.get_params()
            raise ValueError(
                f"X lies within [{low:.4g}, {high:.4g}], but a Bernoulli likelihood takes its "
                "values for probabilities; scale them to [0, 1]"
                + (", or choose likelihood='gaussian'" if other else "")
            )
        # PyTorch warns of arrays that cannot be written to
        return checked if checked.flags.writeable else checked.copy()

    def _image_shape(self, d: int) -> tuple[int, int]:
        """Return rows and columns of an image of d pixels; square where nothing else is said."""
        return self.image_shape or (math.isqrt(d), math.isqrt(d))

    def _blank(self) -> Any:
        """Return a stack of one like that which learned `parameters_`, without its numbers."""
        with torch.device("meta"):
            return self._build(self.n_features_in_, [torch.Generator()])

    def _require_whole(self) -> None:
        found = self.parameters_
        if len(getattr(self, "hidden", ())) > len(found):  # each layer takes time to build
            raise ValueError(f"hidden has more layers than there are arrays, {len(found)}")
        expected = {name: value.shape[1:] for name, value in self._blank().state_dict().items()}
        require_names("the network", found, expected)
        dtype = self._dtype()
        for name, shape in expected.items():
            array("f", *map(str, range(len(shape))))(name, found[name], {})
            if found[name].shape != shape or found[name].dtype != dtype:
                raise ValueError(
                    f"{name} has shape {found[name].shape}, {found[name].dtype}; the network that "
                    f"the parameters describe has {tuple(shape)}, {dtype}"
                )

    def _restored(self, device: torch.device) -> Any:
        """Return the network as learned, a stack of one."""
        stack = self._blank()
        state = {name: torch.from_numpy(a)[None].clone() for name, a in self.parameters_.items()}
        load_state(stack, state, assign=True)
        return stack.to(device)

    def _through(self, part: str, X: Array) -> Array:
        """Return what `part` of the network makes of each row."""
        device = resolve_device(self.device)
        network = getattr(self._restored(device), part)
        with torch.no_grad(), products(self.precision, device):
            done = [
                network(torch.from_numpy(rows).to(device))[0].numpy(force=True)
                for rows in np.split(X, range(ROWS_AT_ONCE, len(X), ROWS_AT_ONCE))
            ]
        return np.concatenate(done)

    def _learn(self, stack: nn.Module, s: int) -> None:
        """Take entry s of the stack."""
        working = self._working(0, 0)
        self.parameters_ = {
            name: value[s].numpy(force=True).copy()
            for name, value in stack.state_dict().items()
            if name not in working
        }

    def _require_divisible(self) -> None:
        """Refuse to train in several processes what needs each batch as a whole."""
        if (processes := distributed.size()) == 1:
            return
        if not self._divisible:
            raise ValueError(
                f"{self!r} needs each batch as a whole, for its loss is no mean over samples, but "
                f"{processes} processes divide it; train this model in one process"
            )
        if self.batch_size < processes:
            raise ValueError(
                f"batch_size={self.batch_size} leaves some of {processes} processes without a "
                f"sample; choose at least {processes}, or fewer processes"
            )

    def _check_common(self, n: int, d: int) -> int:
        """Refuse bad parameters that all models have; return the number of iterations."""
        name = "n_iter" if self.n_iter is not None or self.n_epochs is None else "n_epochs"
        for what in (name, "batch_size"):
            require_count(what, getattr(self, what))
        if self.batch_size > n:
            raise ValueError(
                f"batch_size={self.batch_size} is larger than the data set of {n} samples; "
                f"choose at most {n}"
            )
        if hasattr(self, "latent_dim"):
            require_count("latent_dim", self.latent_dim)
            if self.latent_dim > d and not self._overcomplete:
                raise ValueError(
                    f"latent_dim={self.latent_dim} is more than the {d} features of X: such a code "
                    f"need not compress anything; choose at most {d}"
                )
        if hasattr(self, "hidden"):
            if not isinstance(self.hidden, Sequence | np.ndarray) or (
                self.architecture == "conv" and len(self.hidden) == 0
            ):
                raise ValueError(
                    f"hidden={self.hidden!r} must be a sequence of whole numbers, for 'conv' of at "
                    "least one"
                )
            for width in self.hidden:
                require_count("each of hidden", width)
        if self.architecture not in ("mlp", "conv"):
            raise ValueError(f"architecture={self.architecture!r}; choose 'mlp' or 'conv'")
        shape = self._image_shape(d)
        folds = np.shape(shape) == (2,) and min(shape) > 0 and math.prod(shape) == d
        if self.architecture == "conv" and not folds:
            raise ValueError(
                f"image_shape={self.image_shape!r} does not fold {d} features into an image; "
                "give (rows, cols) with rows · cols = features, or architecture='mlp'"
            )
        if self.precision not in ("float32", "fast"):
            raise ValueError(f"precision={self.precision!r}; choose 'float32' or 'fast'")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate={self.learning_rate!r} must be a positive number")
        if self.n_iter is not None:
            return int(self.n_iter)
        return int(self.n_epochs or 0) * -(-n // self.batch_size)


def require_count(name: str, value: Any, least: int = 1) -> None:
    """Raise a ValueError unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {least}")


# -------------------------------------------------------------------- seeds as a batch dimension


def fit_seeds(
    estimator: Deep,
    X: ArrayLike,
    seeds: Iterable[int],
    *,
    settings: Sequence[Mapping[str, Any]] | None = None,
    start: Sequence[DeepEstimator] | None = None,
    callbacks: Iterable[Callback] = (),
    checkpoint: str | PathLike[str] | None = None,
) -> list[Deep]:
    """Train one model per seed, all in one pass.

    Parameters
    ----------
    estimator : DeepEstimator
        The model to train; left as it is.
    X : array of shape (n, d)
        Samples, shared by all.
    seeds : iterable of int
        A `random_state` for each model. What a seed gives is the same alone or among others, up
        to rounding.
    settings : sequence of dicts, optional
        One per seed: parameters in which the models differ, as in `[{"learning_rate": 0.001},
        {"learning_rate": 0.01}]`. What may differ within a stack, a model's class says (rates of
        autoencoders, SOAE and VAE, a VAE's β, the width of SOAE's kernel, all that SOMRL is
        searched for); everything else is the same for all.
    start : sequence of fitted estimators, optional
        One per seed, whose encoder and decoder training begins with; see `DeepEstimator.fit`.
    callbacks, checkpoint
        As for `DeepEstimator.fit`; the logs are means over seeds, the checkpoint is of them all.

    Returns
    -------
    list of fitted estimators, in the order of `seeds`

    Raises
    ------
    ValueError, FloatingPointError, MemoryError, KeyboardInterrupt
        As `DeepEstimator.fit`. A MemoryError says how many seeds would fit.

    Examples
    --------
    >>> from somlib.autoencoders import Autoencoder
    >>> X = np.random.default_rng(0).random((60, 8), dtype=np.float32)
    >>> model = Autoencoder(hidden=(6,), latent_dim=2, n_epochs=2, batch_size=20)
    >>> models = fit_seeds(model, X, range(3))
    >>> [m.random_state for m in models], models[0].transform(X).shape
    ([0, 1, 2], (60, 2))
    """
    seeds = list(seeds)
    if not seeds:
        raise ValueError("seeds is empty; give at least one whole number")
    if not isinstance(estimator, DeepEstimator):
        raise TypeError(f"{type(estimator).__name__} does not train in stacks; fit it seed by seed")
    settings = [{}] * len(seeds) if settings is None else settings
    if len(settings) != len(seeds):
        raise ValueError(
            f"settings holds {len(settings)} dicts for {len(seeds)} seeds; give one for each"
        )
    for name in {name for setting in settings for name in setting}:
        if name not in estimator._may_differ:
            raise ValueError(
                f"{name!r} cannot differ within a stack of {type(estimator).__name__}; "
                f"what can: {list(estimator._may_differ)}. Train those in turn."
            )
    models = [
        clone(estimator).set_params(**setting, random_state=seed)
        for setting, seed in zip(settings, seeds, strict=True)
    ]
    _train(models, X, start, callbacks, checkpoint)
    return models


def _train(
    models: Sequence[DeepEstimator],
    X: ArrayLike,
    start: Sequence[DeepEstimator] | None,
    callbacks: Iterable[Callback],
    checkpoint: str | PathLike[str] | None,
) -> None:
    """Fit estimators that differ in their random state, and in what their class lets differ."""
    one, callbacks = models[0], list(callbacks)
    seeds = [resolve_seed(model.random_state) for model in models]
    device = resolve_device(one.device)
    data = one._valid(X, reset=True)
    for model in models[1:]:  # what they are told of X is the same, and so are their samples
        validate_data(model, X, skip_check_array=True)
    n, d = data.shape
    one._require_divisible()
    for model in models:
        n_iter = model._check_common(n, d)
        model._check(n, d)
    schedules = [model._schedules(n_iter) for model in models]
    for begun_with in start or ():
        check_is_fitted(begun_with)
    if start is not None and len(start) != len(models):
        raise ValueError(f"start holds {len(start)} models for {len(models)} seeds; give one each")
    kept = Checkpoint(checkpoint)
    if checkpoint is not None:
        begun = [array for model in start or () for array in model.parameters_.values()]
        given = [-1 if m.random_state is None else s for m, s in zip(models, seeds, strict=True)]
        differ = [np.hstack([[], *(m.get_params()[k] for k in one._may_differ)]) for m in models]
        kept.fingerprint = fingerprint(one, data, np.array(given), np.array(differ), *begun)
    earlier = None if kept.path is None else kept.path.with_suffix(".pretraining")
    saved = kept.load()
    if saved is not None:
        with reading(kept.path):
            seeds = _seeds(saved[1], len(models))  # where none was given, those drawn then

    tensor = torch.from_numpy(data)
    single = one._build(d, [torch.Generator()]).to(tensor.dtype)
    _require_memory(single, len(seeds), one.batch_size, device)
    if start is None and saved is None:
        start = one._pretrain(data, seeds, earlier)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    tensor = tensor.to(device)
    stack = one._build(d, generators).to(tensor)
    one._tell(stack, models)
    with products(one.precision, device):
        if saved is None:
            if start is not None:
                _begin_with(stack, start)
            with torch.no_grad():
                one._initialise(stack, tensor, generators)
        training = _Training(models, stack, tensor, seeds, schedules, n_iter)
        if saved is not None:
            with reading(kept.path):
                training.resume(*saved)
            training.checkpoint = kept.path
        if distributed.size() > 1:  # other processors may round the start in another way
            training.resume(*distributed.from_first(training.state))
        chunks = -(-n_iter // ITERATIONS_PER_LOG)
        first = training.done // ITERATIONS_PER_LOG if training.done < n_iter else chunks

        def step(number: int) -> Logs:
            logs = training.run(min(n_iter, (number + 1) * ITERATIONS_PER_LOG))
            if callbacks:
                training.hand_over(models)
            return logs

        try:  # also an interrupted model is usable
            run_loop(
                step,
                chunks,
                first=first,
                state=training.state,
                checkpoint=kept,
                callbacks=[_by_iteration(f, training) for f in callbacks],
                progress=one.progress,
                description=type(one).__name__ + (f" × {len(seeds)}" if len(seeds) > 1 else ""),
            )
        except Exception:  # before the first iteration there is nothing to hand over
            training.sound = training.sound and training.done > 0
            raise
        finally:
            if training.sound:
                training.hand_over(models)
                for model in models:
                    model._after(data)
    if earlier is not None:
        earlier.unlink(missing_ok=True)


def _seeds(facts: dict[str, Any], S: int) -> list[int]:
    """Return the seeds that a checkpoint of S models names."""
    require_names("facts", facts, ["done", "seeds"])
    found = facts["seeds"]
    if not isinstance(found, list) or len(found) != S:
        raise ValueError(f"seeds is {found!r}; expected {S} whole numbers")
    for seed in found:
        count()("seeds", seed, {})
        torch.Generator().manual_seed(seed)
    return found


def _by_iteration(callback: Callback, training: "_Training") -> Callback:
    return lambda _, logs: callback(training.done - 1, logs)


class _Training:
    """A stack on its way: parameters, Adam's moments, history and the iterations done."""

    def __init__(
        self,
        models: Sequence[DeepEstimator],
        stack: nn.Module,
        X: Tensor,
        seeds: Sequence[int],
        schedules: Sequence[dict[str, Array]],
        n_iter: int,
    ) -> None:
        self.model, self.stack, self.X, self.seeds = models[0], stack, X, seeds
        self.n_iter, self.done, self.sound = n_iter, 0, True
        self.values = {}
        for name in schedules[0]:  # (n_iter,), or, where the models' differ, (n_iter, S, 1, 1)
            values = np.stack([of_one[name] for of_one in schedules], -1)
            same = (values == values[:, :1]).all()
            values = values[:, 0] if same else values[..., None, None]
            self.values[name] = torch.from_numpy(values).to(dtype=X.dtype, device=X.device)
        self.history: dict[str, list[Array]] = {}
        self.checkpoint: Path | None = None  # from which it was resumed
        on_gpu = X.device.type == "cuda"
        self.rates = [float(getattr(model, model._adam_rate)) for model in models]
        # Adam knows one rate; where the models' differ, each goes its part of the largest step
        parts = torch.tensor(self.rates, dtype=X.dtype, device=X.device) / max(self.rates)
        self._parts = parts if len(set(self.rates)) > 1 else None
        self.adam = torch.optim.Adam(
            [{"params": list(stack.parameters())}],  # none are fine here, but not as a bare list
            lr=max(self.rates),
            eps=1e-7,  # Keras' ε, which the papers ran with
            fused=X.device.type in ("cpu", "cuda"),
            capturable=on_gpu,
        )
        batch = self.model._samples_per_iteration
        alone = distributed.size() == 1
        self.step = _Captured(self._step, batch) if on_gpu and alone else self._step
        self._epoch, self._order = -1, torch.empty(0)
        self._shares: list[float] = []

    def run(self, until: int) -> Logs:
        """Do the iterations up to `until` and return their mean losses."""
        seen: list[dict[str, Tensor]] = []
        self._good = {name: value.clone() for name, value in self.stack.state_dict().items()}
        with held_interrupts() as waiting:  # Adam works in place: half a step could not be undone
            try:
                for i in range(self.done, until):
                    with torch.no_grad():
                        self.model._before(self.stack, self.X, i)
                        rows = self.model._draw(self.stack, self.X, i)
                    if rows is None:
                        rows = self._rows(i)
                    rows = self._own(rows)
                    seen.append(
                        self.step(self.X[rows], rows, {k: v[i] for k, v in self.values.items()})
                    )
                    self.done = i + 1
                    if waiting:
                        break
            finally:  # an interrupt leaves a history of what was done
                logs = self._record(seen)
        return logs | {name: float(v[until - 1].mean()) for name, v in self.values.items()}

    def _record(self, seen: list[dict[str, Tensor]]) -> Logs:
        """Enter the losses of some iterations into the history and return their means."""
        logs = {}
        if seen and self.history and self.history.keys() != seen[0].keys():
            self.sound = False
            with reading(self.checkpoint):  # which alone can have brought others
                require_names("losses", self.history, seen[0])
        for name in seen[0] if seen else ():
            losses = torch.stack([losses[name] for losses in seen]).numpy(force=True)
            self._require_numbers(losses)
            self.history.setdefault(name, []).append(losses)
            logs[name] = float(losses.mean())
        return logs

    def _step(self, x: Tensor, rows: Tensor, values: dict[str, Tensor]) -> dict[str, Tensor]:
        seen: dict[str, Tensor] = {}
        for k, (losses, taught) in enumerate(self.model._updates(self.stack, x, rows, values)):
            learners = [p for p in taught if p.requires_grad]
            if learners:  # a model may also learn by a rule of its own
                self.adam.zero_grad()  # who is not taught is left without gradient, and stays
                losses["loss"].sum().backward(inputs=learners)  # type: ignore[no-untyped-call]
            losses = {name: loss.detach() for name, loss in losses.items()}
            if distributed.size() > 1:
                share = self._shares[min(k, len(self._shares) - 1)]
                losses = self._averaged(losses, learners, share)
            if learners:
                self._go(learners)
            seen |= losses
        return seen

    def _go(self, learners: Sequence[Tensor]) -> None:
        """Take Adam's step, in each model as far as its own rate goes."""
        if self._parts is None:
            self.adam.step()
            return
        before = [p.detach().clone() for p in learners]
        self.adam.step()
        with torch.no_grad():
            for p, start in zip(learners, before, strict=True):
                torch.lerp(start, p, self._parts.reshape(-1, *[1] * (p.ndim - 1)), out=p)

    def _own(self, rows: Tensor) -> Tensor:
        """Return this process's samples of an iteration, of each batch the same stripe.

        A process that a short last batch leaves without any takes the first, with share 0, so
        that all take as many steps.
        """
        if distributed.size() == 1:
            return rows
        own: list[Tensor] = []
        self._shares = []
        for batch in torch.split(rows, self.model.batch_size, -1):
            mine = batch[..., distributed.stripe()]
            self._shares.append(mine.shape[-1] / batch.shape[-1])
            own.append(mine if mine.shape[-1] else batch[..., :1])
        return torch.cat(own, -1)

    @staticmethod
    def _averaged(
        losses: dict[str, Tensor], learners: Sequence[Tensor], share: float
    ) -> dict[str, Tensor]:
        """Return the losses of the whole batch, and give the learners its gradients."""
        taught = [p for p in learners if p.grad is not None]
        own = [*losses.values(), *(cast("Tensor", p.grad) for p in taught)]
        means = distributed.total(*(share * tensor for tensor in own))
        for p, gradient in zip(taught, means[len(losses) :], strict=True):
            p.grad = gradient
        return dict(zip(losses, means, strict=False))

    def _rows(self, i: int) -> Tensor:
        """Return the samples of iteration i: (B,) in file order, (S, B) where each seed shuffles.

        They depend on seed and iteration alone, so a resumed training needs no other state. The
        last batch of an epoch is what is left, as in the released DESOM code.
        """
        n, B = len(self.X), self.model._samples_per_iteration
        per_epoch = -(-n // B)
        epoch, batch = divmod(i, per_epoch)
        if epoch != self._epoch and (self.model.shuffle or self._epoch < 0):
            order = np.arange(n)[None]
            if self.model.shuffle:
                order = np.stack(
                    [np.random.default_rng([s, 1, epoch]).permutation(n) for s in self.seeds]
                )
            self._order = torch.from_numpy(order).to(self.X.device)
            self._epoch = epoch
        rows = self._order[:, batch * B : (batch + 1) * B]
        return rows if self.model.shuffle else rows[0]

    def _require_numbers(self, losses: Array) -> None:
        bad = ~np.isfinite(losses)  # (iterations, S)
        if bad.any():
            i, s = np.argwhere(bad)[0]
            first = self.done - len(losses)
            self._go_back(first)
            raise FloatingPointError(
                f"the loss of seed {self.seeds[s]} is no longer a number at iteration "
                f"{first + i} of {self.n_iter}; lower {self.model._adam_rate}="
                f"{self.rates[s]}, or look at the scale of X"
            )

    def _go_back(self, done: int) -> None:
        """Take the parameters that the last good loss left; there are none before the first."""
        load_state(self.stack, self._good)
        self.done, self.sound = done, done > 0
        for parts in self.history.values():
            if sum(map(len, parts)) > done:  # entered before another loss was found bad
                parts.pop()

    def hand_over(self, models: Sequence[DeepEstimator]) -> None:
        """Give each estimator its part of what has been learned so far."""
        for s, model in enumerate(models):
            model._learn(self.stack, s)
            model.seed_, model.n_iter_ = self.seeds[s], self.done
            model.history_ = {k: np.concatenate(v)[:, s] for k, v in self.history.items()}
            for name, values in self.values.items():
                own = values if values.ndim == 1 else values[:, s, 0, 0]
                model.history_[name] = own[: self.done].numpy(force=True)

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what a checkpoint must hold."""
        arrays = {f"stack {k}": v.numpy(force=True) for k, v in self.stack.state_dict().items()}
        for k, entry in self.adam.state_dict()["state"].items():
            arrays |= {f"adam {k} {name}": v.numpy(force=True) for name, v in entry.items()}
        arrays |= {f"history {k}": np.concatenate(v) for k, v in self.history.items()}
        return arrays, {"done": self.done, "seeds": list(self.seeds)}

    def resume(self, arrays: dict[str, Any], facts: dict[str, Any]) -> None:
        """Go on from what `state` returned, or raise a ValueError where it is not of this stack."""
        adam: dict[int, dict[str, Any]] = {}
        stack, history = {}, {}
        for key, value in arrays.items():
            kind, _, name = key.partition(" ")
            if kind == "stack":
                stack[name] = value
            elif kind == "adam":
                number, _, what = name.partition(" ")
                adam.setdefault(int(number), {})[what] = value
            else:
                require_names("kinds", [kind], ["history"])
                history[name] = value
        done = facts["done"]
        self._require_own(stack, adam, history, done)
        load_state(self.stack, {name: torch.from_numpy(value) for name, value in stack.items()})
        state = {k: {n: torch.from_numpy(v) for n, v in m.items()} for k, m in adam.items()}
        groups = self.adam.state_dict()["param_groups"]
        self.adam.load_state_dict({"state": state, "param_groups": groups})
        self.history = {name: [value] for name, value in history.items()}
        self.done = done

    def _require_own(
        self,
        stack: dict[str, Array],
        adam: dict[int, dict[str, Array]],
        history: dict[str, Array],
        done: Any,
    ) -> None:
        """Refuse the arrays of a checkpoint where they are not of this stack's shapes."""
        S, dtype = len(self.seeds), torch.empty(0, dtype=self.X.dtype).numpy().dtype
        working = self.model._working(S, len(self.X))
        shapes = {name: tuple(v.shape) for name, v in self.stack.state_dict().items()} | working
        require_names("the network", stack, shapes)
        for name, value in stack.items():
            kind = "i" if name == "labels" else "f"
            if value.shape != shapes[name] or value.dtype.kind != kind:
                raise ValueError(f"{name} has shape {value.shape}, expected {shapes[name]}")
            if kind == "f" and value.dtype != dtype:
                raise ValueError(f"{name} is of {value.dtype}, expected {dtype}")
        learners = list(self.stack.parameters())
        for number, moments in adam.items():
            if not 0 <= number < len(learners):
                raise ValueError(f"Adam's moments of parameter {number} of {len(learners)}")
            require_moments(moments, tuple(learners[number].shape), dtype)
        sizes = {"seeds": S}
        count("iterations")("done", done, sizes)
        if done > self.n_iter or (done and "loss" not in history):
            raise ValueError(f"{done} iterations of {self.n_iter}, with losses {sorted(history)}")
        each(array("f", "iterations", "seeds"))("history", history, sizes)


class Draws:
    """Random numbers for every iteration, which depend on seed and iteration alone.

    So a resumed training needs no state of any generator, and a seed gets the same numbers alone
    or among others, on any device.

    Parameters
    ----------
    generators : sequence of S torch.Generator
        Their initial seeds are what counts.
    shape : tuple of int
        Of one seed's numbers for one iteration. The samples of a batch stand in the last axis but
        one, where several processes share it: each gets the numbers of its own.
    method : {"standard_normal", "random"}
        What they are: a method of numpy's Generator.
    stream : int
        Tells draws for different purposes apart; 1 is the order of the samples.
    at_once : int, default=64
        Iterations whose numbers are drawn together; fewer where a batch of them is large.

    Attributes
    ----------
    now : tensor of shape (S, *shape)
        The numbers of the iteration that `turn_to` was called with, always in the same place, as a
        CUDA graph needs them.
    """

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        shape: tuple[int, ...],
        method: Literal["standard_normal", "random"] = "standard_normal",
        stream: int = 2,
        at_once: int = 64,
    ) -> None:
        self.seeds = [g.initial_seed() for g in generators]
        self.shape, self.method, self.stream, self.at_once = shape, method, stream, at_once
        self._drawn = -1
        self.now = torch.empty(0)

    def turn_to(self, i: int, like: Tensor) -> Tensor:
        """Put the numbers of iteration i, of the type and on the device of `like`, into `now`."""
        block, at = divmod(i, self.at_once)
        if block != self._drawn:
            rngs = [np.random.default_rng([seed, self.stream, block]) for seed in self.seeds]
            shape = (self.at_once, *self.shape)
            drawn = np.stack([getattr(rng, self.method)(shape) for rng in rngs], 1)
            own = drawn[..., distributed.stripe(), :]
            self._block, self._drawn = torch.from_numpy(own).to(like), block
        if not len(self.now):
            self.now = torch.empty_like(self._block[0])
        return self.now.copy_(self._block[at])


class _Captured:
    """A training step recorded once as a CUDA graph and then replayed.

    A step of these networks starts some hundred kernels of a few microseconds each: launching
    them from Python takes longer than running them. The first steps run as they are (libraries
    choose their kernels then); the shorter last batch of an epoch always does.
    """

    WARM_UP = 3

    def __init__(self, step: Callable[..., dict[str, Tensor]], batch_size: int) -> None:
        self.step, self.batch_size, self.seen = step, batch_size, 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, x: Tensor, rows: Tensor, values: dict[str, Tensor]) -> dict[str, Tensor]:
        if rows.shape[-1] != self.batch_size:
            return self.step(x, rows, values)
        if self.seen < self.WARM_UP:
            self.seen += 1
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                losses = self.step(x, rows, values)
            torch.cuda.current_stream().wait_stream(side)
            return losses
        if self.graph is None:
            self.inputs = (x.clone(), rows.clone(), {k: v.clone() for k, v in values.items()})
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.losses = self.step(*self.inputs)
        self.inputs[0].copy_(x)
        self.inputs[1].copy_(rows)
        for name, value in values.items():
            self.inputs[2][name].copy_(value)
        self.graph.replay()
        return {name: loss.clone() for name, loss in self.losses.items()}


def load_state(stack: nn.Module, state: Mapping[str, Tensor], *, assign: bool = False) -> None:
    """Give a stack the parameters and buffers that were saved.

    Parameters are of one shape; a buffer is of the shape that was saved, whatever room the stack
    has made for it so far.
    """
    for key, saved in state.items():
        path, _, name = key.rpartition(".")
        buffers = stack.get_submodule(path)._buffers  # also those that are None
        if name in buffers and getattr(buffers[name], "shape", None) != saved.shape:
            device = next(iter(stack.state_dict().values())).device
            buffers[name] = torch.empty_like(saved, device=device)
    stack.load_state_dict(state, assign=assign)


def _begin_with(stack: nn.Module, start: Sequence[DeepEstimator]) -> None:
    """Copy the encoders and decoders of fitted models into the stack."""
    own = stack.state_dict()
    for name, value in own.items():
        if name.split(".")[0] not in ("encoder", "decoder"):
            continue
        theirs = [model.parameters_.get(name) for model in start]
        for s, own_part in enumerate(theirs):
            if own_part is None or own_part.shape != value.shape[1:]:
                found = "none" if own_part is None else f"shape {own_part.shape}"
                raise ValueError(
                    f"start does not fit: {name} needs shape {tuple(value.shape[1:])}, but "
                    f"{start[s]!r} has {found}; give a model of the same hidden, latent_dim and "
                    "tied"
                )
            value[s] = torch.from_numpy(own_part)


def _require_memory(one: nn.Module, S: int, batch: int, device: torch.device) -> None:
    """Refuse S networks like this one when they cannot fit, saying how many would."""
    sizes = [p.numel() * p.element_size() for p in one.parameters()]
    widths = sum(p.shape[-1] * p.element_size() for p in one.parameters())
    # parameters, gradients, two moments; each activation and its gradient
    need = S * (4 * sum(sizes) + 2 * batch * widths)
    if device.type == "cuda":
        there = torch.cuda.mem_get_info(device)[0]
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        return
    if need > there:
        raise MemoryError(
            f"{S} seeds of this network need about {need / 2**30:.1f} GiB, but {device} has "
            f"{there / 2**30:.1f} GiB: {int(there // (need / S))} would fit; train fewer at a time"
        )


# -------------------------------------------------------------------- interrupts


@contextmanager
def held_interrupts() -> Iterator[list[int]]:
    """Let Ctrl-C wait for the end of a `with`, whose list then is no longer empty."""
    waiting: list[int] = []
    usual = signal.getsignal(signal.SIGINT)
    here = threading.current_thread() is threading.main_thread()
    if usual is not signal.default_int_handler or not here:
        yield waiting  # somebody else's to answer, or never raised here
        return
    signal.signal(signal.SIGINT, lambda number, frame: waiting.append(number))
    try:
        yield waiting
    finally:
        signal.signal(signal.SIGINT, usual)
    if waiting:
        signal.raise_signal(signal.SIGINT)
