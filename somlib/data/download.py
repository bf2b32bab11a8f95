"""Finding the files of a data set, and downloading what is missing."""

import os
from io import BytesIO
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from somlib.data.idx import IdxFile, read_idx
from somlib.files import replacing
from somlib.progress import progress_bar

TIMEOUT = 20.0
"""Seconds a mirror may stay silent before the next one is tried."""


class DataError(OSError):
    """A data file is missing, unreadable or not the official one, or no mirror delivers it."""


def default_folder() -> Path:
    """Return `data/` of the project when running from its checkout, else of the current folder."""
    root = Path(__file__).resolve().parents[2]
    return (root if (root / "pyproject.toml").is_file() else Path.cwd()) / "data"


def data_folder() -> tuple[Path, bool]:
    """Return where the data lie, and whether SOMLIB_DATA says so, which forbids downloads."""
    given = os.environ.get("SOMLIB_DATA", "")
    return (Path(given).expanduser() if given else default_folder()), bool(given)


def find_or_download(file: IdxFile, out: NDArray[Any]) -> None:
    """Fill `out` with the content of `file`, which is downloaded where it is missing.

    Raises
    ------
    DataError
        When the file is missing, unreadable or not the official one, or cannot be downloaded.
    """
    folder, given = data_folder()
    plain, zipped = folder / file.name, folder / f"{file.name}.gz"
    for path in (plain, zipped):
        try:
            with path.open("rb") as stream:
                return read_idx(stream, file, out)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            found = f"{path} cannot be read: {error.strerror or error}"
        except ValueError as error:
            found = f"{path} {error}"
        break
    else:
        if not given:
            return _download(zipped, file, out)
        found = f"{plain} is missing, with and without .gz"
    raise DataError(
        f"{found}. Expected: {file}. Put the official file there, readable, or "
        f"{'unset SOMLIB_DATA' if given else 'delete it'} to have it downloaded; "
        "nothing was changed."
    )


def _download(path: Path, file: IdxFile, out: NDArray[Any]) -> None:
    """Write what a mirror delivers to `path`; only checked content gets the name."""
    remedy = f"set SOMLIB_DATA to a folder that holds {file}."
    try:
        with replacing(path) as partial:
            partial.write_bytes(_fetch(file, out))
    except ValueError as error:
        raise DataError(
            f"{path.name} could not be downloaded; nothing was kept. Tried:{error}\n"
            f"Try again when online, or {remedy}"
        ) from error
    except OSError as error:  # of the disk, not of a mirror
        raise DataError(f"{error.strerror} Or {remedy}") from error


def _fetch(file: IdxFile, out: NDArray[Any]) -> bytes:
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
            read_idx(content, file, out)
            return content.getvalue()
        except (requests.RequestException, ValueError) as error:
            failures += f"\n  {url}: {error}"
    raise ValueError(failures)
