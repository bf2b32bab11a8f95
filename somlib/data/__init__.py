"""The data sets: `load` finds or downloads the files, checks them and returns arrays.

Files are searched in the folder that the environment variable SOMLIB_DATA names; when it is not
set, in the project's `data/`, where they are downloaded to when missing. Every load checks the
SHA-256 of the decompressed content (mirrors recompress, so the `.gz` bytes differ): it costs little
beside the gunzip, and no result can come from a file that is not the official one. Reuters is left
to scikit-learn, which keeps it in a form of its own; there the content is counted instead.
"""

import difflib
import gzip
import hashlib
import math
import operator
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from somlib.files import replacing
from somlib.progress import progress_bar

SPLITS = ("all", "train", "test")
"""The splits every data set has; `all` is `train` followed by `test`."""

TIMEOUT = 20.0
"""Seconds a mirror may stay silent before the next one is tried."""

CHUNK = 1 << 20
"""Bytes decompressed, hashed and copied at a time: loading needs this much beside the result."""


class DataError(OSError):
    """A data file is missing, unreadable or not the official one, or no mirror delivers it."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples with their labels.

    The arrays are yours to read; take a copy before writing into them, because `fingerprint`
    is computed once.

    Attributes
    ----------
    name, split : str
        What was asked of `load`.
    X : ndarray of shape (n, d), float32
        The samples, in [0, 1] but for `"reuters-10k"`; see `load`.
    y : ndarray of shape (n,), int64
        The class of each sample, an index into `class_names`.
    image_shape : tuple of two int
        Rows and columns that a row of `X` folds into; empty when samples are not images.
    class_names : tuple of str
        What the classes are called.
    """

    name: str
    split: str
    X: NDArray[np.float32]
    y: NDArray[np.int64]
    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.X)

    def __repr__(self) -> str:
        images = ", images of {} x {}".format(*self.image_shape) if self.image_shape else ""
        return (
            f"Dataset({self.name!r}, split={self.split!r}: {len(self)} samples, "
            f"{self.X.shape[1]} features, {len(self.class_names)} classes{images})"
        )

    @property
    def class_counts(self) -> NDArray[np.intp]:
        """How many samples each class has, in the order of `class_names`."""
        return np.bincount(self.y, minlength=len(self.class_names))

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that stand for the content of `X` and `y`, for cache keys."""
        digest = hashlib.sha256()
        for array in (self.X, self.y):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(array.ravel().data)
        return digest.hexdigest()[:16]

    def sample(self, n: int, random_state: int | np.random.Generator = 0) -> "Dataset":
        """Draw `n` samples at random, without replacement, kept in the order of the file.

        Parameters
        ----------
        n : int
            How many, from 1 to ``len(self)``.
        random_state : int or numpy.random.Generator, default=0
            The same number draws the same samples, so a figure is the same tomorrow.

        Returns
        -------
        Dataset
            The drawn samples, copied.

        Raises
        ------
        ValueError
            When there are not that many samples.

        Examples
        --------
        >>> load("digits").sample(100)
        Dataset('digits', split='all': 100 samples, 64 features, 10 classes, images of 8 x 8)
        """
        n = operator.index(n)
        if not 1 <= n <= len(self):
            raise ValueError(f"cannot draw n={n} samples: choose n from 1 to {len(self)}")
        rows = np.random.default_rng(random_state).choice(len(self), n, replace=False)
        rows.sort()
        return replace(self, X=self.X[rows], y=self.y[rows])


def load(name: str, split: str = "all") -> Dataset:
    """Return a data set by its name.

    Parameters
    ----------
    name : {"digits", "mnist", "fashion-mnist", "reuters-10k"}
        - ``"digits"``: 1797 images of 8 × 8, embedded in scikit-learn, never downloaded. They are
          the test part of UCI's *Optical Recognition of Handwritten Digits* and have no split of
          their own. Their labels repeat one sequence of up to 130 digits, 14 times over, so the
          file runs sheet by sheet. `train` is the first ten sheets (1287), `test` the last four
          (510): whole sheets, in file order, because UCI splits by writer too and a shuffled split
          would test on hands that were trained on.
        - ``"mnist"``: 70 000 handwritten digits of 28 × 28 (LeCun et al. 1998), `train` the
          official 60 000, `test` the official 10 000.
        - ``"fashion-mnist"``: the same sizes, pictures of clothes (Xiao et al. 2017).
        - ``"reuters-10k"``: 10 000 news stories by 2000 terms in four classes, made from RCV1-v2
          (Lewis et al. 2004) by `reuters_10k`. An approximation of the set that papers use, not a
          copy. It has no official split: `train` is the first 7500 stories, `test` the last 2500,
          because the corpus is nearly in order of time, and a shuffled split would test on
          follow-ups of stories that were trained on. Reading it means reading the whole corpus.
    split : {"all", "train", "test"}, default="all"
        Which part; ``"all"`` is `train` followed by `test`, in file order.

    Returns
    -------
    Dataset
        With `X` in [0, 1]: counts / 16 for the digits, grey values / 255 for the other images. In
        ``"reuters-10k"`` each row has the length √2000 instead, so values go far beyond 1.

    Raises
    ------
    ValueError
        When the name or the split is unknown.
    DataError
        When a file is missing, unreadable or not the official one, or cannot be downloaded. The
        message names the file, what was expected, what was found and the remedy.

    Examples
    --------
    >>> ds = load("digits", split="train")
    >>> ds
    Dataset('digits', split='train': 1287 samples, 64 features, 10 classes, images of 8 x 8)
    >>> ds.X.shape, ds.y.shape
    ((1287, 64), (1287,))
    """
    _check_choice("data set", name, tuple(SOURCES))
    _check_choice("split", split, SPLITS)
    source = SOURCES[name]
    X, y = source.read(split)
    return Dataset(name, split, X, y, source.image_shape, source.class_names)


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        close = difflib.get_close_matches(str(value).lower(), choices, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"unknown {what} {value!r}; choose one of {', '.join(map(repr, choices))}.{hint}"
        )


# --- digits -----------------------------------------------------------------------------------

DIGITS_TRAIN = 1287
"""Where the eleventh of the fourteen sheets of digits begins; see `load`."""


def _read_digits(split: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    from sklearn.datasets import load_digits  # only here: the import takes longer than the load

    X, y = load_digits(return_X_y=True)
    rows = _rows(split, DIGITS_TRAIN)
    return (X[rows] / 16).astype(np.float32), y[rows].astype(np.int64)


def _rows(split: str, n_train: int) -> slice:
    """Return where a split lies when `test` follows `n_train` training samples."""
    return {"all": slice(None), "train": slice(n_train), "test": slice(n_train, None)}[split]


# --- IDX files --------------------------------------------------------------------------------


@dataclass(frozen=True)
class IdxFile:
    """What an official file must be: unsigned bytes of `shape`, of one SHA-256."""

    folder: str
    name: str
    shape: tuple[int, ...]
    sha256: str
    mirrors: tuple[str, ...]

    @property
    def header(self) -> bytes:
        """The first bytes: 0, 0, 8 (unsigned bytes), the number of axes, then their lengths."""
        return bytes([0, 0, 8, len(self.shape)]) + np.array(self.shape, ">u4").tobytes()

    @property
    def size(self) -> int:
        """The length of the decompressed file in bytes."""
        return len(self.header) + math.prod(self.shape)

    def __str__(self) -> str:
        return (
            f"{self.folder}/{self.name} (.gz or not) of {self.size} bytes and SHA-256 "
            f"{self.sha256} once decompressed"
        )


def read_idx(path: Path, file: IdxFile, out: NDArray[Any]) -> None:
    """Fill `out` with the content of the IDX file at `path`, gzipped or not, and check it.

    Parameters
    ----------
    path : pathlib.Path
        The file to read; whether it is gzipped is seen from its first bytes.
    file : IdxFile
        What it must be.
    out : ndarray
        Contiguous, with as many elements as the file has; its content is only valid on return.

    Raises
    ------
    ValueError
        When the file is not what it must be; the message says in which way.
    OSError
        When it cannot be read.
    """
    flat, done = out.reshape(-1), 0
    with path.open("rb") as raw:
        zipped = raw.peek(2)[:2] == b"\x1f\x8b"
        stream = gzip.GzipFile(fileobj=raw) if zipped else raw
        try:
            header = stream.read(len(file.header))
            _check_header(header, file)
            digest = hashlib.sha256(header)
            while chunk := stream.read(CHUNK):
                if done + len(chunk) > flat.size:
                    raise ValueError(f"is too long: it goes on after {file.size} bytes")
                flat[done : done + len(chunk)] = np.frombuffer(chunk, np.uint8)
                digest.update(chunk)
                done += len(chunk)
        except EOFError:
            cut = f"is truncated: the gzip stream breaks off after {raw.tell()} bytes"
            raise ValueError(cut) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"is corrupted: it does not decompress ({error})") from None
    if done < flat.size:
        raise ValueError(f"is truncated: it ends after {len(header) + done} bytes")
    if digest.hexdigest() != file.sha256:
        raise ValueError(f"is corrupted: its content has SHA-256 {digest.hexdigest()}")


def _check_header(header: bytes, file: IdxFile) -> None:
    if not file.header.startswith(header[:4]):
        raise ValueError(
            "is not the IDX file it should be: "
            f"it begins with {header[:4]!r} instead of {file.header[:4]!r}"
        )
    if len(header) < len(file.header):
        raise ValueError(f"is truncated: it ends after {len(header)} bytes")
    found = tuple(np.frombuffer(header[4:], ">u4").tolist())
    if found != file.shape:
        raise ValueError(f"has the wrong length: its header says {found} instead of {file.shape}")


def _read_idx_files(
    parts: dict[str, tuple[IdxFile, IdxFile]], split: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Join the (images, labels) of each part that belongs to `split`."""
    chosen = [files for part, files in parts.items() if split in (part, "all")]
    n_samples = sum(labels.shape[0] for _, labels in chosen)
    X = np.empty((n_samples, math.prod(chosen[0][0].shape[1:])), np.float32)
    y = np.empty(n_samples, np.int64)
    start = 0
    for images, labels in chosen:
        rows = slice(start, start + labels.shape[0])
        _find_or_download(images, X[rows])
        _find_or_download(labels, y[rows])
        start = rows.stop
    X /= 255
    return X, y


