"""What every model's training shares: device, seed, loop, checkpoint."""

import json
import time
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import somlib
from somlib.hashing import content_hash
from somlib.progress import progress_bar
from somlib.training import processes
from somlib.training.saving import encode, read_arrays, write_arrays

Logs = dict[str, float]
Callback = Callable[[int, Logs], Any]
"""f(step, logs): sees each epoch (or iteration) as it ends and stops the training by returning
True."""

CHECKPOINT_SECONDS = 5.0
"""A checkpoint is written when the last one is older than this, or than thirty times what writing
it took: an interrupted run loses seconds, an undisturbed one hardly notices."""


# -------------------------------------------------------------------- device and randomness


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device to compute on; one that is not there is an error, never a fallback.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "mps"} or torch.device, default="auto"
        "auto" takes a CUDA GPU where there is one, else the CPU. Apple's "mps" is used only when
        asked for, because it has no float64. "cuda:1" names one of several GPUs.

    Raises
    ------
    ValueError
        When the name is unknown.
    RuntimeError
        When this machine has no such device.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if str(device) == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
    except RuntimeError:
        found = torch.device("meta")
    if found.type not in ("cpu", "cuda", "mps"):
        raise ValueError(
            f"device={device!r} is unknown; choose 'auto', 'cpu', 'cuda' (or 'cuda:1', ...) "
            "or 'mps'"
        )
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
    if random_state is None:
        return processes.from_first(lambda: int(np.random.default_rng().integers(2**63)))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    if isinstance(random_state, int | np.integer) and random_state >= 0:
        return int(random_state)
    raise ValueError(
        f"random_state={random_state!r} must be None, a whole number of at least 0, "
        "or a numpy Generator or RandomState"
    )


# -------------------------------------------------------------------- the loop


class Checkpoint:
    """A file from which an interrupted training goes on, bit for bit.

    Parameters
    ----------
    path : path-like or None
        Where it lies; None keeps nothing. Of several processes the first reads and writes it.
    fingerprint : str
        What the training depends on (see `fingerprint`); a file with another one is refused.
    """

    def __init__(self, path: str | PathLike[str] | None, fingerprint: str = "") -> None:
        self.path = None if path is None else Path(path)
        self.fingerprint = fingerprint
        self._due = time.monotonic() + CHECKPOINT_SECONDS

    def load(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """Return (arrays, facts) as last saved, or None when there is nothing to go on from.

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
                "version of somlib; delete it to start again, or name another file"
            )
        return arrays, facts

    def save(
        self, state: Callable[[], tuple[dict[str, NDArray[Any]], dict[str, Any]]], *, now: bool
    ) -> None:
        """Write what `state()` returns, when `now` or when the last file is old enough."""
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
    """Run steps `first` ... `n_steps` − 1 of a training and return how many are done in all.

    Parameters
    ----------
    step : callable
        `step(i)` does step i completely and returns what it measured. An exception inside it, at
        any point, must find the model before the step or after it.
    n_steps : int
        Steps in all.
    first : int, default=0
        Steps done already.
    state : callable
        Returns (arrays, facts) from which the training can go on; called for checkpoints.
    checkpoint : Checkpoint
        Written every few seconds and when the loop is interrupted.
    callbacks : iterable of callables
        Each is called as f(i, logs) after each step; one that returns True ends the loop.
    progress : bool, default=False
        Show a bar with the latest logs and the time left.
    description : str
        Stands before the bar.

    Raises
    ------
    KeyboardInterrupt
        Passed on after the checkpoint is written; the model stays usable as of the last step.
    """
    done = first
    shown = progress and processes.rank() == 0
    with progress_bar(n_steps, description, shown, initial=first) as bar:
        try:
            for i in range(first, n_steps):
                logs = step(i)
                done = i + 1
                bar.set_postfix({name: f"{value:.4g}" for name, value in logs.items()})
                bar.update()
                answers = [callback(i, logs) for callback in callbacks]
                if any(isinstance(a, bool | np.bool_) and a for a in answers):
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
            f"random_state={params['random_state']!r} would not repeat the run that a checkpoint "
            "belongs to; give a whole number"
        )
    encoded, param_arrays = encode(params)
    made_of = [type(estimator).__qualname__, somlib.__version__, encoded]
    return content_hash(json.dumps(made_of, sort_keys=True), *param_arrays.values(), *arrays)
