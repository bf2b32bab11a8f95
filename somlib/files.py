"""Writing files so that a crash, a kill or a full disk never leaves half of one."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL_PREFIX = ".partial-"
"""Every unfinished file begins with this, so that left-overs can be recognised and removed."""


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary neighbour of `path` that takes its name once the block succeeds.

    The neighbour lies in the same folder, so the final rename is atomic: a reader sees the old
    file or the new one, never a part. When the block fails the neighbour is deleted and whatever
    was at `path` is untouched.

    Parameters
    ----------
    path : path-like
        The file to write. Its folder is made when missing.

    Yields
    ------
    pathlib.Path
        The temporary file, of the same suffix as `path`, to be written by the caller.

    Raises
    ------
    OSError
        When the folder cannot be made or written to, or the disk is full; the message names the
        file and says what to do.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "note.txt"
    >>> with replacing(target) as partial:
    ...     _ = partial.write_text("whole or not at all")
    >>> target.read_text()
    'whole or not at all'
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=PARTIAL_PREFIX, suffix="-" + path.name
        )
        os.close(handle)
    except OSError as error:
        raise _explained(error, path) from error
    partial = Path(name)
    try:
        yield partial
        # mkstemp makes files private; the finished file gets what a plain open() would give it.
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)
        partial.replace(path)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        partial.unlink(missing_ok=True)


def remove_partials(folder: str | os.PathLike[str]) -> int:
    """Delete what killed processes left unfinished below `folder`; return how many files."""
    partials = [p for p in Path(folder).rglob(PARTIAL_PREFIX + "*") if p.is_file()]
    for partial in partials:
        partial.unlink(missing_ok=True)
    return len(partials)


def _explained(error: OSError, path: Path) -> OSError:
    """Return an error of the same type whose text names the file and the remedy."""
    reason = error.strerror or str(error)
    message = (
        f"cannot write {path}: {reason}; nothing already there was changed. "
        "Choose a folder that exists, may be written to and has free space."
    )
    return type(error)(error.errno, message)
