"""What is delivered next, and which schedd is left in peace for how long. No I/O.

A schedd that does not answer, or refuses, is tried again after a while that doubles from
SHORTEST_SECONDS to LONGEST_SECONDS; each recorder waits a part of it that it draws by lot, so that
a thousand nodes do not come back in the same moment.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Callable, NamedTuple

from ledge.recorder.spool import JOB, LAST, LIVE, Name

SHORTEST_SECONDS = 5.0
LONGEST_SECONDS = 600.0
_MOST_DOUBLINGS = 20


class Destination(NamedTuple):
    """Whose figures they are: a job of a schedd, and the slot in which it runs."""

    schedd: str
    job: str
    slot: str


class Schedule:
    """When each schedd may be tried; times are of one clock, in seconds."""

    def __init__(self, lot: Callable[[], float] = random.random) -> None:
        self._lot = lot
        self._failures: dict[str, int] = {}
        self._due: dict[str, float] = {}

    def may_try(self, schedd: str, now: float) -> bool:
        """Whether it is time."""
        return self._due.get(schedd, now) <= now

    def failed(self, schedd: str, now: float) -> float:
        """Note that it did not work; the seconds until the next attempt."""
        failures = self._failures[schedd] = self._failures.get(schedd, 0) + 1
        longest = SHORTEST_SECONDS * 2.0 ** min(failures - 1, _MOST_DOUBLINGS)
        pause = min(longest, LONGEST_SECONDS) * (0.5 + 0.5 * self._lot())
        self._due[schedd] = now + pause
        return pause

    def worked(self, schedd: str) -> None:
        """Note that it did."""
        self._due.pop(schedd, None)
        self._failures.pop(schedd, None)

    def seconds_until_due(self, now: float, schedds: Iterable[str]) -> float | None:
        """Until the first of the schedds may be tried again; None if none is left in peace."""
        due = [self._due[schedd] for schedd in schedds if schedd in self._due]
        return max(0.0, min(due) - now) if due else None


def superseded(names: Iterable[Name]) -> list[Name]:
    """Figures of a running job of which the last ones are there."""
    names = list(names)
    ended = {name.key for name in names if name.kind == LAST}
    return [name for name in names if name.kind == LIVE and name.key in ended]


def deliverable(
    names: Iterable[Name],
    jobs: Mapping[str, Destination],
    schedule: Schedule,
    now: float,
    failures: Mapping[Name, int],
) -> list[Name]:
    """What can be tried now: what has failed before last, the last figures of jobs first."""
    names = list(names)
    old = set(superseded(names))
    wanted = [
        name
        for name in names
        if name.kind in (LIVE, LAST)
        and name not in old
        and name.key in jobs
        and schedule.may_try(jobs[name.key].schedd, now)
    ]
    return sorted(wanted, key=lambda name: (failures.get(name, 0), name.kind != LAST, name.key))


def forgettable(names: Iterable[Name], lives: Callable[[str], bool]) -> list[Name]:
    """What is remembered of jobs that have ended and have nothing left here."""
    names = list(names)
    waiting = {name.key for name in names if name.kind != JOB}
    kept = [name for name in names if name.kind == JOB and name.key not in waiting]
    return [name for name in kept if not lives(name.key)]
