"""What may stand in the defaults and the rules of a policy: each key, and the values it takes.

A key reads literals (`literal`), takes what an expression gave (`converted`), compares what a job
asks for with the bounds that the policy sets (`within`) and enters a value into a plan (`put`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Protocol, Union

from ledge.plan.document import MOST_PORTS
from ledge.plan.plan import APART, EXECUTE, NAMESPACES, NETWORKS, Plan
from ledge.policy.errors import Unfit
from ledge.policy.quantities import BYTES, Quantity, Share, amount, check, read

# None is "no limit".
Value = Union[int, float, str, Share, tuple[str, ...], None]

NONE = "none"


class NotLiteral(Exception):
    """A text that is no literal of a key: it may be an expression."""


class Key(Protocol):
    """A key of the policy that has one value, literal or by an expression."""

    @property
    def name(self) -> str:
        """How it is written in the policy."""

    @property
    def expected(self) -> str:
        """What it takes, in words that follow "expected "."""

    @property
    def words(self) -> tuple[str, ...]:
        """The words among its literals."""

    @property
    def bounds(self) -> tuple[str, ...]:
        """The keys with which `requests` can bound it."""

    def literal(self, text: str) -> Value:
        """The value of a literal. Raises NotLiteral, and Unfit for one out of place."""

    def converted(self, result: object) -> Value:
        """The value that an expression gave. Raises Unfit."""

    def within(self, value: Value, bound: str, limit: Value) -> bool:
        """Whether a value that a job asks for is on the right side of a bound."""

    def put(self, plan: Plan, value: Value) -> None:
        """Enter the value into a plan."""

    def of(self, plan: Plan) -> Value:
        """The value that a plan has."""

    def shown(self, value: Value) -> str:
        """The value as it is written in a policy."""


class QuantityKey:
    """A key with a number for its value, or none."""

    words = (NONE,)
    bounds = ("at_least", "at_most")

    def __init__(self, name: str, quantity: Quantity) -> None:
        self.name = name
        self.quantity = quantity

    @property
    def expected(self) -> str:
        """What it takes."""
        return self.quantity.expected

    def literal(self, text: str) -> Value:
        """A quantity, or none."""
        if text.strip().lower() == NONE:
            return None
        value = read(text, self.quantity)
        if value is None:
            raise NotLiteral
        return value

    def converted(self, result: object) -> Value:
        """Of a number, or of a string with a quantity."""
        if isinstance(result, (int, float)):
            return check(result, self.quantity)
        try:
            if isinstance(result, str):
                return self.literal(result)
        except NotLiteral:
            pass
        raise Unfit(self.expected)

    def within(self, value: Value, bound: str, limit: Value) -> bool:
        """No limit is more than any number."""
        number = _number(value)
        return number >= _number(limit) if bound == "at_least" else number <= _number(limit)

    def put(self, plan: Plan, value: Value) -> None:
        """A limit of the plan."""
        setattr(plan.limits, self.quantity.limit, value)

    def of(self, plan: Plan) -> Value:
        """The limit of the plan."""
        value: int | float | None = getattr(plan.limits, self.quantity.limit)
        return value

    def shown(self, value: Value) -> str:
        """With its unit."""
        return NONE if value is None else amount(_number(value), self.quantity)


class WordKey:
    """A key with one of a few words for its value."""

    bounds = ("one_of",)

    def __init__(self, name: str, words: tuple[str, ...]) -> None:
        self.name = name
        self.words = words

    @property
    def expected(self) -> str:
        """What it takes."""
        return " or ".join(self.words)

    def literal(self, text: str) -> Value:
        """One of the words."""
        if text.strip() not in self.words:
            raise NotLiteral
        return text.strip()

    def converted(self, result: object) -> Value:
        """Of a string that is one of the words."""
        if not isinstance(result, str) or result.strip() not in self.words:
            raise Unfit(self.expected)
        return result.strip()

    def within(self, value: Value, bound: str, limit: Value) -> bool:
        """Whether the word is one of those allowed."""
        return value in _words(limit)

    def put(self, plan: Plan, value: Value) -> None:
        """The field of the plan that has the same name."""
        setattr(plan, self.name, value)

    def of(self, plan: Plan) -> Value:
        """The field of the plan."""
        value: str = getattr(plan, self.name)
        return value

    def shown(self, value: Value) -> str:
        """The word, or the words of one_of."""
        return value if isinstance(value, str) else ", ".join(_words(value))


class FlagKey(WordKey):
    """A key that is true or false."""

    def __init__(self, name: str) -> None:
        super().__init__(name, ("true", "false"))

    def converted(self, result: object) -> Value:
        """Of a boolean too."""
        return super().converted(str(result).lower() if isinstance(result, bool) else result)

    def put(self, plan: Plan, value: Value) -> None:
        """The field of the plan that has the same name."""
        setattr(plan, self.name, value == "true")

    def of(self, plan: Plan) -> Value:
        """The field of the plan."""
        return "true" if getattr(plan, self.name) else "false"


class WordsKey:
    """A key with any of a few words for its value, separated by commas; none for none of them."""

    bounds = ("at_least", "at_most")

    def __init__(self, name: str, choices: tuple[str, ...]) -> None:
        self.name = name
        self.choices = choices
        self.words = (*choices, NONE)

    @property
    def expected(self) -> str:
        """What it takes."""
        return f"any of {', '.join(self.choices)}, or none"

    def literal(self, text: str) -> Value:
        """Words with commas between them."""
        words = words_of(text)
        if words == (NONE,) or not text.strip():
            return ()
        if not set(words) <= set(self.choices):
            raise NotLiteral
        return words

    def converted(self, result: object) -> Value:
        """Of a string of words or a list of strings."""
        if isinstance(result, list) and all(isinstance(word, str) for word in result):
            result = ",".join(result)
        try:
            if isinstance(result, str):
                return self.literal(result)
        except NotLiteral:
            pass
        raise Unfit(self.expected)

    def within(self, value: Value, bound: str, limit: Value) -> bool:
        """At least, and at most, these words."""
        words, bounding = set(_words(value)), set(_words(limit))
        return bounding <= words if bound == "at_least" else words <= bounding

    def put(self, plan: Plan, value: Value) -> None:
        """The field of the plan that has the same name."""
        setattr(plan, self.name, _words(value))

    def of(self, plan: Plan) -> Value:
        """The field of the plan."""
        value: tuple[str, ...] = getattr(plan, self.name)
        return value

    def shown(self, value: Value) -> str:
        """The words."""
        return ", ".join(_words(value)) or NONE


class PathsKey(WordsKey):
    """Paths, or words that stand for some, separated by commas; no expression gives a path.

    What the job does not find, no program of root's that it starts finds either: so the daemon has
    to know each path from the policy itself (ledge/policy/terms.py).
    """

    @property
    def expected(self) -> str:
        """What it takes."""
        return f"any of {', '.join(self.choices)} and absolute paths, or none"

    def literal(self, text: str) -> Value:
        """Words and paths with commas between them."""
        words = words_of(text)
        if not any(word.startswith("/") for word in words):
            return super().literal(text)
        for word in words:
            if word not in self.choices and not is_plain_path(word):
                raise Unfit(self.expected)
        return words


def is_plain_path(text: str) -> bool:
    """Whether it is absolute, not the root, and has no part that leads elsewhere."""
    parts = text.split("/")
    return text.startswith("/") and text.isprintable() and not {"", ".", ".."} & {*parts[1:]}


class PortsKey:
    """A key with TCP ports and ranges of them for its value, separated by commas, or none."""

    words = (NONE,)
    bounds = ("at_most",)
    expected = "ports such as 8080 or 8000-8010, or none"

    def __init__(self, name: str) -> None:
        self.name = name

    def literal(self, text: str) -> Value:
        """Ports and ranges with commas between them."""
        words = words_of(text)
        if words == (NONE,):
            return ()
        for word in words:
            first, dash, last = word.partition("-")
            if not first.isdecimal() or not (last.isdecimal() or not dash):
                raise NotLiteral
            if not 0 < int(first) <= int(last or first) < 65536:
                raise Unfit("ports from 1 to 65535, the lower one of a range first")
        return words

    def converted(self, result: object) -> Value:
        """Of a number, or of a string of ports."""
        try:
            if isinstance(result, (int, str)) and not isinstance(result, bool):
                return self.literal(str(result))
        except NotLiteral:
            pass
        raise Unfit(self.expected)

    def within(self, value: Value, bound: str, limit: Value) -> bool:
        """At most these ports."""
        return set(_ports(value)) <= set(_ports(limit))

    def put(self, plan: Plan, value: Value) -> None:
        """The ports, or more than a plan may have."""
        plan.network_ports = tuple(islice(_ports(value), MOST_PORTS + 1))

    def of(self, plan: Plan) -> Value:
        """The ports of the plan."""
        return tuple(map(str, plan.network_ports))

    def shown(self, value: Value) -> str:
        """The ports."""
        return ", ".join(_words(value)) or NONE


def _ports(value: Value) -> Iterator[int]:
    for word in _words(value):
        first, _, last = word.partition("-")
        yield from range(int(first), int(last or first) + 1)


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text with commas between them, each once."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",")))


def _words(value: Value) -> tuple[str, ...]:
    assert isinstance(value, tuple) and not isinstance(value, Share)
    return value


def _number(value: Value) -> int | float:
    assert value is None or isinstance(value, (int, float))
    return float("inf") if value is None else value


_MEGABYTE = 1 << 20

KEYS: dict[str, Key] = {
    key.name: key
    for key in (
        WordsKey("namespaces", NAMESPACES),
        WordKey("cgroup", ("leaf", "none")),
        WordKey("network", NETWORKS),
        PortsKey("network_ports"),
        WordKey("on_failure", ("refuse", "run")),
        PathsKey("hide", (EXECUTE,)),
        WordKey("abstract_sockets", APART),
        WordKey("loopback", APART),
        WordKey("keyring", ("own", "shared")),
        FlagKey("no_new_privs"),
        QuantityKey("pids_max", Quantity("pids_max", "1000")),
        QuantityKey(
            "memory_high", Quantity("memory_high_bytes", "512M or 90%", BYTES, percent="Memory")
        ),
        QuantityKey(
            "memory_swap_max",
            Quantity(
                "memory_swap_max_bytes",
                "512M or 50%",
                BYTES,
                percent="Memory",
                smallest_but_zero=_MEGABYTE,
            ),
        ),
        QuantityKey("cpu_max", Quantity("cpu_max_cores", "1.5 or 150%", percent="core")),
        QuantityKey("exclusive_cpus", Quantity("exclusive_cpus", "4")),
        QuantityKey(
            "io_read_max", Quantity("io_read_bytes_per_second", "10MB/s", BYTES, rate=True)
        ),
        QuantityKey(
            "io_write_max", Quantity("io_write_bytes_per_second", "10MB/s", BYTES, rate=True)
        ),
        QuantityKey(
            "io_read_operations_max",
            Quantity("io_read_operations_per_second", "1000/s", rate=True),
        ),
        QuantityKey(
            "io_write_operations_max",
            Quantity("io_write_operations_per_second", "1000/s", rate=True),
        ),
        QuantityKey("io_weight", Quantity("io_weight", "100")),
    )
}

# What a mount may have of: they are no keys of the policy, but read like them.
AMOUNTS = {
    "size_bytes": QuantityKey(
        "mounts: size", Quantity("size_bytes", "2G or 50%", BYTES, percent="Memory")
    ),
    "inodes": QuantityKey("mounts: inodes", Quantity("inodes", "100000")),
}


def attribute_of(name: str) -> str:
    """The job attribute that asks for a key, if the policy names no other: LedgePidsMax."""
    return "Ledge" + "".join(part.capitalize() for part in name.split("_"))
