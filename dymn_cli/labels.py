"""The labels of a model, and the ontology of AudioSet.

    Vocabulary   the labels of a model, in the order of its outputs: the 527 of AudioSet, the 447 of AudioSet
                 Strong, or its own
    Ontology     AudioSet's graph of sounds: 632 nodes, of which 527 are labels; some have several parents

Both find a label by its name in any case, an id such as `/m/07yv9`, or a slug such as
`subway-metro-underground`; `Vocabulary.match` also takes words that only one name contains. Names are never
split at commas: "Subway, metro, underground" is one label.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from dymn_cli.errors import UsageError

__all__ = ["Label", "Node", "Ontology", "TreeRow", "Vocabulary"]

SILENCE = "/m/028v0c"
N_NEAREST = 3
N_MATCHES = 6  # labels that an error lists where a word is in several
MIN_STEM = 3  # letters that words such as "barking" and "bark" must share
ENDINGS = ("ings", "ing", "ers", "er", "ed", "es", "s")  # longest first
MIN_SIMILARITY = 0.25  # of spelling, 0 to 1; below, the exact value does not matter


def _slug(name: str) -> str:
    """Lower-case words joined by hyphens."""
    return "-".join(_words(name))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", re.sub(r"['’]", "", text.casefold()))


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


@dataclass(frozen=True, slots=True)
class Label:
    """One output of a model: its index, its AudioSet id ("" if it has none) and its name."""

    index: int
    mid: str
    name: str

    @property
    def slug(self) -> str:
        """The name as one word for shells and file names: `subway-metro-underground`."""
        return _slug(self.name)


@dataclass(frozen=True, slots=True)
class Node:
    """A sound of the ontology; `label` is None if it is not one of the 527."""

    mid: str
    name: str
    label: Label | None

    @property
    def is_class(self) -> bool:
        """Whether it is one of the 527."""
        return self.label is not None

    @property
    def slug(self) -> str:
        """The name as one word for shells and file names."""
        return _slug(self.name)


@dataclass(frozen=True, slots=True)
class TreeRow:
    """A line of the ontology as a tree; the roots have depth 0."""

    node: Node
    depth: int

    @property
    def name(self) -> str:
        """The name of the node."""
        return self.node.name

    @property
    def is_class(self) -> bool:
        """Whether the node is one of the 527."""
        return self.node.is_class


class _Named(Protocol):
    @property
    def mid(self) -> str: ...
    @property
    def name(self) -> str: ...


_Item = TypeVar("_Item", bound=_Named)


class _Finder(Generic[_Item]):
    """Finds items by their name: exactly, by a part of it, or by similarity."""

    def __init__(self, items: Iterable[_Item], kind: str) -> None:
        self._items = tuple(items)
        self._kind = kind
        self._exact = {item.name: item for item in self._items}
        self._exact.update({item.mid: item for item in self._items if item.mid})
        self._alike: dict[str, list[_Item]] = {}
        for item in self._items:
            for key in {_folded(item.name), _slug(item.name)} - {""}:
                self._alike.setdefault(key, []).append(item)

    def named(self, text: str) -> list[_Item]:
        """The items of this name, id or slug."""
        if text.strip() in self._exact:
            return [self._exact[text.strip()]]
        return self._alike.get(_folded(text)) or self._alike.get(_slug(text)) or []

    def find(self, text: str) -> _Item:
        alike = self.named(text)
        if len(alike) == 1:
            return alike[0]
        if alike:
            names = _quoted(item.name for item in alike)
            raise UsageError(f"{self._kind} {text!r} may be any of {names}", hint="spell it exactly")
        raise UsageError(f"unknown {self._kind} {text!r}", hint=f"nearest: {_quoted(self._nearest(text))}")

    def match(self, text: str) -> _Item:
        try:
            return self.find(text)
        except UsageError as unknown:
            found = [item for item in self.search(text) if _tier(_words(text), item.name) <= WHOLE_WORDS]
            if not _words(text) or not found:
                raise
            # "Chirp, tweet" lists names for one sound: it is called chirp, and "Chirp tone" is not.
            called_so = [item for item in found if _tier(_words(text), item.name) <= ONE_OF_ITS_NAMES]
            for matches in (called_so, found):
                if len(matches) == 1:
                    return matches[0]
            names = _quoted(item.name for item in found[:N_MATCHES])
            more = f"; and {len(found) - N_MATCHES} more: dymn labels" if len(found) > N_MATCHES else ""
            raise UsageError(
                f"{text!r} is in the names of {len(found)} {self._kind}s", hint=f"one of {names}{more}"
            ) from unknown

    def search(self, query: str) -> list[_Item]:
        """All items that contain the words of the query, best first; all items for an empty query."""
        if not query.strip():
            return list(self._items)
        if query.strip().startswith("/") and query.strip() in self._exact:
            return [self._exact[query.strip()]]
        ranked = [(rank, n) for n, item in enumerate(self._items) if (rank := _rank(query, item.name))]
        return [self._items[n] for _, n in sorted(ranked)]

    def _nearest(self, text: str) -> list[str]:
        matches = [item.name for item in self.search(text)] if text.strip() else []
        likeness = _Likeness(text)
        others = sorted((item.name for item in self._items), key=likeness.of, reverse=True)
        return list(dict.fromkeys([*matches[:N_NEAREST], *others]))[:N_NEAREST]


def _quoted(names: Iterable[str]) -> str:
    return "; ".join(f'"{name}"' for name in names)


def _parts(name: str) -> list[str]:
    """The parts of a name: "Fire engine, fire truck (siren)" has fire engine, fire truck and siren."""
    return [_folded(part) for part in re.split(r"[,()]", name) if part.strip()]


ITS_NAME, ONE_OF_ITS_NAMES, WHOLE_WORDS, BEGINNINGS, ANYWHERE, NOWHERE = range(6)


def _tier(wanted: list[str], name: str) -> int:
    """Where in a name words are found."""
    text = _words(name)
    if wanted == text:
        return ITS_NAME
    if any(_words(part) == wanted for part in _parts(name)):
        return ONE_OF_ITS_NAMES
    if all(word in text for word in wanted):
        return WHOLE_WORDS
    if all(any(other.startswith(word) for other in text) for word in wanted):
        return BEGINNINGS
    return ANYWHERE if all(word in _slug(name) for word in wanted) else NOWHERE


def _rank(query: str, name: str) -> tuple[int, int, int] | None:
    """How well a name answers a query, smaller is better; None where it does not contain it."""
    wanted = _words(query)
    if not wanted:
        return (NOWHERE, 0, len(name)) if _folded(query) in _folded(name) else None
    tier = _tier(wanted, name)
    return None if tier == NOWHERE else (tier, _slug(name).find(wanted[0]), len(name))


class _Likeness:
    """How similar a name is to what was typed, 0 to 1."""

    def __init__(self, text: str) -> None:
        from difflib import SequenceMatcher  # only a misspelt label needs it

        self._words = _words(text)
        self._matcher = SequenceMatcher(autojunk=False)
        self._matcher.set_seq2(" ".join(self._words))

    def of(self, name: str) -> tuple[float, int]:
        """The similarity; then, as the second sort key, how few words the name has."""
        words = _words(name)
        spelling = max(
            self._ratio(" ".join(words)),
            *(self._ratio(" ".join(_words(part))) for part in _parts(name)),
            *(0.9 * self._ratio(word) for word in words),
            0.0,
        )
        stems = [any(_share_stem(typed, word) for word in words) for typed in self._words]
        stem = 0.95 * sum(stems) / len(stems) if stems else 0.0
        return (max(spelling, stem), -len(words))

    def _ratio(self, candidate: str) -> float:
        self._matcher.set_seq1(candidate)
        if self._matcher.real_quick_ratio() < MIN_SIMILARITY:
            return 0.0
        return self._matcher.ratio()


def _share_stem(one: str, other: str) -> bool:
    """Whether two words differ only in their endings, like barking, barks and bark."""
    return one[:MIN_STEM] == other[:MIN_STEM] and _stem(one) == _stem(other)


def _stem(word: str) -> str:
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) >= MIN_STEM + len(ending):
            return word.removesuffix(ending).removesuffix("e")
    return word.removesuffix("e")


class Vocabulary:
    """The labels of a model, in the order of its outputs.

    Args:
        labels: one for each output; their indices count from 0.

    Raises:
        UsageError: no labels, an empty name, indices out of order, or a name or id that occurs twice.
            Names may differ only in case; such a label is found only by its exact spelling.
    """

    def __init__(self, labels: Iterable[Label]) -> None:
        self.labels = tuple(labels)
        if not self.labels:
            raise UsageError("a vocabulary needs at least one label")
        seen: set[str] = set()
        for index, label in enumerate(self.labels):
            if label.index != index:
                raise UsageError(f"vocabulary: label {label.name!r} has index {label.index} at place {index}")
            if not label.name.strip():
                raise UsageError(f"vocabulary: label {index} has no name")
            keys = {label.name, label.mid} - {""}
            if keys & seen:
                raise UsageError(f"vocabulary: label {label.name!r} occurs twice")
            seen |= keys

    @classmethod
    def audioset(cls) -> Vocabulary:
        """The 527 classes of AudioSet, in the order of its list; read once."""
        return _audioset()

    @classmethod
    def audioset_strong(cls) -> Vocabulary:
        """The 447 classes of AudioSet Strong that were trained on, by name; read once.

        376 of them are among the 527; the id tells, since eleven have another name there.
        """
        return _audioset_strong()

    @classmethod
    def from_names(cls, names: Iterable[str]) -> Vocabulary:
        """The vocabulary of your own model, without AudioSet ids.

        Raises:
            UsageError: no names, an empty one, or one that occurs twice.
        """
        return cls(Label(index, "", name) for index, name in enumerate(names))

    @functools.cached_property
    def silence(self) -> int | None:
        """Index of AudioSet's "Silence"; None if there is no such label."""
        return next((label.index for label in self.labels if label.mid == SILENCE), None)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of the outputs."""
        return tuple(label.name for label in self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    def __getitem__(self, index: int) -> Label:
        return self.labels[index]

    def __contains__(self, label: object) -> bool:
        """Whether it is a label, or text by which `find` finds one."""
        return len(self._finder.named(label)) == 1 if isinstance(label, str) else label in self.labels

    def __repr__(self) -> str:
        names = ", ".join(repr(label.name) for label in self.labels[:N_NEAREST])
        more = ", …" if len(self) > N_NEAREST else ""
        return f"<Vocabulary of {len(self)}: {names}{more}>"

    def find(self, text: str) -> Label:
        """The label of this name (in any case), id or slug.

        Raises:
            UsageError: there is none; the hint has the three nearest names.
        """
        return self._finder.find(text)

    def match(self, text: str) -> Label:
        """The label that `find` finds, or else the only one whose name contains these words.

        A label that lists them between its commas as one of its names comes before others: "chirp" is
        "Chirp, tweet", although there is a "Chirp tone".

        Raises:
            UsageError: there is none, or several; the hint has those that contain the words, or the nearest.
        """
        return self._finder.match(text)

    def search(self, query: str) -> list[Label]:
        """Labels that contain every word of the query, in any case, best match first.

        First the name itself, then names with that part between commas, then whole words, beginnings of
        words, and anything else. An empty query gives all labels in order.
        """
        return self._finder.search(query)

    @functools.cached_property
    def _finder(self) -> _Finder[Label]:
        return _Finder(self.labels, "label")


class Ontology:
    """AudioSet's graph of sounds; a node may have several parents, and there are no cycles.

    Methods take a `Node`, a `Label`, an id, a name in any case or a slug. Results are in the order of the
    ontology, depth first, each node once.

    Args:
        nodes: all nodes.
        edges: (parent id, child id), in the order of the children.
    """

    def __init__(self, nodes: Iterable[Node], edges: Iterable[tuple[str, str]]) -> None:
        self._nodes = {node.mid: node for node in nodes}
        self._children: dict[str, list[Node]] = {mid: [] for mid in self._nodes}
        self._parents: dict[str, list[Node]] = {mid: [] for mid in self._nodes}
        for parent, child in edges:
            self._children[parent].append(self._nodes[child])
            self._parents[child].append(self._nodes[parent])

    @classmethod
    def audioset(cls) -> Ontology:
        """The ontology of AudioSet, with the labels of `Vocabulary.audioset()`; read once."""
        return _audioset_ontology()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes."""
        return tuple(self._nodes.values())

    @property
    def roots(self) -> tuple[Node, ...]:
        """The nodes without a parent: seven in AudioSet."""
        return tuple(node for mid, node in self._nodes.items() if not self._parents[mid])

    def find(self, text: str) -> Node:
        """The node of this id, name (in any case) or slug, label or not.

        Raises:
            UsageError: there is none; the hint has the three nearest names.
        """
        return self._finder.find(text)

    def children(self, of: str | Label | Node) -> tuple[Node, ...]:
        """The kinds of a sound, one level down."""
        return tuple(self._children[self._resolve(of).mid])

    def parents(self, of: str | Label | Node) -> tuple[Node, ...]:
        """What a sound is a kind of, one level up."""
        return tuple(self._parents[self._resolve(of).mid])

    def descendants(self, of: str | Label | Node) -> tuple[Node, ...]:
        """All kinds of a sound, at any level below it, without itself."""
        start = self._resolve(of)
        reached: dict[str, Node] = {}
        stack = [start]
        while stack:
            node = stack.pop()
            if node.mid not in reached:
                reached[node.mid] = node
                stack.extend(reversed(self._children[node.mid]))
        return tuple(node for mid, node in reached.items() if mid != start.mid)

    def labels_under(self, of: str | Label | Node) -> tuple[Label, ...]:
        """The labels of a sound: itself, if it is one, and those among its descendants."""
        start = self._resolve(of)
        return tuple(node.label for node in (start, *self.descendants(start)) if node.label is not None)

    def tree(self, of: str | Label | Node | None = None) -> Iterator[TreeRow]:
        """Walk the graph as a tree, parents before children, from all roots or from one node.

        A node with several parents appears under each of them.
        """
        starts = self.roots if of is None else (self._resolve(of),)
        stack = [TreeRow(node, 0) for node in reversed(starts)]
        while stack:
            row = stack.pop()
            yield row
            children = reversed(self._children[row.node.mid])
            stack.extend(TreeRow(child, row.depth + 1) for child in children)

    def _resolve(self, of: str | Label | Node) -> Node:
        return self.find(of if isinstance(of, str) else of.mid or of.name)

    @functools.cached_property
    def _finder(self) -> _Finder[Node]:
        return _Finder(self._nodes.values(), "sound")


@functools.cache
def _audioset() -> Vocabulary:
    return _vocabulary("audioset_labels.csv")


@functools.cache
def _audioset_strong() -> Vocabulary:
    return _vocabulary("audioset_strong_labels.csv")


def _vocabulary(file: str) -> Vocabulary:
    return Vocabulary(Label(int(row["index"]), row["mid"], row["name"]) for row in _read(file))


@functools.cache
def _audioset_ontology() -> Ontology:
    labels = {label.mid: label for label in Vocabulary.audioset()}
    rows = _read("ontology_edges.csv")
    names: dict[str, str] = {}
    for row in rows:
        names.setdefault(row["parent_mid"], row["parent_name"])
        names.setdefault(row["child_mid"], row["child_name"])
    nodes = (Node(mid, name, labels.get(mid)) for mid, name in names.items())
    return Ontology(nodes, ((row["parent_mid"], row["child_mid"]) for row in rows))


def _read(name: str) -> list[dict[str, str]]:
    import csv  # these two take longer to import than the rest of the program
    from importlib import resources

    text = resources.files("dymn_cli").joinpath("data", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
