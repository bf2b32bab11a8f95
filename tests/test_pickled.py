"""Arrays are read from a pickle, and nothing that a pickle names is run."""

import io
import os
import pickle
import struct
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from somlib.data.pickled import read_arrays

ARRAYS = {
    "data": np.random.default_rng(0).random((5, 3)).astype(np.float32),
    "label": np.array([2, 0, 1, 3, 0]),
}


def header(descr=b"|O"):
    text = b"{'descr': '%s', 'fortran_order': False, 'shape': (), }" % descr
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def saved(value, protocol=3):
    """The `.npy` file of an object, as NumPy writes it; old releases had protocol 2 or 3."""
    held = np.empty((), object)
    held[()] = value
    return header() + pickle.dumps(held, protocol=protocol)


def by_python_2(data, labels):
    """What Python 2 writes: text is bytes, names are those of old NumPy."""

    def text(content):
        return b"T" + struct.pack("<I", len(content)) + content

    def array(values):
        shape = b"(" + b"".join(b"K" + bytes([n]) for n in values.shape) + b"t"
        code = text(values.dtype.str[1:].encode())
        dtype = b"cnumpy\ndtype\n" + code + b"K\x00K\x01\x87R"
        dtype += b"(K\x03" + text(b"<") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
        state = b"(K\x01" + shape + dtype + b"\x89" + text(values.tobytes()) + b"tb"
        return EMPTY_ARRAY + state

    items = text(b"data") + array(data) + text(b"label") + array(labels)
    held = b"}(" + items + b"u"
    dtype = b"cnumpy\ndtype\n" + text(b"O8") + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + text(b"|") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K?tb"
    return header(b"O") + b"\x80\x02" + EMPTY_ARRAY + b"(K\x01)" + dtype + b"\x89]" + held + b"atb."


EMPTY_ARRAY = (
    b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85T\x01\x00\x00\x00b\x87R"
)


def same(found, expected):
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, strict=True)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_numpy_pickles_is_read(protocol):
    same(read_arrays(saved(ARRAYS, protocol)), ARRAYS)


def test_what_numpy_saves_today_is_read():
    file = io.BytesIO()
    np.save(file, ARRAYS, allow_pickle=True)
    same(read_arrays(file.getvalue()), ARRAYS)


def test_what_python_2_wrote_is_read():
    content = by_python_2(ARRAYS["data"], ARRAYS["label"])
    found = np.load(io.BytesIO(content), allow_pickle=True, encoding="latin1").item()
    same(found, ARRAYS)  # the stand-in is a pickle of NumPy's
    same(read_arrays(content), ARRAYS)


@given(
    array=hnp.arrays(
        st.sampled_from(["<f4", ">f8", "<i8", "|u1", "<i2", ">u4"]),
        hnp.array_shapes(min_dims=0, max_dims=3, max_side=4),
    ),
    columns_first=st.booleans(),
    protocol=st.sampled_from([2, 3, 4]),
)
def test_arrays_of_numbers_come_back_bit_for_bit(array, columns_first, protocol):
    array = np.asarray(array, order="F" if columns_first else "C")
    found = read_arrays(saved({"x": array}, protocol))["x"]
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()


# --- what is refused --------------------------------------------------------------------------

RUN: list = []


def mark(*arguments):
    """What must not be called."""
    RUN.append(arguments)
    return ""


class Attack:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


class Plain:
    pass


def program(*parts):
    """An object's file whose pickle is written out by hand."""
    return header() + b"\x80\x03" + b"".join(parts) + b"."


