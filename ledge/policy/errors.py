"""The errors of a policy.

    LedgeError
     +- PolicyError      the admin: the file is wrong, or the evaluator cannot be had
    Unfit                a value that its key does not take; whoever catches it knows where it stood
    ExpressionError      an expression that has no syntax or no value; the same
"""

from __future__ import annotations

from ledge.errors import LedgeError


class PolicyError(LedgeError):
    """A policy that is not one: names file and line, and says what was expected.

    `errors` has one line for everything that is wrong; the error itself is worded as the first.
    """

    status = 1

    def __init__(self, problem: str, remedy: str = "", more: tuple[str, ...] = ()) -> None:
        super().__init__(problem, remedy)
        self.errors = (str(self), *more)


class Unfit(Exception):
    """What a value should have been, in words that follow "expected "."""


class ExpressionError(Exception):
    """What is wrong with an expression, in words that follow its text."""
