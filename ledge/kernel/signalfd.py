"""Signals as something to wait for beside other things: signalfd(2).

The signals are blocked; they wait in the kernel until they are read here.
"""

from __future__ import annotations

import posix
from sys import byteorder

from ledge.kernel.syscalls import signalfd

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from collections.abc import Collection

_SIGINFO_BYTES = 128


class Told:
    """One signal: its number, si_code and, if a process sent it, the PID of that process."""

    __slots__ = ("signo", "code", "pid")

    def __init__(self, siginfo: bytes) -> None:
        self.signo = int.from_bytes(siginfo[0:4], byteorder)
        self.code = int.from_bytes(siginfo[8:12], byteorder, signed=True)
        self.pid = int.from_bytes(siginfo[12:16], byteorder)


def open_signals(signals: Collection[int]) -> int:
    """A descriptor that is readable when one of the signals has come."""
    return signalfd(signals)


def read_signals(fd: int) -> list[Told]:
    """What has come, waiting if that is nothing."""
    text = posix.read(fd, 16 * _SIGINFO_BYTES)
    return [
        Told(text[start : start + _SIGINFO_BYTES]) for start in range(0, len(text), _SIGINFO_BYTES)
    ]
