"""Options that HTCondor's configuration fills in, and what is told where one of them is wrong.

condor_master starts ledged and the recorder without a standard error: the log has to say it.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from ledge.errors import LedgeError
from ledge.log import Log

CANNOT_RUN = "cannot run: "
_SIZE = re.compile(r"(\d{1,15})\s*([KMGT]?)B?", re.IGNORECASE)
_UNITS = ("", "K", "M", "G", "T")


class SettingsError(LedgeError):
    """A setting has a value that is none."""


class Parser(argparse.ArgumentParser):
    """The options; raises SettingsError."""

    def error(self, message: str) -> NoReturn:
        """A command line that is none."""
        remedy = "its options are the settings that ledged(8) lists: mend that one, condor_reconfig"
        raise SettingsError(message, remedy)


def seconds(setting: str) -> Callable[[str], float]:
    """The type of an option for an interval, of a second at least."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 1 <= value < math.inf:
            raise argparse.ArgumentTypeError(f"{setting} = {text}, but has to be seconds, as 30")
        return value

    return read


def count(setting: str) -> Callable[[str], int]:
    """The type of an option for a number above zero."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            raise argparse.ArgumentTypeError(f"{setting} = {text}, but has to be a number, as 4096")
        return int(text)

    return read


def path(setting: str) -> Callable[[str], str]:
    """The type of an option for a file."""

    def read(text: str) -> str:
        if not text.startswith("/"):
            raise argparse.ArgumentTypeError(f"{setting} = {text}, but has to be a path from / on")
        return text

    return read


def size_bytes(words: Sequence[str]) -> int:
    """MAX_LEDGED_LOG, with the units of HTCondor's sizes of logs. Raises SettingsError."""
    found = _SIZE.fullmatch(" ".join(words))
    if found is None:
        problem = f"MAX_LEDGED_LOG = {' '.join(words)}, but has to be bytes, or as 10 Mb"
        raise SettingsError(problem, "mend it, condor_reconfig")
    return int(found[1]) << 10 * _UNITS.index(found[2].upper())


def tell_end(program: str, error: Exception) -> None:
    """Say why the program cannot go on, in its log, too, where that can be had."""
    text = str(error)
    if not isinstance(error, LedgeError):
        text = f"internal error: {type(error).__name__}: {error}"
    sys.stderr.write(f"{program}: {text}\n")
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--log", nargs="?")
    try:
        log = options.parse_known_args()[0].log
        if log:
            Log(log).write(f"{program} {CANNOT_RUN}{text}")
    except OSError as why:
        sys.stderr.write(f"{program}: {log}: {why.strerror}\n")
