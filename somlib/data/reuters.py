"""Reuters-10k: the file of the DESOM authors or, without it, made from scikit-learn's RCV1."""

import math
import warnings
from collections.abc import Iterable
from functools import partial
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from somlib.data.blob import BlobFile, read_blob
from somlib.data.download import DataError, MissingError, data_folder, find_or_download
from somlib.data.pickled import read_arrays

Samples = tuple[NDArray[np.float32], NDArray[np.int64], str]
"""X, y and the `Dataset.origin`."""

REUTERS_ROOTS = {
    "CCAT": "Corporate/industrial",
    "GCAT": "Government/social",
    "MCAT": "Markets",
    "ECAT": "Economics",
}
"""The four topics above all others, in the order of their labels."""

REUTERS_10K_COUNTS = (4312, 2403, 2471, 814)
"""The `Dataset.class_counts` of the original Reuters-10k, to set beside those of ours."""

AUTHORS_FILE = BlobFile(
    "reuters/reutersidf10k.npy",
    "196554264e38e8a37d7a4271f768181b29b26e6c",
    80_000_000,
    (
        "https://raw.githubusercontent.com/FlorentF9/DESOM/master/data/reuters/reutersidf10k.npy",
        "https://github.com/FlorentF9/DESOM/raw/master/data/reuters/reutersidf10k.npy",
    ),
)
"""The file that the released DESOM code reads."""

RCV1 = "804414 documents, 47236 terms, 60915113 weights, 103 topics, 2606875 labels"
"""What RCV1-v2 holds, by the counts in scikit-learn's own test of `fetch_rcv1`."""


def reuters_10k(
    data: Any,
    target: Any,
    target_names: Iterable[str],
    n_train: int = 23_149,
    n_docs: int = 10_000,
    n_terms: int = 2_000,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Approximate Reuters-10k out of RCV1: the first documents with one root, their chief terms.

    The original (J. Xie et al., *Unsupervised deep embedding for clustering analysis*, ICML 2016,
    in the form that the code released with its successors gives it) keeps the words of the largest
    counts, weights them by sublinear tf-idf and shuffles the rows. RCV1-v2's vectors have no
    counts, only weights of another tf-idf, and here the rows stay in the order of the corpus.

    Parameters
    ----------
    data : sparse array of shape (n, d)
        The weight of each term in each document.
    target : sparse array of shape (n, t)
        1 where a document belongs to a topic.
    target_names : t str
        The topics; `REUTERS_ROOTS` are among them.
    n_train : int, default=23 149
        Documents passed over, because the original begins after RCV1's own training part.
    n_docs, n_terms : int, default=10 000 and 2000
        How many of either to keep; the original's.

    Returns
    -------
    X : ndarray of shape (n_docs, n_terms)
        Rows of length √n_terms, so that a row's mean square is 1; a document without any of the
        terms is zero. The terms are those of the largest total weight over all documents with one
        root, in the order of the corpus.
    y : ndarray of shape (n_docs,)
        The document's root, an index into `REUTERS_ROOTS`.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> weights = csr_array([[0.1, 0.3, 0.4], [0.1, 0.0, 0.2], [0.9, 0.0, 0.0]])
    >>> topics = csr_array([[1, 0, 0, 0], [0, 0, 1, 0], [1, 1, 0, 0]])  # the last has two roots
    >>> X, y = reuters_10k(weights, topics, REUTERS_ROOTS, n_train=0, n_docs=2, n_terms=2)
    >>> X.astype(float).round(2).tolist(), y.tolist()
    ([[0.85, 1.13], [0.0, 1.41]], [0, 2])
    """
    from sklearn.preprocessing import normalize

    names = list(target_names)
    roots = target[:, [names.index(root) for root in REUTERS_ROOTS]].toarray()
    single = roots.sum(axis=1) == 1
    docs = n_train + np.flatnonzero(single[n_train:])[:n_docs]
    total = data.T @ single
    terms = np.sort(np.argsort(-total, kind="stable")[:n_terms])
    X = normalize(data[docs][:, terms]).toarray() * math.sqrt(n_terms)
    return X.astype(np.float32), roots[docs].argmax(axis=1).astype(np.int64)


def read_reuters(file: BlobFile = AUTHORS_FILE, content: str = RCV1, **sizes: int) -> Samples:
    """Return the samples of the authors' file or, if it cannot be had, `read_rcv1`.

    Parameters
    ----------
    file : BlobFile
        The authors' file.
    content, **sizes
        Passed on to `read_rcv1`.

    Raises
    ------
    DataError
        When the authors' file is another one, or neither can be had.
    """
    try:
        X, y = find_or_download(file, partial(read_authors, file=file))
        return X, y, f"the DESOM authors' {file.name.rpartition('/')[2]}"
    except MissingError as error:
        missing = error
    try:
        X, y = read_rcv1(content, **sizes)
    except DataError as error:
        raise DataError(f"{missing}\nOr, as an approximation: {error}") from error
    if not data_folder()[1]:  # it was looked for on the net
        warnings.warn(f"Reuters-10k is approximated from RCV1: {missing}", stacklevel=2)
    return X, y, "approximated from RCV1-v2"


def read_authors(
    stream: BinaryIO, file: BlobFile = AUTHORS_FILE
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return X and y of the authors' file, a pickle of which only arrays are read.

    Raises
    ------
    ValueError
        When its id is another one, or it holds anything but the arrays `data` and `label`. The id
        is checked before any of it is unpickled.
    """
    content = read_blob(stream, file)
    try:
        arrays = read_arrays(content)
        X, y = arrays["data"], arrays["label"]
        X = X.reshape(len(X), -1)
        y = y.reshape(len(X))
    except (ValueError, KeyError) as error:
        raise ValueError(f"holds no samples and labels: {error}") from error
    return X.astype(np.float32), y.astype(np.int64)


def read_rcv1(content: str = RCV1, **sizes: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return `reuters_10k` of the corpus that scikit-learn keeps, or DataError.

    Parameters
    ----------
    content : str
        What the corpus must hold.
    **sizes
        Passed on to `reuters_10k`.
    """
    from sklearn.datasets import fetch_rcv1

    folder, given = data_folder()
    cache = folder / "reuters" / "RCV1"
    try:
        if given:
            cache.stat()  # where it is missing, scikit-learn would make folders before it fails
        corpus = fetch_rcv1(data_home=cache.parent, download_if_missing=not given)
        X, Y = corpus.data, corpus.target
        found = (
            f"{X.shape[0]} documents, {X.shape[1]} terms, {X.nnz} weights, "
            f"{Y.shape[1]} topics, {Y.nnz} labels"
        )
        if found != content:
            raise ValueError(f"it holds {found}")
    except MemoryError:
        raise  # the files are not to blame
    except Exception as error:  # unpickling a damaged file may raise anything
        remedy = (
            "Put it there, or unset SOMLIB_DATA to have it downloaded; nothing was changed."
            if given
            else "Try again when online, delete the folder when a file in it is damaged, "
            "or set SOMLIB_DATA to a folder that holds reuters/RCV1."
        )
        raise DataError(
            f"{cache} gives no corpus: {type(error).__name__}: {error}. "
            f"Expected: RCV1-v2 as scikit-learn's fetch_rcv1 keeps it: {content}. {remedy}"
        ) from error
    return reuters_10k(X, Y, corpus.target_names, **sizes)
