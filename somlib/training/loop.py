"""Device, seed, loop and checkpoint: code shared by the training of all models."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import somlib
from somlib import checks
from somlib.hashing import content_hash
from somlib.progress import progress_bar
from somlib.training import processes
from somlib.training.saving import encode, read_arrays, write_arrays

Logs = dict[str, float]
Callback = Callable[[int, Logs], Any]
"""f(step, logs): called after each epoch (or iteration); ends the training by returning True."""


def callables(callbacks: Any) -> list[Callback]:
    """Return the functions of a parameter `callbacks`, as a list."""
    checks.require("callbacks", callbacks, checks.Several)
    functions: list[Callback] = list(callbacks)
    checks.require("callbacks", functions, Sequence[Callback])
    return functions


CHECKPOINT_SECONDS = 5.0
"""A checkpoint is written when the last one is older than this, and older than thirty times the
time that writing takes, so that the overhead is small."""


# -------------------------------------------------------------------- device and randomness


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device to compute on; a missing device is an error, there is no fallback.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "mps"} or torch.device, default="auto"
        "auto" is a CUDA GPU if there is one, else the CPU. Apple's "mps" is used only on request,
        because it has no float64. "cuda:1" is one of several GPUs.

    Raises
    ------
    ValueError
        When the name is unknown.
    RuntimeError
        When the device is not available.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    checks.require("device", device, checks.Device)
    if str(device) == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    found = torch.device(device)
    there = (
        found.type == "cpu"
        or (found.type == "cuda" and (found.index or 0) < torch.cuda.device_count())
        or (found.type == "mps" and torch.backends.mps.is_available())
    )
    if not there:
        raise RuntimeError(
            f"device={str(device)!r} was asked for, but this machine (or this build of PyTorch "
            f"{torch.__version__}) does not have it; use device='cpu', or 'auto' to take the best "
            "there is"
        )
    return found


def resolve_seed(random_state: Any) -> int:
    """Return one whole number from which all of a fit's randomness follows.

    Parameters
    ----------
    random_state : None, int, numpy Generator or RandomState
        None draws fresh entropy, the same for all processes; a generator is advanced by one draw.

    Raises
    ------
    ValueError
        For anything else, or a negative number.
    """
    checks.require("random_state", random_state, checks.Seed)
    if random_state is None:
        return processes.from_first(lambda: int(np.random.default_rng().integers(2**63)))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    return int(random_state)


def random_source(random_state: Any) -> np.random.Generator | np.random.RandomState:
    """Return a source of random numbers; None gives a new one, never NumPy's global one."""
    checks.require("random_state", random_state, checks.Seed)
    if isinstance(random_state, np.random.Generator | np.random.RandomState):
        return random_state
    return np.random.RandomState(None if random_state is None else random_state % 2**32)


# -------------------------------------------------------------------- the loop


class Checkpoint:
    """A file from which an interrupted training resumes, bit for bit.

    Parameters
    ----------
    path : path-like or None
        Its path; None disables checkpoints. Of several processes the first reads and writes it.
    fingerprint : str
        Hash of everything that the training depends on (see `fingerprint`); a file with another
        one is an error.
    """

    def __init__(self, path: str | PathLike[str] | None, fingerprint: str = "") -> None:
        checks.require("checkpoint", path, checks.FilePath | None)
        self.path = None if path is None else Path(path)
        self.fingerprint = fingerprint
        self._due = time.monotonic() + CHECKPOINT_SECONDS

    def load(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """Return (arrays, facts) as last saved, or None if there is no checkpoint.

        Raises
        ------
        ValueError
            When the file belongs to other data or settings, or is not a checkpoint.
        """
        return processes.from_first(self._load)

    def _load(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        if self.path is None or not self.path.exists():
            return None
        arrays, facts = read_arrays(self.path)
        if facts.pop("fingerprint", None) != self.fingerprint:
            raise ValueError(
                f"the checkpoint {self.path} was made with other data, parameters or another "
                "version of somlib; delete it to start again, or choose another file"
            )
        return arrays, facts

    def save(
        self, state: Callable[[], tuple[dict[str, NDArray[Any]], dict[str, Any]]], *, now: bool
    ) -> None:
        """Write what `state()` returns, if `now` or if the last file is old enough."""
        if self.path is None or processes.rank() > 0:
            return
        began = time.monotonic()
        if now or began >= self._due:
            arrays, facts = state()
            write_arrays(self.path, arrays, facts | {"fingerprint": self.fingerprint})
            ended = time.monotonic()
            self._due = ended + max(CHECKPOINT_SECONDS, 30 * (ended - began))


def run_loop(
    step: Callable[[int], Logs],
    n_steps: int,
    *,
    first: int = 0,
    state: Callable[[], tuple[dict[str, NDArray[Any]], dict[str, Any]]],
    checkpoint: Checkpoint,
    callbacks: Iterable[Callback] = (),
    progress: bool = False,
    description: str = "training",
) -> int:
    """Run steps `first` ... `n_steps` − 1 of a training; return the total number of steps done.

    Parameters
    ----------
    step : callable
        `step(i)` runs step i and returns its logs. It must be atomic: an exception at any point
        leaves the model as before or as after the step.
    n_steps : int
        Total number of steps.
    first : int, default=0
        Steps done already.
    state : callable
        Returns (arrays, facts) from which the training can resume; called for checkpoints.
    checkpoint : Checkpoint
        Written every few seconds and on an interrupt.
    callbacks : iterable of callables
        Each is called as f(i, logs) after each step; True as return value ends the loop.
    progress : bool, default=False
        Show a bar with the latest logs and the time left.
    description : str
        Text before the bar.

    Raises
    ------
    KeyboardInterrupt
        Raised again after the checkpoint has been written.
    """
    done = first
    shown = progress and processes.rank() == 0
    with progress_bar(n_steps, description, shown, initial=first) as bar:
        try:
            for i in range(first, n_steps):
                logs = step(i)
                done = i + 1
                if shown:
                    bar.set_postfix({name: f"{value:.4g}" for name, value in logs.items()})
                bar.update()
                results = [callback(i, logs) for callback in callbacks]
                if any(isinstance(r, bool | np.bool_) and r for r in results):
                    break
                checkpoint.save(state, now=False)
        except KeyboardInterrupt:
            checkpoint.save(state, now=True)
            raise
    return done


def fingerprint(estimator: Any, *arrays: NDArray[Any] | None) -> str:
    """Return a hash of an estimator's class and parameters, the data and somlib's version.

    Examples
    --------
    >>> from somlib.models.som import SOM
    >>> X = np.eye(3)
    >>> fingerprint(SOM(n_epochs=5), X) == fingerprint(SOM(n_epochs=6), X)
    False
    """
    params = {k: v for k, v in estimator.get_params().items() if k not in ("progress", "device")}
    if isinstance(params.get("random_state"), np.random.Generator | np.random.RandomState):
        raise ValueError(
            f"random_state={params['random_state']!r} cannot be reproduced, as resuming from a "
            "checkpoint needs; give a whole number"
        )
    encoded, param_arrays = encode(params)
    content = [type(estimator).__qualname__, somlib.__version__, encoded]
    return content_hash(json.dumps(content, sort_keys=True), *param_arrays.values(), *arrays)
