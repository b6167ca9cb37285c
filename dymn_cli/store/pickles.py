"""Read pickles as data: an interpreter of the few instructions that plain values are written with.

A pickle is a program for a small stack machine. Python's own machine imports and calls whatever the program
names; this one cannot call anything. Its instructions make numbers, strings, lists, tuples and dicts. A
global becomes a `Global`, which is only its name, and is refused unless the `Grammar` lists it; a call looks
the name up among the grammar's builders, functions of ours that check their arguments. Instructions that
such files never use (text forms of protocols 0 and 1, objects, extensions, sets, buffers) are refused.

The work is bounded. Every instruction takes constant time and memory, or as much as its bytes in the file.
The number of instructions, the size of numbers (64 bits) and the keys of dicts (strings and 32-bit numbers,
so that hashing neither recurses nor collides) are limited. Nothing walks into a value, so depth is harmless.

A `pickle.Unpickler` whose `find_class` refuses all else is shorter, but it does not bound the work: with a
nested tuple as the key of a dict, 136 bytes hang it and 3 MB crash the process, and 9 bytes make it ask for
32 GB for its memo.

Format: protocols 2 to 5, PEP 307, PEP 3154, PEP 574, and the comments of CPython's `Lib/pickletools.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

__all__ = ["Global", "Grammar", "Ordered", "PickleError", "Stateful", "read_pickle"]

Value = object
Builder = Callable[[tuple[Value, ...]], Value]
_T = TypeVar("_T")

PROTOCOLS = range(2, 6)
LONGEST_NUMBER = 9  # bytes: 64 bits and a sign
LARGEST_KEY = 1 << 31
LONGEST_NAME = 512  # bytes of a module's or a global's name
QUOTED = 80  # characters of a name that an error repeats


class PickleError(ValueError):
    """A pickle is refused; the message goes behind the name of the file."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or function, `module.name`; never the thing itself."""

    name: str


class Stateful:
    """A value whose state the pickle may set."""

    def set_state(self, state: Value) -> None:
        """Take the state in, or ignore it.

        Raises:
            PickleError: the state does not fit.
        """
        raise NotImplementedError


class Ordered(dict[Value, Value], Stateful):
    """An `OrderedDict`; its attributes, such as the version of each module, are ignored."""

    def set_state(self, state: Value) -> None:
        """Ignore it."""

    @staticmethod
    def build(arguments: tuple[Value, ...]) -> Ordered:
        """Make an empty one; its items follow as instructions of their own."""
        if arguments:
            raise PickleError("makes an OrderedDict from arguments")
        return Ordered()


@dataclass(frozen=True, slots=True)
class Grammar:
    """What a kind of pickle may hold besides plain values.

    Args:
        purpose: what may be in such a pickle, for errors.
        builders: name of a global → the function that stands in for a call of it.
        names: other globals that may be named.
        reference: reads a persistent id; None if there must be none.
        hint: what to do about a file that holds more.
        max_instructions: the most that a pickle may have.
    """

    purpose: str
    builders: Mapping[str, Builder]
    names: frozenset[str] = frozenset()
    reference: Callable[[Value], Value] | None = None
    hint: str | None = None
    max_instructions: int = 1_000_000


def read_pickle(data: bytes, grammar: Grammar) -> Value:
    """Read the value that a pickle describes.

    Args:
        data: the pickle; bytes after its end are ignored.
        grammar: what it may hold.

    Returns:
        None, bool, int, float, str, bytes, tuple, list, dict, `Ordered`, `Global`, or what a builder made.

    Raises:
        PickleError: it is damaged, or holds more than the grammar and the limits allow.
    """
    return _Machine(data, grammar).run()


