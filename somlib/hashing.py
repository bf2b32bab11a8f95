"""One hash of content for the whole package: of checkpoints, cached results and data sets."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def content_hash(*parts: str | bytes | NDArray[Any] | None) -> str:
    """Return the SHA-256, in hexadecimal digits, of texts, bytes and arrays in this order.

    The type and size of each part count as well, so that equal bytes that are divided otherwise,
    or of another dtype or shape, have another hash. An array's memory layout does not count.

    Examples
    --------
    >>> content_hash("ab", "c") == content_hash("a", "bc")
    False
    >>> x = np.arange(6.0).reshape(2, 3)
    >>> content_hash(x) == content_hash(np.asfortranarray(x)) != content_hash(x.ravel())
    True
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            head = f"{part.dtype.str}{part.shape}"
            content: Any = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
        else:
            content = part.encode() if isinstance(part, str) else part or b""
            head = f"{type(part).__name__} {len(content)}"
        digest.update(f"{head}:".encode())
        digest.update(content)
    return digest.hexdigest()
