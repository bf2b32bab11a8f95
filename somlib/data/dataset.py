"""A data set, and the table of those that `load` knows."""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from somlib import checks
from somlib.data.download import File, find_or_download, read_packaged
from somlib.data.idx import IdxFile, read_idx
from somlib.data.reuters import REUTERS_ROOTS, Samples, read_reuters

SPLITS = ("all", "train", "test")
"""The splits of a data set; `all` is `train` followed by `test`."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples with their labels.

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
    origin : str
        What the samples were read from; tables name it where there is a choice, for
        `"reuters-10k"`.
    """

    name: str
    split: str
    X: NDArray[np.float32]
    y: NDArray[np.int64]
    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    origin: str = ""

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

    @checks.arguments
    def sample(
        self, n: checks.Count, random_state: checks.CountOrZero | np.random.Generator = 0
    ) -> "Dataset":
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
        if n > len(self):
            raise ValueError(f"cannot draw n={n} samples: choose n from 1 to {len(self)}")
        rows = np.random.default_rng(random_state).choice(len(self), n, replace=False)
        rows.sort()
        return replace(self, X=self.X[rows], y=self.y[rows])


def load(name: str, split: str = "all") -> Dataset:
    """Return a data set by its name.

    Parameters
    ----------
    name : {"digits", "mnist", "mnist-sample", "fashion-mnist", "reuters-10k"}
        - ``"digits"``: 1797 images of 8 × 8, embedded in scikit-learn, never downloaded. They are
          the test part of UCI's *Optical Recognition of Handwritten Digits* and have no split of
          their own. Their labels repeat one sequence of up to 130 digits, 14 times over, so the
          file runs sheet by sheet. `train` is the first ten sheets (1287), `test` the last four
          (510): whole sheets, in file order, because UCI splits by writer too and a shuffled split
          would test on hands that were trained on.
        - ``"mnist"``: 70 000 handwritten digits of 28 × 28 (LeCun et al. 1998), `train` the
          official 60 000, `test` the official 10 000.
        - ``"mnist-sample"``: 1000 of MNIST's test images, 100 of each digit, part of the package
          and never downloaded. Those of a digit are spread evenly over the file, whose halves come
          from different writers. There is no `train`.
        - ``"fashion-mnist"``: the same sizes, pictures of clothes (Xiao et al. 2017).
        - ``"reuters-10k"``: 10 000 news stories by 2000 terms in four classes. The DESOM authors'
          file, `reuters/reutersidf10k.npy`, is taken if it is found or can be downloaded. Without
          it, the set is approximated from RCV1-v2 (Lewis et al. 2004) by `reuters_10k`, for which
          the whole corpus is read; `Dataset.origin` says which. There is no official split: `train`
          is the first 7500 stories, `test` the last 2500. The authors' rows are shuffled. Those of
          RCV1 are nearly in order of time, and a shuffled split would test on follow-ups of stories
          that were trained on.
    split : {"all", "train", "test"}, default="all"
        Which part; ``"all"`` is `train` followed by `test`, in file order.

    Returns
    -------
    Dataset
        With `X` in [0, 1]: counts / 16 for the digits, gray values / 255 for the other images. In
        ``"reuters-10k"`` each row has the length √2000 instead, so values go far beyond 1.

    Raises
    ------
    ValueError
        When the name or the split is unknown, or the data set does not have that split.
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
    if split not in source.splits:
        raise ValueError(f"{name!r} has no split {split!r}; choose from {', '.join(source.splits)}")
    X, y, origin = source.read(split)
    return Dataset(name, split, X, y, source.image_shape, source.class_names, origin)


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        close = difflib.get_close_matches(str(value).lower(), choices, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        names = ", ".join(map(repr, choices))
        raise ValueError(f"unknown {what} {value!r}; choose one of {names}.{hint}")


# --- how each kind is read --------------------------------------------------------------------


def _rows(split: str, n_train: int) -> slice:
    """Return where a split lies when `test` follows `n_train` training samples."""
    return {"all": slice(None), "train": slice(n_train), "test": slice(n_train, None)}[split]


def _read_part(read: Callable[[], Samples], n_train: int, split: str) -> Samples:
    """Read everything and return a split of it."""
    rows = _rows(split, n_train)
    X, y, origin = read()
    return X[rows], y[rows], origin


def _read_digits() -> Samples:
    from sklearn.datasets import load_digits  # only here: the import takes longer than the load

    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y.astype(np.int64), "scikit-learn"


def _read_idx_files(
    files: list[IdxFile],
    split: str,
    find: Callable[[File, Callable[[BinaryIO], None]], None] = find_or_download,
) -> Samples:
    """Join what belongs to `split` of training images and labels, test images and labels."""
    chosen = files[_rows(split, 2)]
    y = np.empty(sum(labels.shape[0] for labels in chosen[1::2]), np.int64)
    X = np.empty((len(y), math.prod(chosen[0].shape[1:])), np.float32)
    start = 0
    for images, labels in zip(chosen[::2], chosen[1::2], strict=True):
        rows = slice(start, start + labels.shape[0])
        find(images, partial(read_idx, file=images, out=X[rows]))
        find(labels, partial(read_idx, file=labels, out=y[rows]))
        start = rows.stop
    X /= 255
    return X, y, "the official files"


def _read_sample(split: str) -> Samples:
    """Read the test images of the package."""
    X, y, _ = _read_idx_files(SAMPLE_FILES, "all", read_packaged)
    return X, y, "the package"


# --- the table of sources ---------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """How a data set is read (`split` in, `X`, `y` and origin out) and what it looks like."""

    read: Callable[[str], Samples]
    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    splits: tuple[str, ...] = SPLITS


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
    files = [
        IdxFile(f"{folder}/{name}", shape, digest, tuple(f"{url}/{name}.gz" for url in mirrors))
        for (name, shape), digest in zip(names, sha256, strict=True)
    ]
    return Source(partial(_read_idx_files, files), image_shape, class_names)


DIGITS_TRAIN = 1287
"""Where the eleventh of the fourteen sheets of digits begins; see `load`."""

REUTERS_TRAIN = 7500
"""Where the last quarter of the stories begins; see `load`."""

DIGIT_NAMES = tuple("0123456789")

SAMPLE_FILES = [
    IdxFile(
        "mnist-sample/t10k-images-idx3-ubyte",
        (1000, 28, 28),
        "447cb3f229473ce3d83619167ea5c79a16a99d6e7506a04c840d793cddd23f3a",
    ),
    IdxFile(
        "mnist-sample/t10k-labels-idx1-ubyte",
        (1000,),
        "87675404bcc6945a379f33438e79ddfa890173f52794c31af386dfb063b3760d",
    ),
]
"""Images and labels of the package, in the form of MNIST's files; see `load`."""

SOURCES = {
    "digits": Source(partial(_read_part, _read_digits, DIGITS_TRAIN), (8, 8), DIGIT_NAMES),
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
    "mnist-sample": Source(_read_sample, (28, 28), DIGIT_NAMES, splits=("all", "test")),
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
    "reuters-10k": Source(
        partial(_read_part, read_reuters, REUTERS_TRAIN), (), tuple(REUTERS_ROOTS.values())
    ),
}
"""Every data set that `load` knows; a new one is one more entry."""
