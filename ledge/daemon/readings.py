"""What ledged tells root of the jobs that run: the verb `jobs`, for condor_ledge top and metrics.

It is made of the readings that ledged takes anyway (ledge/daemon/sampling.py), a few jobs at a
time: nothing more is read, and whoever starts a job meanwhile does not wait. An answer is JSON, and
bounded.
"""

from __future__ import annotations

import json
import os
import time
from functools import partial

from ledge import __version__
from ledge.daemon.facts import Facts
from ledge.daemon.inventory import started
from ledge.daemon.running_job import RunningJob
from ledge.daemon.server import Request, Server
from ledge.daemon.totals import COUNTERS, Sums, Totals, used_since
from ledge.usage.of_cgroup2 import usage_of_now
from ledge.usage.rates import RATES, SECONDS, Rates
from ledge.usage.usage import Usage

# Of each job, in this order.
FIGURES = (
    *COUNTERS,
    "MemoryAnonBytes",
    "MemoryShmemBytes",
    "MemoryFileBytes",
    "MemoryKernelBytes",
    "MemorySockBytes",
    "MemoryPeakBytes",
    "ProcessesPeak",
    *RATES,
    SECONDS,
)
# A client takes 1 MiB (ledge/client.py); slots and sums have the rest.
MOST_BYTES = 640 << 10
_AT_ONCE_SECONDS = 0.001
_PAUSE_SECONDS = 0.001
_UNKNOWN = "unknown"

# Of one job: the key it is known by, what counts for the sums, and its row.
Told = tuple[int, Sums, bytes]


class Followed:
    """A job from its launch, or from when ledged found it, until its last figures are known.

    `before` are the figures that it had when ledged found it; None: ledged saw all of it.
    """

    def __init__(self, running: RunningJob, facts: Facts, found: bool) -> None:
        self.running = running
        self.facts = facts
        self.slot = facts.slot or _UNKNOWN
        self.uid = _owner(running)
        self.start = _start(running)
        self.slice = _slice(running)
        self.begun = None if found else time.monotonic()
        usage = running.sample.usage() if found else None
        self.before = (dict(usage.figures) if usage else {}) if found else None
        self._last: dict[str, int | float | None] | None = None

    def note_last(self, usage: Usage) -> None:
        """What was read when it settled; no sample has it."""
        self._last = {name: usage.figures.get(name) for name in COUNTERS}

    def figures(self) -> dict[str, int | float | None]:
        """Those of the last sample, with rates and what is of its moment."""
        sample = self.running.sample
        usage = sample.usage()
        if usage is None or sample.taken is None:
            return {}
        rates = usage_of_now(sample.texts)
        self._add_rates(rates, usage, sample.taken)
        return {**usage.figures, **rates.figures}

    def used(self, figures: dict[str, int | float | None]) -> Sums:
        """What counts for the sums; the reading at its end goes before the last sample."""
        last = {name: value for name, value in (self._last or {}).items() if value is not None}
        return used_since({**figures, **last}, self.before)

    def used_at_its_end(self) -> Sums:
        usage = self.running.sample.usage()
        return self.used(usage.figures if usage is not None else {})

    def row(self, figures: dict[str, int | float | None], now: float) -> dict[str, object]:
        """As it stands in the answer."""
        facts, taken = self.facts, self.running.sample.taken
        return {
            "slot": facts.slot,
            "job": facts.job,
            "owner": facts.owner,
            "cpus": facts.cpus,
            "memory": facts.memory,
            "uid": self.uid,
            "wrapper": self.running.pid,
            "slice": self.slice,
            "group": self.running.name.decode(),
            "start": self.start,
            "age": None if taken is None else round(now - taken, 3),
            "values": [figures.get(name) for name in FIGURES],
        }

    def _add_rates(self, rates: Usage, usage: Usage, taken: float) -> None:
        sample = self.running.sample
        clock = Rates(self.begun)
        earlier = sample.usage_before()
        if earlier is not None and sample.before is not None:
            clock = Rates(None)
            clock.add(earlier, sample.before[0], Usage("none"))
        clock.add(usage, taken, rates)


class Readings:
    """All running jobs, what those that ended have used, and the answers."""

    def __init__(self) -> None:
        self.started = time.time()
        self.begun = self.ended = 0
        self.totals = Totals()
        self._followed: dict[int, Followed] = {}  # by the identity of the RunningJob

    def attach(self, server: Server) -> None:
        """Become part of the server's loop."""
        self._server = server

    def begin(self, running: RunningJob, facts: Facts, found: bool = False) -> None:
        """A job was launched, or `found` running; then its first sample has been taken."""
        self.begun += not found
        self._followed[id(running)] = Followed(running, facts, found)

    def note_last(self, running: RunningJob, usage: Usage) -> None:
        """The job has settled."""
        followed = self._followed.get(id(running))
        if followed is not None:
            followed.note_last(usage)

    def end(self, running: RunningJob) -> None:
        """Its last figures are known."""
        followed = self._followed.pop(id(running), None)
        if followed is not None:
            self.ended += 1
            self.totals.end(followed.slot, followed.used_at_its_end())

    def answer(self, request: Request) -> None:
        """Answer, when all jobs have been looked at."""
        self._go_on(request, list(self._followed), [])

    def _go_on(self, request: Request, left: list[int], told: list[Told]) -> None:
        """A few at a time. What has ended by the end is in the sums, and not told."""
        until = time.monotonic() + _AT_ONCE_SECONDS
        for number, key in enumerate(left, 1):
            followed = self._followed.get(key)
            if followed is not None:
                figures = followed.figures()
                row = json.dumps(followed.row(figures, time.monotonic()), separators=(",", ":"))
                told.append((key, followed.used(figures), row.encode()))
            if time.monotonic() > until and number < len(left):
                rest = partial(self._go_on, request, left[number:], told)
                self._server.later(_PAUSE_SECONDS, rest)
                return
        request.answer("done", self._body([one for one in told if one[0] in self._followed]))

    def _body(self, told: list[Told]) -> bytes:
        running = [(self._followed[key].slot, used) for key, used, _ in told]
        node, slots = self.totals.with_running(running)
        rows, left_out = _bounded([row for _, _, row in told])
        head = json.dumps({
            "version": __version__,
            "started": round(self.started, 3),
            "jobs_begun": self.begun,
            "jobs_ended": self.ended,
            "left_out": left_out,
            "counters": COUNTERS,
            "node": node,
            "slots": slots,
            "figures": FIGURES,
        }, separators=(",", ":"))  # fmt: skip
        return head[:-1].encode() + b',"jobs":[' + b",".join(rows) + b"]}"


def _bounded(rows: list[bytes]) -> tuple[list[bytes], int]:
    """As many as an answer can hold, and how many are left out."""
    length = 0
    for number, row in enumerate(rows):
        length += len(row) + 1
        if length > MOST_BYTES:
            return rows[:number], len(rows) - number
    return rows, 0


def _slice(running: RunningJob) -> str | None:
    """The path of its slice: no PID is needed to find it."""
    try:
        return os.fsdecode(running.cgroup().rpartition(b"/")[0])
    except OSError:
        return None


def _owner(running: RunningJob) -> int | None:
    """Whose the slice is: the kernel's word on the job's user."""
    try:
        return os.fstat(running.slice.fd).st_uid
    except OSError:
        return None


def _start(running: RunningJob) -> float | None:
    """When its wrapper was started, in seconds since 1970."""
    try:
        return round(started(running.proc), 2)
    except (OSError, IndexError, ValueError):
        return None  # it ends in this moment
