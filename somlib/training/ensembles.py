"""Training of one model, or of an ensemble of models with different seeds, in five stages.

check      validate parameters and data, before anything is built (`_check`)
build      build and initialize one network per seed, then stack them (`_build`)
start      optimizer, noise, schedules; the state of a checkpoint, if there is one (`_start`)
run        the loop, until it ends, is stopped or fails (`_run`)
hand over  set the parameters and history of each estimator (`Training.hand_over`)
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from somlib import arrays, checks
from somlib.search.products import products
from somlib.training import processes, saving
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
from somlib.training.network import (
    Array,
    Losses,
    Network,
    NoiseSource,
    load_state,
    member_state,
    stacked,
)
from somlib.training.step import CapturedStep, Step, deferred_interrupts

if TYPE_CHECKING:  # which imports this file
    from somlib.training.estimator import DeepEstimator

ITERATIONS_PER_LOG = 50
"""Losses are read, callbacks are called and checkpoints are written after this many iterations,
because reading a number from a GPU synchronizes it with the CPU."""


def train(
    models: Sequence["DeepEstimator"],
    X: ArrayLike,
    start: "Sequence[DeepEstimator] | None" = None,
    callbacks: Iterable[Callback] = (),
    checkpoint: str | PathLike[str] | None = None,
) -> None:
    """Fit estimators that differ in their seeds, and in the parameters of `_may_differ`."""
    functions = callables(callbacks)
    task = _check(models, X, start, checkpoint)
    saved = task.checkpoint.load()
    if saved is not None:
        with saving.reading(task.checkpoint.path):  # random seeds, if none were given
            task.seeds = _saved_seeds(saved[1], len(models))
    with products(models[0].precision, task.device):
        network, schedules = _build(task, resumed=saved is not None)
        training = _start(task, network, schedules, saved)
        _run(task, training, functions)
    if task.checkpoint.path is not None:
        _pretraining_file(task.checkpoint).unlink(missing_ok=True)


# -------------------------------------------------------------------- check


@dataclass
class _Task:
    """The checked arguments of a training."""

    models: "Sequence[DeepEstimator]"
    X: Array
    seeds: list[int]
    n_iter: int
    device: torch.device
    start: "Sequence[DeepEstimator] | None"
    checkpoint: Checkpoint


def _check(
    models: Sequence["DeepEstimator"],
    X: ArrayLike,
    start: "Sequence[DeepEstimator] | None",
    checkpoint: str | PathLike[str] | None,
) -> _Task:
    one = models[0]
    for model in models:
        checks.parameters(model)
    seeds = [resolve_seed(model.random_state) for model in models]
    device = resolve_device(one.device)
    data = one._valid(X, reset=True)
    for model in models[1:]:
        arrays.same_features(model, one)
    one._require_divisible()
    for model in models:
        n_iter = model._check_common(*data.shape)
        model._check(*data.shape)
    for initial in start or ():
        check_is_fitted(initial)
    if start is not None and len(start) != len(models):
        raise ValueError(f"start has {len(start)} models for {len(models)} seeds; give one each")
    kept = Checkpoint(checkpoint)
    if checkpoint is not None:
        initial_arrays = [a for model in start or () for a in model.parameters_.values()]
        given = [-1 if m.random_state is None else s for m, s in zip(models, seeds, strict=True)]
        differ = [np.hstack([[], *(m.get_params()[k] for k in one._may_differ)]) for m in models]
        kept.fingerprint = fingerprint(
            one, data, np.array(given), np.array(differ), *initial_arrays
        )
    return _Task(models, data, seeds, n_iter, device, start, kept)


# -------------------------------------------------------------------- build


def _build(task: _Task, *, resumed: bool) -> tuple[Network, dict[str, Array]]:
    """Return the network of all seeds, initialized unless resumed, and its schedules."""
    one, d = task.models[0], task.X.shape[1]
    X = torch.from_numpy(task.X)
    with torch.device("meta"):  # sizes without memory
        blank = one._build(d, torch.Generator()).to(X.dtype)
    _require_memory(blank, len(task.seeds), one.batch_size, task.device)
    if task.start is None and not resumed:
        task.start = one._pretrain(task.X, task.seeds, _pretraining_file(task.checkpoint))
    X = X.to(task.device)
    networks = []
    for s, (model, seed) in enumerate(zip(task.models, task.seeds, strict=True)):
        generator = torch.Generator().manual_seed(seed)
        network = model._build(d, generator).to(X)
        if not resumed:
            if task.start is not None:
                _start_from(network, task.start[s])
            with torch.no_grad():
                network.initialize(X, generator)
        networks.append(network)
    schedules = _joined([network.schedules(task.n_iter) for network in networks])
    return stacked(networks), schedules


def _joined(schedules: Sequence[dict[str, Array]]) -> dict[str, Array]:
    """Return schedules of shape (n_iter,), or (n_iter, S, 1, 1) if the seeds differ."""
    joined = {}
    for name, first in schedules[0].items():
        values = np.stack([schedule[name] for schedule in schedules], -1)
        differ = (values != values[:, :1]).any()
        joined[name] = values[..., None, None] if differ else first
    return joined


def _start_from(network: Network, model: "DeepEstimator") -> None:
    """Copy encoder and decoder of a fitted model into a network."""
    own = network.state_dict()
    for name, value in own.items():
        if name.split(".")[0] not in ("encoder", "decoder"):
            continue
        array = model.parameters_.get(name)
        if array is None or array.shape != value.shape:
            found = "none" if array is None else f"shape {array.shape}"
            raise ValueError(
                f"start does not fit: {name} needs shape {tuple(value.shape)}, but "
                f"{model!r} has {found}; give a model of the same hidden, latent_dim and tied"
            )
        value.copy_(torch.from_numpy(array))


def _pretraining_file(checkpoint: Checkpoint) -> Any:
    return None if checkpoint.path is None else checkpoint.path.with_suffix(".pretraining")


def _require_memory(one: Network, S: int, batch: int, device: torch.device) -> None:
    """Raise a MemoryError if S networks like this one do not fit; it says how many do."""
    sizes = [p.numel() * p.element_size() for p in one.parameters()]
    widths = sum(p.shape[-1] * p.element_size() for p in one.parameters())
    # parameters, gradients, two moments; each activation and its gradient
    need = S * (4 * sum(sizes) + 2 * batch * widths)
    if device.type == "cuda":
        available = torch.cuda.mem_get_info(device)[0]
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        return
    if need > available:
        raise MemoryError(
            f"{S} seeds of this network need about {need / 2**30:.1f} GiB, but {device} has "
            f"{available / 2**30:.1f} GiB: {int(available // (need / S))} would fit; train fewer "
            "at a time"
        )


# -------------------------------------------------------------------- start


def _saved_seeds(facts: dict[str, Any], S: int) -> list[int]:
    """Return the seeds in a checkpoint of S models."""
    saving.require_names("facts", facts, ["done", "seeds"])
    found = facts["seeds"]
    if not isinstance(found, list) or len(found) != S:
        raise ValueError(f"seeds is {found!r}; expected {S} whole numbers")
    for seed in found:
        saving.count()("seeds", seed, {})
        torch.Generator().manual_seed(seed)
    return found


def _start(
    task: _Task, network: Network, schedules: dict[str, Array], saved: tuple[Any, Any] | None
) -> "Training":
    training = Training(task, network, schedules)
    if saved is not None:
        with saving.reading(task.checkpoint.path):
            training.resume(*saved)
        training.resumed_from = task.checkpoint.path
    if processes.size() > 1:  # other processors may round the initial values differently
        training.resume(*processes.from_first(training.state))
    return training


class Training:
    """The state of a training: network, Adam's moments, history, number of iterations done."""

    def __init__(self, task: _Task, network: Network, schedules: dict[str, Array]) -> None:
        one = task.models[0]
        self.network, self.seeds, self.n_iter = network, task.seeds, task.n_iter
        self.X = torch.from_numpy(task.X).to(task.device)
        self.schedules = {k: torch.from_numpy(v).to(self.X) for k, v in schedules.items()}
        self.noise = NoiseSource(network.noise(one.batch_size), task.seeds, self.X)
        self.batch_size, self.shuffle = one.batch_size, one.shuffle
        self.samples_per_iteration = one._samples_per_iteration
        self.rates = [float(getattr(model, "learning_rate", 1.0)) for model in task.models]
        self.adam_step = Step(network, self.rates)
        captured = self.X.device.type == "cuda" and processes.size() == 1
        self.take_steps: Step | CapturedStep = (
            CapturedStep(self.adam_step, self.samples_per_iteration) if captured else self.adam_step
        )
        self.done, self.sound = 0, True
        self.history: dict[str, list[Array]] = {}
        self.resumed_from: Path | None = None
        self._epoch, self._order = -1, torch.empty(0)

    # ---------------------------------------------------------------- run

    def run(self, until: int) -> Logs:
        """Run the iterations up to `until` and return their mean losses."""
        seen: list[Losses] = []
        self._good = {name: value.clone() for name, value in self.network.state_dict().items()}
        with deferred_interrupts() as waiting:  # Adam updates in place: no partial steps
            try:
                for i in range(self.done, until):
                    seen.append(self.iteration(i))
                    self.done = i + 1
                    if waiting:
                        break
            finally:  # also after an interrupt
                logs = self._record(seen)
        return logs | {name: float(v[until - 1].mean()) for name, v in self.schedules.items()}

    def iteration(self, i: int) -> Losses:
        """Run iteration i: choose samples, take the step or steps, return the losses."""
        arguments = {name: v[i] for name, v in self.schedules.items()} | self.noise(i)
        with torch.no_grad():
            rows = self.network.prepare(self.X, i, **arguments)
        if rows is None:
            rows = self._next_rows(i)
        rows, shares = processes.local_rows(rows, self.batch_size)
        B = min(self.batch_size, rows.shape[-1])
        for name, noise in self.noise.kinds.items():
            if len(noise.shape) > 1:  # the last batch of an epoch may be smaller
                arguments[name] = arguments[name][..., :B, :]
        return self.take_steps(self.X[rows], rows, arguments, shares)

    def _next_rows(self, i: int) -> Tensor:
        """Return the samples of iteration i: (B,) in order, or (S, B) with `shuffle`.

        They depend only on seed and iteration, so resuming needs no other state. The last batch of
        an epoch may be smaller, as in the released DESOM code.
        """
        n, B = len(self.X), self.samples_per_iteration
        per_epoch = -(-n // B)
        epoch, batch = divmod(i, per_epoch)
        if epoch != self._epoch and (self.shuffle or self._epoch < 0):
            order = np.arange(n)
            if self.shuffle:
                order = np.stack(
                    [np.random.default_rng([s, 1, epoch]).permutation(n) for s in self.seeds]
                )
                order = order[0] if len(self.seeds) == 1 else order
            self._order = torch.from_numpy(order).to(self.X.device)
            self._epoch = epoch
        return self._order[..., batch * B : (batch + 1) * B]

    def _record(self, seen: list[Losses]) -> Logs:
        """Append the losses of some iterations to the history and return their means."""
        logs = {}
        if seen and self.history and self.history.keys() != seen[0].keys():
            self.sound = False
            with saving.reading(self.resumed_from):  # only a checkpoint can contain other losses
                saving.require_names("losses", self.history, seen[0])
        for name in seen[0] if seen else ():
            losses = torch.stack([losses[name] for losses in seen]).numpy(force=True)
            losses = losses.reshape(len(seen), len(self.seeds))
            self._require_numbers(losses)
            self.history.setdefault(name, []).append(losses)
            logs[name] = float(losses.mean())
        return logs

    def _require_numbers(self, losses: Array) -> None:
        bad = ~np.isfinite(losses)  # (iterations, S)
        if bad.any():
            i, s = np.argwhere(bad)[0]
            first = self.done - len(losses)
            self._roll_back(first)
            raise FloatingPointError(
                f"the loss of seed {self.seeds[s]} is not finite at iteration {first + i} of "
                f"{self.n_iter}; lower learning_rate={self.rates[s]}, or check the scale of X"
            )

    def _roll_back(self, done: int) -> None:
        """Restore the parameters of the last finite losses, after `done` iterations."""
        load_state(self.network, self._good)
        self.done, self.sound = done, done > 0
        for parts in self.history.values():
            if sum(map(len, parts)) > done:  # appended before another loss was found not finite
                parts.pop()

    # ---------------------------------------------------------------- hand over, stop and resume

    def hand_over(self, models: Sequence["DeepEstimator"]) -> None:
        """Set the parameters and history of each estimator to the current state."""
        S = len(models)
        for s, model in enumerate(models):
            model._learn(member_state(self.network, s, S))
            model.seed_, model.n_iter_ = self.seeds[s], self.done
            model.history_ = {k: np.concatenate(v)[:, s] for k, v in self.history.items()}
            for name, values in self.schedules.items():
                own = values if values.ndim == 1 else values[:, s, 0, 0]
                model.history_[name] = own[: self.done].numpy(force=True)

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the content of a checkpoint."""
        arrays = {f"stack {k}": v.numpy(force=True) for k, v in self.network.state_dict().items()}
        for k, entry in self.adam_step.adam.moments.items():
            arrays |= {f"adam {k} {name}": v.numpy(force=True) for name, v in entry.items()}
        arrays |= {f"history {k}": np.concatenate(v) for k, v in self.history.items()}
        return arrays, {"done": self.done, "seeds": list(self.seeds)}

    def resume(self, arrays: dict[str, Any], facts: dict[str, Any]) -> None:
        """Restore what `state` returned; a ValueError if it does not fit this training."""
        adam: dict[int, dict[str, Any]] = {}
        network, history = {}, {}
        for key, value in arrays.items():
            kind, _, name = key.partition(" ")
            if kind == "stack":
                network[name] = value
            elif kind == "adam":
                number, _, what = name.partition(" ")
                adam.setdefault(int(number), {})[what] = value
            else:
                saving.require_names("kinds", [kind], ["history"])
                history[name] = value
        self._require_own(network, adam, history, facts["done"])
        load_state(self.network, {name: torch.from_numpy(v) for name, v in network.items()})
        self.adam_step.adam.resume(
            {k: {n: torch.from_numpy(v) for n, v in m.items()} for k, m in adam.items()}
        )
        self.history = {name: [value] for name, value in history.items()}
        self.done = facts["done"]

    def _require_own(
        self,
        network: dict[str, Array],
        adam: dict[int, dict[str, Array]],
        history: dict[str, Array],
        done: Any,
    ) -> None:
        """Check the arrays of a checkpoint against this network's names, shapes and dtype."""
        S, dtype = len(self.seeds), torch.empty(0, dtype=self.X.dtype).numpy().dtype
        sizes = {"seeds": S, "n": len(self.X)}
        known = self.network.training_buffers
        buffers = {name: known[name] for name in self.network._buffers if name in known}
        shapes = {
            name: tuple(value.shape)
            for name, value in self.network.state_dict().items()
            if name not in buffers
        }
        saving.require_names("the network", network, [*shapes, *buffers])
        for name, value in network.items():
            axes = (*(["seeds"] if S > 1 else []), *buffers.get(name, ()))
            if name in buffers:
                saving.array("fi", *axes)(name, value, sizes)
            elif value.shape != shapes[name] or value.dtype.kind != "f":
                raise ValueError(f"{name} has shape {value.shape}, expected {shapes[name]}")
            if value.dtype.kind == "f" and value.dtype != dtype:
                raise ValueError(f"{name} is of {value.dtype}, expected {dtype}")
        parameters = list(self.network.parameters())
        for number, moments in adam.items():
            if not 0 <= number < len(parameters):
                raise ValueError(f"Adam's moments of parameter {number} of {len(parameters)}")
            saving.require_moments(moments, tuple(parameters[number].shape), dtype)
        saving.count("iterations")("done", done, sizes)
        if done > self.n_iter or (done and "loss" not in history):
            raise ValueError(f"{done} iterations of {self.n_iter}, with losses {sorted(history)}")
        saving.each(saving.array("f", "iterations", "seeds"))("history", history, sizes)


# -------------------------------------------------------------------- run


def _run(task: _Task, training: Training, callbacks: Sequence[Callback]) -> None:
    """Run the loop; the models are usable afterwards, also after an interrupt."""
    models, n_iter = task.models, task.n_iter
    chunks = -(-n_iter // ITERATIONS_PER_LOG)
    first = training.done // ITERATIONS_PER_LOG if training.done < n_iter else chunks

    def step(number: int) -> Logs:
        logs = training.run(min(n_iter, (number + 1) * ITERATIONS_PER_LOG))
        if callbacks:
            training.hand_over(models)
        return logs

    def by_iteration(callback: Callback) -> Callback:
        return lambda _, logs: callback(training.done - 1, logs)

    many = f" × {len(models)}" if len(models) > 1 else ""
    try:
        run_loop(
            step,
            chunks,
            first=first,
            state=training.state,
            checkpoint=task.checkpoint,
            callbacks=[by_iteration(callback) for callback in callbacks],
            progress=models[0].progress,
            description=type(models[0]).__name__ + many,
        )
    except Exception:  # before the first iteration there is nothing to hand over
        training.sound = training.sound and training.done > 0
        raise
    finally:
        if training.sound:
            training.hand_over(models)
            for model in models:
                model._finish(task.X)
