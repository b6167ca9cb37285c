"""The index of a teacher's logits: name → row out of whatever spells it, and nothing executed."""

from __future__ import annotations

import collections
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing.torchfile import Call, Named, Stated, pickled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dymn_cli.errors import ModelError, UnsafeWeightsError, WeightsMissingError
from dymn_cli.store.index import read_index

NAMES = ["Y--4gqARaEJE", "Yäö 雨", "audio/x y.wav"]
INDEX = {name: 10 * row for row, name in enumerate(NAMES)}


@pytest.fixture
def put(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        path = tmp_path / "index.pkl"
        path.write_bytes(data)
        return path

    return write


def npy(array: Any) -> bytes:
    memory = io.BytesIO()
    np.save(memory, array)
    return memory.getvalue()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "index",
    [
        INDEX,
        collections.OrderedDict(INDEX),
        {name: np.int64(row) for name, row in INDEX.items()},
        {name: np.uint16(row) for name, row in INDEX.items()},
        {np.str_(name): row for name, row in INDEX.items()},
    ],
    ids=["dict", "ordered", "int64", "uint16", "str_"],
)
def test_a_pickled_dict(index: Any, protocol: int, put: Callable[[bytes], Path]) -> None:
    read = read_index(put(pickle.dumps(index, protocol)))
    assert read == INDEX
    assert list(read) == NAMES
    assert all(type(name) is str and type(row) is int for name, row in read.items())


@pytest.mark.parametrize("names", [NAMES, tuple(NAMES), [np.str_(name) for name in NAMES]])
def test_a_list_of_names_counts_its_rows(names: Any, put: Callable[[bytes], Path]) -> None:
    assert read_index(put(pickle.dumps(names))) == {name: row for row, name in enumerate(NAMES)}


@pytest.mark.parametrize("array", [np.array(NAMES), np.array(NAMES).astype(">U20"), np.array(NAMES, object)])
def test_names_in_an_array(array: Any, put: Callable[[bytes], Path]) -> None:
    assert read_index(put(npy(array))) == {name: row for row, name in enumerate(NAMES)}


def test_a_dict_in_an_array(put: Callable[[bytes], Path]) -> None:
    assert read_index(put(npy(np.array(INDEX)))) == INDEX
    assert read_index(put(pickle.dumps(np.array(NAMES, object)))) == {
        name: row for row, name in enumerate(NAMES)
    }


def test_many_names(put: Callable[[bytes], Path]) -> None:
    index = {f"Y{n:011d}": n for n in range(20_000)}
    assert read_index(put(pickle.dumps(index))) == index


class Harm:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_nothing_is_executed(put: Callable[[bytes], Path], tmp_path: Path) -> None:
    target = tmp_path / "harm"
    for data in (pickle.dumps({"a": 1, "b": Harm(target)}), npy(np.array({"a": Harm(target)}))):
        with pytest.raises(UnsafeWeightsError, match="nothing was executed"):
            read_index(put(data))
    assert not target.exists()


def dtype(code: str) -> Call:
    return Call("numpy.dtype", (code, False, True))


def scalar(code: Any, data: Any) -> Call:
    return Call("numpy.core.multiarray.scalar", (code, Call("_codecs.encode", (data, "latin1"))))


def damaged(header: str) -> bytes:
    text = header.encode()
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text


UNSAFE = {
    "empty": b"",
    "text": b"name,row\n",
    "protocol 0": pickle.dumps(INDEX, 0),
    "cut short": pickle.dumps(INDEX)[:-5],
    "a codec": pickled({"a": Call("_codecs.encode", ("x", "rot13"))}),
    "bytes beyond": pickled({"a": Call("_codecs.encode", ("雨", "latin1"))}),
    "a number of objects": pickled({"a": scalar(dtype("O8"), "\0" * 8)}),
    "a number of fractions": pickled({"a": scalar(dtype("f8"), "\0" * 8)}),
    "a number too short": pickled({"a": scalar(dtype("i8"), "\0")}),
    "a text that is none": pickled({"a": scalar(dtype("U1"), "\xff" * 4)}),
    "a kind with another state": pickled({"a": Stated(dtype("i8"), "<")}),
    "an array of numbers": pickle.dumps(np.arange(3)),
    "an array of another class": pickled(Call("numpy.core.multiarray._reconstruct", (1, (0,), "b"))),
    "an array that lies": pickled(
        Stated(
            Call("numpy.core.multiarray._reconstruct", (Named("numpy.ndarray"), (0,), "b")),
            (1, (9,), dtype("O8"), False, ["a"]),
        )
    ),
    "rows without names": npy(np.arange(3)),
    "fractions": npy(np.ones((2, 2), np.float32)),
    "a table of names": npy(np.array([NAMES])),
    "names of no length": damaged("{'descr': '<U0', 'fortran_order': False, 'shape': (99999999999,), }\n"),
    "names of exabytes": damaged(
        "{'descr': '<U9', 'fortran_order': False, 'shape': (9999999999999999,), }\n"
    ),
    "a program for a header": damaged("__import__('os').system('true')\n"),
    "names beyond unicode": npy(np.array(["a"]))[:-4] + b"\xff" * 4,
    "half an array": npy(np.array(NAMES))[:-9],
    "half a header": npy(np.array(NAMES))[:20],
}


@pytest.mark.parametrize("case", UNSAFE)
def test_what_cannot_be_trusted_is_refused(case: str, put: Callable[[bytes], Path]) -> None:
    path = put(UNSAFE[case])
    with pytest.raises(UnsafeWeightsError) as caught:
        read_index(path)
    assert caught.value.message.startswith(str(path))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (7, "is not an index, but of type int"),
        ({}, "holds no names"),
        ({"a": 1.5}, "has no row for 'a'"),
        ({"a": True}, "has no row for 'a'"),
        ({"a": -1}, "has no row for 'a'"),
        ({"a": None}, "has no row for 'a'"),
        ({7: 1}, "a name that is not a string, but of type int"),
        (["a", "b", "a"], "names 'a' twice"),
        (["a", 1], "a name that is not a string"),
    ],
)
def test_plain_values_that_are_no_index(value: Any, told: str, put: Callable[[bytes], Path]) -> None:
    with pytest.raises(ModelError, match=told):
        read_index(put(pickle.dumps(value)))


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError):
        read_index(tmp_path / "gone.pkl")


SEEDS = [
    pickle.dumps({name: np.int64(row) for name, row in INDEX.items()}),
    npy(np.array(INDEX)),
    npy(np.array(NAMES)),
]


@settings(
    max_examples=2 * settings.default.max_examples,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_no_damage_gets_past_our_own_errors(data: st.DataObject, put: Callable[[bytes], Path]) -> None:
    damaged = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        index = read_index(put(bytes(damaged[: data.draw(st.integers(0, len(damaged)))])))
    except ModelError as error:
        assert "\n" not in error.message
    else:
        assert all(type(name) is str and type(row) is int for name, row in index.items())
