"""Finding the files of a data set, and downloading what is missing."""

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeVar

from somlib.data.blob import BlobFile
from somlib.data.idx import IdxFile
from somlib.files import replacing
from somlib.progress import progress_bar

File = IdxFile | BlobFile
T = TypeVar("T")

TIMEOUT = 20.0
"""Seconds a mirror may stay silent before the next one is tried."""


class DataError(OSError):
    """A data file is missing, unreadable or not the official one, or no mirror delivers it."""


class MissingError(DataError):
    """A data file is missing, and cannot or must not be downloaded."""


def default_folder() -> Path:
    """Return `data/` of the project when running from its checkout, else of the current folder."""
    root = Path(__file__).resolve().parents[2]
    return (root if (root / "pyproject.toml").is_file() else Path.cwd()) / "data"


def data_folder() -> tuple[Path, bool]:
    """Return where the data lie, and whether SOMLIB_DATA says so, which forbids downloads."""
    given = os.environ.get("SOMLIB_DATA", "")
    return (Path(given).expanduser() if given else default_folder()), bool(given)


def find_or_download(file: File, read: Callable[[BinaryIO], T]) -> T:
    """Return `read(stream)` of a file, which is downloaded where it is missing.

    `read` checks the content: a ValueError says that it is not that of `file`.

    Raises
    ------
    DataError
        When the file is missing, unreadable or not the official one, or cannot be downloaded.
    """
    folder, given = data_folder()
    paths = [folder / f"{file.name}{suffix}" for suffix in file.suffixes]
    kind: type[DataError] = DataError
    for path in paths:
        try:
            with path.open("rb") as stream:
                return read(stream)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            found = f"{path} cannot be read: {error.strerror or error}"
        except ValueError as error:
            found = f"{path} {error}"
        break
    else:
        if not given:
            return _download(paths[-1], file, read)
        kind = MissingError
        zipped = ", with and without .gz" if len(paths) > 1 else ""
        found = f"{paths[0]} is missing{zipped}"
    raise kind(
        f"{found}. Expected: {file}. Put the official file there, readable, or "
        f"{'unset SOMLIB_DATA' if given else 'delete it'} to have it downloaded; "
        "nothing was changed."
    )


def read_packaged(file: File, read: Callable[[BinaryIO], T]) -> T:
    """Return `read(stream)` of a file that is part of the package, gzipped.

    Raises
    ------
    DataError
        When the file is missing, unreadable or another one.
    """
    path = Path(__file__).parent / f"{file.name}.gz"
    try:
        with path.open("rb") as stream:
            return read(stream)
    except OSError as error:
        found = f"{path} cannot be read: {error.strerror or error}"
    except ValueError as error:
        found = f"{path} {error}"
    raise DataError(f"{found}. Expected: {file}. It is part of somlib: install somlib again")


def _download(path: Path, file: File, read: Callable[[BinaryIO], T]) -> T:
    """Write what a mirror delivers to `path`; only checked content gets the name."""
    remedy = f"set SOMLIB_DATA to a folder that holds {file}."
    try:
        with replacing(path) as partial:
            content, result = _fetch(file, read)
            partial.write_bytes(content)
        return result
    except ValueError as error:
        raise MissingError(
            f"{path.name} could not be downloaded; nothing was kept. Tried:{error}\n"
            f"Try again when online, or {remedy}"
        ) from error
    except OSError as error:  # of the disk, not of a mirror
        raise DataError(f"{error.strerror} Or {remedy}") from error


def _fetch(file: File, read: Callable[[BinaryIO], T]) -> tuple[bytes, T]:
    """Return `file` from the first mirror that delivers it, or raise ValueError with reasons.

    Not `pooch.retrieve`: it hashes what it downloads, which differs from mirror to mirror, and
    replaces a file of another hash.
    """
    import requests  # with pooch only here: most loads need no network
    from pooch import HTTPDownloader

    stored = {"Accept-Encoding": "identity"}  # a gzip transfer would be undone on the way
    failures = ""
    for url in file.urls:
        content = BytesIO()
        try:
            with progress_bar(file.size, file.name, unit="B", unit_scale=True) as bar:
                HTTPDownloader(bar, timeout=TIMEOUT, headers=stored)(url, content, None)
            return content.getvalue(), read(content)
        except (requests.RequestException, ValueError) as error:
            failures += f"\n  {url}: {error}"
    raise ValueError(failures)
