"""The scikit-learn API of the deep models: parameters, checks, `fit`, `transform`, `fit_seeds`.

A deep model consists of two classes. Its network (see `network.Network`) holds the parameters, the
forward pass and the losses. Its estimator, a `DeepEstimator`, holds the hyperparameters, checks
them, builds the network, trains it and uses it.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from somlib import arrays, checks
from somlib.search.products import Precision, products
from somlib.training import processes, saving
from somlib.training.ensembles import train
from somlib.training.layers import image_size
from somlib.training.loop import Callback, resolve_device
from somlib.training.network import Array, Network, load_state

Deep = TypeVar("Deep", bound="DeepEstimator")

ROWS_AT_ONCE = 4096
"""Number of samples per block when a fitted network is applied."""


# -------------------------------------------------------------------- the base class


@dataclass(kw_only=True, eq=False, repr=False)
class DeepEstimator(
    saving.Saveable, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Base of the estimators whose model is a network.

    A subclass is a dataclass of parameters with declared types (see `checks`), among them `n_iter`
    or `n_epochs` and, if the network is trained by Adam, `learning_rate`. It defines

    - `_build(d, generator)`: the network for samples of d features;
    - `_check(n, d)`: raises a ValueError for parameters that do not fit the data or each other;
    - `_pretrain(X, seeds, checkpoint)`: fitted estimators to start from, if any;
    - `_finish(X)`: sets further learned attributes;

    All but the first are optional. `_may_differ` names the parameters that may differ between the
    models of `fit_seeds`.

    Parameters
    ----------
    batch_size : int, default=256
    shuffle : bool, default=True
        Whether the samples are permuted each epoch, for each seed independently.
    precision : {"highest", "high", "medium"}, default="highest"
        Precision of float32 matrix products, in PyTorch's words: "high" and "medium" may round
        their factors; see `search.products.products`.
    random_state : int, Generator, RandomState or None, default=None
        Determines the initial weights, the order of the samples and all noise.
    device : {"auto", "cpu", "cuda", "mps"}, default="auto"
    progress : bool, default=False
        Show a progress bar.

    Attributes
    ----------
    parameters_ : dict of str to ndarray
        The network's parameters.
    history_ : dict of str to ndarray of shape (n_iter_,)
        Losses and scheduled values at each iteration; losses are those of its batch, before the
        step.
    n_iter_ : int
        Iterations done.
    seed_ : int
        The seed derived from `random_state`.
    """

    batch_size: checks.Count = 256
    shuffle: bool = True
    precision: Precision = "highest"
    random_state: checks.Seed = None
    device: checks.Device = "auto"
    progress: bool = False

    _learned: ClassVar[dict[str, saving.Check]] = {
        "parameters_": saving.each(
            lambda *_: None
        ),  # compared with the network, in `_require_whole`
        "history_": saving.each(saving.array("f", "iterations")),
        "n_iter_": saving.count("iterations"),
        "seed_": saving.count(),
    }
    _also_learned: ClassVar[dict[str, saving.Check]] = {
        "labels_": saving.array("i", "n")
    }  # of estimators that cluster
    _in_unit_range: ClassVar[bool] = False  # must samples be in [0, 1]?
    _divisible: ClassVar[bool] = False  # is each loss a mean over samples?
    _overcomplete: ClassVar[bool] = False  # may latent_dim exceed the number of features?
    _may_differ: ClassVar[tuple[str, ...]] = ()

    # ------------------------------------------------------------ what a model defines

    def _build(self, d: int, generator: torch.Generator) -> Network:
        """Return the network for samples of d features; the generator initializes its weights."""
        raise NotImplementedError

    def _check(self, n: int, d: int) -> None:
        """Raise a ValueError for parameters that do not fit n samples of d features, or others."""

    def _pretrain(
        self, X: Array, seeds: Sequence[int], checkpoint: Path | None
    ) -> "Sequence[DeepEstimator] | None":
        """Return fitted estimators, one per seed, whose encoder and decoder to start from."""
        return None

    def _finish(self, X: Array) -> None:
        """Set learned attributes other than the parameters."""

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
            Samples, in any container (see `somlib.arrays`), held in memory. float64 data, such as
            lists of Python's floats, are computed in float64, all others in float32.
        y : ignored
        start : DeepEstimator, optional
            A fitted model with an encoder and decoder of the same shape: training starts from
            copies of its weights, without random initialization or pre-training.
        callbacks : iterable of callables
            Each is called as f(i, logs) every `ITERATIONS_PER_LOG` iterations, where i is the last
            iteration; this model then has its parameters. True as return value ends the training.
        checkpoint : path-like, optional
            File to which the state is written every few seconds and on an interrupt; a later `fit`
            with the same data, parameters and file resumes from it. During pre-training the file
            has the suffix ".pretraining".

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For invalid parameters or data (the constructor only stores parameters).
        FloatingPointError
            When a loss is not finite. The last checkpoint is kept, and the model has the parameters
            of at most `ITERATIONS_PER_LOG` iterations before.
        MemoryError
            When the model does not fit into memory.
        KeyboardInterrupt
            Raised again after the model of the last iteration has been stored, except during
            pre-training.
        """
        checks.require("start", start, DeepEstimator | None)
        starts = None if start is None else [start]
        train([self], X, starts, callbacks, checkpoint)
        return self

    def transform(self, X: ArrayLike) -> Array:
        """Return the code of each sample, shape (n, latent_dim)."""
        return self._apply("encode", self._valid(X, reset=False))

    def inverse_transform(self, Z: ArrayLike) -> Array:
        """Return the decoded codes, shape (n, d)."""
        check_is_fitted(self)
        Z = arrays.samples(Z, "Z", dtype=self._dtype())
        if Z.shape[1] != self._n_features_out:
            raise ValueError(
                f"Z has shape {Z.shape}; expected codes of shape (n, {self._n_features_out})"
            )
        decoded = self._apply("decode", Z)
        if not self._bernoulli:
            return decoded
        return np.asarray(torch.from_numpy(decoded).sigmoid())  # networks are trained on logits

    @property
    def _n_features_out(self) -> int:
        return int(self.latent_dim)

    @property
    def _bernoulli(self) -> bool:
        """Whether features are probabilities and the decoder's outputs their logits."""
        return getattr(self, "likelihood", "gaussian") == "bernoulli"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "parameters_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        # scikit-learn has no tag for "in [0, 1]"; this is the closest
        tags.input_tags.positive_only = self._in_unit_range or self._bernoulli
        return tags

    # ------------------------------------------------------------ internal

    def _dtype(self) -> np.dtype[Any]:
        return next(iter(self.parameters_.values())).dtype

    @property
    def _samples_per_iteration(self) -> int:
        return self.batch_size

    def _valid(self, X: ArrayLike, *, reset: bool) -> Array:
        """Return finite samples of the right width and dtype; raise a ValueError otherwise."""
        if not reset:
            check_is_fitted(self)
        dtype = None if reset else self._dtype()
        checked = arrays.features(
            self, X, reset=reset, least=2 if reset else 1, dtype=dtype, other=np.float32
        )
        low, high = checked.min(), checked.max()
        slack = 4 * np.finfo(checked.dtype).eps  # the rounding error of scikit-learn's scalers
        if (self._in_unit_range or self._bernoulli) and (low < -slack or high > 1 + slack):
            other = "likelihood" in self.get_params()
            raise ValueError(
                f"X lies within [{low:.4g}, {high:.4g}], but {type(self).__name__} takes data in "
                "[0, 1]; scale them, for example with MinMaxScaler(clip=True) of scikit-learn"
                + (", or choose likelihood='gaussian'" if other else "")
            )
        return checked

    def _empty_network(self) -> Any:
        """Return the network of `parameters_` on PyTorch's device "meta", without values."""
        with torch.device("meta"):
            return self._build(self.n_features_in_, torch.Generator())

    def _require_whole(self) -> None:
        found = self.parameters_
        if len(getattr(self, "hidden", ())) > len(found):  # avoids building a huge network
            raise ValueError(f"hidden has more layers than there are arrays, {len(found)}")
        blank = self._empty_network()
        expected = {
            name: tuple(value.shape)
            for name, value in blank.state_dict().items()
            if name not in blank.training_buffers
        }
        saving.require_names("the network", found, expected)
        dtype = self._dtype()
        for name, shape in expected.items():
            saving.array("f", *map(str, range(len(shape))))(name, found[name], {})
            if found[name].shape != shape or found[name].dtype != dtype:
                raise ValueError(
                    f"{name} has shape {found[name].shape}, {found[name].dtype}; the network that "
                    f"the parameters describe has {shape}, {dtype}"
                )

    def _network(self, device: torch.device) -> Any:
        """Return the network with the learned parameters."""
        state = {name: torch.from_numpy(a).clone() for name, a in self.parameters_.items()}
        network = self._empty_network()
        load_state(network, state, assign=True)
        if any(buffer.is_meta for buffer in network.buffers()):  # not made by `hyperparameter`
            network = self._build(self.n_features_in_, torch.Generator())
            load_state(network, state)
        return network.to(device=device, dtype=next(iter(state.values())).dtype)

    def _apply(self, part: str, X: Array) -> Array:
        """Apply a submodule or method of the network, such as "encode", to all rows."""
        return np.concatenate([*self._in_blocks(lambda network, x: getattr(network, part)(x), X)])

    def _codes_of_pairs(self, **ends: ArrayLike) -> list[Array]:
        """Return the codes of two sets of as many samples, given by name."""
        for name, X in ends.items():
            arrays.samples(X, name)
        codes = [self.transform(X) for X in ends.values()]
        (a, b), (m, n) = ends, map(len, codes)
        if m != n:
            raise ValueError(f"{a} has {m} samples, {b} {n}; give as many of each")
        return codes

    def _decoded_rows(self, Z: Array) -> Array:
        """Return decoded codes of shape (rows, cols, d), given codes of shape (rows, cols, m)."""
        return self.inverse_transform(Z.reshape(-1, Z.shape[-1])).reshape(*Z.shape[:2], -1)

    def _in_blocks(
        self, compute: Callable[[Any, Tensor], Tensor], X: Array, rows: int | None = None
    ) -> Iterator[Array]:
        """Yield compute(network, x) for blocks x of the rows of X, without gradients."""
        device = resolve_device(self.device)
        network, rows = self._network(device), rows or ROWS_AT_ONCE
        for block in np.split(X, range(rows, len(X), rows)):
            with torch.no_grad(), products(self.precision, device):
                result = compute(network, torch.from_numpy(block).to(device))
            yield result.numpy(force=True)

    def _learn(self, state: dict[str, Array]) -> None:
        """Store the parameters and buffers of a trained network."""
        self.parameters_ = state

    def _require_divisible(self) -> None:
        """Raise a ValueError in several processes if the loss needs each batch as a whole."""
        if (n_processes := processes.size()) == 1:
            return
        if not self._divisible:
            raise ValueError(
                f"{self!r} needs undivided batches, because its loss is not a mean over samples, "
                f"but there are {n_processes} processes; train this model in one process"
            )
        if self.batch_size < n_processes:
            raise ValueError(
                f"batch_size={self.batch_size} leaves some of {n_processes} processes without a "
                f"sample; choose at least {n_processes}, or fewer processes"
            )

    def _check_common(self, n: int, d: int) -> int:
        """Check the common parameters against the data; return the number of iterations."""
        n_iter, n_epochs = getattr(self, "n_iter", None), getattr(self, "n_epochs", None)
        by_epochs = n_iter is None and n_epochs is not None
        if not by_epochs:
            checks.require("n_iter", n_iter, checks.Count)
        if self.batch_size > n:
            raise ValueError(
                f"batch_size={self.batch_size} is larger than the data set of {n} samples; "
                f"choose at most {n}"
            )
        latent_dim = getattr(self, "latent_dim", 1)
        if latent_dim > d and not self._overcomplete:
            raise ValueError(
                f"latent_dim={latent_dim} is more than the {d} features of X, so the code would "
                f"not compress; choose at most {d}"
            )
        if getattr(self, "architecture", "mlp") == "conv":
            self._check_images(d)
        return int(n_epochs) * -(-n // self.batch_size) if by_epochs else int(n_iter)  # type: ignore[arg-type]

    def _check_images(self, d: int) -> None:
        """Check the parameters of convolutions for d features."""
        if not len(self.hidden):
            raise ValueError(
                f"hidden={self.hidden!r} has no layer, but architecture='conv' needs one; give the "
                "number of channels of each"
            )
        if math.prod(image_size(self.image_shape, d)) != d:
            raise ValueError(
                f"image_shape={self.image_shape!r} does not fit {d} features; "
                "give (rows, cols) with rows · cols = features, or architecture='mlp'"
            )


# -------------------------------------------------------------------- ensembles of seeds


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
        The model to train; not modified.
    X : array of shape (n, d)
        Samples, shared by all.
    seeds : iterable of int
        A `random_state` for each model. The result of a seed does not depend on the others, up to
        rounding.
    settings : sequence of dicts, optional
        One per seed: parameters in which the models differ, as in `[{"learning_rate": 0.001},
        {"learning_rate": 0.01}]`. Which parameters may differ depends on the
        class: learning rates of autoencoders, SOAE and VAE, β of the VAE, the width of SOAE's
        kernel, the learning rule of SOMRL.
    start : sequence of fitted estimators, optional
        One per seed, from whose encoder and decoder training starts; see `DeepEstimator.fit`.
    callbacks, checkpoint
        As for `DeepEstimator.fit`; logs are means over seeds, one checkpoint holds all models.

    Returns
    -------
    list of fitted estimators, in the order of `seeds`

    Raises
    ------
    ValueError, FloatingPointError, MemoryError, KeyboardInterrupt
        As `DeepEstimator.fit`. A MemoryError says how many seeds would fit.

    Examples
    --------
    >>> from somlib.models.autoencoders import Autoencoder
    >>> X = np.random.default_rng(0).random((60, 8), dtype=np.float32)
    >>> model = Autoencoder(hidden=(6,), latent_dim=2, n_epochs=2, batch_size=20)
    >>> models = fit_seeds(model, X, range(3))
    >>> [m.random_state for m in models], models[0].transform(X).shape
    ([0, 1, 2], (60, 2))
    """
    checks.require("seeds", seeds, checks.Several)
    checks.require("start", start, Sequence[DeepEstimator] | None)
    checks.require("settings", settings, Sequence[Mapping[str, Any]] | None)
    seeds = list(seeds)
    checks.require("seeds", seeds, Sequence[checks.Seed])
    if not seeds:
        raise ValueError(f"seeds={seeds} is empty; give at least one whole number")
    if not isinstance(estimator, DeepEstimator):
        raise TypeError(
            f"estimator={checks.shown(estimator)}: {type(estimator).__name__} cannot be trained as "
            "an ensemble; call fit per seed"
        )
    settings = [{}] * len(seeds) if settings is None else settings
    if len(settings) != len(seeds):
        raise ValueError(
            f"settings has {len(settings)} dicts for {len(seeds)} seeds; give one for each"
        )
    for name in {name for setting in settings for name in setting}:
        if name not in estimator._may_differ:
            raise ValueError(
                f"{name!r} cannot differ within an ensemble of {type(estimator).__name__}; these "
                f"can: {list(estimator._may_differ)}. Train such models one after the other"
            )
    models = [
        clone(estimator).set_params(**setting, random_state=seed)
        for setting, seed in zip(settings, seeds, strict=True)
    ]
    train(models, X, start, callbacks, checkpoint)
    return models
