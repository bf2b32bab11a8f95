"""Reading IDX files: a header, then unsigned bytes."""

import gzip
import hashlib
import math
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 20
"""Bytes decompressed, hashed and copied at a time: loading needs this much beside the result."""


@dataclass(frozen=True)
class IdxFile:
    """What an official file must be, and where it can be had.

    Attributes
    ----------
    name : str
        Its path below the data folder, without `.gz`.
    shape : tuple of int
        Of the array of unsigned bytes that it holds.
    sha256 : str
        Of its decompressed content.
    urls : tuple of str
        Addresses of the gzipped file, in the order to try them.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str
    urls: tuple[str, ...] = ()

    suffixes: ClassVar[tuple[str, ...]] = ("", ".gz")  # in the order of reading; the last: download

    @property
    def size(self) -> int:
        """The length of the decompressed file: 0, 0, 8, number of axes, their lengths, content."""
        return 4 + 4 * len(self.shape) + math.prod(self.shape)

    def __str__(self) -> str:
        return (
            f"{self.name} (.gz or not) of {self.size} bytes and SHA-256 {self.sha256} "
            "once decompressed"
        )


def read_idx(stream: BinaryIO, file: IdxFile, out: NDArray[Any]) -> None:
    """Fill `out` with the content of an IDX file, gzipped or not, and check it.

    One pass decompresses, hashes and copies. The hash implies the header, so that is not parsed.

    Parameters
    ----------
    stream : binary file
        Open for reading, and able to go back to its start; whether it is gzipped is seen from its
        first bytes.
    file : IdxFile
        What it must be.
    out : ndarray
        Contiguous, with as many elements as the file has; its content is only valid on return.

    Raises
    ------
    ValueError
        When the file is not what it must be; the message says what it is instead.
    OSError
        When it cannot be read.

    Examples
    --------
    >>> import io
    >>> content = bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 7])  # one axis of length 2
    >>> file = IdxFile("pair", (2,), hashlib.sha256(content).hexdigest())
    >>> out = np.empty(2)
    >>> read_idx(io.BytesIO(content), file, out)
    >>> out
    array([5., 7.])
    """
    stream.seek(0)
    zipped = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    content = gzip.GzipFile(fileobj=stream) if zipped else stream
    flat = out.reshape(-1)
    try:
        header = content.read(file.size - out.size)
        digest, done = hashlib.sha256(header), 0
        while chunk := content.read(CHUNK):
            digest.update(chunk)
            part = flat[done : done + len(chunk)]
            part[:] = np.frombuffer(chunk, np.uint8)[: len(part)]
            done += len(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"cannot be decompressed: {error}") from error
    if digest.hexdigest() != file.sha256:
        raise ValueError(
            f"is not the official file: it holds {len(header) + done} bytes of SHA-256 "
            f"{digest.hexdigest()} once decompressed, and begins with {header!r}"
        )
