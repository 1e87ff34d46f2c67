"""What jobs have used together, who they are, and how much of it an answer has."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ledge.client import _LARGEST_ANSWER
from ledge.daemon import readings, totals
from ledge.daemon.facts import Facts
from ledge.daemon.peer import Process
from ledge.daemon.readings import Readings
from ledge.daemon.running_job import RunningJob
from ledge.daemon.sampling import Sample
from ledge.daemon.server import Request, Server
from ledge.daemon.totals import COUNTERS, Sums, Totals, used_since
from ledge.kernel.cgroup2 import Cgroup
from ledge.kernel.kept_files import Allowance
from ledge.usage.usage import Usage
from tests.unit import captured

JOB_AD = b'ClusterId = 12\nProcId = 3\nOwner = "alice"\n'
MACHINE_AD = b'Cpus = 4\nMemory = 8192\nTotalCpus = 64.0\nName = "slot1_2@glidein_7@node"\n'
NONE: Sums = [None] * len(COUNTERS)


def sums(first: float | None) -> Sums:
    return [first, *NONE[1:]]


def test_what_nobody_had_stays_undefined_and_what_one_had_counts() -> None:
    found = Totals()
    assert found.with_running([]) == (NONE, {})
    found.end("slot1", sums(None))
    assert found.with_running([]) == (NONE, {"slot1": NONE})
    found.end("slot1", sums(2.5))
    assert found.with_running([("slot1", sums(1.0)), ("slot2", sums(None))]) == (
        sums(3.5), {"slot1": sums(3.5), "slot2": NONE}
    )  # fmt: skip
    assert found.with_running([]) == (sums(2.5), {"slot1": sums(2.5)})


def test_only_so_many_slots_are_kept_and_the_node_has_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "MOST_SLOTS", 2)
    found = Totals()
    for slot in ("slot1", "slot2", "slot1", "slot3"):
        found.end(slot, sums(1))
    assert found.with_running([]) == (sums(4), {"slot1": sums(2), "slot3": sums(1)})


def test_what_was_before_ledged_is_left_out() -> None:
    figures = {"CpuUserSeconds": 5.0, "CpuSystemSeconds": 1.0}
    assert used_since(figures, None)[:3] == [5.0, 1.0, None]
    assert used_since(figures, {"CpuUserSeconds": 3.0})[:3] == [2.0, None, None]
    assert used_since(figures, {})[:3] == [None, None, None]


def test_who_a_job_is() -> None:
    facts = Facts(JOB_AD, MACHINE_AD)
    assert (facts.slot, facts.job, facts.owner) == ("slot1_2@glidein_7", "12.3", "alice")
    assert (facts.cpus, facts.memory) == (4, 8192)
    facts = Facts()
    assert [getattr(facts, name) for name in Facts.__slots__] == [None] * 5
    facts = Facts(b'ClusterId = 1 + 1\nOwner = "' + b"x" * 1000 + b'"', b"Cpus = 1.5\n")
    assert (facts.job, facts.owner, facts.cpus) == (None, "x" * 64, None)


@pytest.mark.parametrize(
    ("command_line", "slot"),
    [
        (b"condor_starter\0-f\0-a\0slot1_7\0ap.example.org", "slot1_7"),
        (b"condor_starter\0-f\0-a\x0012.3\0-slot-name\0slot2\0ap.example.org", "slot2"),
        (b"condor_starter\0-f\0-a\x0012.3\0ap.example.org", "slot1_2@glidein_7"),
        (b"condor_starter\0-a", "slot1_2@glidein_7"),
    ],
)
def test_the_starter_knows_the_slot_better(tmp_path: Path, command_line: bytes, slot: str) -> None:
    (tmp_path / "cmdline").write_bytes(command_line)
    proc = os.open(tmp_path, os.O_PATH)
    starter = cast(Process, SimpleNamespace(proc=proc))
    assert Facts(JOB_AD, MACHINE_AD).with_starter(starter).slot == slot
    os.close(proc)


SLICE = (
    "/system.slice/condor.service/htcondor/_var_lib_condor_execute_slot1_1024@node1024.cluster."
    "example.org.slice"
)


class Answers:
    """Stands for the server and for a request; timers are run at once."""

    def __init__(self) -> None:
        self.later_ones: list[Callable[[], None]] = []
        self.body = b""

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        self.later_ones.append(action)

    def answer(self, status: str, body: bytes) -> None:
        self.body = body

    def ask(self, found: Readings, meanwhile: Callable[[], None] = lambda: None) -> dict[str, Any]:
        found.answer(cast(Request, self))
        meanwhile()
        while self.later_ones:
            self.later_ones.pop()()
        return dict(json.loads(self.body))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningJob]:
    """A job with the files of a real one in its group, of which two readings were taken."""
    group = tmp_path / "ledge-1"
    group.mkdir()
    for name in ("CPU_STAT", "MEMORY_STAT", "IO_STAT", "MEMORY_PEAK", "PIDS_PEAK"):
        file = name.lower().replace("_", ".")
        (group / file).write_bytes(getattr(captured, name))
    slice_ = Cgroup.open(os.fsencode(tmp_path))
    sample = Sample(slice_, b"ledge-1", Allowance(0))
    sample.take()
    later = captured.IO_STAT.replace(b"rbytes=49479680", b"rbytes=99479680")
    (group / "io.stat").write_bytes(later)
    sample.take()
    assert sample.before is not None
    sample.before = sample.before[0] - 10, sample.before[1]
    proc = os.open("/proc/self", os.O_PATH)
    scope = SLICE.encode() + b"/x.scope"
    yield cast(RunningJob, SimpleNamespace(
        pid=os.getpid(), name=b"ledge-1", proc=proc, slice=slice_, sample=sample,
        cgroup=lambda: scope,
    ))  # fmt: skip
    os.close(proc)
    slice_.close()


def attached(answers: Answers) -> Readings:
    found = Readings()
    found.attach(cast(Server, answers))
    return found


def test_an_answer_has_the_last_reading_and_rates_since_the_one_before(running: RunningJob) -> None:
    answers = Answers()
    found = attached(answers)
    found.begin(running, Facts(JOB_AD, MACHINE_AD))
    told = answers.ask(found)
    (row,) = told["jobs"]
    figures = dict(zip(told["figures"], row["values"]))
    assert figures["BlockReadBytesPerSecond"] == pytest.approx(5_000_000, rel=0.01)
    assert (figures["CpuInUseCores"], figures["RatesOverSeconds"]) == (0.0, 10.0)
    assert figures["MemoryAnonBytes"] > 0
    assert figures["NetworkSentBytes"] is None
    assert (row["job"], row["owner"], row["group"]) == ("12.3", "alice", "ledge-1")
    assert row["slice"] == SLICE
    assert row["uid"] == os.getuid() and row["start"] < time.time()
    assert dict(zip(told["counters"], told["node"]))["BlockReadBytes"] == 99479680


def test_what_was_read_when_it_settled_goes_before_the_last_sample(running: RunningJob) -> None:
    found = attached(Answers())
    found.begin(running, Facts(JOB_AD, MACHINE_AD))
    usage = Usage("cgroup")
    usage.figures = {"BlockReadBytes": 200_000_000, "BlockWriteBytes": None}
    found.note_last(running, usage)
    found.end(running)
    node = dict(zip(COUNTERS, found.totals.node))
    assert (node["BlockReadBytes"], node["BlockWriteBytes"]) == (200_000_000, 3084288)
    found.end(running)  # again: it is not counted twice
    assert found.totals.node[2] == 200_000_000


def test_an_answer_with_more_jobs_than_fit(running: RunningJob) -> None:
    """1,024 jobs are told of; more may have no room, but are in the sums."""
    answers = Answers()
    for number, left_out in ((1024, False), (4096, True)):
        found = attached(answers)
        for _ in range(number):
            one = cast(RunningJob, SimpleNamespace(**vars(running)))
            found.begin(one, Facts(JOB_AD, MACHINE_AD.replace(b"slot1_2", b"slot1_%d" % number)))
            found.kept = [*getattr(found, "kept", []), one]  # type: ignore[attr-defined]
        told = answers.ask(found)
        assert len(answers.body) < _LARGEST_ANSWER
        assert len(told["jobs"]) + told["left_out"] == number
        assert bool(told["left_out"]) == left_out
        assert told["node"][2] == number * 99479680


def test_a_job_that_ends_while_an_answer_is_made_is_told_of_once(
    running: RunningJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "_AT_ONCE_SECONDS", -1.0)
    for number in (0, 1):  # one that was looked at already, and one that was not
        answers = Answers()
        found = attached(answers)
        both = [cast(RunningJob, SimpleNamespace(**vars(running))) for _ in range(2)]
        for one in both:
            found.begin(one, Facts(JOB_AD, MACHINE_AD))
        ending = both[number]
        told = answers.ask(found, lambda: found.end(ending))  # noqa: B023  # called at once
        assert len(told["jobs"]) == 1 and told["jobs_ended"] == 1
        assert told["node"][2] == 2 * 99479680
