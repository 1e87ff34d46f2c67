"""ledged's part of recording: what goes where, and how long a job waits for the recorder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from ledge.daemon.log import Log
from ledge.daemon.recording import PATIENCE_SECONDS, JobRecord, Recording
from ledge.daemon.sampling import Sample
from ledge.daemon.server import Server
from ledge.kernel.cgroup2 import Cgroup
from ledge.kernel.kept_files import Allowance
from ledge.publish.update_ad import UpdateAd
from ledge.recorder.spool import LAST, LIVE, Name, Spool, job_key
from ledge.usage import Usage
from tests.unit import captured

KEY = job_key(1, 1)


class Timers(Server):
    """The server's timers alone, run by hand."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        self.waiting.append(action)

    def run_out(self) -> None:
        """One round of what is due."""
        waiting, self.waiting = self.waiting, []
        for action in waiting:
            action()


class Node:
    """A spool, an .update.ad, and a job with a sample."""

    def __init__(self, path: Path, interval: float) -> None:
        self.timers = Timers()
        for name in ("spool", "htcondor", "slice"):
            (path / name).mkdir()
        self.file = path / "htcondor" / ".update.ad"
        self.spool = Spool(str(path / "spool"))
        log = Log(str(path / "log"))
        self.recording = Recording(self.timers, log, self.spool, True, interval)
        self.sample = Sample(
            Cgroup.open(os.fsencode(path / "slice")), b"ledge-1", Allowance(100)
        )
        group = path / "slice" / "ledge-1"
        group.mkdir()
        (group / "cpu.stat").write_bytes(captured.CPU_STAT)
        self.htcondor = path / "htcondor"
        self.ended = 0

    def job(self) -> JobRecord:
        fd = os.open(self.htcondor, os.O_RDONLY | os.O_DIRECTORY)
        return JobRecord(self.recording, KEY, UpdateAd(fd), {"Isolation": "pid"})

    def end(self) -> None:
        self.ended += 1

    def spooled(self, kind: str) -> str:
        entry = self.spool.read(Name(KEY, kind))
        return entry.record if entry else ""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path, interval=0.0)
    yield node
    node.sample.close()
    node.sample.slice.close()
    node.spool.close()


def test_a_running_job_is_written_from_its_first_sample_on(node: Node) -> None:
    job = node.job()
    job.running(node.sample)
    assert not node.file.exists()  # no sample yet
    node.sample.take()
    job.running(node.sample)
    text = node.file.read_text()
    assert 'Reading = "running"' in text and "CpuUserSeconds = 38.557845" in text
    assert 'Isolation = "pid"' in text
    assert "CpuUserSeconds = 38.557845" in node.spooled(LIVE)
    job.close()


def test_not_every_sample_is_written(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    node.sample.take()
    job = node.job()
    written = 0
    for _ in range(13):
        job.running(node.sample)
        written += node.file.exists()
        node.file.unlink(missing_ok=True)
        now += 5.0
    assert written == 3
    job.close()


def test_the_spool_has_to_wait_for_its_interval(tmp_path: Path) -> None:
    node = Node(tmp_path, interval=900.0)
    node.sample.take()
    job = node.job()
    job.running(node.sample)
    assert node.file.exists()
    assert node.spooled(LIVE) == ""
    job.close()


def test_a_job_ends_when_its_last_figures_are_recorded(node: Node) -> None:
    node.job().settled(Usage("cgroup"), node.end)
    assert 'Reading = "final"' in node.file.read_text()
    assert 'Tracking = "cgroup"' in node.spooled(LAST)
    node.timers.run_out()
    assert node.ended == 0
    node.spool.remove(Name(KEY, LAST))
    node.timers.run_out()
    assert (node.ended, node.timers.waiting) == (1, [])
    assert node.recording.counts["in_time"] == 1


def test_a_job_waits_no_longer_than_the_patience_and_the_next_one_hardly(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for number, patience in ((1, PATIENCE_SECONDS), (2, 0.25)):
        node.job().settled(Usage("cgroup"), node.end)
        now += 0.9 * patience
        node.timers.run_out()
        assert node.ended == number - 1
        now += 0.2 * patience
        node.timers.run_out()
        assert node.ended == number
    assert node.recording.counts["too_late"] == 2


def test_patience_comes_back_with_the_recorder(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    node.job().settled(Usage("cgroup"), node.end)
    now += 2 * PATIENCE_SECONDS
    node.timers.run_out()
    node.spool.remove(Name(KEY, LAST))
    node.recording.when_recorded(KEY, node.end)
    node.job().settled(Usage("cgroup"), node.end)
    now += 0.9 * PATIENCE_SECONDS
    node.timers.run_out()
    assert node.ended == 2


def test_a_killed_job_has_its_last_sample_and_says_so(node: Node) -> None:
    node.sample.take()
    job = node.job()
    job.killed(node.sample)
    assert 'Reading = "sampled"' in node.file.read_text()
    assert 'Reading = "sampled"' in node.spooled(LAST)
    job.close()


def test_what_has_settled_is_not_sampled_any_more(node: Node) -> None:
    node.sample.take()
    job = node.job()
    job.settled(Usage("cgroup"), node.end)
    job.killed(node.sample)
    job.running(node.sample)
    assert 'Reading = "final"' in node.spooled(LAST)
    assert 'Reading = "final"' in node.file.read_text()


def test_what_cannot_be_written_costs_no_job_anything(node: Node) -> None:
    node.htcondor.chmod(0o555)
    node.file.mkdir()
    node.job().settled(Usage("cgroup"), node.end)
    node.spool.remove(Name(KEY, LAST))
    node.timers.run_out()
    assert node.ended == 1
    assert node.recording.status()["not_written"] == 1


def test_a_full_spool_is_told_once(node: Node) -> None:
    node.spool.most_files = 1
    node.sample.take()
    for number in range(1, 4):
        node.spool.put(job_key(number + 1, 1), {}, final=False)
        job = node.job()
        job.running(node.sample)
        job.close()
    assert node.recording.status()["dropped"] == {"start": 0, "live": 5, "final": 0}
    assert Path(node.recording.log.path or "").read_text().count("the spool is full") == 1


def test_nothing_is_recorded_where_nothing_is_to_be(tmp_path: Path) -> None:
    recording = Recording(Timers(), Log(str(tmp_path / "log")), None, False, 900.0)
    ended = []
    job = JobRecord(recording, "", None, {})
    assert not job.wanted()
    job.settled(Usage("cgroup"), lambda: ended.append(True))
    assert ended == [True]
