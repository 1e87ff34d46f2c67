"""HTCondor's job event log: what happened to a job, as its user sees it."""

from __future__ import annotations

import re
from typing import NamedTuple

# Numbers of ULogEventNumber in HTCondor's condor_event.h.
EVENT_NUMBERS: dict[str, int] = {
    "submitted": 0,
    "executing": 1,
    "executable error": 2,
    "checkpointed": 3,
    "evicted": 4,
    "terminated": 5,
    "image size": 6,
    "shadow exception": 7,
    "generic": 8,
    "aborted": 9,
    "suspended": 10,
    "unsuspended": 11,
    "held": 12,
    "released": 13,
    "remote error": 21,
    "disconnected": 22,
    "reconnected": 23,
    "reconnect failed": 24,
    "ad information": 28,
    "attribute update": 33,
    "file transfer": 40,
}
EVENT_NAMES: dict[int, str] = {number: name for name, number in EVENT_NUMBERS.items()}
HEADLINE = re.compile(
    r"(?P<number>\d{3}) \((?P<cluster>\d+)\.(?P<proc>\d+)\.\d+\) (?P<time>\S+ \S+) (?P<text>.*)"
)
END_OF_EVENT = "..."


class Event(NamedTuple):
    """One event; `lines` begins with the headline's text."""

    number: int
    name: str
    cluster: int
    proc: int
    time: str
    lines: list[str]


def event_number(name: str) -> int:
    """The number of an event's name; "Job held", "Job was held" and "held" are the same."""
    plain = re.sub(r"^job (was )?", "", name.strip().lower())
    if plain not in EVENT_NUMBERS:
        raise ValueError(f"no event {name!r}; there are: {', '.join(EVENT_NUMBERS)}")
    return EVENT_NUMBERS[plain]


def parse(text: str) -> tuple[list[Event], str]:
    """The complete events in `text`, and what is left of an incomplete one."""
    events: list[Event] = []
    lines: list[str] = []
    rest_start = position = 0
    for line in text.splitlines(keepends=True):
        position += len(line)
        if line == END_OF_EVENT + "\n":
            events += _event(lines)
            lines = []
            rest_start = position
        else:
            lines.append(line.rstrip("\n"))
    return events, text[rest_start:]


def _event(lines: list[str]) -> list[Event]:
    found = HEADLINE.match(lines[0]) if lines else None
    if found is None:
        return []                                      # an XML or otherwise foreign event
    number = int(found["number"])
    name = EVENT_NAMES.get(number, found["text"])
    body = [found["text"], *(line.strip() for line in lines[1:])]
    return [Event(number, name, int(found["cluster"]), int(found["proc"]), found["time"], body)]