@dataclass(slots=True)
class _Machine:
    data: bytes
    grammar: Grammar
    at: int = 0
    stack: list[Value] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Value] = field(default_factory=dict)

    def run(self) -> Value:
        end = len(self.data)
        for _ in range(self.grammar.max_instructions):
            if self.at >= end:
                raise PickleError("is a pickle that is cut short")
            code = self.data[self.at]
            self.at += 1
            if code == STOP:
                return self.pop()
            instruction = INSTRUCTIONS.get(code)
            if instruction is None:
                raise PickleError(f"uses the pickle instruction {_name_of(code)}, which dymn does not read")
            instruction(self)
        raise PickleError(f"has more than {self.grammar.max_instructions:,} pickle instructions")

    # ------------------------------------------------------------------ reading

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise PickleError("is a pickle that is cut short")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + LONGEST_NAME)
        if end < 0:
            raise PickleError("is a damaged pickle: a name has no end")
        line = _text(self.take(end - self.at))
        self.at += 1
        return line

    # ------------------------------------------------------------------ the stack

    def push(self, value: Value) -> None:
        self.stack.append(value)

    def top(self) -> Value:
        """The last value; those before a mark cannot be reached until the mark is removed."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise PickleError("is a damaged pickle: it takes more values than there are")
        return self.stack[-1]

    def pop(self) -> Value:
        value = self.top()
        self.stack.pop()
        return value

    def pop_several(self, count: int) -> tuple[Value, ...]:
        return tuple(reversed([self.pop() for _ in range(count)]))

    def pop_to_mark(self) -> list[Value]:
        if not self.marks:
            raise PickleError("is a damaged pickle: a mark is missing")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def top_as(self, kind: type[_T], what: str) -> _T:
        value = self.top()
        if not isinstance(value, kind):
            raise PickleError(f"is a damaged pickle: {what}")
        return value

    # ------------------------------------------------------------------ instructions

    def protocol(self) -> None:
        protocol = self.number(1)
        if protocol not in PROTOCOLS:
            raise PickleError(
                f"is a pickle of protocol {protocol}; dymn reads {PROTOCOLS[0]} to {PROTOCOLS[-1]}"
            )

    def long_number(self) -> None:
        size = self.number(1)
        if size > LONGEST_NUMBER:
            raise PickleError("holds a number of more than 64 bits")
        self.push(int.from_bytes(self.take(size), "little", signed=True))

    def append(self) -> None:
        value = self.pop()
        self.top_as(list, "it appends to something other than a list").append(value)

    def append_several(self) -> None:
        values = self.pop_to_mark()
        self.top_as(list, "it appends to something other than a list").extend(values)

    def set_items(self, values: Sequence[Value]) -> None:
        target = self.top_as(dict, "it sets items of something other than a dict")
        if len(values) % 2:
            raise PickleError("is a damaged pickle: a key has no value")
        for n in range(0, len(values), 2):
            key = values[n]
            if type(key) is not str and not (type(key) is int and abs(key) < LARGEST_KEY):
                raise PickleError("holds a dict with keys that are neither strings nor 32-bit numbers")
            target[key] = values[n + 1]

    def remember(self, key: int) -> None:
        self.memo[key] = self.top()

    def recall(self, key: int) -> None:
        if key not in self.memo:
            raise PickleError("is a damaged pickle: it recalls a value that it never stored")
        self.push(self.memo[key])

    def name(self) -> None:
        module = self.line()
        self.push_global(module, self.line())

    def name_from_stack(self) -> None:
        module, name = self.pop_several(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise PickleError("is a damaged pickle: a global has no name")
        self.push_global(module, name)

    def push_global(self, module: str, name: str) -> None:
        full = f"{module}.{name}"
        if full not in self.grammar.builders and full not in self.grammar.names:
            raise PickleError(
                f"asks for {_quoted(full)}: {self.grammar.purpose}, and nothing was executed",
                hint=self.grammar.hint,
            )
        self.push(Global(full))

    def refer(self) -> None:
        if self.grammar.reference is None:
            raise PickleError("refers to something outside the file", hint=self.grammar.hint)
        self.push(self.grammar.reference(self.pop()))

    def call(self) -> None:
        function, arguments = self.pop_several(2)
        if not isinstance(function, Global) or function.name not in self.grammar.builders:
            raise PickleError("calls what cannot be called", hint=self.grammar.hint)
        if not isinstance(arguments, tuple):
            raise PickleError("is a damaged pickle: its arguments are not a tuple")
        self.push(self.grammar.builders[function.name](arguments))

    def build(self) -> None:
        state = self.pop()
        self.top_as(Stateful, "it sets the state of a plain value").set_state(state)


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as exc:
        raise PickleError("is a damaged pickle: a string is not UTF-8") from exc


def _quoted(text: str) -> str:
    return repr(text if len(text) <= QUOTED else text[:QUOTED] + "…")


def _name_of(code: int) -> str:
    from pickletools import opcodes

    return next((opcode.name for opcode in opcodes if opcode.code == chr(code)), f"0x{code:02x}")


STOP = ord(".")
INSTRUCTIONS: dict[int, Callable[[_Machine], object]] = {
    0x80: _Machine.protocol,
    0x95: lambda m: m.take(8),  # the number of bytes that follow; only readers of streams need it
    ord("("): lambda m: m.marks.append(len(m.stack)),
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("J"): lambda m: m.push(int.from_bytes(m.take(4), "little", signed=True)),
    ord("K"): lambda m: m.push(m.number(1)),
    ord("M"): lambda m: m.push(m.number(2)),
    0x8A: _Machine.long_number,
    ord("G"): lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    ord("X"): lambda m: m.push(_text(m.take(m.number(4)))),
    0x8C: lambda m: m.push(_text(m.take(m.number(1)))),
    0x8D: lambda m: m.push(_text(m.take(m.number(8)))),
    ord("B"): lambda m: m.push(m.take(m.number(4))),
    ord("C"): lambda m: m.push(m.take(m.number(1))),
    0x8E: lambda m: m.push(m.take(m.number(8))),
    ord(")"): lambda m: m.push(()),
    0x85: lambda m: m.push(m.pop_several(1)),
    0x86: lambda m: m.push(m.pop_several(2)),
    0x87: lambda m: m.push(m.pop_several(3)),
    ord("t"): lambda m: m.push(tuple(m.pop_to_mark())),
    ord("]"): lambda m: m.push([]),
    ord("a"): _Machine.append,
    ord("e"): _Machine.append_several,
    ord("}"): lambda m: m.push({}),
    ord("s"): lambda m: m.set_items(m.pop_several(2)),
    ord("u"): lambda m: m.set_items(m.pop_to_mark()),
    ord("q"): lambda m: m.remember(m.number(1)),
    ord("r"): lambda m: m.remember(m.number(4)),
    0x94: lambda m: m.remember(len(m.memo)),
    ord("h"): lambda m: m.recall(m.number(1)),
    ord("j"): lambda m: m.recall(m.number(4)),
    ord("c"): _Machine.name,
    0x93: _Machine.name_from_stack,
    ord("Q"): _Machine.refer,
    ord("R"): _Machine.call,
    ord("b"): _Machine.build,
}
