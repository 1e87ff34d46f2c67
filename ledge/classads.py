"""ClassAd literals, written and read without classad2, whose import costs every job 45 ms.

Source: HTCondor manual, "ClassAd Syntax".
"""

from __future__ import annotations

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def literal(value: int | float | str | bool) -> str:
    """The ClassAd literal of a value; a float is a number of seconds, kept to the microsecond."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6f}"
    return '"' + "".join([_ESCAPES.get(c, c) for c in value if c >= " " or c in "\n\r\t"]) + '"'


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
