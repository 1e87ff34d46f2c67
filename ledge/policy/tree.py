"""YAML as a tree of texts that know their lines: the only module that imports yaml.

Scalars are not converted: what 010, 1:30, yes or 2025-01-01 mean is for the keys to say and not for
YAML 1.1. Anchors, aliases, tags and keys that stand twice are refused.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Union

from ledge.policy.errors import PolicyError

MAXIMUM_BYTES = 1 << 18

_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {
    _TAG + name
    for name in (
        "str", "int", "float", "bool", "null", "timestamp", "map", "seq",
        "merge", "value",  # "<<" and "=", in YAML 1.1
    )
}  # fmt: skip


class Scalar(NamedTuple):
    """A text; `null` where nothing stands, or null does, without quotes."""

    place: str
    text: str
    null: bool


class Sequence(NamedTuple):
    """A list."""

    place: str
    items: list[Tree]


class Mapping(NamedTuple):
    """Keys, each with its own place, and values, in their order."""

    place: str
    entries: dict[str, tuple[str, Tree]]


Tree = Union[Scalar, Sequence, Mapping]


def read_tree(document: bytes, origin: str) -> Tree | None:
    """The tree of a document, None of an empty one; `origin` names it. Raises PolicyError."""
    if len(document) > MAXIMUM_BYTES:
        raise PolicyError(f"{origin}: a policy has at most {MAXIMUM_BYTES} bytes")
    try:
        text = document.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = document.count(b"\n", 0, error.start) + 1
        raise PolicyError(f"{origin}:{line}: expected UTF-8") from None
    try:
        root = _compose(text, origin)
        return None if root is None else _Reader(origin).tree(root)
    except RecursionError:
        raise PolicyError(f"{origin}: nested too deeply") from None


def _compose(text: str, origin: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        remedy = "install python3-pyyaml (RPM), python3-yaml (Debian) or PyYAML (PyPI)"
        raise PolicyError(f"the Python module yaml cannot be had: {error}", remedy) from None
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{origin}:{mark.line + 1}" if mark else origin
        hint = 'a text with ": " or " #" in it needs quotes around it'
        raise PolicyError(f"{place}: not YAML: {error.problem or error.context}", hint) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise PolicyError(f"{origin}:{line}: not YAML: {error.reason}") from None
    except (ValueError, OverflowError) as error:  # "\\UFFFFFFFF" is the number of no character
        raise PolicyError(f"{origin}: not YAML: {error}") from None


class _Reader:
    """Makes the tree of a document, and sees each node of it once."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.seen: set[int] = set()

    def tree(self, node: Any) -> Tree:
        place = f"{self.origin}:{node.start_mark.line + 1}"
        if id(node) in self.seen:
            raise PolicyError(f"{place}: expected no anchors and aliases", "write it out")
        self.seen.add(id(node))
        if node.tag not in _PLAIN_TAGS:
            raise PolicyError(f"{place}: expected no tag, found {node.tag!r:.80}")
        if node.id == "scalar":
            return Scalar(place, node.value, node.tag == _TAG + "null")
        if node.id == "sequence":
            return Sequence(place, [self.tree(item) for item in node.value])
        return self.mapping(place, node)

    def mapping(self, place: str, node: Any) -> Mapping:
        entries: dict[str, tuple[str, Tree]] = {}
        for key_node, value_node in node.value:
            key = self.tree(key_node)
            if not isinstance(key, Scalar):
                raise PolicyError(f"{key.place}: expected a word as the key")
            if key.text in entries:
                earlier = entries[key.text][0].rpartition(":")[2]
                problem = f"{key.place}: the key {key.text!r:.80} stands twice"
                raise PolicyError(problem, f"it has a value on line {earlier}")
            entries[key.text] = (key.place, self.tree(value_node))
        return Mapping(place, entries)
