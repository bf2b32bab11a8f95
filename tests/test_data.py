"""The loader gives the right arrays, or one clear error, whatever lies on the disk or the net."""

import errno
import gzip
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from urllib.error import URLError

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_array
from sklearn.datasets import load_digits
from sklearn.utils import Bunch

from somlib import data
from somlib.data import blob, dataset, download, idx, reuters
from somlib.data.dataset import _read_part, idx_source
from somlib.files import PARTIAL_PREFIX

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
SIZES = {"image_shape": (4, 3), "n_train": 5, "n_test": 3}


def idx_bytes(array):
    """The IDX form of an array of unsigned bytes, written apart from the loader's reader."""
    axes = b"".join(length.to_bytes(4, "big") for length in array.shape)
    return b"\0\0\x08" + bytes([array.ndim]) + axes + array.tobytes()


class Tiny:
    """Five training and three test images of 4 × 3, known to `load` as "tiny"."""

    def __init__(self, folder):
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (8, 4, 3), np.uint8)
        self.labels = rng.integers(0, 10, 8, np.uint8)
        parts = (self.images[:5], self.labels[:5], self.images[5:], self.labels[5:])
        self.content = dict(zip(FILES, map(idx_bytes, parts), strict=True))
        self.hashes = tuple(hashlib.sha256(c).hexdigest() for c in self.content.values())
        self.folder = folder / "tiny"

    def source(self, *mirrors):
        return idx_source("tiny", mirrors, self.hashes, tuple("0123456789"), **SIZES)

    def write(self, pack=gzip.compress, suffix=".gz"):
        self.folder.mkdir(parents=True)
        for name, content in self.content.items():
            (self.folder / (name + suffix)).write_bytes(pack(content))

    def assert_equals(self, ds, rows=slice(None)):
        np.testing.assert_array_equal(
            ds.X, self.images[rows].reshape(-1, 12) / np.float32(255), strict=True
        )
        np.testing.assert_array_equal(ds.y, self.labels[rows].astype(np.int64), strict=True)


def refusal(name="tiny"):
    """Return what `load` says when it refuses."""
    with pytest.raises(data.DataError) as caught:
        data.load(name)
    return str(caught.value)


def zipped(names):
    return sorted(f"{name}.gz" for name in names)


