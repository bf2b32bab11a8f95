"""Atomic writes and locks: a crash, a full disk or a second process leaves no incomplete file.

Unfinished files and lock files are locked by the process that they belong to. The operating
system releases the lock however that process ends, so whatever is not locked was left behind.
"""

import contextlib
import errno
import os
import socket
import stat
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

PARTIAL_PREFIX = ".partial-"
"""Prefix of all unfinished files and lock files, by which `remove_partials` finds them."""

_UMASK = threading.Lock()  # of two threads that set it at the same time one would restore 0

PATIENCE = 5.0
"""Seconds after which `claimed(..., wait=True)` warns for which process it waits."""


class InUseError(OSError):
    """Another process is working on the same file; the message says which."""


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file beside `path` that is renamed to `path` if the block succeeds.

    Both are in the same folder, so that renaming is atomic: a reader sees the old file or the new
    one, never a part. If the block fails, the temporary file is deleted and `path` is unchanged.
    Otherwise the effect is that of opening the file for writing: of a link the target changes,
    permissions are kept, a write-protected file is an error.

    Parameters
    ----------
    path : path-like
        The file to write. Its folder is created if it does not exist.

    Yields
    ------
    pathlib.Path
        The temporary file, of the same suffix as `path`, to be written by the caller.

    Raises
    ------
    OSError
        When `destination` refuses `path`, the folder cannot be created or written to, or the disk
        is full; the message names the file and the remedy.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "note.txt"
    >>> with replacing(target) as partial:
    ...     _ = partial.write_text("complete or not at all")
    >>> target.read_text()
    'complete or not at all'
    """
    target = destination(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial, lock = _begin(target)
    except OSError as error:
        raise _explained(error, path) from error
    try:
        yield partial
        partial.chmod(_mode(target))
        if sys.platform == "win32":  # Windows cannot rename an open file
            lock.close()
        partial.replace(target)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        lock.close()
        partial.unlink(missing_ok=True)


def destination(path: str | os.PathLike[str]) -> Path:
    """Return the file that writing to `path` changes: of a link, the target.

    Raises
    ------
    OSError
        When that is a folder, or a pipe or device, which cannot be replaced atomically, or a
        write-protected file; the message names it and the remedy.

    Examples
    --------
    >>> import tempfile
    >>> destination(Path(tempfile.mkdtemp()) / "map.npz").name
    'map.npz'
    """
    found = Path(path)
    try:
        mode: int | None = found.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):  # the folder is checked later
        mode = None
    except OSError as error:
        raise _explained(error, path) from error
    if os.fspath(path).endswith((os.sep, "/")) or (mode and stat.S_ISDIR(mode)):
        raise IsADirectoryError(
            errno.EISDIR, f"cannot write to {path}: it is a folder; name a file"
        )
    if mode and not stat.S_ISREG(mode):
        raise OSError(
            errno.EINVAL,
            f"cannot write to {path}: it is a pipe or a device, which cannot be replaced "
            "atomically; name an ordinary file",
        )
    if mode and not os.access(found, os.W_OK):
        raise PermissionError(
            errno.EACCES,
            f"cannot write to {path}: it is write-protected; make it writable, or name another",
        )
    return Path(os.path.realpath(found)) if found.is_symlink() else found


def same(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Return whether two paths lead to the same file, also through links."""
    try:
        return Path(one).samefile(other)
    except OSError:  # one of them does not exist
        return os.path.realpath(one) == os.path.realpath(other)


