"""Files that are known by their id in a Git repository."""

import hashlib
from dataclasses import dataclass
from typing import BinaryIO, ClassVar


@dataclass(frozen=True)
class BlobFile:
    """What a file must be, and where it can be had.

    Attributes
    ----------
    name : str
        Its path below the data folder.
    blob : str
        Its Git id, see `git_id`.
    size : int
        About how many bytes it has, for the progress bar until the server says how many.
    urls : tuple of str
        Addresses of the file, in the order to try them.
    """

    name: str
    blob: str
    size: int
    urls: tuple[str, ...] = ()

    suffixes: ClassVar[tuple[str, ...]] = ("",)

    def __str__(self) -> str:
        return f"{self.name} with the Git id {self.blob} (`git hash-object`)"


def git_id(content: bytes) -> str:
    r"""Return the id that Git gives a file of this content, as `git hash-object` prints it.

    It is the SHA-1 of "blob", the number of bytes, a zero byte and the content.

    Examples
    --------
    >>> git_id(b"hello\n")
    'ce013625030ba8dba906f756967f9e9ca394464a'
    """
    digest = hashlib.sha1(b"blob %d\0" % len(content), usedforsecurity=False)
    digest.update(content)
    return digest.hexdigest()


def read_blob(stream: BinaryIO, file: BlobFile) -> bytes:
    """Return the content of an open file, or a ValueError if its id is another one."""
    stream.seek(0)
    content = stream.read()
    if (found := git_id(content)) != file.blob:
        raise ValueError(
            f"is not the official file: it holds {len(content)} bytes with the Git id {found}"
        )
    return content
