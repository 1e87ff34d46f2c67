"""Quantities as people write them: 512M, 10MB/s, 1000/s, 150%, none.

K, M, G, T and P are powers of 1024, with or without a B or iB behind them and in either case, as
in HTCondor's own request_memory.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from ledge.plan.document import LIMIT_BOUNDS, MOUNT_BOUNDS
from ledge.policy.errors import Unfit

BYTES = {
    "": 1,
    "b": 1,
    **{
        letter + suffix: 1024**power
        for power, letter in enumerate("kmgtp", 1)
        for suffix in ("", "b", "ib")
    },
}
_PLAIN = {"": 1}
_BOUNDS = {**LIMIT_BOUNDS, **MOUNT_BOUNDS}

# What only a quantity looks like: digits, with a unit or none, with "/s" or none. What else
# begins with a digit may be an expression, as 2 * RequestCpus.
_QUANTITY = re.compile(
    r"\s*(-?)([0-9]+)(?:\.([0-9]+))?\s*([A-Za-z]+|%)?(\s*/\s*(?:s|sec|second|min|h))?\s*"
)
_MOST_DIGITS = 30
_MORE_THAN_ANYBODY_HAS = 1 << 60


class Share(NamedTuple):
    """A percentage of the slot's memory: `hundredths` of a percent, `text` as it was written."""

    hundredths: int
    text: str

    def of(self, slot_bytes: int) -> int:
        """The bytes that it is of a slot's."""
        return slot_bytes * self.hundredths // 10000


class Quantity(NamedTuple):
    """The numbers that a key takes.

    `limit` is the name in ledge/plan/limits.py, or of an amount of a mount; `example` is what to
    write; `rate` allows "/s" and `percent` says what 100% is: "Memory" (of the slot), "core" or
    nothing.
    """

    limit: str
    example: str
    units: dict[str, int] = _PLAIN
    rate: bool = False
    percent: str = ""
    smallest_but_zero: int = 0

    @property
    def whole(self) -> bool:
        """A real number must have no fraction, instead of losing it."""
        return self.units is _PLAIN and self.percent != "core"

    @property
    def expected(self) -> str:
        """What to write, in words that follow "expected "."""
        smallest, largest = _BOUNDS[self.limit]
        kind = "a whole number" if self.whole else "a number"
        bounds = f"from {amount(smallest, self)} to {amount(largest, self)}"
        if largest > _MORE_THAN_ANYBODY_HAS:
            bounds = f"at least {amount(smallest or self.smallest_but_zero, self)}"
        zero = "0, " if smallest == 0 else ""
        return f"{kind} such as {self.example}, {zero}{bounds}, or none"


def amount(number: float, quantity: Quantity) -> str:
    """A number of the key as a person would write it, in full: 1048576 is 1M."""
    unit = ""
    if quantity.units is BYTES and number >= 1024:
        power = 0
        while power < 5 and number % 1024 == 0:
            number, power = number // 1024, power + 1
        unit = " KMGTP"[power].strip()
    return f"{number}{unit}{'/s' if quantity.rate else ''}"


def read(text: str, quantity: Quantity) -> int | float | Share | None:
    """The value of a text; None if it does not even look like a quantity.

    Raises Unfit for one that looks like it, but is none of this key's.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    sign, digits, decimals, unit, per = match.groups(default="")
    if len(digits) + len(decimals) > _MOST_DIGITS or (per and not quantity.rate):
        raise Unfit(quantity.expected)
    if per.replace(" ", "") not in ("", "/s"):
        raise Unfit(quantity.expected)
    numerator = int(sign + digits + decimals)
    if unit == "%":
        return _percentage(numerator, len(decimals), text, quantity)
    factor = quantity.units.get(unit.lower())
    if factor is None:
        raise Unfit(quantity.expected)
    return _checked(numerator * factor, 10 ** len(decimals), quantity)


def check(number: float, quantity: Quantity) -> int | float:
    """A number that an expression gave, as the key's. Raises Unfit."""
    if isinstance(number, bool) or not math.isfinite(number):
        raise Unfit(quantity.expected)
    return _checked(*number.as_integer_ratio(), quantity)


def _percentage(numerator: int, decimals: int, text: str, quantity: Quantity) -> float | Share:
    if quantity.percent == "core":
        return _checked(numerator, 100 * 10**decimals, quantity)
    if not quantity.percent or numerator < 0 or decimals > 2:
        raise Unfit(quantity.expected)
    return Share(numerator * 10 ** (2 - decimals), text.strip())


def _checked(numerator: int, denominator: int, quantity: Quantity) -> int | float:
    """The fraction within the bounds of the key; bytes and operations are rounded down."""
    smallest, largest = _BOUNDS[quantity.limit]
    value: int | float = numerator // denominator
    if quantity.percent == "core":
        value = numerator / denominator
    elif quantity.whole and numerator % denominator:
        raise Unfit(quantity.expected)
    if not smallest <= value <= largest:
        raise Unfit(quantity.expected)
    if numerator > 0 and value < quantity.smallest_but_zero:
        raise Unfit(quantity.expected)
    return value