@contextmanager
def claimed(path: str | os.PathLike[str], *, wait: bool = False) -> Iterator[None]:
    """Make sure that no other process works on `path` inside a `with`.

    A lock file beside `path` names the process. If none can be created, in a read-only folder or
    on a file system without locks, the block is executed all the same.

    Parameters
    ----------
    path : path-like
        The file to work on; need not exist.
    wait : bool, default=False
        Wait until another process has finished; if that takes long, a warning names it.

    Raises
    ------
    InUseError
        When another process works on it and `wait` is False.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "map.npz"
    >>> with claimed(path), claimed(path):  # doctest: +ELLIPSIS
    ...     pass
    Traceback (most recent call last):
    ...
    somlib.files.InUseError: [Errno 16] ... is being made by process ...
    """
    path = Path(path)
    sign = path.with_name(f"{PARTIAL_PREFIX}{path.name}.lock")
    patient = time.monotonic() + PATIENCE
    lock = None
    try:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            while (lock := _sign(sign)) is None:
                if not wait:
                    raise _Busy
                if time.monotonic() > patient:
                    patient = float("inf")
                    warnings.warn(f"{path} {_whose(sign)}; waiting for it", stacklevel=4)
                time.sleep(0.05)
    except _Busy:
        message = f"{path} {_whose(sign)}; wait for it, stop it, or write somewhere else"
        raise InUseError(errno.EBUSY, message) from None
    try:
        yield
    finally:
        if lock is not None:
            _remove(sign, lock)


def remove_partials(folder: str | os.PathLike[str]) -> int:
    """Delete unfinished files of killed processes below `folder`; return how many.

    Files that a living process is writing are kept.
    """
    removed = 0
    for partial in Path(folder).rglob(PARTIAL_PREFIX + "*"):
        if not partial.is_file():
            continue
        # removed in the meantime, of another user, or on a file system without locks
        with contextlib.suppress(OSError), partial.open("r+b") as file:
            if _lock(file) and _lies_at(file, partial):
                _remove(partial, file)
                removed += 1
    return removed


# ---------------------------------------------------------------- locks that end with the process


class _Busy(Exception):  # noqa: N818 - never leaves this module
    """Another process holds the lock."""


def _lock(file: IO[bytes]) -> bool:
    """Lock an open file; False if another process holds it. OSError where there are no locks."""
    try:
        if sys.platform == "win32":
            file.seek(2**31 - 2)  # beyond the content, which others can still read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(0)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _lies_at(file: IO[bytes], path: Path) -> bool:
    """Return whether an open file still has that path: it may have been removed."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _begin(target: Path) -> tuple[Path, IO[bytes]]:
    """Create a partial file beside `target` and return it, with the open file that locks it."""
    while True:
        handle, name = tempfile.mkstemp(
            # only the end of the name, so that it does not become too long
            dir=target.parent, prefix=PARTIAL_PREFIX, suffix="-" + target.name[-40:]
        )  # fmt: skip
        partial, file = Path(name), os.fdopen(handle, "r+b")
        try:
            if _lock(file) and _lies_at(file, partial):  # not removed in the meantime
                return partial, file
        except OSError:  # no locks here
            return partial, file
        file.close()


def _sign(path: Path) -> IO[bytes] | None:
    """Return the locked file that names this process, or None if another process has it."""
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            if not _lock(file):
                file.close()
                return None
        except OSError:  # no locks here
            _remove(path, file)
            raise
        if _lies_at(file, path):
            began = datetime.now().astimezone().isoformat(" ", timespec="seconds")
            file.truncate()
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {began}".encode())
            file.flush()
            return file
        file.close()


def _whose(sign: Path) -> str:
    try:
        who = sign.read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        who = ""
    return f"is being made by {who or 'another process'}"


def _remove(path: Path, file: IO[bytes]) -> None:
    """Remove a locked file before its lock is released, when it may become another process's."""
    if sys.platform == "win32":  # Windows cannot remove an open file
        file.close()
    with contextlib.suppress(OSError):
        path.unlink()
    file.close()


# ---------------------------------------------------------------- permissions and messages


def _mode(target: Path) -> int:
    """Return the permissions that `target` would have after an ordinary open()."""
    with contextlib.suppress(FileNotFoundError):
        return stat.S_IMODE(target.stat().st_mode)
    with _UMASK:
        umask = os.umask(0)  # there is no way to read it without setting it
        os.umask(umask)
    return 0o666 & ~umask


def _explained(error: OSError, path: str | os.PathLike[str]) -> OSError:
    """Return an error of the same type whose message names the file and the remedy."""
    reason = error.strerror or str(error)
    message = (
        f"cannot write {path}: {reason}; existing files were not changed. "
        "Choose a folder that exists, is writable and has free space."
    )
    return type(error)(error.errno, message)
