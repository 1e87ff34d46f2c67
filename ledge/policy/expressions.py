"""ClassAd expressions and ads: the only module that imports classad2.

MY is the slot's ad and TARGET the job's, as in the START expression of a slot; a name without
either is looked for in the slot's ad and, where it has none, in the job's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ledge.condor_versions import errors_of
from ledge.policy.errors import ExpressionError, PolicyError

LARGEST_AD = 1 << 20
LONGEST_EXPRESSION = 4096  # the parser is recursive, and the policy's are parsed in the evaluator

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OTHER_FORMATS = "[{<"  # "[A = 1; B = 2]" would be an ad with an attribute called "[A"
_MOST_CIRCUMSTANCES = 4
_LONGEST_SHOWN = 60


class Undefined:
    """The value of an expression that has none."""


UNDEFINED = Undefined()


class Other:
    """A value that no key takes (an ad, a time), described."""

    def __init__(self, description: str) -> None:
        self.description = description


def is_name(text: str) -> bool:
    """Whether a text is the name of an attribute, alone and without MY or TARGET."""
    return _IDENTIFIER.fullmatch(text) is not None


def load_library() -> None:
    """Import classad2 and let it fill its tables (15 ms). Raises PolicyError."""
    scope = Scope(b"A = MY.B", b"B = 1")
    for text in ("TARGET.A", 'absTime("2025-01-01")', "[a = 1]", "{A, 1.5, true}", "1 / 0"):
        scope.circumstances(Expression(f"ifThenElse(A == 1, {text}, 0)"))
        described(scope._evaluate(Expression(text)))


class Expression:
    """An expression that has been parsed, and can be evaluated in any scope."""

    def __init__(self, text: str) -> None:
        """Parse it. Raises ExpressionError."""
        self.text = " ".join(text.split())
        if len(text) > LONGEST_EXPRESSION:
            raise ExpressionError(f"is longer than {LONGEST_EXPRESSION} characters")
        self.tree = _parse(text)

    def shown(self) -> str:
        """Its text, as errors quote it."""
        return _shortened(self.text)

    def constant(self) -> object | None:
        """Its value if it refers to no attribute, else None. Raises ExpressionError."""
        if _references(self):
            return None
        value = Scope(b"JobUniverse = 5", b"").evaluate(self)
        if value is UNDEFINED:
            raise ExpressionError("is undefined")
        return value


def _parse(text: str) -> Any:
    """The tree; classad2.ExprTree would take "1]" and "1; b = 2" for 1."""
    classad2 = _classad2()
    try:
        ad = classad2.ClassAd(f"[ledge_expression = (\n{text}\n); ledge_end = 1]")
    except _errors(ValueError):
        raise ExpressionError("is no ClassAd expression") from None
    if sorted(ad.keys()) != ["ledge_end", "ledge_expression"]:
        raise ExpressionError("is no ClassAd expression")
    return ad.lookup("ledge_expression")


class Scope:
    """The ads of a job and its slot, in which the expressions of a policy are evaluated."""

    def __init__(self, job_ad: bytes, machine_ad: bytes) -> None:
        """Parse both. Raises ExpressionError."""
        self.job = _ad(job_ad, "the job ad")
        self.machine = _ad(machine_ad, "the machine ad")
        if not len(self.job):
            raise ExpressionError("the job ad is empty")

    def evaluate(self, expression: Expression) -> object:
        """Its value: a bool, int, float, str, list of these, UNDEFINED or Other.

        Raises ExpressionError.
        """
        result = self._evaluate(expression)
        if isinstance(result, Other) and result.description == "an error":
            raise ExpressionError(f"is an error{self.circumstances(expression)}")
        return result

    def _evaluate(self, expression: Expression) -> object:
        try:
            return self._plain(expression.tree.eval(self.machine, self.job))
        except _errors():
            problem = "cannot be evaluated: it is nested too deeply, or takes too much memory"
            raise ExpressionError(problem) from None
        except (ValueError, OverflowError) as error:
            # A string that is not UTF-8, a time after the year 9999.
            raise ExpressionError(f"has a value that cannot be read: {error}") from None

    def _plain(self, result: Any) -> object:
        """A result as plain Python.

        classad2.Value is an IntEnum, in which undefined is 2 and a number: it is asked for first,
        here and nowhere else.
        """
        classad2 = _classad2()
        if result is classad2.Value.Undefined:
            return UNDEFINED
        if result is classad2.Value.Error:
            return Other("an error")
        if isinstance(result, (bool, int, float, str)):
            return result
        if isinstance(result, list):
            return [self._plain(element) for element in result]
        if isinstance(result, classad2.ExprTree):  # the elements of a list are not evaluated
            return self._plain(result.eval(self.machine, self.job))
        return Other("an ad" if isinstance(result, classad2.ClassAd) else "a time")

    def circumstances(self, expression: Expression) -> str:
        """The attributes that it refers to and their values, as a part of a sentence."""
        values = [
            f"{name} is {described(value)}"
            for name in _references(expression)[:_MOST_CIRCUMSTANCES]
            if name != expression.text and (value := self._value_of(name)) is not None
        ]
        return f", where {' and '.join(values)}" if values else ""

    def undefined_in(self, expression: Expression) -> str:
        """The attributes that it refers to and that are undefined, with commas between them."""
        names = [name for name in _references(expression) if self._value_of(name) is UNDEFINED]
        return ", ".join(names[:_MOST_CIRCUMSTANCES])

    def _value_of(self, name: str) -> object | None:
        """The value of a reference; None if it has none that can be told."""
        try:
            return self._evaluate(Expression(name))
        except ExpressionError:
            return None

    def job_attributes(self) -> list[str]:
        """The names of all attributes of the job ad."""
        return list(self.job.keys())

    def job_expression(self, attribute: str) -> str | None:
        """The expression of an attribute of the job ad, None if it has no such attribute."""
        try:
            return _shortened(str(self.job.lookup(attribute)))
        except KeyError:
            return None


def constants(text: bytes, wanted: Callable[[str], bool]) -> dict[str, object]:
    """Those attributes of an ad in the old ("long") format that are wanted and constant.

    Numbers, strings, booleans and, for ads, dictionaries of these; whatever is undefined, an
    error, a list, or an expression of other attributes is left out. Raises ExpressionError.
    """
    ad = _ad(text, "the job ad")
    return _members(ad, [name for name in ad if wanted(name)])


def _members(ad: Any, names: list[str]) -> dict[str, object]:
    classad2 = _classad2()
    found: dict[str, object] = {}
    for name in names:
        try:
            tree, value = ad.lookup(name), ad.eval(name)
            # Nothing is named as [""].
            constant = not any(ad.externalRefs(tree) + ad.internalRefs(tree))
        except _errors(ValueError, OverflowError):
            continue
        if isinstance(value, classad2.ClassAd):
            found[name] = _members(value, list(value.keys()))
        # Undefined and error are numbers to Python, see Scope._plain.
        elif constant and isinstance(value, (int, float, str)) and not isinstance(
            value, classad2.Value
        ):
            found[name] = value
    return found


def described(value: object) -> str:
    """A value as errors quote it: as a ClassAd has it, and not too long."""
    if isinstance(value, Other):
        return value.description
    if value is UNDEFINED:
        return "undefined"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return _shortened("{" + ", ".join(described(element) for element in value) + "}")
    return f'"{_shortened(value)}"' if isinstance(value, str) else _shortened(str(value))


def _references(expression: Expression) -> list[str]:
    """The attributes that an expression names, with MY and TARGET as they are written."""
    classad2 = _classad2()
    try:
        names = classad2.ClassAd().externalRefs(expression.tree)
    except _errors(ValueError):
        return []
    text = expression.text.lower()
    # The library drops the MY of what it names, and names nothing as [""].
    return [f"MY.{name}" if f"my.{name.lower()}" in text else name for name in names if name]


def _ad(text: bytes, name: str) -> Any:
    """An ad in the old ("long") format, all of it: the parser stops at a line that is none.

    And it says nothing: what follows such a line would be undefined in every expression.
    """
    classad2 = _classad2()
    if len(text) > LARGEST_AD:
        raise ExpressionError(f"{name} has more than {LARGEST_AD} bytes")
    if b"\0" in text:
        raise ExpressionError(f"{name} has a NUL byte")  # the library would stop there
    # Attributes that are not UTF-8 are none of ours.
    lines = text.decode("utf-8", "replace").split("\n")
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        return classad2.ClassAd()
    try:
        ad = classad2.parseNext("\n".join(lines) + "\n", classad2.ParserType.Old)
        known = {key.strip().lower() for key in ad or ()}
    except _errors(ValueError):
        known = set()
    for line in lines:
        attribute = line.partition("=")[0].strip().lower()
        if attribute not in known or attribute[0] in _OTHER_FORMATS:
            raise ExpressionError(f"{name} has a line that is no attribute: {_shortened(line)!r}")
    return ad


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def _classad2() -> Any:
    try:
        import classad2
    except ImportError as error:
        remedy = "install python3-condor (RPM), condor (Debian) or htcondor (PyPI)"
        raise PolicyError(f"the Python module classad2 cannot be had: {error}", remedy) from None
    return classad2


def _errors(*more: type[Exception]) -> tuple[type[Exception], ...]:
    return (*errors_of(_classad2(), "ClassAdException"), *more)
