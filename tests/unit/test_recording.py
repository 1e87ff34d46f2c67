"""ledged's part of recording: what goes where, and how long a job waits for the recorder."""

from __future__ import annotations

import os
import re
import select
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from ledge.daemon.recording import PATIENCE_SECONDS, JobRecord, Recording, Starts
from ledge.daemon.sampling import Sample
from ledge.daemon.server import Server
from ledge.kernel.cgroup2 import Cgroup
from ledge.kernel.kept_files import Allowance
from ledge.log import Log
from ledge.publish.update_ad import UpdateAd
from ledge.recorder.spool import LAST, LIVE, Name, Spool, job_key
from ledge.usage.usage import Usage
from tests.unit import captured

KEY = job_key(1, 1)


class Timers(Server):
    """The server's timers and descriptors alone, run by hand."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.watched: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, action: Callable[[], None]) -> None:
        self.watched[fd] = action

    def listen(self) -> None:
        """One round of what the kernel has to tell."""
        for fd in select.select(list(self.watched), [], [], 0)[0]:
            self.watched[fd]()

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
        self.group = path / "slice" / "ledge-1"
        self.group.mkdir()
        (self.group / "cpu.stat").write_bytes(captured.CPU_STAT)
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
    node.job().settled(Usage("cgroup"), True, node.end)
    assert 'Reading = "exact"' in node.file.read_text()
    assert 'Tracking = "cgroup"' in node.spooled(LAST)
    node.timers.run_out()
    assert node.ended == 0
    node.spool.remove(Name(KEY, LAST))
    node.timers.run_out()
    assert node.ended == 1
    assert node.recording.counts["in_time"] == 1


def test_the_last_figures_stay_until_the_starter_has_ended(node: Node) -> None:
    job = node.job()
    job.settled(Usage("cgroup"), True, node.end)
    node.spool.remove(Name(KEY, LAST))
    for _ in range(3):
        (node.htcondor / "new").write_text("Cpus = 1\n")
        (node.htcondor / "new").replace(node.file)  # as the startd does
        node.timers.run_out()
        text = node.file.read_text()
        assert "Cpus = 1" in text and 'Reading = "exact"' in text
    unchanged = node.file.stat().st_mtime_ns
    node.timers.run_out()
    assert node.file.stat().st_mtime_ns == unchanged
    shutil.rmtree(node.htcondor)
    node.timers.run_out()
    assert node.timers.waiting == []
    assert node.recording.counts["not_written"] == 0


def test_the_last_figures_of_a_start_make_way_for_those_of_the_next(node: Node) -> None:
    """A self-checkpointing job: one starter, and one file."""
    node.sample.take()
    first = node.job()
    first.settled(Usage("cgroup"), True, node.end)
    second = node.job()
    second.running(node.sample)
    node.timers.run_out()
    assert 'Reading = "running"' in node.file.read_text()
    second.close()


def test_figures_that_made_room_for_others_are_not_recorded_in_time(node: Node) -> None:
    node.spool.most_files = 1
    node.job().settled(Usage("cgroup"), True, node.end)
    node.spool.put(job_key(2, 2), {}, final=True)
    node.timers.run_out()
    assert node.ended == 1
    counts = node.recording.counts
    assert (counts["in_time"], counts["too_late"]) == (0, 1)


def test_a_job_waits_no_longer_than_the_patience_and_the_next_one_hardly(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for number, patience in ((1, PATIENCE_SECONDS), (2, 0.25)):
        node.job().settled(Usage("cgroup"), True, node.end)
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
    node.job().settled(Usage("cgroup"), True, node.end)
    now += 2 * PATIENCE_SECONDS
    node.timers.run_out()
    node.spool.remove(Name(KEY, LAST))
    node.recording.when_recorded(KEY, node.end)
    node.job().settled(Usage("cgroup"), True, node.end)
    now += 0.9 * PATIENCE_SECONDS
    node.timers.run_out()
    assert node.ended == 2


def member(text: str, name: str) -> str:
    """The value of a member of a record, as it stands there; empty if it does not."""
    return "".join(re.findall(rf"\b{name} = ([^;]*?)(?:;| \]$)", text.strip()))


def test_a_killed_job_has_its_last_sample_and_says_so(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.sample.take()
    taken, read = time.monotonic(), int(time.time())
    monkeypatch.setattr(time, "monotonic", lambda: taken + 100.0)
    monkeypatch.setattr(time, "time", lambda: read + 100.5)
    job = node.job()
    job.killed(node.sample, taken + 90.0)
    for text in (node.file.read_text(), node.spooled(LAST)):
        assert member(text, "Reading") == '"sampled"'
        assert float(member(text, "ReadingAgeSeconds")) == pytest.approx(90.0, abs=0.1)
        assert abs(int(member(text, "Taken")) - read) <= 1  # of the reading, not of the writing
    job.close()


def make_exact(node: Node) -> None:
    """The last reading of a group in which nobody is left."""
    (node.group / "cgroup.events").write_text("populated 0\nfrozen 0\n")
    node.sample.take_last()


def test_a_killed_job_that_was_read_when_its_last_process_had_gone(node: Node) -> None:
    make_exact(node)
    job = node.job()
    job.killed(node.sample, time.monotonic() + 3.0)
    for text in (node.file.read_text(), node.spooled(LAST)):
        assert member(text, "Reading") == '"exact"'
        assert member(text, "ReadingAgeSeconds") == ""
    job.close()


def test_a_dying_job_is_written_for_the_starter_and_not_yet_for_the_schedd(node: Node) -> None:
    node.sample.take()
    job = node.job()
    job.dying(node.sample)
    assert member(node.file.read_text(), "Reading") == '"sampled"'
    assert node.spooled(LAST) == ""
    make_exact(node)
    job.killed(node.sample, time.monotonic())
    assert member(node.file.read_text(), "Reading") == '"exact"'
    assert member(node.spooled(LAST), "Reading") == '"exact"'
    job.close()


def test_a_running_job_has_figures_of_the_moment_and_rates(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    (node.group / "pids.current").write_text("3\n")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    job = node.job()
    now += 100.0
    node.sample.take()
    job.running(node.sample)
    text = node.file.read_text()
    assert member(text, "ProcessesCount") == "3"
    assert float(member(text, "CpuInUseCores")) == pytest.approx(0.637)  # 63.7 s in 100 s
    assert member(text, "RatesOverSeconds") == "100.000000"
    job.killed(node.sample, now)
    for name in ("ProcessesCount", "CpuInUseCores", "RatesOverSeconds"):
        assert member(node.file.read_text(), name) == ""
    job.close()


def test_only_what_has_changed_is_written(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.recording.usage_interval = 5.0
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    job = node.job()
    written = []

    def wait() -> None:
        nonlocal now
        before = [(node.file.stat().st_ino, node.spooled(LIVE)) for _ in range(node.file.exists())]
        node.spool.remove(Name(KEY, LIVE))  # the recorder has it
        now += 5.0
        node.sample.take()
        job.running(node.sample)
        rewritten = [node.file.stat().st_ino] != [inode for inode, _ in before]
        written.append((rewritten, node.spooled(LIVE) != ""))

    wait()
    wait()  # the rates of the time before, and those since
    wait()
    (node.group / "cpu.stat").write_bytes(captured.CPU_STAT.replace(b"38557845", b"38557846"))
    wait()
    node.file.unlink()
    node.file.write_text("A = 1\n")  # the startd
    wait()
    assert written == [(True, True), (True, True), (False, False), (True, True), (True, False)]
    assert "A = 1" in node.file.read_text() and "LedgeUsage" in node.file.read_text()
    job.close()


def startd_writes(node: Node) -> None:
    """As it does: a file of its own, renamed."""
    node.file.with_suffix(".tmp").write_text("A = 1\n")
    node.file.with_suffix(".tmp").rename(node.file)


def test_what_the_startd_takes_away_is_put_back_at_once(node: Node) -> None:
    node.sample.take()
    job = node.job()
    job.running(node.sample)
    for reading in ("running", "exact"):
        if reading == "exact":
            job.settled(Usage("cgroup"), True, node.end)
        startd_writes(node)
        node.timers.listen()
        assert "A = 1" in node.file.read_text()
        assert f'Reading = "{reading}"' in node.file.read_text()
        node.timers.listen()  # what ledged itself has written


def test_of_two_starts_the_later_is_put_back(node: Node) -> None:
    first, second = node.job(), node.job()
    first.settled(Usage("cgroup"), False, node.end)
    second.settled(Usage("cgroup"), True, node.end)
    third = node.job()
    for _ in range(2):
        startd_writes(node)
        node.timers.run_out()  # the first's last look
        node.timers.listen()
    assert "LedgeUsage" not in node.file.read_text()  # the third has nothing to say yet
    third.settled(Usage("cgroup"), True, node.end)
    startd_writes(node)
    node.timers.listen()
    assert 'Reading = "exact"' in node.file.read_text()


def test_the_starts_of_a_job_are_added_up(node: Node) -> None:
    starts = Starts()
    for number in (1, 2):
        fd = os.open(node.htcondor, os.O_RDONLY | os.O_DIRECTORY)
        job = JobRecord(node.recording, KEY, UpdateAd(fd), {}, starts)
        usage = Usage("cgroup")
        usage.figures = {"CpuUserSeconds": 1.5, "MemoryPeakBytes": 100 * number, "OomKills": None}
        job.settled(usage, True, node.end)
        text = node.file.read_text()
        assert float(member(text, "CpuUserSeconds")) == 1.5 * number
        assert member(text, "MemoryPeakBytes") == str(100 * number)
        assert member(text, "OomKills") == ""
        assert member(text, "Incomplete") == ""


def test_a_start_that_was_not_read_is_missed(node: Node) -> None:
    starts = Starts()
    starts.note(None, exact=False)
    usage = Usage("cgroup")
    starts.add_to(usage)
    assert list(usage.incomplete) == ["an earlier start was not read at its end"]


def test_of_a_job_that_was_there_before_ledged_its_start_is_not_known(node: Node) -> None:
    node.sample.take()
    fd = os.open(node.htcondor, os.O_RDONLY | os.O_DIRECTORY)
    job = JobRecord(node.recording, KEY, UpdateAd(fd), None)
    job.running(node.sample)
    text = node.file.read_text()
    assert "Enforced, NotEnforced: ledged was started anew while the job ran" in text
    assert "CpuInUseCores" not in text
    job.close()


def test_what_has_settled_is_not_sampled_any_more(node: Node) -> None:
    node.sample.take()
    job = node.job()
    job.settled(Usage("cgroup"), True, node.end)
    job.killed(node.sample, time.monotonic())
    job.running(node.sample)
    assert 'Reading = "exact"' in node.spooled(LAST)
    assert 'Reading = "exact"' in node.file.read_text()


def test_what_cannot_be_written_costs_no_job_anything(node: Node) -> None:
    node.htcondor.chmod(0o555)
    node.file.mkdir()
    node.job().settled(Usage("cgroup"), True, node.end)
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
    job.settled(Usage("cgroup"), True, lambda: ended.append(True))
    assert ended == [True]
