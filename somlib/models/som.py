"""The classic self-organizing map, trained sample by sample, in batches, or by gradient.

All three modes minimize the same quantity, the neighborhood-weighted squared distance of each
sample x to the prototypes m_i around its best-matching unit c (equation 4 of the SOAE paper):

    Σ_x Σ_i h(c, i) ‖x − m_i‖² / 2

With the winners held fixed, `online` takes a gradient step per sample (Kohonen's original rule),
`batch` solves for all m_i at once, and `sgd` takes steps of Adam on mini-batches.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from somlib import arrays, checks
from somlib.models.clusters import cluster_units
from somlib.models.kohonen import (
    NEIGHBORHOODS,
    Array,
    Neighborhood,
    Seen,
    batch_pass,
    data_center,
    online_pass,
    pca_sheet,
    sgd_pass,
)
from somlib.search.best_units import (
    Block,
    Blocks,
    Codebook,
    best_units,
    squared_distances,
)
from somlib.search.products import one_torch_thread
from somlib.spaces import Grid, GridLike, as_grid
from somlib.training import processes, saving
from somlib.training.adam import Adam
from somlib.training.loop import (
    Callback,
    Checkpoint,
    Logs,
    callables,
    fingerprint,
    resolve_device,
    resolve_seed,
    run_loop,
)
from somlib.training.schedules import Decay, Range, Schedule, schedule

ERROR_BLOCK = 2**16
"""Number of samples per block when the topographic error is computed."""

_OF_UNITS = ("unit_labels_", "cluster_labels_", "cluster_scores_")
"""Learned attributes that describe the prototypes, and are obsolete after another epoch."""


@dataclass(eq=False, repr=False)
class SOM(
    saving.Saveable, ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator
):
    """Kohonen's self-organizing map.

    Parameters
    ----------
    grid : (int, int) or Grid, default=(8, 8)
        The map: rows and columns of a square lattice, or a `Grid` (hexagonal, wrapped, ...).
    mode : {"batch", "online", "sgd"}, default="batch"
        "batch" recomputes all prototypes once per epoch: fastest, no learning rate, and from the
        same start the same result for any order of the samples. "online" is Algorithm 1 of the
        SOAE paper, sample by sample. "sgd" minimizes the same loss by Adam on mini-batches, the
        "kerasom" of the DESOM paper, whose temperature is T = √2 σ.
    n_epochs : int, default=20
        Passes over the data.
    sigma : (float, float), optional
        Width of the neighborhood at the start and at the end, in units of the grid spacing. The
        default decreases from half the longer side of the map (at least 1) to 0.5, where the
        weight of direct neighbors is exp(−2).
    learning_rate : (float, float), optional
        Start and end of α in "online" (default 0.5 to 0.01) or of Adam's learning rate in "sgd"
        (default 1e-3, constant). Batch training has no learning rate, and raises an error.
    decay : {"exponential", "linear", "constant"}, default="exponential"
        How σ decreases: at step i of n it is start · (end/start)^(i/(n−1)), with n counted in
        epochs (batch), samples (online) or iterations (sgd).
    learning_rate_decay : {"exponential", "linear", "constant"}, optional
        The same for the learning rate; as `decay` by default.
    neighborhood : {"gaussian", "bubble", "epanechnikov"}, default="gaussian"
        Shape of h: exp(−δ²/2σ²), 1 up to σ, or max(0, 1 − δ²/σ²).
    init : {"pca", "sample"} or array of shape (K, d), default="pca"
        Initial prototypes: a regular grid in the plane of the two largest principal components,
        with the variance of the data in each; K different samples, among which a whole weight
        counts as copies; or the array given.
    shuffle : bool, default=True
        Whether "online" and "sgd" take the samples in a new random order each epoch.
    batch_size : int, default=256
        Samples per iteration of "sgd".
    n_iter : int, optional
        Total number of iterations of "sgd"; overrides `n_epochs`. The last epoch may be
        incomplete.
    allow_missing : bool, default=False
        Whether NaN marks a missing value, which distances and updates ignore (as in SOM Toolbox;
        "batch" and "online" only), or is an error.
    random_state : int, Generator, RandomState or None, default=None
        Determines the initial samples and the order.
    device : {"auto", "cpu", "cuda", "mps"}, default="auto"
        Where "batch" and "sgd" compute. "online" is sequential and always runs on the CPU.
    progress : bool, default=False
        Show a progress bar.

    Attributes
    ----------
    weights_ : ndarray of shape (K, d)
        The prototypes, unit by unit, row 0 of the map first.
    labels_ : ndarray of shape (n,)
        Best-matching unit of each training sample.
    quantization_error_, topographic_error_ : float
        Mean distance of the training samples to their best-matching prototype, and fraction of
        samples whose two best-matching units are not neighbors (by the grid's connectivity).
    history_ : dict of lists
        Per epoch: both errors, σ and the learning rate at its start. The errors come from the
        search for best-matching units during training, so they are of the map before the update.
    grid_ : Grid
        The grid.
    unit_labels_ : ndarray of shape (K,)
        Class of each unit, after `label_units`.
    cluster_labels_ : ndarray of shape (K,)
        Cluster of each unit, after `cluster`.
    cluster_scores_ : dict of lists
        Scores of each number of clusters that `cluster` tried.
    n_epochs_ : int
        Epochs done.
    moments_ : dict
        Adam's moments: the state from which "sgd" resumes.
    seed_ : int
        The seed derived from `random_state`.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    ValueError
        From `fit` (parameters are only stored before) when a parameter or the data is unusable.
    RuntimeError
        When the device is not available.

    Notes
    -----
    float64 data are computed in float64, float32 data in float32, everything else in float64.

    References
    ----------
    T. Kohonen, "Self-organized formation of topologically correct feature maps", Biological
    Cybernetics 43, 1982. T. Kohonen, "Essentials of the self-organizing map", Neural Networks 37,
    2013 (batch map).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.random((500, 3))
    >>> som = SOM(grid=(6, 9), random_state=0).fit(X)
    >>> som.weights_.shape, som.predict(X[:2]).shape, som.transform(X).shape
    ((54, 3), (2,), (500, 54))
    >>> som.topographic_error_ < 0.3
    True
    """

    grid: GridLike = (8, 8)
    mode: Literal["batch", "online", "sgd"] = "batch"
    n_epochs: checks.Count = 20
    sigma: Range | None = None
    learning_rate: Range | None = None
    decay: Decay = "exponential"
    learning_rate_decay: Decay | None = None
    neighborhood: Literal["gaussian", "bubble", "epanechnikov"] = "gaussian"
    init: Literal["pca", "sample"] | checks.Values = "pca"
    shuffle: bool = True
    batch_size: checks.Count = 256
    n_iter: checks.Count | None = None
    allow_missing: bool = False
    random_state: checks.Seed = None
    device: checks.Device = "auto"
    progress: bool = False

    _learned: ClassVar[dict[str, saving.Check]] = {
        "weights_": saving.array("f", "K", "d"),
        "grid_": saving.typed(Grid),
        "n_epochs_": saving.count("epochs"),
        "history_": saving.each(saving.series("epochs")),
        "moments_": saving.each(saving.typed(np.ndarray)),
        "seed_": saving.count(),
    }
    _also_learned: ClassVar[dict[str, saving.Check]] = {
        "labels_": saving.array("i", "n"),
        "quantization_error_": saving.typed(float),
        "topographic_error_": saving.typed(float),
        "unit_labels_": saving.array("biufcmMSUOT", "K"),
        "cluster_labels_": saving.array("i", "K"),
        "cluster_scores_": saving.each(saving.series("candidates")),
    }

    # ------------------------------------------------------------ fitting

    def fit(
        self,
        X: ArrayLike,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        callbacks: Iterable[Callback] = (),
        checkpoint: str | PathLike[str] | None = None,
    ) -> Self:
        """Train a new map.

        Parameters
        ----------
        X : array, tensor or memmap of shape (n, d)
            Samples. A `numpy.memmap` of float32 or float64, in rows, is read in blocks and may be
            larger than the memory.
        y : ignored
        sample_weight : array of shape (n,), optional
            How many times each sample counts; a weight of w is worth w copies of the sample
            (in "online", w presentations in a row).
        callbacks : iterable of callables
            Each is called as f(epoch, logs) after each epoch and ends the training by returning
            True.
        checkpoint : path-like, optional
            File to which the state is written every few seconds and on an interrupt; a later `fit`
            with the same data, parameters and file resumes from it.

        Returns
        -------
        self

        Raises
        ------
        KeyboardInterrupt
            Raised again after the map of the last complete epoch has been stored.
        """
        grid, seed = self._check_parameters()
        functions = callables(callbacks)
        kept = Checkpoint(checkpoint)
        X, weight = self._check_data(X, sample_weight, reset=True)
        self._start(X, weight, grid, seed)
        n_epochs = self._n_epochs(len(X))
        if checkpoint is not None:
            kept.fingerprint = fingerprint(self, X, weight)
            self._resume(kept, n_epochs)
        own = processes.part(len(X))
        searches = n_epochs + 1 if self.mode == "batch" else 1
        blocks = self._blocks(X, data_center(X), weight, own, searches)
        sigma, rate = self._sigma(self.grid_), self._learning_rate()
        run_loop(
            lambda epoch: self._epoch(epoch, blocks, sigma, rate),
            n_epochs,
            first=self.n_epochs_,
            state=self._state,
            checkpoint=kept,
            callbacks=functions,
            progress=self.progress,
            description=f"SOM {self.grid_.rows}×{self.grid_.cols}",
        )
        self._finish(blocks)
        return self

    def partial_fit(self, X: ArrayLike, y: Any = None, sample_weight: Any = None) -> Self:
        """Train one epoch on `X`, starting a map if there is none.

        Each call is one epoch: the schedules continue from call to call and stay at their end
        value after `n_epochs` calls; `n_epochs` calls with the same data are equal to one `fit`.
        To train on data in parts, choose "online" or "sgd" and an `n_epochs` equal to the number
        of parts: a "batch" epoch sets the prototypes to means of this call's samples alone. See
        `fit` for the parameters.
        """
        grid, seed = self._check_parameters()
        fresh = not hasattr(self, "weights_")
        X, weight = self._check_data(X, sample_weight, reset=fresh)
        if fresh:
            self._start(X, weight, grid, seed)
        self._forget(*_OF_UNITS)  # they described the prototypes before this epoch
        blocks = self._blocks(X, data_center(X), weight)
        self._epoch(self.n_epochs_, blocks, self._sigma(self.grid_), self._learning_rate())
        self._finish(blocks)
        return self

    def _start(self, X: Array, weight: Array | None, grid: Grid, seed: int) -> None:
        """Set the initial prototypes of a new map and remove the results of an earlier fit."""
        weights = processes.from_first(lambda: self._first_weights(X, weight, grid, seed))
        self._forget("labels_", "quantization_error_", "topographic_error_", *_OF_UNITS)
        self.grid_, self.seed_, self.weights_ = grid, seed, weights
        self.history_: dict[str, list[float]] = {}
        self.n_epochs_ = 0
        self.moments_: dict[str, Array] = {}

    def _forget(self, *names: str) -> None:
        """Remove learned attributes that are no longer valid."""
        for name in names:
            if hasattr(self, name):
                delattr(self, name)

    def _require_whole(self) -> None:
        saving.require_units(self.weights_, self.grid_)
        if self.moments_:
            saving.require_moments(self.moments_, self.weights_.shape, self.weights_.dtype)

    @property
    def _n_features_out(self) -> int:
        """Number of columns that `transform` returns; scikit-learn derives their names from it."""
        return self.grid_.n_units

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "weights_")

    @one_torch_thread  # others would spin beside NumPy's threads in the products of the next epoch
    def _epoch(self, epoch: int, blocks: Blocks, sigma: Schedule, rate: Schedule) -> Logs:
        """Run one pass over the data and return its logs."""
        n, moments, logs, weight = len(blocks), self.moments_, {}, blocks.weight
        h = NEIGHBORHOODS[self.neighborhood]
        W = torch.as_tensor(self.weights_ - blocks.center, device=blocks.device)
        if self.mode == "batch":
            logs["sigma"] = sigma(epoch, self._n_epochs(n))
            W, seen = batch_pass(W, blocks, self.grid_, h, logs["sigma"])
        else:
            visited, first, total = self._order(epoch, n)
            weight = None if weight is None else weight[visited]
            logs |= {"sigma": sigma(first, total), "learning_rate": rate(first, total)}
            steps = len(visited) if self.mode == "online" else self._iterations(len(visited))
            values = sigma.values(first, steps, total), rate.values(first, steps, total)
            if self.mode == "online":
                W, seen = online_pass(W, blocks, visited, weight, self.grid_, h, *values)
            else:
                W, moments, seen = self._sgd_epoch(W, blocks, visited, weight, h, *values)
        logs = self._errors(seen, weight) | logs
        # at once: an interrupt never leaves the map between two epochs
        self.__dict__.update(
            weights_=W.numpy(force=True) + blocks.center,
            history_={k: [*self.history_.get(k, ()), value] for k, value in logs.items()},
            n_epochs_=epoch + 1,
            moments_=moments,
        )
        return logs

    def _sgd_epoch(
        self,
        W: torch.Tensor,
        blocks: Blocks,
        visited: NDArray[np.int64],
        weight: Array | None,
        h: Neighborhood,
        sigma: Sequence[float],
        rate: Sequence[float],
    ) -> tuple[torch.Tensor, dict[str, Array], Seen]:
        """Run `sgd_pass` from the moments of Adam after the last epoch."""
        adam = Adam([W], rate[0])
        if self.moments_:
            adam.resume({0: {k: torch.as_tensor(v) for k, v in self.moments_.items()}})
        seen = sgd_pass(
            W, adam, blocks, visited, weight, self.batch_size, self.grid_, h, sigma, rate
        )
        return W, {k: v.numpy(force=True).copy() for k, v in adam.moments[0].items()}, seen

    def _order(self, epoch: int, n: int) -> tuple[NDArray[np.int64], int, int]:
        """Return the order of an epoch's samples, the steps before it, and the total of steps.

        The order depends only on seed and epoch, so resuming needs no other state. A step is a
        sample for "online", an iteration for "sgd".
        """
        order = np.arange(n)
        if self.shuffle:
            order = np.random.default_rng([self.seed_, 1, epoch]).permutation(n)
        if self.mode == "online":
            return order, epoch * n, self.n_epochs * n
        per_epoch = self._iterations(n)
        first, total = epoch * per_epoch, self.n_iter or self.n_epochs * per_epoch
        if 0 < total - first < per_epoch:  # n_iter ends inside this epoch
            order = order[: (total - first) * self.batch_size]
        return order, first, total

    def _iterations(self, n: int) -> int:
        """Return the number of iterations of "sgd" per epoch; the last batch may be smaller."""
        return -(-n // self.batch_size)

    def _n_epochs(self, n: int) -> int:
        """Return the total number of epochs."""
        return int(self.n_epochs if self.n_iter is None else -(-self.n_iter // self._iterations(n)))

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the content of a checkpoint."""
        facts = {"n_epochs": self.n_epochs_, "history": self.history_, "seed": self.seed_}
        return {"weights": self.weights_, **self.moments_}, facts

    def _resume(self, checkpoint: Checkpoint, n_epochs: int) -> None:
        """Restore the state of an interrupted training, if there is one."""
        saved = checkpoint.load()
        if saved is None:
            return
        with saving.reading(checkpoint.path):
            moments, facts = saved
            weights, done, history = moments.pop("weights"), facts["n_epochs"], facts["history"]
            sizes = dict(zip(("K", "d"), self.weights_.shape, strict=True))
            saving.require_names("facts", facts, ["n_epochs", "history", "seed"])
            saving.array("f", "K", "d")("weights", weights, sizes)
            if moments or (done and self.mode == "sgd"):
                saving.require_moments(moments, weights.shape, weights.dtype)
            saving.count()("seed", facts["seed"], sizes)
            saving.count("epochs")("n_epochs", done, sizes)
            saving.each(saving.series("epochs"))("history", history, sizes)
            rate = () if self.mode == "batch" else ("learning_rate",)
            losses = ("quantization_error", "topographic_error", "sigma", *rate)
            saving.require_names("history", history, losses if done else ())
            if weights.dtype != self.weights_.dtype or done > n_epochs:
                raise ValueError(f"{weights.dtype} after {done} epochs of {n_epochs}")
        self.weights_, self.moments_ = weights, moments
        self.n_epochs_, self.history_, self.seed_ = done, history, facts["seed"]

    def _finish(self, blocks: Blocks) -> None:
        """Set labels and both errors of the training data."""
        seen = self._search(blocks)
        self.labels_ = processes.joined(seen.units[:, 0])
        errors = self._errors(seen, blocks.weight)
        self.quantization_error_ = errors["quantization_error"]
        self.topographic_error_ = errors["topographic_error"]

    def _errors(self, seen: Seen, weight: Array | None) -> Logs:
        """Return both errors of a map, given the best-matching units of a pass over the data."""
        separate, reach = np.empty(len(seen.units), dtype=bool), self.grid_.reach()
        for first in range(0, len(separate), ERROR_BLOCK):
            part = slice(first, first + ERROR_BLOCK)
            separate[part] = self.grid_.apart(*seen.units[part].T) >= reach
        return {
            "quantization_error": processes.average(seen.distance, weight),
            "topographic_error": processes.average(separate, weight),
        }

    # ------------------------------------------------------------ using a map

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return the best-matching unit of each sample, shape (n,); ties: the lowest index."""
        return self._search(self._new_blocks(X)).units[:, 0]

    def transform(self, X: ArrayLike) -> Array:
        """Return the distance of each sample to each prototype, shape (n, K)."""
        blocks = self._new_blocks(X, searches=0)
        codebook = self._codebook(blocks)
        out = np.empty((len(blocks), len(codebook)), dtype=self.weights_.dtype)
        for block in blocks.split(len(codebook)):
            out[block.where] = squared_distances(block, codebook).sqrt().numpy(force=True)
        return out

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Return the negative quantization error: higher is better."""
        return -float(self._search(self._new_blocks(X)).distance.mean())

    def label_units(self, X: ArrayLike, y: ArrayLike) -> NDArray[Any]:
        """Give each unit the most frequent class among the samples it wins.

        A unit that wins no sample takes the class of the nearest prototype that wins some. Ties
        between equally frequent classes go to the first in sorted order.

        Parameters
        ----------
        X : array of shape (n, d)
        y : array of shape (n,)
            Classes: numbers, dates or text. Samples without a label (None, NaN, masked) are left
            out.

        Returns
        -------
        ndarray of shape (K,)
            Also stored as `unit_labels_`.

        Raises
        ------
        ValueError
            When X or y is unusable.
        """
        units = self.predict(X)
        classes, code = arrays.labels(y, n=len(units), complete=False)
        counts = np.zeros((self.grid_.n_units, len(classes)), dtype=np.int64)
        np.add.at(counts, (units[code >= 0], code[code >= 0]), 1)
        winners = counts.any(1)
        W = torch.from_numpy(self.weights_ - self.weights_.mean(0))
        named = Codebook(W[torch.from_numpy(winners)])
        nearest = best_units(Block.of(W), named)[0][:, 0].numpy()
        self.unit_labels_ = np.asarray(classes[counts[winners].argmax(1)][nearest])
        return self.unit_labels_

    def predict_labels(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class of each sample's best-matching unit, shape (n,); see `label_units`."""
        check_is_fitted(self, "unit_labels_", msg="call label_units(X, y) before predict_labels")
        return np.asarray(self.unit_labels_[self.predict(X)])

    def cluster(self, k: int | None = None) -> NDArray[np.int64]:
        """Join neighboring units to clusters by Ward's method; see `clusters.cluster_units`.

        Parameters
        ----------
        k : int, optional
            Number of clusters; by default that of the highest mean silhouette.

        Returns
        -------
        ndarray of shape (K,)
            Also stored as `cluster_labels_`. `cluster_scores_` holds "k", "silhouette" and
            "davies_bouldin" of each number of clusters that was tried.

        Raises
        ------
        ValueError
            When k is below 2 or above the number of units that win a training sample, or is not
            given and fewer than three units win one.

        Examples
        --------
        >>> X = np.random.default_rng(0).normal(size=(300, 2)) + 9 * (np.arange(300) % 3)[:, None]
        >>> som = SOM(grid=(5, 6)).fit(X)
        >>> np.unique(som.cluster()).tolist(), np.bincount(som.predict_clusters(X)).tolist()
        ([0, 1, 2], [100, 100, 100])
        """
        check_is_fitted(self)
        check_is_fitted(self, "labels_", msg="fit was interrupted; complete it before cluster")
        hits = np.bincount(self.labels_, minlength=self.grid_.n_units)
        found = cluster_units(self.weights_, self.grid_, hits, k)
        self.cluster_labels_, self.cluster_scores_ = found
        return self.cluster_labels_

    def predict_clusters(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return the cluster of each sample's best-matching unit, shape (n,); see `cluster`."""
        check_is_fitted(self, "cluster_labels_", msg="call cluster() before predict_clusters")
        return np.asarray(self.cluster_labels_[self.predict(X)])

    def _blocks(
        self,
        X: Array,
        center: Array,
        weight: Array | None = None,
        own: slice = slice(None),
        searches: int = 1,
    ) -> Blocks:
        """Return the samples, or some of them, centered and on the device, for some searches."""
        # online training is sequential: a GPU does not speed it up
        device = resolve_device(self.device)
        device = torch.device("cpu") if self.mode == "online" else device
        missing = self.allow_missing and any(np.isnan(rows).any() for rows in arrays.row_blocks(X))
        center = center.astype(self.weights_.dtype, copy=False)
        n_units = self.grid_.n_units if searches else 0
        weight = None if weight is None else weight[own]
        return Blocks(X[own], center, device, missing, n_units, searches, weight)

    def _new_blocks(self, X: ArrayLike, searches: int = 1) -> Blocks:
        check_is_fitted(self)
        X = self._check_data(X, None, reset=False)[0]
        return self._blocks(X, self.weights_.mean(0), searches=searches)

    def _search(self, blocks: Blocks) -> Seen:
        """Return the two best-matching units of each sample and the distance to the first."""
        codebook = self._codebook(blocks)
        seen = Seen.of(len(blocks), blocks)
        for block in blocks.split(len(codebook)):
            seen.note(block.where, *best_units(block, codebook))
        return seen

    def _codebook(self, blocks: Blocks) -> Codebook:
        W = torch.as_tensor(self.weights_ - blocks.center, device=blocks.device)
        return Codebook(W, blocks.screen)

    # ------------------------------------------------------------ parameters and data

    def _check_parameters(self) -> tuple[Grid, int]:
        """Check all parameters before anything is changed; return the grid and the seed."""
        checks.parameters(self)
        grid = as_grid(self.grid)
        for name in ("learning_rate", "learning_rate_decay"):
            if self.mode == "batch" and (value := getattr(self, name)) is not None:
                raise ValueError(
                    f"{name}={value!r} has no effect with mode='batch', whose weighted means have "
                    "no learning rate; omit it, or choose mode='online' or 'sgd'"
                )
        if self.mode != "sgd" and self.n_iter is not None:
            raise ValueError(
                f"n_iter={self.n_iter} counts the iterations of mode='sgd'; "
                f"with mode={self.mode!r} use n_epochs"
            )
        if self.mode == "sgd" and self.allow_missing:
            raise ValueError(
                "allow_missing=True works with mode='batch' and 'online'; mode='sgd' needs "
                "complete data: choose another mode or impute the missing values first"
            )
        if self.mode != "batch" and processes.size() > 1:
            raise ValueError(
                f"mode={self.mode!r} is sequential and cannot run in {processes.size()} processes; "
                "choose mode='batch', or one process"
            )
        self._sigma(grid)
        rate = self._learning_rate()
        if self.mode == "online" and rate.start > 1:
            raise ValueError(
                f"learning_rate={self.learning_rate!r} must start at most 1 with mode='online': "
                "a larger step moves a prototype past its sample"
            )
        resolve_device(self.device)
        return grid, resolve_seed(self.random_state)

    def _sigma(self, grid: Grid) -> Schedule:
        wide = max(grid.rows, grid.cols) / 2
        default = (max(wide, 1.0), 0.5)
        return _schedule("sigma", self.sigma, default, self.decay)

    def _learning_rate(self) -> Schedule:
        default = (0.5, 0.01) if self.mode == "online" else (1e-3, 1e-3)
        decay = self.learning_rate_decay or self.decay
        return _schedule("learning_rate", self.learning_rate, default, decay)

    def _check_data(
        self, X: ArrayLike, sample_weight: ArrayLike | None, *, reset: bool
    ) -> tuple[Array, Array | None]:
        """Return X as finite floats of the right width, and the sample weights, checked."""
        checked = arrays.features(
            self,
            X,
            reset=reset,
            least=2 if reset else 1,
            dtype=None if reset else self.weights_.dtype,
            missing=self.allow_missing,
            streamed=True,  # each block is converted when it is read
            hint=", or mark missing values by NaN with allow_missing=True",
        )
        return checked, arrays.weights(sample_weight, len(checked), checked.dtype)

    def _first_weights(self, X: Array, weight: Array | None, grid: Grid, seed: int) -> Array:
        K = grid.n_units
        if isinstance(self.init, str):
            if self.init == "pca":
                return pca_sheet(X, grid, weight)
            generator = np.random.default_rng([seed, 0])
            return _imputed(X[generator.permutation(_chosen(K, len(X), weight, generator))], X)
        init = arrays.samples(self.init, "init", dtype=X.dtype)
        if init.shape != (K, X.shape[1]):
            raise ValueError(
                f"init has shape {init.shape}, but {K} units of {X.shape[1]} features need "
                f"({K}, {X.shape[1]})"
            )
        return init.copy()

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = bool(self.allow_missing)
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


# ---------------------------------------------------------------- checks


def _chosen(
    K: int, n: int, weight: Array | None, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Return K of n samples in order; whole weights are copies, others set the probability."""
    copies = np.ones(n) if weight is None else weight
    whole = bool((copies == np.floor(copies)).all())
    available = int(copies.sum()) if whole else int((copies > 0).sum())
    if available < K:
        raise ValueError(
            f"init='sample' needs {K} different samples for {K} units, but there are "
            f"{available}; take a smaller grid, more data, or init='pca'"
        )
    if whole:
        copy = np.sort(generator.choice(available, K, replace=False))
        return np.searchsorted(copies.cumsum(dtype=np.float64), copy, side="right")
    return np.sort(generator.choice(n, K, replace=False, p=copies / copies.sum()))


def _imputed(samples: Array, X: Array) -> Array:
    """Return copies of samples, each missing value replaced by its feature's mean."""
    samples = samples.copy()
    if np.isnan(samples).any():
        total, known = np.zeros(X.shape[1]), np.zeros(X.shape[1])
        for rows in arrays.row_blocks(X):
            total += np.nansum(rows, axis=0, dtype=np.float64)
            known += (~np.isnan(rows)).sum(0)
        samples = np.where(np.isnan(samples), total / known, samples)
    return samples.astype(X.dtype)


def _schedule(name: str, given: Any, default: tuple[float, float], decay: Decay) -> Schedule:
    """Return the schedule of a (start, end) parameter, or of its default."""
    if given is None:
        given = default if decay != "constant" else (default[0], default[0])
    return schedule(name, given, decay)
