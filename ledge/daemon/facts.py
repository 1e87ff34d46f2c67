"""Who a job is, for people: its slot, number and owner, and what its slot has.

The slot is told by the starter's command line, which is root's; it is there also when ledged was
started after the job. All else is from the ads that the hook handed over as the job's user: good
for a screen and for labels, and no proof of anything.
"""

from __future__ import annotations

import re

from ledge.classads import attribute, string
from ledge.daemon.peer import Process
from ledge.kernel.proc import read

_LONGEST = 64
# HTCondor's startd has it there for the name of the starter's log (Starter.cpp, makeStarterArgs).
_SLOT = re.compile(rb"slot[0-9]+(?:_[0-9]+)?")
_SLOT_OPTIONS = (b"-slot-name", b"-a")
_ID = re.compile(r"[0-9]{1,10}\.[0-9]{1,10}")
_NUMBER = re.compile(rb"(?mi)^(Cpus|Memory)[ \t]*=[ \t]*([0-9]{1,9})[ \t\r]*$")


class Facts:
    """`slot` is its name without the machine's; what is not known is None. `memory` is in MiB."""

    __slots__ = ("slot", "job", "owner", "cpus", "memory")

    def __init__(self, job_ad: bytes = b"", machine_ad: bytes = b"") -> None:
        cluster, proc = (attribute(job_ad, name) or b"" for name in (b"ClusterId", b"ProcId"))
        job = _text(cluster + b"." + proc)
        self.job = job if _ID.fullmatch(job) else None
        self.owner = _text(string(attribute(job_ad, b"Owner")) or b"") or None
        name = string(attribute(machine_ad, b"Name")) or b""
        self.slot = _text(name.rpartition(b"@")[0] or name) or None
        numbers = {key.lower(): int(value) for key, value in _NUMBER.findall(machine_ad)}
        self.cpus = numbers.get(b"cpus")
        self.memory = numbers.get(b"memory")

    def with_starter(self, starter: Process) -> Facts:
        """The same, with the slot of the starter's command line, if it says one."""
        try:
            words = (read(starter.proc, "cmdline") or b"").split(b"\0")
        except OSError:
            return self
        self.slot = slot_of(words) or self.slot
        return self


def slot_of(arguments: list[bytes]) -> str | None:
    """The slot in the arguments of a starter."""
    for option, word in zip(arguments, arguments[1:]):
        if option in _SLOT_OPTIONS and _SLOT.fullmatch(word):
            return word.decode()
    return None


def _text(value: bytes) -> str:
    return value[:_LONGEST].decode("utf-8", "replace")
