"""ClassAd literals, written and read without classad2, whose import costs every job 45 ms.

Source: HTCondor manual, "ClassAd Syntax".
"""

from __future__ import annotations

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from typing import Union

    Value = Union[int, float, str, bool, dict[str, dict[str, int]]]

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def literal(value: Value) -> str:
    """The ClassAd literal of a value; a float is a number of seconds, kept to the microsecond.

    A dictionary is an ad of ads: `condor_q -af Attribute.outer.inner`.
    """
    if isinstance(value, dict):
        return _record({name: _record(_literals(inner)) for name, inner in value.items()})
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6f}"
    return '"' + "".join([_ESCAPES.get(c, c) for c in value if c >= " " or c in "\n\r\t"]) + '"'


def _literals(figures: dict[str, int]) -> dict[str, str]:
    return {name: str(value) for name, value in figures.items()}


def _record(expressions: dict[str, str]) -> str:
    """An ad; its names are quoted where they are none to ClassAds, as that of device dm-0."""
    entries = []
    for name, expression in expressions.items():
        plain = name.isidentifier() and name.isascii()
        entries.append(f"{name if plain else _quoted(name)} = {expression}")
    return "[ " + "; ".join(entries) + " ]"


def _quoted(name: str) -> str:
    return "'" + "".join([c for c in name if c >= " " and c not in "'\\"]) + "'"


def attribute(ad: bytes, name: bytes) -> bytes | None:
    """The expression of an attribute in an ad in the old ("long") format, one line each.

    Names are compared without regard to case, as ClassAds do.
    """
    wanted = name.lower()
    for line in ad.split(b"\n"):  # and not at a carriage return, which a string may hold
        found, equals, expression = line.partition(b"=")
        if equals and found.strip().lower() == wanted:
            return expression.strip()
    return None


def string(expression: bytes | None) -> bytes | None:
    """The value of a string literal in the old format; None if the expression is none.

    There a backslash escapes a double quote and nothing else.
    """
    if expression is None or len(expression) < 2:
        return None
    if not (expression.startswith(b'"') and expression.endswith(b'"')):
        return None
    return expression[1:-1].replace(b'\\"', b'"')