# --- Reuters ----------------------------------------------------------------------------------

REUTERS_ROOTS = {
    "CCAT": "Corporate/industrial",
    "GCAT": "Government/social",
    "MCAT": "Markets",
    "ECAT": "Economics",
}
"""The four topics above all others, in the order of their labels."""

REUTERS_10K_COUNTS = (4312, 2403, 2471, 814)
"""The `Dataset.class_counts` of the original Reuters-10k, to set beside those of ours."""

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


def _read_reuters(
    split: str, content: str = RCV1, **sizes: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    corpus = _fetch_rcv1(content)
    X, y = reuters_10k(corpus.data, corpus.target, corpus.target_names, **sizes)
    rows = _rows(split, len(y) * 3 // 4)
    return X[rows], y[rows]


def _fetch_rcv1(content: str) -> Any:
    from sklearn.datasets import fetch_rcv1

    folder, given = _data_folder()
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
    return corpus


# --- finding and downloading ------------------------------------------------------------------


def _default_folder() -> Path:
    """Return `data/` of the project when running from its checkout, else of the current folder."""
    root = Path(__file__).resolve().parents[1]
    return (root if (root / "pyproject.toml").is_file() else Path.cwd()) / "data"


def _data_folder() -> tuple[Path, str]:
    """Return where the data lie, and what SOMLIB_DATA says; it forbids downloads unless empty."""
    given = os.environ.get("SOMLIB_DATA", "")
    return (Path(given).expanduser() if given else _default_folder()), given


def _find_or_download(file: IdxFile, out: NDArray[Any]) -> None:
    top, given = _data_folder()
    folder = top / file.folder
    for path in (folder / file.name, folder / f"{file.name}.gz"):
        try:
            return read_idx(path, file, out)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            reason, remedy = f"cannot be read: {error.strerror or error}", "Make it readable"
        except ValueError as error:
            reason, remedy = str(error), "Replace it by the original"
        otherwise = "unset SOMLIB_DATA" if given else "delete it"
        raise DataError(
            f"{path} {reason}. Expected: {file}. "
            f"{remedy}, or {otherwise} to have it downloaded; it was left as it is."
        )
    if given:
        raise DataError(
            f"{folder / file.name} is missing, with and without .gz, and SOMLIB_DATA={given} "
            f"rules out a download. Expected: {file}. "
            "Put the file there, or unset SOMLIB_DATA to have it downloaded."
        )
    _download(folder / f"{file.name}.gz", file, out)


def _download(path: Path, file: IdxFile, out: NDArray[Any]) -> None:
    """Fetch `file` from the first mirror that delivers it; only checked content gets the name."""
    failures = ""
    for mirror in file.mirrors:
        url = f"{mirror}/{file.name}.gz"
        try:
            with replacing(path) as partial_path:
                _fetch(url, partial_path, file)
                read_idx(partial_path, file, out)
            return
        except ValueError as error:
            failures += f"\n  {url} {error}"
        except OSError as error:  # the disk, not the mirror: the next one would fare no better
            raise DataError(
                f"{error.strerror or error} Or set SOMLIB_DATA to a folder that holds {file}."
            ) from error
    raise DataError(
        f"{path.name} could not be downloaded; nothing was kept. Tried:{failures}\n"
        f"Try again when online, or set SOMLIB_DATA to a folder that holds {file}."
    )


def _fetch(url: str, path: Path, file: IdxFile) -> None:
    """Write what `url` answers to `path`; raise ValueError when the mirror fails."""
    import requests  # with pooch only here: most loads need no network
    from pooch import HTTPDownloader

    # "identity" keeps the file as it is stored: a gzip transfer would be undone on the way.
    options = {"timeout": TIMEOUT, "headers": {"Accept-Encoding": "identity"}}
    description = f"{file.folder}/{file.name}"
    with progress_bar(file.size, description, unit="B", unit_scale=True) as bar:
        try:
            HTTPDownloader(progressbar=bar, **options)(url, path, None)
        except requests.Timeout:
            raise ValueError(f"did not answer within {TIMEOUT:g} s") from None
        except requests.RequestException as error:
            cause = error.args[0] if error.args else error
            raise ValueError(f"failed: {getattr(cause, 'reason', cause)}") from error


# --- the catalogue ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """How a data set is read (`split` in, `X` and `y` out) and what it looks like."""

    read: Callable[[str], tuple[NDArray[np.float32], NDArray[np.int64]]]
    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]


def idx_source(
    folder: str,
    mirrors: tuple[str, ...],
    sha256: tuple[str, str, str, str],
    class_names: tuple[str, ...],
    image_shape: tuple[int, int] = (28, 28),
    n_train: int = 60_000,
    n_test: int = 10_000,
) -> Source:
    """Describe a data set in MNIST's four files.

    Parameters
    ----------
    folder : str
        Where the files lie below the data folder.
    mirrors : tuple of str
        Addresses of folders that hold the four files, gzipped, in the order to try them.
    sha256 : tuple of four str
        Of the decompressed training images, training labels, test images and test labels.
    class_names : tuple of str
        What the labels 0, 1, ... are called.
    image_shape, n_train, n_test : default=(28, 28), 60 000, 10 000
        The sizes; the defaults are MNIST's.
    """
    names = (
        ("train-images-idx3-ubyte", (n_train, *image_shape)),
        ("train-labels-idx1-ubyte", (n_train,)),
        ("t10k-images-idx3-ubyte", (n_test, *image_shape)),
        ("t10k-labels-idx1-ubyte", (n_test,)),
    )
    files = [IdxFile(folder, *name, h, mirrors) for name, h in zip(names, sha256, strict=True)]
    parts = {"train": (files[0], files[1]), "test": (files[2], files[3])}
    return Source(partial(_read_idx_files, parts), image_shape, class_names)


DIGIT_NAMES = tuple("0123456789")

SOURCES = {
    "digits": Source(_read_digits, (8, 8), DIGIT_NAMES),
    "mnist": idx_source(
        "mnist",
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            "https://storage.googleapis.com/cvdf-datasets/mnist",
        ),
        sha256=(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        class_names=DIGIT_NAMES,
    ),
    "fashion-mnist": idx_source(
        "fashion-mnist",
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        ),
        sha256=(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        class_names=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
    ),
    "reuters-10k": Source(_read_reuters, (), tuple(REUTERS_ROOTS.values())),
}
"""Every data set that `load` knows; a new one is one more entry."""
