"""The recorder: what is in the spool, whose it is, and how its delivery went."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from typing import Any, Callable, Protocol

from ledge.recorder.bindings import DENIED, DONE, FAILED, GONE, REFUSED
from ledge.recorder.schedule import (
    Destination,
    Schedule,
    deliverable,
    forgettable,
    superseded,
)
from ledge.recorder.spool import JOB, START, Entry, Name, Spool, parse_key
from ledge.recorder.worker import WorkerError

_LOOK_AGAIN_SECONDS = 1.0
_TIDY_SECONDS = 60.0
_REMEDIES = {
    DENIED: "the identity of this node's token must be one of QUEUE_SUPER_USERS of the access "
    "point, known there (condor_qusers -add), and allowed to WRITE (docs/recording.md)",
    FAILED: "see whether it is up, and whether this node has a token that it takes",
}


class Asked(Protocol):
    """The worker, as it is used here."""

    def ask(self, request: dict[str, Any]) -> dict[str, Any]: ...

    def end(self) -> str: ...


class Recorder:
    """Works on a spool; `counts` says what became of it all."""

    def __init__(self, spool: Spool, worker: Asked, report: Callable[[str], None]) -> None:
        self.spool = spool
        self.worker = worker
        self.report = report
        self.schedule = Schedule()
        self.jobs: dict[str, Destination] = {}
        self.counts: Counter[str] = Counter()
        self._failures: Counter[Name] = Counter()
        self._reported: Counter[str] = Counter()
        self._asked = 0.0
        self._tidied = 0.0
        self._problem = ""

    def work(self, now: float) -> float:
        """Do what can be done now; the seconds until there may be more, if nothing comes in."""
        names = self.spool.names()
        for name in superseded(names):
            self.spool.remove(name)
        unknown = self._learn(names, now)
        for name in deliverable(names, self.jobs, self.schedule, now, self._failures):
            if self.schedule.may_try(self.jobs[name.key].schedd, now):
                self._deliver(name, now)
        if now - self._tidied > _TIDY_SECONDS:
            self._tidied = now
            self._tidy()
        due = self.schedule.seconds_until_due(now)
        pauses = [_TIDY_SECONDS, _LOOK_AGAIN_SECONDS if unknown else None, due]
        return max(0.05, min(pause for pause in pauses if pause is not None))

    def begin_anew(self) -> None:
        """Try everything again, with HTCondor's configuration and tokens as they are now."""
        self.worker.end()
        self.schedule = Schedule()

    # ---- whose it is

    def _learn(self, names: list[Name], now: float) -> bool:
        """Find out whose the figures are; whether that is still to be done for some."""
        self._recall(names)
        unknown = {name.key for name in names if name.kind != JOB} - self.jobs.keys()
        if unknown and abs(now - self._asked) >= _LOOK_AGAIN_SECONDS:
            self._asked = now
            told = self._tell_jobs()
            if told is not None:
                unknown -= self._match(unknown, told)
        for name in names:
            if name.kind == START and name.key not in unknown:
                self.spool.remove(name)
        return bool(unknown)

    def _recall(self, names: list[Name]) -> None:
        """What an earlier recorder had found out."""
        for name in names:
            if name.kind == JOB and name.key not in self.jobs:
                destination = _read_destination(self.spool, name)
                if destination is not None:
                    self.jobs[name.key] = destination

    def _tell_jobs(self) -> dict[str, list[str]] | None:
        """What the startd says of every starter; None if it says nothing."""
        try:
            answer = self.worker.ask({"jobs": True})
        except WorkerError as error:
            answer = {"problem": f"the startd does not say whose jobs run here: {error}"}
        problem = str(answer.get("problem", ""))
        if problem != self._problem:
            self._problem = problem
            self.report(problem or "the startd says again whose jobs run here")
        jobs: dict[str, list[str]] | None = answer.get("jobs")
        return jobs

    def _match(self, unknown: set[str], told: dict[str, list[str]]) -> set[str]:
        """Those of the unknown that are known now, or never will be."""
        settled = set()
        for key in unknown:
            pid, _, _ = key.partition("-")
            # The starter lives, so the startd meant this one by its PID.
            if pid in told and lives(key):
                self._remember(key, Destination(*told[pid]))
                settled.add(key)
            elif not lives(key):
                self._drop(key)
                settled.add(key)
        return settled

    def _remember(self, key: str, destination: Destination) -> None:
        self.jobs[key] = destination
        with contextlib.suppress(OSError):  # until the recorder is started anew, it is known here
            _write_destination(self.spool, Name(key, JOB), destination)

    def _drop(self, key: str) -> None:
        """Figures of a job whose starter went before the startd could say whose they are."""
        self.counts["unknown"] += 1
        for name in self.spool.names():
            if name.key == key:
                self.spool.remove(name)

    # ---- delivery

    def _deliver(self, name: Name, now: float) -> None:
        entry = self.spool.read(name)
        if entry is None:
            self.counts["unreadable"] += 1
            self.spool.remove(name)
            return
        destination = self.jobs[name.key]
        outcome, reason = self._edit(entry, destination)
        self.counts[outcome] += 1
        if outcome in (DONE, GONE, REFUSED):
            self._answered(destination.schedd)
            self._failures.pop(name, None)
            self.spool.remove(name, entry.identity)
            if outcome == REFUSED:
                self.report(f"job {destination.job} of schedd {destination.schedd}: {reason}")
            return
        self._failures[name] += 1
        self._failed(destination, outcome, reason, now)

    def _edit(self, entry: Entry, destination: Destination) -> tuple[str, str]:
        """An entry that outlived its starter may be of a job that runs elsewhere by now."""
        slot = None if lives(entry.name.key) else destination.slot
        edit = {
            "schedd": destination.schedd,
            "job": destination.job,
            "record": entry.record,
            "slot": slot,
        }
        try:
            answer = self.worker.ask({"edit": edit})
        except WorkerError as error:
            return FAILED, str(error)
        return str(answer["outcome"]), str(answer["reason"])

    def _answered(self, schedd: str) -> None:
        if self.schedule.worked(schedd):
            self.report(f"schedd {schedd} records again")

    def _failed(self, destination: Destination, outcome: str, reason: str, now: float) -> None:
        pause = self.schedule.failed(destination.schedd, now)
        if outcome == DENIED:
            self.worker.end()  # whoever is let in later must not come with the old session
        self.report(
            f"schedd {destination.schedd} does not record job {destination.job}: {reason}; "
            f"{_REMEDIES[outcome]}; tried again in {pause:.0f} s"
        )

    # ---- now and then

    def _tidy(self) -> None:
        for name in forgettable(self.spool.names(), lives):
            self.jobs.pop(name.key, None)
            self._failures = Counter({n: c for n, c in self._failures.items() if n.key != name.key})
            self.spool.remove(name)
        if self.counts != self._reported:
            self._reported = self.counts.copy()
            waiting = sum([name.kind != JOB for name in self.spool.names()])
            figures = [f"{name} {number}" for name, number in sorted(self.counts.items())]
            self.report(f"so far: {', '.join(figures)}; waiting {waiting}")


def lives(key: str) -> bool:
    """Whether a starter still runs; its start time tells it from a later process of its PID."""
    words = parse_key(key)
    return words is not None and start_time(words[0]) == words[1]


def start_time(pid: int) -> int | None:
    """When a process was started, in ticks since boot (proc(5), stat); None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError):
        return None


def _read_destination(spool: Spool, name: Name) -> Destination | None:
    try:
        with open(os.path.join(spool.path, str(name)), encoding="utf-8") as file:
            words = json.load(file)
        return Destination(*[str(word) for word in words])
    except (OSError, ValueError, TypeError):
        return None


def _write_destination(spool: Spool, name: Name, destination: Destination) -> None:
    path = os.path.join(spool.path, str(name))
    new = f"{path}.{time.monotonic_ns()}"
    with open(new, "w", encoding="utf-8") as file:
        json.dump(destination, file)
    os.replace(new, path)
