"""The interpreter of pickles: plain values come out as they are, and nothing else ever happens."""

from __future__ import annotations

import collections
import pickle
import struct
from pathlib import Path

import pytest
from fuzzing.torchfile import Call, Named, Raw, Reference, Stated, pickled
from hypothesis import given, settings
from hypothesis import strategies as st

from dymn_cli.store.pickles import Global, Grammar, Ordered, PickleError, read_pickle

CALLED: list[tuple[object, ...]] = []


def note(arguments: tuple[object, ...]) -> object:
    CALLED.append(arguments)
    return len(arguments)


GRAMMAR = Grammar(
    purpose="only plain values are read",
    builders={"collections.OrderedDict": Ordered.build, "ours.note": note},
    names=frozenset({"ours.Thing"}),
    reference=lambda value: ("referred", value),
    hint="keep it plain",
    max_instructions=5_000,
)
PLAIN = Grammar(purpose="only plain values are read", builders={})

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text(max_size=9) | st.integers(-(1 << 30), 1 << 30), inner, max_size=5)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(value=plain, protocol=st.integers(3, 5))
def test_plain_values_are_those_that_python_reads(value: object, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    assert read_pickle(data, PLAIN) == pickle.loads(data) == value


def test_long_and_shared_values() -> None:
    shared = ["x" * 300, 7]
    value = {
        "long": "é" * 70_000,
        "many": list(range(3_000)),
        "shared": [shared] * 300,
        "bytes": b"\0" * 70_000,
    }
    for protocol in (3, 4, 5):
        data = pickle.dumps(value, protocol)
        assert read_pickle(data, Grammar(purpose="", builders={}, max_instructions=10_000)) == value


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_ordered_dicts_keep_order_and_lose_attributes(protocol: int) -> None:
    value = collections.OrderedDict([("b", 1), ("a", 2)])
    value.version = {"": 1}  # type: ignore[attr-defined]
    read = read_pickle(pickle.dumps(value, protocol), GRAMMAR)
    assert isinstance(read, Ordered)
    assert list(read.items()) == [("b", 1), ("a", 2)]


def test_globals_are_names_and_calls_are_ours() -> None:
    CALLED.clear()
    assert read_pickle(pickled([Named("ours.Thing"), Call("ours.note", (1, "a"))]), GRAMMAR) == [
        Global("ours.Thing"),
        2,
    ]
    assert CALLED == [(1, "a")]
    assert read_pickle(pickled(Reference("x")), GRAMMAR) == ("referred", "x")


class Harm:
    """Would make a file, if anything executed it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_is_executed(protocol: int, tmp_path: Path) -> None:
    target = tmp_path / "harm"
    data = pickle.dumps({"weights": Harm(target)}, protocol)
    with pytest.raises(PickleError) as caught:
        read_pickle(data, GRAMMAR)
    if protocol >= 2:
        assert "nothing was executed" in str(caught.value)
        assert ".open'" in str(caught.value)  # io.open or _io.open
        assert caught.value.hint == "keep it plain"
    assert not target.exists()


REFUSED = {
    "a call of os.system": pickled(Call("os.system", ("true",))),
    "a call by name on the stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "a name that hides a module": b"\x80\x02cos\nsystem.__call__\n.",
    "an allowed name with a dot more": b"\x80\x02cours\nnote.__globals__\n.",
    "a name with a line break": b"\x80\x04\x8c\x05ours\n\x8c\x04note\x93.",
    "a name that is no text": b"\x80\x04K\1K\2\x93.",
    "an object": b"\x80\x02cours\nThing\n)\x81.",
    "an object with keywords": b"\x80\x04cours\nThing\n)}\x92.",
    "an instance": b"(ios\nsystem\n.",
    "an instance of a class on the stack": b"(cours\nThing\no.",
    "an extension": b"\x80\x02\x82\1.",
    "a text of protocol 0": b"S'a\\q'\n.",
    "a set": b"\x80\x04\x8f.",
    "a buffer": b"\x80\x05\x97.",
    "no instruction at all": b"\x80\x02\xff.",
    "a call of a text": b"\x80\x02X\x09\0\0\0ours.note)R.",
    "a call of what may only be named": pickled(Call("ours.Thing", ())),
    "a call of what a call gave": b"\x80\x02cours\nnote\n)R)R.",
    "arguments that are no tuple": b"\x80\x02cours\nnote\n]R.",
    "an ordered dict of a bomb": pickled(Call("collections.OrderedDict", ([("a", 1)],))),
    "the state of a plain dict": pickled(Stated({}, {"__class__": 1})),
    "the state of a name": pickled(Stated(Named("ours.Thing"), {"x": 1})),
    "a number of 255 bytes": b"\x80\x02\x8a\xff" + b"\1" * 255 + b".",
    "a number of gigabytes": b"\x80\x02\x8b\xff\xff\xff\x7f",
    "a text of gigabytes": b"\x80\x02X\xff\xff\xff\xff.",
    "a text of exabytes": b"\x80\x04\x8d" + b"\xff" * 8 + b".",
    "bytes of exabytes": b"\x80\x04\x8e" + b"\xff" * 8 + b".",
    "a text that is no UTF-8": b"\x80\x02X\1\0\0\0\xff.",
    "too many instructions": b"\x80\x02" + b"N" * 5_000 + b".",
    "a tuple as a key": pickled({(1,): 2}),
    "a truth as a key": pickled({True: 2}),
    "a number of 64 bits as a key": pickled({1 << 40: 2}),
    "a list as a key": pickled(Raw(b"}]Ns")),
    "a key without a value": pickled(Raw(b"}(Nu")),
    "items of a list": pickled(Raw(b"](NNu")),
    "an append to a dict": pickled(Raw(b"}Na")),
    "appends to nothing": pickled(Raw(b"(Ne")),
    "a value of an empty stack": b"\x80\x02.",
    "a value behind a mark": b"\x80\x02N(.",
    "three values where there are two": b"\x80\x02NN\x87.",
    "a mark that is missing": b"\x80\x02Nt.",
    "a memory of nothing": b"\x80\x02h\7.",
    "remembering nothing": b"\x80\x02q\0.",
    "an unknown protocol": b"\x80\x09N.",
    "nothing": b"",
    "no end": b"\x80\x02N",
    "a name without an end": b"\x80\x02c" + b"a" * 100_000,
    "half a number": b"\x80\x02J\1",
}


@pytest.mark.parametrize("case", REFUSED)
def test_all_else_is_refused_in_a_line(case: str) -> None:
    CALLED.clear()
    with pytest.raises(PickleError) as caught:
        read_pickle(REFUSED[case], GRAMMAR)
    assert 0 < len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)
    if case != "a call of what a call gave":
        assert not CALLED


def test_without_a_meaning_references_are_refused() -> None:
    with pytest.raises(PickleError, match="outside the file"):
        read_pickle(pickled(Reference("x")), PLAIN)


DEPTH = 100_000
DEEP = {
    "tuples": b"N" + b"\x85" * DEPTH,
    "lists": b"]" * DEPTH + b"a" * (DEPTH - 1),
    "marks": b"(" * DEPTH + b"t" * DEPTH,
}


@pytest.mark.parametrize("kind", DEEP)
def test_depth_does_no_harm(kind: str) -> None:
    """That many tuples in each other would end Python's own hashing, comparing and printing."""
    wide = Grammar(purpose="", builders={}, max_instructions=10 * DEPTH)
    assert type(read_pickle(b"\x80\x02" + DEEP[kind] + b".", wide)) in (tuple, list)


def test_references_to_one_thing_do_not_multiply_it() -> None:
    """The billion laughs: forty lists of two references each to the one before."""
    steps = b"".join(b"(" + 2 * (b"h" + bytes((n,))) + b"tq" + bytes((n + 1,)) for n in range(40))
    value = read_pickle(b"\x80\x02Nq\0" + steps + b".", PLAIN)
    assert isinstance(value, tuple)
    assert value[0] is value[1]


@settings(max_examples=4 * settings.default.max_examples, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_give_a_value_or_our_error(data: bytes) -> None:
    for start in (b"", b"\x80\x02", b"\x80\x04"):
        try:
            read_pickle(start + data, GRAMMAR)
        except PickleError as error:
            assert "\n" not in str(error)


VALID = pickle.dumps(
    {"state": collections.OrderedDict(a=[1, 2.5, "x"], b=(None, True, -7)), "epoch": 1 << 40}, 2
)


@settings(max_examples=4 * settings.default.max_examples, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    length=st.integers(0, len(VALID)),
)
def test_damage_gives_a_value_or_our_error(changes: list[tuple[int, int]], length: int) -> None:
    data = bytearray(VALID)
    for at, byte in changes:
        data[at] = byte
    for damaged in (bytes(data), bytes(data[:length])):
        try:
            read_pickle(damaged, GRAMMAR)
        except PickleError as error:
            assert "\n" not in str(error)


def test_a_float_is_the_same_to_the_last_bit() -> None:
    (value,) = struct.unpack(">d", b"\x40\x09\x21\xfb\x54\x44\x2d\x18")
    assert read_pickle(pickled(value), PLAIN) == value