def left(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Tiny files in a folder that SOMLIB_DATA names."""
    tiny = Tiny(tmp_path)
    tiny.write()
    monkeypatch.setitem(data.SOURCES, "tiny", tiny.source())
    monkeypatch.setenv("SOMLIB_DATA", str(tmp_path))
    return tiny


@pytest.fixture
def absent(tmp_path, monkeypatch):
    """Tiny files that are nowhere yet; `absent.offer(*mirrors)` says where to download them."""
    tiny = Tiny(tmp_path / "data")
    tiny.offer = lambda *mirrors: monkeypatch.setitem(data.SOURCES, "tiny", tiny.source(*mirrors))
    monkeypatch.delenv("SOMLIB_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "default_folder", lambda: tmp_path / "data")
    return tiny


class Server(ThreadingHTTPServer):
    """A mirror on loopback; the first part of the path says how it behaves."""

    daemon_threads = False  # so that closing waits for every answer

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = {f"{name}.gz": gzip.compress(c) for name, c in content.items()}
        self.requested = []
        self.stalled, self.released = threading.Event(), threading.Event()
        self.both = threading.Barrier(2, timeout=60)

    def url(self, behavior):
        return f"http://127.0.0.1:{self.server_port}/{behavior}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        _, behavior, name = self.path.split("/")
        self.server.requested.append((behavior, name))
        whole = self.server.content[name]
        body, length = whole, len(whole)
        if behavior == "together":
            self.server.both.wait()
        elif behavior == "silent":
            self.server.released.wait(60)
            return
        elif behavior in ("breaks-off", "stalls"):
            body = whole[: length // 2]
        elif behavior == "truncates":
            body, length = whole[: length // 2], length // 2
        elif behavior == "wrong":
            body = gzip.compress(gzip.decompress(whole)[:-1] + b"?")
            length = len(body)
        elif behavior == "page":
            body, length = b"<html>Please log in</html>", 26
        elif behavior == "unpacked":
            body = gzip.decompress(whole)
            length = len(body)
        self.send_response(404 if behavior == "lost" else 200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)
        if behavior == "stalls":
            self.wfile.flush()
            self.server.stalled.set()
            self.server.released.wait(60)


@pytest.fixture
def server(absent):
    server = Server(absent.content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def dead_url():
    """An address that refuses connections for as long as the test runs."""
    with socket.socket() as taken:  # bound but not listening: no other process gets the port
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


# --- load and Dataset -------------------------------------------------------------------------


def test_digits_are_scikit_learns_own_scaled_to_one():
    ds = data.load("digits")
    X, y = load_digits(return_X_y=True)
    np.testing.assert_array_equal(ds.X * 16, X)
    np.testing.assert_array_equal(ds.y, y)
    assert (ds.X.dtype, ds.y.dtype, ds.X.max()) == (np.float32, np.int64, 1.0)
    assert (ds.image_shape, ds.class_names) == ((8, 8), tuple("0123456789"))
    assert (ds.name, ds.split, len(ds)) == ("digits", "all", 1797)


def test_digits_split_joins_to_all_and_falls_between_two_sheets():
    whole, train, test = (data.load("digits", split=s) for s in data.SPLITS)
    np.testing.assert_array_equal(whole.X, np.concatenate([train.X, test.X]))
    np.testing.assert_array_equal(whole.y, np.concatenate([train.y, test.y]))
    labels = "".join(map(str, whole.y))
    opening = "0123456789" * 3 + "0955650989841773"  # every sheet but one begins so
    assert labels.startswith(opening)
    assert "".join(map(str, test.y)).startswith(opening)
    sheets = [part.count("0955650989841773") for part in (labels[:1287], labels[1287:])]
    assert sheets == [10, 4]
    for part in (train, test):
        assert np.bincount(part.y).min() >= 0.9 * len(part) / 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("minst",), r"unknown data set 'minst'; choose one of 'digits', 'mnist'.*mean 'mnist'\?"),
        (("Fashion_MNIST",), r"mean 'fashion-mnist'\?"),
        (
            ("cifar",),
            r"unknown data set 'cifar'; choose one of 'digits', .*'mnist', .*'reuters-10k'\.$",
        ),
        ((3,), "unknown data set 3"),
        (("digits", "tset"), r"unknown split 'tset'; .* 'all', 'train', 'test'\. .*mean 'test'\?"),
        (("digits", None), "unknown split None"),
    ],
)
def test_unknown_names_are_refused_with_the_choices(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.load(*arguments)


def test_repr_says_what_one_wants_to_know():
    ds = data.load("digits")
    assert repr(ds) == (
        "Dataset('digits', split='all': 1797 samples, 64 features, 10 classes, images of 8 x 8)"
    )
    words = data.Dataset("words", "all", ds.X, ds.y, None, ds.class_names)
    assert repr(words).endswith("10 classes)")


def test_class_counts_include_classes_that_are_not_there():
    y = np.array([2, 0, 2], np.int64)
    ds = data.Dataset("words", "all", np.zeros((3, 1), np.float32), y, (), tuple("abcd"))
    assert ds.class_counts.tolist() == [1, 0, 2, 0]
    assert data.load("digits").class_counts.sum() == 1797


def test_a_dataset_is_frozen():
    with pytest.raises(AttributeError):
        data.load("digits").X = None


@given(n=st.integers(1, 1797), seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_sample_draws_n_different_rows_with_their_labels_in_file_order(n, seed):
    ds = data.load("digits")
    numbered = data.Dataset(
        "n", "all", np.arange(1797.0, dtype=np.float32)[:, None], ds.y, None, ()
    )
    drawn = numbered.sample(n, random_state=seed)
    rows = drawn.X[:, 0].astype(int)
    assert len(drawn) == n
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(drawn.y, ds.y[rows])
    same = numbered.sample(n, random_state=np.random.default_rng(seed))
    np.testing.assert_array_equal(drawn.X, same.X)


def test_sample_is_uniform_and_leaves_the_global_generator_alone():
    ds = data.load("digits").sample(100)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    counts = np.zeros(100)
    ds = data.Dataset("n", "all", np.arange(100.0, dtype=np.float32)[:, None], ds.y, None, ())
    for seed in range(400):
        counts[ds.sample(25, random_state=seed).X[:, 0].astype(int)] += 1
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    # Binomial(400, 1/4): mean 100, standard deviation 8.7; five of them on either side.
    assert abs(counts - 100).max() < 5 * 8.7


def test_sample_of_everything_is_everything():
    ds = data.load("digits")
    drawn = ds.sample(len(ds))
    np.testing.assert_array_equal(drawn.X, ds.X)
    np.testing.assert_array_equal(drawn.y, ds.y)


@pytest.mark.parametrize("n", [0, -1, 1798])
def test_sample_refuses_more_than_there_is(n):
    with pytest.raises(
        ValueError,
        match=f"n={n} (must be a whole number of at least 1|samples: choose n from 1 to 1797)",
    ):
        data.load("digits").sample(n)


# --- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("split", "rows"),
    [("all", slice(None)), ("train", slice(5)), ("test", slice(5, None))],
)
def test_gzipped_files_are_read(tiny, split, rows):
    ds = data.load("tiny", split=split)
    tiny.assert_equals(ds, rows)
    assert (ds.split, ds.image_shape) == (split, (4, 3))


def test_plain_files_are_read_and_a_mixture_too(tiny):
    for name in FILES:
        (tiny.folder / f"{name}.gz").unlink()
        (tiny.folder / name).write_bytes(tiny.content[name])
        tiny.assert_equals(data.load("tiny"))


def test_the_plain_file_is_preferred(tiny):
    (tiny.folder / FILES[0]).write_bytes(tiny.content[FILES[0]])
    (tiny.folder / f"{FILES[0]}.gz").write_bytes(b"not looked at")
    tiny.assert_equals(data.load("tiny"))


@pytest.mark.parametrize("environment", [{}, {"SOMLIB_DATA": ""}], ids=["not set", "empty"])
def test_without_somlib_data_the_files_come_from_the_default_folder(
    absent, monkeypatch, environment
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    absent.offer()
    absent.write()
    absent.assert_equals(data.load("tiny"))


def test_somlib_data_may_begin_with_a_tilde(tiny, monkeypatch):
    monkeypatch.setenv("HOME", str(tiny.folder.parent))
    monkeypatch.setenv("SOMLIB_DATA", "~")
    tiny.assert_equals(data.load("tiny"))


def test_the_default_folder_is_the_checkouts_or_the_current_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert download.default_folder() == Path(__file__).parents[1] / "data"
    installed = tmp_path / "site-packages" / "somlib" / "data" / "download.py"
    monkeypatch.setattr(download, "__file__", str(installed))
    assert download.default_folder() == tmp_path / "data"


BAD_FILES = {
    "empty": lambda c: b"",
    "header cut": lambda c: c[:10],
    "plain cut": lambda c: c[:-1],
    "gzip of a cut file": lambda c: gzip.compress(c[:-9]),
    "too long": lambda c: c + b"\0",
    "gzip too long": lambda c: gzip.compress(c + b"\0" * 9),
    "bit flipped": lambda c: c[:20] + bytes([c[20] ^ 1]) + c[21:],
    "web page": lambda c: b"<html>Not found</html>",
    "labels for images": lambda c: b"\0\0\x08\x01" + c[4:],
    "test for training": lambda c: c[:7] + b"\3" + c[8:],
}
NOT_GZIP = {
    "gzip cut": (lambda c: gzip.compress(c)[:40], "Compressed file ended before the end"),
    "not gzip inside": (lambda c: b"\x1f\x8b" + c, "Unknown compression method"),
    "gzip's own check": (lambda c: gzip.compress(c)[:-8] + b"\0" * 8, "CRC check failed"),
    "deflate broken": (lambda c: gzip.compress(c)[:10] + b"\xff" * 60, "Error -3 while decomp"),
}
"""Each way a file can be bad: its bytes from the good content, and why it does not decompress."""


@pytest.mark.parametrize("case", [*BAD_FILES, *NOT_GZIP])
def test_a_bad_file_is_refused_by_name_and_left_alone(tiny, case):
    good = tiny.content[FILES[0]]
    path = tiny.folder / f"{FILES[0]}.gz"
    if case in BAD_FILES:
        spoilt = BAD_FILES[case](good)
        content = gzip.decompress(spoilt) if spoilt[:2] == b"\x1f\x8b" else spoilt
        reason = (
            f"is not the official file: it holds {len(content)} bytes of SHA-256 "
            f"{hashlib.sha256(content).hexdigest()} once decompressed, "
            f"and begins with {content[:16]!r}."
        )
    else:
        spoil, reason = NOT_GZIP[case]
        spoilt, reason = spoil(good), f"cannot be decompressed: {reason}"
    path.write_bytes(spoilt)
    message = refusal()
    assert message.startswith(f"{path} {reason}")
    assert f"Expected: tiny/{FILES[0]} (.gz or not) of 76 bytes and SHA-256 {tiny.hashes[0]}" in (
        message
    )
    remedy = "Put the official file there, readable, or unset SOMLIB_DATA to have it downloaded"
    assert message.endswith(f"{remedy}; nothing was changed.")
    assert path.read_bytes() == spoilt
    tiny.assert_equals(data.load("tiny", split="test"), slice(5, None))  # the other files are fine


def test_a_bad_file_in_the_default_folder_says_to_delete_it(absent, server):
    absent.offer(server.url("good"))
    absent.write()
    path = absent.folder / f"{FILES[1]}.gz"
    path.write_bytes(b"bad")
    assert "or delete it to have it downloaded" in refusal()
    assert (path.read_bytes(), server.requested) == (b"bad", [])
    path.unlink()
    absent.assert_equals(data.load("tiny"))


@pytest.mark.parametrize("folder", ["", "no-such-folder"])
def test_a_missing_file_is_named_and_never_downloaded_past_somlib_data(
    absent, server, tmp_path, monkeypatch, folder
):
    absent.offer(server.url("good"))
    given = tmp_path / "elsewhere" / folder
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("SOMLIB_DATA", str(given))
    message = refusal()
    assert message.startswith(f"{given / 'tiny' / FILES[0]} is missing, with and without .gz")
    assert absent.hashes[0] in message
    assert "Put the official file there, readable, or unset SOMLIB_DATA to have it" in message
    assert server.requested == []


def test_somlib_data_that_is_a_file_counts_as_missing(tiny, monkeypatch):
    monkeypatch.setenv("SOMLIB_DATA", str(tiny.folder / f"{FILES[0]}.gz"))
    assert "is missing" in refusal()


def test_a_file_without_read_permission_says_so(tiny):
    path = tiny.folder / f"{FILES[0]}.gz"
    path.chmod(0)
    root = os.geteuid() == 0
    if root:  # root may read everything: act as a user without privileges
        os.seteuid(65534)
    try:
        message = refusal()
    finally:
        if root:
            os.seteuid(0)
    assert re.search("cannot be read: Permission denied. Expected: .* there, readable, or", message)


def test_a_folder_in_the_place_of_a_file_cannot_be_read(tiny):
    (tiny.folder / FILES[0]).mkdir()
    assert "cannot be read: Is a directory" in refusal()


bytes_arrays = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=6))


def read_back(file_bytes, array):
    """Give `file_bytes` to the reader of a file that must hold `array`."""
    sha256 = hashlib.sha256(idx_bytes(array)).hexdigest()
    file = idx.IdxFile("any", array.shape, sha256)
    assert file.size == len(idx_bytes(array))
    out = np.full(array.shape, -1.0, np.float32)
    idx.read_idx(BytesIO(file_bytes), file, out)
    return out


@given(array=bytes_arrays, pack=st.sampled_from([bytes, gzip.compress]))
@settings(deadline=None)
def test_what_is_written_is_read(array, pack):
    np.testing.assert_array_equal(read_back(pack(idx_bytes(array)), array), array)


@given(array=bytes_arrays, chunk=st.integers(1, 40))
@settings(deadline=None)
def test_reading_in_chunks_changes_nothing(array, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(idx, "CHUNK", chunk)
        np.testing.assert_array_equal(read_back(gzip.compress(idx_bytes(array)), array), array)


@given(array=bytes_arrays, pack=st.sampled_from([bytes, gzip.compress]), draw=st.data())
@settings(deadline=None)
def test_a_damaged_file_never_gives_other_content(array, pack, draw):
    good = pack(idx_bytes(array))
    position = draw.draw(st.integers(0, len(good) - 1))
    flip = draw.draw(st.integers(1, 255))
    flipped = good[:position] + bytes([good[position] ^ flip]) + good[position + 1 :]
    with pytest.raises(ValueError, match=r"cannot be decompressed|is not the official file"):
        read_back(good[:position], array)
    try:
        out = read_back(flipped, array)
    except ValueError:
        return
    assert pack is gzip.compress  # only gzip has bytes that do not matter, such as the time
    np.testing.assert_array_equal(out, array)


# --- Reuters ----------------------------------------------------------------------------------

REUTERS_SIZES = {"n_train": 60, "n_docs": 100, "n_terms": 12}


def stand_in(n_docs=400, n_terms=30, seed=0):
    """A small corpus of RCV1's form: 103 topics in alphabetical order, none to three roots each.

    Weights are whole numbers, so their sums are exact and many terms tie.
    """
    rng = np.random.default_rng(seed)
    names = np.array(sorted([*reuters.REUTERS_ROOTS, *(f"M{i:03}" for i in range(99))]), object)
    weights = rng.poisson(0.15, (n_docs, n_terms)).astype(float)
    topics = (rng.random((n_docs, 103)) < 0.02).astype(np.uint8)
    roots = [list(names).index(root) for root in reuters.REUTERS_ROOTS]
    topics[:, roots] = rng.random((n_docs, 4)) < [0.4, 0.3, 0.3, 0.1]
    return Bunch(data=csr_array(weights), target=csr_array(topics), target_names=names)


def literal_reuters(weights, topics, names, n_train, n_docs, n_terms):
    """The recipe document by document; RCV1's order of topics is not that of the labels."""
    totals, documents = [0.0] * weights.shape[1], []
    for position, document in enumerate(weights):
        roots = [
            label
            for label, root in enumerate(("CCAT", "GCAT", "MCAT", "ECAT"))
            if topics[position, names.index(root)]
        ]
        if len(roots) == 1:
            totals = [total + weight for total, weight in zip(totals, document, strict=True)]
            if position >= n_train and len(documents) < n_docs:
                documents.append((document, roots[0]))
    ranked = sorted(range(len(totals)), key=lambda term: (-totals[term], term))
    terms = sorted(ranked[:n_terms])
    X = []
    for document, _ in documents:
        length = sum(document[term] ** 2 for term in terms) ** 0.5 or 1.0
        X.append([document[term] / length * n_terms**0.5 for term in terms])
    return np.array(X), [label for _, label in documents]


@given(
    seed=st.integers(0, 2**32),
    n_train=st.integers(0, 100),
    n_docs=st.integers(1, 100),
    n_terms=st.integers(1, 30),
)
def test_reuters_is_the_recipe(seed, n_train, n_docs, n_terms):
    corpus = stand_in(seed=seed)
    X, y = data.reuters_10k(
        corpus.data, corpus.target, corpus.target_names, n_train, n_docs, n_terms
    )
    weights, topics = corpus.data.toarray(), corpus.target.toarray()
    names = list(corpus.target_names)
    expected, labels = literal_reuters(weights, topics, names, n_train, n_docs, n_terms)
    assert (X.shape, X.dtype, y.dtype) == ((n_docs, n_terms), np.float32, np.int64)
    np.testing.assert_allclose(X, expected, rtol=1e-6)
    assert y.tolist() == labels


def test_reuters_rows_have_one_length_and_a_document_without_the_terms_is_zero():
    corpus = stand_in()
    X, _ = data.reuters_10k(corpus.data, corpus.target, corpus.target_names, **REUTERS_SIZES)
    empty = ~X.any(axis=1)
    assert 0 < empty.sum() < len(X) / 2
    np.testing.assert_allclose(np.linalg.norm(X[~empty], axis=1), 12**0.5, rtol=1e-6)


@pytest.fixture
def rcv1(tmp_path, monkeypatch):
    """The stand-in in scikit-learn's own cache files, known to `load` as "reuters-10k"."""
    corpus = stand_in()
    corpus.folder = tmp_path / "data" / "reuters" / "RCV1"
    corpus.folder.mkdir(parents=True)
    content = {
        "samples": corpus.data,
        "sample_id": np.arange(400),
        "sample_topics": corpus.target,
        "topics_names": corpus.target_names,
    }
    for name, part in content.items():
        joblib.dump(part, corpus.folder / f"{name}_py3.pkl", compress=9)
    corpus.content = (
        f"400 documents, 30 terms, {corpus.data.nnz} weights, 103 topics, "
        f"{corpus.target.nnz} labels"
    )
    corpus.know = partial(know_reuters, monkeypatch, content=corpus.content, **REUTERS_SIZES)
    corpus.know(NOWHERE)
    monkeypatch.setenv("SOMLIB_DATA", str(tmp_path / "data"))
    return corpus


NOWHERE = blob.BlobFile("reuters/reutersidf10k.npy", "0" * 40, 1)
"""The authors' file without a mirror."""


def know_reuters(monkeypatch, file, **options):
    """Let `load` look for this file as that of the authors."""
    read = partial(reuters.read_reuters, file, **options)
    small = replace(data.SOURCES["reuters-10k"], read=partial(_read_part, read, 75))
    monkeypatch.setitem(data.SOURCES, "reuters-10k", small)


def not_downloaded(expected=True):
    """Expect the warning that the authors' file could not be downloaded."""
    message = r"approximated from RCV1: reutersidf10k.npy could not be downloaded"
    return pytest.warns(UserWarning, match=message) if expected else nullcontext()


@pytest.mark.parametrize("given_by_hand", [True, False])
def test_reuters_is_read_from_scikit_learns_cache(rcv1, tmp_path, monkeypatch, given_by_hand):
    if not given_by_hand:
        monkeypatch.delenv("SOMLIB_DATA")
        monkeypatch.setattr(download, "default_folder", lambda: tmp_path / "data")
    with not_downloaded(expected=not given_by_hand):
        whole, train, test = (data.load("reuters-10k", split=split) for split in data.SPLITS)
    assert {ds.origin for ds in (whole, train, test)} == {"approximated from RCV1-v2"}
    X, y = data.reuters_10k(rcv1.data, rcv1.target, rcv1.target_names, **REUTERS_SIZES)
    np.testing.assert_array_equal(whole.X, X, strict=True)
    np.testing.assert_array_equal(whole.y, y, strict=True)
    assert (len(train), len(test)) == (75, 25)
    np.testing.assert_array_equal(np.concatenate([train.X, test.X]), X)
    np.testing.assert_array_equal(np.concatenate([train.y, test.y]), y)
    assert repr(whole) == "Dataset('reuters-10k', split='all': 100 samples, 12 features, 4 classes)"
    assert whole.class_counts.tolist() == [(y == label).sum() for label in range(4)]
    assert (whole.image_shape, whole.class_names[3]) == ((), "Economics")


DAMAGES = {
    "missing": (lambda c: None, "FileNotFoundError: "),
    "empty": (lambda c: b"", "EOFError: "),
    "cut": (lambda c: c[: len(c) // 2], ""),
    "bit flipped": (lambda c: c[:500] + bytes([c[500] ^ 1]) + c[501:], "error: "),
    "web page": (lambda c: b"<html>Not found</html>", "KeyError: "),
}


@pytest.mark.parametrize("case", DAMAGES)
@pytest.mark.parametrize("name", ["samples", "sample_topics"])
def test_a_damaged_reuters_cache_is_refused_and_left_alone(rcv1, case, name):
    damage, reason = DAMAGES[case]
    path = rcv1.folder / f"{name}_py3.pkl"
    damaged = damage(path.read_bytes())
    path.unlink()
    if damaged is not None:
        path.write_bytes(damaged)
    before = left(rcv1.folder.parent)
    message = refusal("reuters-10k")
    assert message.startswith(f"{rcv1.folder.parent / 'reutersidf10k.npy'} is missing. Expected: ")
    assert f"Or, as an approximation: {rcv1.folder} gives no corpus: {reason}" in message
    assert f"fetch_rcv1 keeps it: {rcv1.content}. Put it there" in message
    assert left(rcv1.folder.parent) == before


def test_another_corpus_in_the_place_of_rcv1_is_refused_with_what_it_holds(rcv1):
    rcv1.data.data[:] = 1
    path = rcv1.folder / "samples_py3.pkl"
    joblib.dump(rcv1.data[:, :20], path)
    found = f"400 documents, 20 terms, {rcv1.data[:, :20].nnz} weights, 103 topics"
    assert re.search(f"ValueError: it holds {found}.* Expected: RCV1-v2", refusal("reuters-10k"))


@pytest.mark.parametrize("folder", ["no-such-folder", "data"])
def test_missing_reuters_leaves_no_folder_behind_in_somlib_data(tmp_path, monkeypatch, folder):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("SOMLIB_DATA", str(tmp_path / folder))
    message = refusal("reuters-10k")
    reuters_folder = tmp_path / folder / "reuters"
    assert message.startswith(f"{reuters_folder / 'reutersidf10k.npy'} is missing. Expected: ")
    assert f"Git id {reuters.AUTHORS_FILE.blob}" in message
    assert f"Or, as an approximation: {reuters_folder / 'RCV1'} gives no corpus: FileNot" in message
    assert f"keeps it: {reuters.RCV1}. Put it there, or unset SOMLIB_DATA" in message
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["data"]


def test_reuters_offline_is_one_error_that_says_how_to_go_on(tmp_path, monkeypatch):
    asked = {}

    def offline(**options):
        asked.update(options)
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setattr("sklearn.datasets.fetch_rcv1", offline)
    monkeypatch.delenv("SOMLIB_DATA", raising=False)
    monkeypatch.setattr(download, "default_folder", lambda: tmp_path)
    know_reuters(monkeypatch, NOWHERE)
    message = refusal("reuters-10k")
    assert asked == {"data_home": tmp_path / "reuters", "download_if_missing": True}
    assert "URLError: <urlopen error Temporary failure in name resolution>" in message
    assert f"Expected: RCV1-v2 as scikit-learn's fetch_rcv1 keeps it: {reuters.RCV1}." in message
    assert "Try again when online, delete the folder when a file in it is damaged" in message
    assert "set SOMLIB_DATA to a folder that holds reuters/RCV1." in message


def test_too_little_memory_is_not_blamed_on_the_files(rcv1, monkeypatch):
    def short_of_memory(**options):
        raise MemoryError

    monkeypatch.setattr("sklearn.datasets.fetch_rcv1", short_of_memory)
    with pytest.raises(MemoryError):
        data.load("reuters-10k")


# --- the authors' file ------------------------------------------------------------------------


class Authors:
    """A stand-in for the authors' file, 40 rows of 12 terms, with an id of its own."""

    def __init__(self, folder):
        rng = np.random.default_rng(1)
        self.X = rng.random((40, 12)).astype(np.float32)
        self.y = rng.integers(0, 4, 40)
        self.path = folder / "reuters" / "reutersidf10k.npy"
        written = BytesIO()
        np.save(written, {"data": self.X, "label": self.y}, allow_pickle=True)
        self.content = written.getvalue()

    def file(self, content=None, *urls):
        content = self.content if content is None else content
        return blob.BlobFile("reuters/reutersidf10k.npy", blob.git_id(content), len(content), urls)

    def write(self, content=None):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(self.content if content is None else content)

    def assert_equals(self, ds, rows=slice(None)):
        np.testing.assert_array_equal(ds.X, self.X[rows], strict=True)
        np.testing.assert_array_equal(ds.y, self.y[rows], strict=True)
        assert ds.origin == "the DESOM authors' reutersidf10k.npy"


@pytest.fixture
def authors(tmp_path, monkeypatch):
    authors = Authors(tmp_path / "data")
    authors.know = partial(know_reuters, monkeypatch)
    authors.know(authors.file())
    monkeypatch.setenv("SOMLIB_DATA", str(tmp_path / "data"))
    return authors


def test_the_id_is_that_of_git(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"what was not\nchanged\0" * 1000)
    told = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True)
    assert blob.git_id(path.read_bytes()) == told.stdout.strip()


def test_the_authors_file_wins_over_the_recipe(authors, rcv1):
    rcv1.know(authors.file())
    assert data.load("reuters-10k").origin == "approximated from RCV1-v2"
    authors.write()
    authors.assert_equals(data.load("reuters-10k"))


def test_the_authors_file_is_cut_in_three_quarters_and_the_rest(authors, monkeypatch):
    authors.write()
    read = partial(reuters.read_reuters, authors.file())
    small = replace(data.SOURCES["reuters-10k"], read=partial(_read_part, read, 30))
    monkeypatch.setitem(data.SOURCES, "reuters-10k", small)
    authors.assert_equals(data.load("reuters-10k", "train"), slice(30))
    authors.assert_equals(data.load("reuters-10k", "test"), slice(30, None))
    assert data.load("reuters-10k").sample(5).origin == "the DESOM authors' reutersidf10k.npy"


@pytest.mark.parametrize("change", [
    lambda c: c[:-1], lambda c: b"", lambda c: c + b"?", lambda c: c[:300] + b"?" + c[301:],
])  # fmt: skip
def test_another_file_is_refused_before_it_is_unpickled(authors, rcv1, monkeypatch, change):
    rcv1.know(authors.file())
    authors.write(change(authors.content))
    monkeypatch.setattr(reuters, "read_arrays", None)  # not to be called
    message = refusal("reuters-10k")
    found = f"holds {len(change(authors.content))} bytes with the Git id"
    assert message.startswith(f"{authors.path} is not the official file: it {found}")
    assert f"Expected: reuters/reutersidf10k.npy with the Git id {authors.file().blob}" in message
    assert authors.path.read_bytes() == change(authors.content)


class Command:
    def __reduce__(self):
        return os.mkdir, ("made by a pickle",)


@pytest.mark.parametrize(("holds", "message"), [
    ({"data": Command()}, "it names (posix|nt).mkdir"),
    ({"data": np.eye(3)}, "'label'"),
    ({"data": np.eye(3), "label": np.arange(4)}, "cannot reshape"),
    (np.eye(3), "it is no .npy file of one object"),
])  # fmt: skip
def test_an_official_file_of_other_content_is_refused(
    authors, holds, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    written = BytesIO()
    np.save(written, holds, allow_pickle=True)
    authors.write(written.getvalue())
    authors.know(authors.file(written.getvalue()))
    told = refusal("reuters-10k")
    assert re.search(rf"reutersidf10k.npy holds no samples and labels: .*{message}", told)
    assert left(tmp_path) == ["reutersidf10k.npy"]
    assert not (tmp_path / "made by a pickle").exists()


@pytest.fixture
def authors_server(absent, server, tmp_path, monkeypatch):
    authors = Authors(tmp_path / "data")
    server.content["reutersidf10k.npy"] = authors.content
    urls = [f"{server.url(how)}/reutersidf10k.npy" for how in ("lost", "good")]
    authors.offer = lambda *which: know_reuters(
        monkeypatch, authors.file(None, *(urls[i] for i in which))
    )
    return authors


def test_the_authors_file_is_downloaded_once_from_the_mirror_that_has_it(authors_server, server):
    authors_server.offer(0, 1)
    authors_server.assert_equals(data.load("reuters-10k"))
    assert authors_server.path.read_bytes() == authors_server.content
    authors_server.assert_equals(data.load("reuters-10k"))
    assert [how for how, _ in server.requested] == ["lost", "good"]


def test_where_neither_can_be_had_both_are_named(authors_server, monkeypatch):
    def offline(**options):
        raise URLError("no network")

    monkeypatch.setattr("sklearn.datasets.fetch_rcv1", offline)
    authors_server.offer(0)
    message = refusal("reuters-10k")
    assert message.startswith("reutersidf10k.npy could not be downloaded; nothing was kept. Tried:")
    assert "404" in message
    assert "Or, as an approximation:" in message
    assert "no network" in message
    assert left(authors_server.path.parents[1]) == []


# --- downloads --------------------------------------------------------------------------------


def test_a_download_is_kept_and_not_repeated(absent, server):
    absent.offer(server.url("good"))
    absent.assert_equals(data.load("tiny", split="test"), slice(5, None))
    assert left(absent.folder) == zipped(FILES[2:])
    absent.assert_equals(data.load("tiny"))
    absent.assert_equals(data.load("tiny"))
    assert sorted(server.requested) == [("good", name) for name in zipped(FILES)]
    assert left(absent.folder) == zipped(FILES)


def test_a_download_shows_a_bar_and_nothing_else(absent, server, capsys, caplog):
    absent.offer(server.url("good"))
    with caplog.at_level("INFO", logger="pooch"):
        data.load("tiny")
    shown = capsys.readouterr()
    assert f"tiny/{FILES[0]}" in shown.err
    assert (shown.out, caplog.text) == ("", "")


def test_a_mirror_that_unpacks_the_file_will_do(absent, server):
    absent.offer(server.url("unpacked"))
    absent.assert_equals(data.load("tiny"))
    absent.assert_equals(data.load("tiny"))


FAILURES = {
    "lost": "404 Client Error",
    "breaks-off": "IncompleteRead",
    "truncates": "cannot be decompressed: Compressed file ended before the end",
    "wrong": "is not the official file: it holds 76 bytes of SHA-256 [0-9a-f]{64}",
    "page": "is not the official file: .* and begins with b'<html",
    "silent": r"Read timed out\. \(read timeout=0\.3\)",
    "stalls": "Read timed out",
}


@pytest.mark.parametrize("behavior", FAILURES)
def test_when_one_mirror_fails_the_next_is_tried(absent, server, monkeypatch, behavior):
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    absent.offer(server.url(behavior), server.url("good"))
    start = time.perf_counter()
    absent.assert_equals(data.load("tiny", split="train"), slice(5))
    assert time.perf_counter() - start < 10  # our time-out, not pooch's thirty seconds
    assert [b for b, _ in server.requested] == [behavior, "good"] * 2
    assert left(absent.folder) == zipped(FILES[:2])


def test_when_the_first_mirror_is_dead_the_second_is_tried(absent, server, dead_url):
    absent.offer(dead_url, server.url("good"))
    absent.assert_equals(data.load("tiny"))


@pytest.mark.parametrize("behavior", FAILURES)
def test_when_all_mirrors_fail_each_is_named_with_its_reason(
    absent, server, dead_url, monkeypatch, behavior
):
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    absent.offer(dead_url, server.url(behavior))
    first, dead, failed, remedy = refusal().splitlines()
    name = f"{FILES[0]}.gz"
    assert first == f"{name} could not be downloaded; nothing was kept. Tried:"
    assert dead.startswith(f"  {dead_url}/{name}: ")
    assert "Connection refused" in dead
    assert failed.startswith(f"  {server.url(behavior)}/{name}: ")
    assert re.search(FAILURES[behavior], failed)
    assert "set SOMLIB_DATA to a folder that holds tiny/train-images-idx3-ubyte" in remedy
    assert absent.hashes[0] in remedy
    assert left(absent.folder) == []


def test_a_folder_that_cannot_be_made_is_not_the_mirrors_fault(absent, server):
    absent.offer(server.url("good"), server.url("good"))
    absent.folder.parent.write_text("a file where the folder should be")
    assert re.match(r"cannot write .*set SOMLIB_DATA to a folder", refusal())
    assert server.requested == []


def test_a_full_disk_is_not_the_mirrors_fault(absent, server, monkeypatch):
    def full(self, content):
        with self.open("wb") as file:
            file.write(content[:4])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    absent.offer(server.url("good"))
    message = refusal()
    assert re.match(r"cannot write .*: No space left on device", message)
    assert "set SOMLIB_DATA to a folder" in message
    assert left(absent.folder) == []


SCRIPT = """
import json, pathlib, sys
from somlib import data
from somlib.data import dataset, download

folder, mirror, hashes, sizes = json.loads(sys.argv[1])
download.default_folder = lambda: pathlib.Path(folder)
data.SOURCES["tiny"] = dataset.idx_source("tiny", (mirror,), tuple(hashes), ("a",) * 10, **sizes)
ds = data.load("tiny")
print(ds.X.tolist(), ds.y.tolist())
"""


def start_loading(tiny, mirror):
    arguments = json.dumps([str(tiny.folder.parent), mirror, tiny.hashes, SIZES])
    command = [sys.executable, "-c", SCRIPT, arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


def test_two_processes_downloading_at_once_both_end_well(absent, server):
    # The server answers a file only once both have asked for it, so they do overlap.
    running = [start_loading(absent, server.url("together")) for _ in range(2)]
    ends = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0, 0], ends
    assert len(server.requested) == 8
    absent.offer()
    ds = data.load("tiny")
    absent.assert_equals(ds)
    assert [out for out, _ in ends] == [f"{ds.X.tolist()} {ds.y.tolist()}\n"] * 2
    assert left(absent.folder) == zipped(FILES)


def test_a_killed_download_leaves_nothing_that_looks_good(absent, server):
    with start_loading(absent, server.url("stalls")) as process:
        assert server.stalled.wait(60)
        process.kill()
    server.released.set()
    (partial,) = left(absent.folder)
    assert partial.startswith(PARTIAL_PREFIX)
    absent.offer(server.url("good"))
    absent.assert_equals(data.load("tiny"))


def test_every_downloadable_set_has_two_mirrors_on_different_hosts():
    for name in ("mnist", "fashion-mnist"):
        (files,) = data.SOURCES[name].read.args
        assert len(files) == 4
        for file in files:
            assert file.name.startswith(f"{name}/")
            assert len({url.split("/")[2] for url in file.urls}) >= 2
            assert all(url.endswith(f"/{Path(file.name).name}.gz") for url in file.urls)
            assert len(file.sha256) == 64
    assert len({url.split("/")[2] for url in reuters.AUTHORS_FILE.urls}) == 2


# --- the official files -----------------------------------------------------------------------

COUNTS = {
    "mnist": [6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958],
    "fashion-mnist": [7000] * 10,
}
# Mean and standard deviation of the training pixels, as torchvision users normalize by them.
PIXELS = {"mnist": (0.1307, 0.3081), "fashion-mnist": (0.2860, 0.3530)}


@pytest.fixture(params=sorted(COUNTS))
def official(request):
    folder = os.environ.get("SOMLIB_DATA")
    if not folder or not (Path(folder).expanduser() / request.param).is_dir():
        pytest.skip(f"set SOMLIB_DATA to a folder that holds {request.param}/ to run this")
    return request.param


def test_official_files_give_the_known_data(official):
    whole, train, test = (data.load(official, split=s) for s in data.SPLITS)
    assert (whole.X.shape, train.X.shape, test.X.shape) == (
        (70_000, 784),
        (60_000, 784),
        (10_000, 784),
    )
    np.testing.assert_array_equal(whole.X[:60_000], train.X)
    np.testing.assert_array_equal(whole.X[60_000:], test.X)
    np.testing.assert_array_equal(whole.y, np.concatenate([train.y, test.y]))
    assert np.bincount(whole.y).tolist() == COUNTS[official]
    assert (whole.X.min(), whole.X.max()) == (0, 1)
    assert whole.X.dtype == np.float32
    mean, std = train.X.mean(dtype=float), train.X.std(dtype=float)
    assert (mean, std) == pytest.approx(PIXELS[official], abs=1e-4)
    assert whole.image_shape == (28, 28)
    assert len(whole.class_names) == 10


def test_official_files_load_within_a_second_and_no_second_copy(official):
    seconds = []
    for _ in range(3):
        start = time.process_time()  # of this process: others may keep the machine busy
        ds = data.load(official)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 1
    result = ds.X.nbytes + ds.y.nbytes
    del ds
    tracemalloc.start()
    try:
        data.load(official)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < result + 8 * idx.CHUNK  # the issue allows a whole copy; one chunk is enough


def test_the_authors_file_gives_the_known_counts():
    folder = os.environ.get("SOMLIB_DATA")
    if not folder or not (Path(folder).expanduser() / reuters.AUTHORS_FILE.name).is_file():
        pytest.skip(f"set SOMLIB_DATA to a folder that holds {reuters.AUTHORS_FILE.name}")
    ds = data.load("reuters-10k")
    assert ds.X.shape == (10_000, 2_000)
    assert ds.class_counts.tolist() == list(data.REUTERS_10K_COUNTS)
    lengths = np.linalg.norm(ds.X, axis=1)
    np.testing.assert_allclose(lengths[lengths > 0], 2000**0.5, rtol=1e-5)


def test_the_real_corpus_gives_a_whole_reuters_10k():
    folder = os.environ.get("SOMLIB_DATA")
    if not folder or not (Path(folder).expanduser() / "reuters" / "RCV1").is_dir():
        pytest.skip("set SOMLIB_DATA to a folder that holds reuters/RCV1/ to run this")
    X, y = reuters.read_rcv1()
    assert X.shape == (10_000, 2_000)
    lengths = np.linalg.norm(X, axis=1)
    np.testing.assert_allclose(lengths[lengths > 0], 2000**0.5, rtol=1e-5)
    assert np.bincount(y, minlength=4).min() > 0


# --- the sample in the package ----------------------------------------------------------------


def test_the_sample_needs_no_data_folder_and_has_a_hundred_images_of_each_digit(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("SOMLIB_DATA", str(tmp_path))
    ds = data.load("mnist-sample", "test")
    assert repr(ds) == (
        "Dataset('mnist-sample', split='test': 1000 samples, 784 features, 10 classes, "
        "images of 28 x 28)"
    )
    assert ds.class_counts.tolist() == [100] * 10
    assert (ds.X.min(), ds.X.max(), ds.origin) == (0, 1, "the package")
    np.testing.assert_array_equal(data.load("mnist-sample").X, ds.X)
    with pytest.raises(
        ValueError, match="'mnist-sample' has no split 'train'; choose from all, test"
    ):
        data.load("mnist-sample", "train")


def test_a_damaged_sample_is_refused_by_name(monkeypatch):
    images, labels = dataset.SAMPLE_FILES
    monkeypatch.setattr(dataset, "SAMPLE_FILES", [images, replace(labels, sha256="0" * 64)])
    with pytest.raises(
        data.DataError, match=r"t10k-labels-idx1-ubyte\.gz is not the .+ somlib again"
    ):
        data.load("mnist-sample")
    missing = [replace(images, name="mnist-sample/none"), labels]
    monkeypatch.setattr(dataset, "SAMPLE_FILES", missing)
    with pytest.raises(data.DataError, match=r"none\.gz cannot be read: No such file"):
        data.load("mnist-sample")


def test_the_sample_takes_little_and_is_spread_over_the_test_images_of_each_digit(official):
    if official != "mnist":
        pytest.skip("the sample is from MNIST")
    folder = Path(dataset.__file__).parent / "mnist-sample"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 200_000
    test, sample = data.load("mnist", "test"), data.load("mnist-sample")
    of_digits = [np.flatnonzero(test.y == digit) for digit in range(10)]
    rows = [own[np.linspace(0, len(own) - 1, 100).round().astype(int)] for own in of_digits]
    rows = np.sort(np.concatenate(rows))
    np.testing.assert_array_equal(sample.X, test.X[rows])
    np.testing.assert_array_equal(sample.y, test.y[rows])


def test_the_readme_lists_what_is_checked():
    readme = (Path(__file__).parents[1] / "data" / "README.md").read_text()
    assert reuters.RCV1 in " ".join(readme.split())
    assert f"| {reuters.AUTHORS_FILE.name} | `{reuters.AUTHORS_FILE.blob}` |" in readme
    for class_name, count in zip(
        reuters.REUTERS_ROOTS.values(), data.REUTERS_10K_COUNTS, strict=True
    ):
        assert f"{class_name} {count}" in " ".join(readme.split())
    official = [file for name in COUNTS for file in data.SOURCES[name].read.args[0]]
    for file in [*official, *dataset.SAMPLE_FILES]:
        assert f"| {file.name} | `{file.sha256}` |" in readme
