"""The recorder: what is in the spool, whose it is, and how its delivery went."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import Counter
from typing import Any, Callable, Protocol

from ledge.kernel.proc import process_start
from ledge.recorder.bindings import DENIED, DONE, FAILED, GONE, REFUSED
from ledge.recorder.schedule import (
    LONGEST_SECONDS,
    Destination,
    Schedule,
    deliverable,
    forgettable,
    superseded,
)
from ledge.recorder.spool import JOB, LAST, LIVE, START, Entry, Name, Spool, parse_key
from ledge.recorder.worker import WorkerError

_NEW = ".job"
_LOOK_AGAIN_SECONDS = 1.0
_TIDY_SECONDS = 60.0
_REMEDIES = {
    DENIED: "the identity of this node's token must be one of QUEUE_SUPER_USERS of the access "
    "point, known there (condor_qusers -add), and allowed to WRITE (docs/recording.md)",
    FAILED: "see whether it is up, and whether this node has a token that it takes",
}
_NUMBER = re.compile(r"[0-9]+")


class Asked(Protocol):
    """The worker, as it is used here."""

    def ask(self, request: dict[str, Any]) -> dict[str, Any]: ...

    def end(self) -> str: ...


class Recorder:
    """Works on a spool; `counts` says what became of it all."""

    def __init__(
        self,
        spool: Spool,
        worker: Asked,
        report: Callable[[str], None],
        token_problem: Callable[[], str] = str,
    ) -> None:
        """`token_problem` says what is wrong with the node's tokens; empty if nothing is."""
        self.spool = spool
        self.worker = worker
        self.report = report
        self.token_problem = token_problem
        self.schedule = Schedule()
        self.jobs: dict[str, Destination] = {}
        self.counts: Counter[str] = Counter()
        self._failures: Counter[Name] = Counter()
        self._reported: Counter[str] = Counter()
        self._told: dict[str, str] = {}  # by schedd, why it does not record
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
        waiting = [name for name in names if name.kind in (LIVE, LAST) and name.key in self.jobs]
        due = self.schedule.seconds_until_due(now, {self.jobs[one.key].schedd for one in waiting})
        pauses = [_TIDY_SECONDS, _LOOK_AGAIN_SECONDS if unknown else None, due]
        return max(0.05, min(pause for pause in pauses if pause is not None))

    def begin_anew(self) -> None:
        """Try everything again, with HTCondor's configuration and tokens as they are now."""
        self.worker.end()
        self.schedule = Schedule()
        self._told = dict.fromkeys(self._told, "")

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
            if name in self.spool.names():  # ledged may have dropped it for want of room
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
        self.schedule.worked(schedd)
        if self._told.pop(schedd, None) is not None:
            self.report(f"schedd {schedd} records again")

    def _failed(self, destination: Destination, outcome: str, reason: str, now: float) -> None:
        """The same trouble is told once, however often and with whichever job it is tried."""
        pause = self.schedule.failed(destination.schedd, now)
        # Whoever is let in later must not come with the old session, or without the new token.
        self.worker.end()
        why = f"{reason}; {self.token_problem() or _REMEDIES[outcome]}"
        trouble = _NUMBER.sub("", why)
        if self._told.get(destination.schedd) != trouble:
            self._told[destination.schedd] = trouble
            self.report(
                f"schedd {destination.schedd} does not record job {destination.job}: {why}; tried "
                f"again in {pause:.0f} s, and then every {LONGEST_SECONDS / 60:.0f} min at least"
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
    try:
        return words is not None and process_start(words[0]) == words[1]
    except OSError:
        return False


def _read_destination(spool: Spool, name: Name) -> Destination | None:
    try:
        with open(os.path.join(spool.path, str(name)), encoding="utf-8") as file:
            words = json.load(file)
        return Destination(*[str(word) for word in words])
    except (OSError, ValueError, TypeError):
        return None


def _write_destination(spool: Spool, name: Name, destination: Destination) -> None:
    """By way of one name for all: a disk that is full must not be filled with beginnings."""
    path = os.path.join(spool.path, str(name))
    new = os.path.join(spool.path, _NEW)
    with open(new, "w", encoding="utf-8") as file:
        json.dump(destination, file)
    os.replace(new, path)