HOSTILE = {
    "a function in the place of the dictionary": saved(Attack(mark, (1,))),
    "a function in the place of an array": saved({"data": Attack(mark, ())}),
    "a function after the arrays": saved(ARRAYS | {"more": Attack(mark, ())}),
    "a function in an array of objects": saved({"x": np.array([Attack(mark, ())], object)}),
    "a function as key": saved({Attack(mark, ()): ARRAYS["data"]}),
    "an object of a class": saved({"data": Plain()}),
    "a class": saved({"data": os.stat_result}),
    "builtins": saved(Attack(eval, ("__import__('tests.test_pickled').mark()",))),
    "a shell": saved(Attack(os.system, ("exit 1",))),
    "a name of numpy": program(b"cnumpy\nsave\n(X\x01\x00\x00\x00xK\x01tR"),
    "a deeper name": program(b"\x8c\x05numpy\x8c\x0fndarray.__new__\x93)R"),
    "a dtype of code": program(b"cnumpy\ndtype\nctests.test_pickled\nmark\n\x85R"),
    "an instance": program(b"(itests.test_pickled\nmark\n"),
    "an object": program(b"(ctests.test_pickled\nmark\no"),
    "a new object": program(b"cnumpy\nndarray\n)\x81"),
    "an extension": program(b"\x82\x01"),
    "an object outside": program(b"K\x01Q"),
    "an id outside": program(b"Pid\n"),
    "a changed name": program(b"cnumpy\nndarray\n}X\x01\x00\x00\x00xK\x01sb"),
    "a changed name, by slots": program(b"cnumpy\nndarray\nN}X\x04\x00\x00\x00nameK\x01s\x86b"),
    "a call of a call": program(b"cnumpy\ndtype\n)R)R"),
    "a call of text": program(b"X\x01\x00\x00\x00x)R"),
    "a memo of billions": program(b"}r\xff\xff\xff\x7f"),
    "a text of gigabytes": program(b"\x8e\x00\x00\x00\x00\x10\x00\x00\x00x"),
    "an evaluated number": program(b"I01\n"),
    "a buffer outside": program(b"\x97"),
    "two programs": saved(ARRAYS)[:-1] + b"0" + pickle.dumps(Attack(mark, ())),
    "more after the end": program(b"}") + pickle.dumps(Attack(mark, ())),
    "nothing": b"",
    "no pickle": header(),
    "a table": saved([1, 2]),
    "a number": saved({"data": 1}),
    "no text as key": saved({1: ARRAYS["data"]}),
    "objects in the place of numbers": saved({"data": np.array([1, "a"], object)}),
    "text in the place of numbers": saved({"data": np.array(["a"])}),
    "records": saved({"data": np.zeros(2, "f4,i4")}),
    "an array": saved(ARRAYS["data"]),
    "an array of numbers": b"\x93NUMPY\x01\x00" + header()[8:].replace(b"|O", b"f4"),
    "another header": header().replace(b"'|O'", b"eval") + pickle.dumps(ARRAYS),
    "more bytes than its shape": saved(ARRAYS).replace(b"K\x05K\x03\x86", b"K\x05K\x02\x86"),
    "fewer bytes than its shape": saved(ARRAYS).replace(b"K\x05K\x03\x86", b"K\x05K\x04\x86"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_anything_but_arrays_is_refused_before_any_of_it_runs(case):
    RUN.clear()
    with pytest.raises(
        ValueError, match=r"^it is no (pickle of a dictionary of arrays|\.npy file)"
    ):
        read_arrays(HOSTILE[case])
    assert RUN == []


def test_the_attacks_would_succeed_with_pickle_itself():
    RUN.clear()
    for case in list(HOSTILE)[:5]:
        np.load(io.BytesIO(HOSTILE[case]), allow_pickle=True)
    assert len(RUN) == 5


WATCHED: list | None = None


def watch(event, arguments):
    if WATCHED is not None and event.partition(".")[0] in ("import", "exec", "os", "subprocess",
                                                           "open", "pickle", "ctypes"):  # fmt: skip
        WATCHED.append(event)


@pytest.fixture(scope="module")
def watched():
    """Whether anything is imported, executed, opened or looked up, by Python's audit events."""
    sys.addaudithook(watch)

    def read(content):
        global WATCHED
        RUN.clear()
        WATCHED = []
        try:
            found = read_arrays(content)
        except ValueError:
            found = None
        events, WATCHED = WATCHED, None
        assert (RUN, events) == ([], [])
        return found

    return read


def test_a_look_up_is_noticed():
    global WATCHED
    sys.addaudithook(watch)
    WATCHED = []
    pickle.loads(pickle.dumps(mark))
    events, WATCHED = WATCHED, None
    assert "pickle.find_class" in events


SEEDS = [saved(ARRAYS, 2), saved(ARRAYS, 4), *HOSTILE.values()]
PIECES = [
    b"ctests.test_pickled\nmark\n", b"cos\nsystem\n", b"cbuiltins\neval\n", b")R", b"b", b"\x81",
    b"X\x02\x00\x00\x00ls", b"\x85R", b"0", b"2", b"(", b"t", b"o", b"}", b"s", b"q\x00", b"h\x00",
    b"\x8c\x05posix\x8c\x06system\x93", b"cnumpy\ndtype\n", b"\x94", b".", b"\x82\x01", b"Q",
]  # fmt: skip


@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(
        st.tuples(
            st.floats(0, 1),
            st.integers(0, 4),
            st.one_of(st.sampled_from(PIECES), st.binary(max_size=3)),
        ),
        max_size=4,
    ),
)
@example(saved(ARRAYS), [])
def test_no_change_of_a_file_makes_anything_run(watched, seed, changes):
    content = seed
    for place, removed, inserted in changes:
        at = 128 + int(place * (len(content) - 128)) if len(content) > 128 else 0
        content = content[:at] + inserted + content[at + removed :]
    found = watched(content)
    if found is not None:
        assert all(isinstance(value, np.ndarray) for value in found.values())
        assert all(value.dtype.kind in "fiu" for value in found.values())


@given(parts=st.lists(st.sampled_from(PIECES), max_size=12))
def test_no_program_of_hostile_pieces_runs(watched, parts):
    assert watched(program(*parts)) is None
