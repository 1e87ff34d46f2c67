"""What is told of a job without a control group, from what was waited for and what was seen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ledge.job import report
from ledge.job.logical_io import LogicalIo
from ledge.job.report import Ending
from ledge.job.waited_for import sums
from ledge.tracking.looks import reading_of
from ledge.tracking.membership import Marks, by_environment, by_files, may_be
from ledge.tracking.process import (
    LONGEST_SECONDS,
    MOST_PSS_SECONDS,
    SHORTEST_SECONDS,
    Shares,
    pause,
)
from ledge.tracking.seen import LARGEST_TEXT, Reading, Seen, parse
from ledge.tracking.start import Tracker
from ledge.usage.of_processes import usage_of_processes
from ledge.usage.usage import Usage, add_logical_io

MIB = 1 << 20
WAITED_FOR = (1500000, 250000, 2048, 700, 3, 4096, 8192)
ENDING = Ending(0, None, None, (1, 2, True), WAITED_FOR)


def reading(pid: int, cpu: tuple[float, float, float, float], rss: int = MIB) -> Reading:
    return Reading((pid, 0), cpu, 1, rss, (10, 20))


def seen_of(*looks: list[Reading]) -> Seen:
    seen = Seen()
    for look in looks:
        seen.add(look, (0.0, 0.0))
        seen.note_pause(0.5)
    seen.note_pss(MIB)
    return seen


SEEN = seen_of([reading(1, (1.0, 0.5, 0.0, 0.0))], [reading(1, (1.0, 0.5, 0.0, 0.0))])


def reasons(told: dict[str, list[str]], name: str) -> str:
    return "; ".join([reason for reason, names in told.items() if name in names])


def test_what_was_waited_for_is_exact() -> None:
    usage = usage_of_processes(ENDING, SEEN)
    assert usage.tracking == "processes"
    assert usage.figures == {
        "CpuUserSeconds": 1.5,
        "CpuSystemSeconds": 0.25,
        "PageFaultsMinorCount": 700,
        "PageFaultsMajorCount": 3,
        "MemoryProcessPeakBytes": 2 * MIB,
        "StorageReadBytes": 4096,
        "StorageWriteBytes": 8192,
        "MemoryRssPeakBytes": MIB,
        "ProcessesPeak": 1,
        "MemoryPssPeakBytes": MIB,
        "all else": None,
    }
    assert usage.incomplete == {}
    assert usage.sampled == {
        "highest of 2 readings, 0.5 to 0.5 s apart": [
            "MemoryRssPeakBytes", "ProcessesPeak", "MemoryPssPeakBytes",
        ]
    }  # fmt: skip
    assert "control group" in reasons(usage.unmeasured, "all else")


def test_more_seen_than_waited_for_is_a_lower_bound() -> None:
    usage = usage_of_processes(ENDING, seen_of([reading(1, (2.0, 1.0, 0.0, 0.0))]))
    assert (usage.figures["CpuUserSeconds"], usage.figures["CpuSystemSeconds"]) == (2.0, 1.0)
    assert "nobody waited" in reasons(usage.incomplete, "CpuUserSeconds")
    assert reasons(usage.sampled, "CpuUserSeconds") == "of one reading"


def test_what_was_left_makes_it_incomplete() -> None:
    told = (1, 2, False)
    usage = usage_of_processes(Ending(0, None, None, told, WAITED_FOR), SEEN)
    add_logical_io(usage, told)
    for name in ("CpuUserSeconds", "StorageWriteBytes", "LogicalReadBytes"):
        assert "were left" in reasons(usage.incomplete, name)


def test_a_killed_init_has_told_nothing() -> None:
    usage = usage_of_processes(Ending(9, None, None), SEEN)
    assert usage.figures["CpuUserSeconds"] == 1.0
    assert usage.figures["StorageWriteBytes"] == 20
    assert "init told nothing" in reasons(usage.incomplete, "CpuUserSeconds")
    assert "init told nothing" in reasons(usage.unmeasured, "MemoryProcessPeakBytes")


def test_init_was_a_child_at_least() -> None:
    usage = usage_of_processes(Ending(9, None, (3.0, 4.0)), Seen())
    assert (usage.figures["CpuUserSeconds"], usage.figures["CpuSystemSeconds"]) == (3.0, 4.0)


@pytest.mark.parametrize("problem", ["", "python3-psutil cannot be had"])
def test_without_a_reading(problem: str) -> None:
    seen = Seen()
    seen.problem = problem
    usage = usage_of_processes(ENDING, seen)
    names = ("MemoryRssPeakBytes", "MemoryPssPeakBytes", "ProcessesPeak")
    assert {usage.figures[name] for name in names} == {None}
    assert (problem or "ended before") in reasons(usage.unmeasured, "ProcessesPeak")
    assert usage.sampled == {}


def test_nothing_is_known_at_all() -> None:
    usage = usage_of_processes(Ending(9, None, None), Seen())
    assert not [name for name, value in usage.figures.items() if value is not None]


def test_no_account_of_storage() -> None:
    """CONFIG_TASK_IO_ACCOUNTING is off."""
    usage = usage_of_processes(Ending(0, None, None, None, WAITED_FOR[:5]), Seen())
    assert usage.figures["StorageReadBytes"] is None
    assert usage.figures["CpuUserSeconds"] == 1.5


def test_what_init_itself_had_is_not_the_jobs() -> None:
    told = (*WAITED_FOR[:2], 0, *WAITED_FOR[3:])
    usage = usage_of_processes(Ending(0, None, None, None, told), SEEN)
    assert usage.figures["MemoryProcessPeakBytes"] is None


def test_the_dead_count_as_they_were_last_seen() -> None:
    """Whom nobody waits for; with the living, but not twice with those that were waited for."""
    unwaited = seen_of(
        [reading(1, (1.0, 0.0, 0.0, 0.0)), reading(2, (0.5, 0.0, 0.0, 0.0))],
        [reading(1, (1.5, 0.0, 0.0, 0.0)), reading(3, (0.5, 0.0, 0.0, 0.0))],
    )
    assert unwaited.user_seconds == 2.5
    waited = seen_of(
        [reading(1, (1.0, 0.0, 0.0, 0.0)), reading(2, (0.5, 0.0, 0.0, 0.0))],
        [reading(1, (1.5, 0.0, 0.6, 0.0))],
    )
    assert waited.user_seconds == 2.1


def test_short_processes_count_with_whom_waited_for_them() -> None:
    seen = seen_of([reading(1, (0.1, 0.0, 30.0, 2.0))])
    assert (seen.user_seconds, seen.system_seconds) == (30.1, 2.0)
    seen.add([reading(1, (0.1, 0.0, 30.0, 2.0))], (5.0, 0.5))
    assert (seen.user_seconds, seen.system_seconds) == (35.1, 2.5)


def test_a_look_that_found_nobody_is_none() -> None:
    assert seen_of([], []).readings == 0


def test_peaks_are_of_all_together() -> None:
    both = [reading(1, (0.0,) * 4, 3 * MIB), reading(2, (0.0,) * 4, 4 * MIB)]
    seen = seen_of(both, both[:1])
    assert (seen.rss_peak, seen.processes_peak) == (7 * MIB, 2)
    assert seen.storage_read_bytes == 20


def test_a_clock_that_is_set_makes_no_other_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel then has another time of boot (btime): what it had used counted twice."""
    (tmp_path / str(os.getpid())).symlink_to("/proc/self")
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    seen = Seen()
    looks = []
    for btime in (1700000000, 1700003600):
        (tmp_path / "stat").write_text(f"btime {btime}\n")
        looks.append(reading_of(psutil.Process(os.getpid())))
        seen.add(looks[-1:], (0.0, 0.0))
    assert looks[0].identity == looks[1].identity
    last = looks[-1]
    used = last.user + last.children_user + last.system + last.children_system
    assert seen.user_seconds + seen.system_seconds <= used


def test_the_words_of_the_tracker() -> None:
    seen = seen_of([reading(1, (1.25, 0.5, 0.0, 0.0))])
    seen.pss_problem = "too much memory"
    told = parse(seen.text())
    assert told.text() == seen.text()
    assert (told.user_seconds, told.rss_peak, told.pss_peak) == (1.25, MIB, MIB)
    assert (told.problem, told.pss_problem) == ("", "too much memory")
    assert parse(b"").readings == 0
    assert parse(Seen().text()).pss_peak is None
    seen.problem = "x" * 2 * LARGEST_TEXT
    assert len(seen.text()) == LARGEST_TEXT
    with pytest.raises(ValueError, match="garbage"):
        parse(b"readings garbage\n")


def test_the_pause_follows_the_cost() -> None:
    assert pause(0.0) == SHORTEST_SECONDS
    assert pause(0.005) == 0.5
    assert pause(10.0) == LONGEST_SECONDS


def test_shares_are_looked_at_while_it_is_cheap() -> None:
    shares, seen = Shares(), Seen()
    assert shares.wanted(100 * MIB)
    shares.measure(lambda: 5, 100 * MIB, seen)
    assert seen.pss_peak == 5
    assert not shares.wanted(101 * MIB)  # no new peak to speak of
    assert shares.wanted(110 * MIB)
    shares.rate = MOST_PSS_SECONDS / (1 << 30)
    assert shares.wanted(1 << 30)
    assert not shares.wanted(1100 * MIB)
    assert "too much memory" in shares.problem


MARKS = Marks(1001, 10000, "/execute/dir_1/scratch", {"_CONDOR_ANCESTOR_5": "5:6:7"}, 5)


@pytest.mark.parametrize(
    ("environ", "verdict"),
    [
        ({"_CONDOR_ANCESTOR_5": "5:6:7"}, True),
        ({"_CONDOR_ANCESTOR_5": "5:6:8"}, False),  # a starter of before, with the same PID
        ({"_CONDOR_ANCESTOR_6": "5:6:7"}, False),
        ({"_CONDOR_SCRATCH_DIR": "/execute/dir_1/scratch"}, True),
        ({"_CONDOR_SCRATCH_DIR": "/execute/dir_2/scratch"}, False),
        ({"_CONDOR_SCRATCH_DIR": ""}, False),
        ({}, None),
        ({"PATH": "/bin"}, None),
    ],
)
def test_htcondors_marks(environ: dict[str, str], verdict: bool | None) -> None:
    assert by_environment(environ, MARKS) is verdict


def test_without_a_scratch_directory_nothing_is_in_it() -> None:
    marks = Marks(0, 0, "", {}, 1)
    assert by_environment({"_CONDOR_SCRATCH_DIR": ""}, marks) is False
    assert not by_files(["/", ""], marks)


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("/execute/dir_1/scratch", True),
        ("/execute/dir_1/scratch/a/b", True),
        ("/execute/dir_1/scratches", False),
        ("/execute/dir_1", False),
        ("/", False),
    ],
)
def test_whoever_works_in_the_scratch_directory(path: str, inside: bool) -> None:
    assert by_files(["/etc", path], MARKS) is inside


def test_nobody_else_and_nobody_from_before() -> None:
    assert may_be(1001, 10000, MARKS)
    assert not may_be(1001, 9999, MARKS)
    assert not may_be(1002, 20000, MARKS)


def test_what_init_tells() -> None:
    hear, tell = os.pipe()
    report.tell_waited_for(tell, WAITED_FOR)
    told = report.Report()
    report.read_report(hear, told)
    assert told.waited_for == WAITED_FOR
    os.close(hear)
    os.close(tell)


def test_the_kernels_sums() -> None:
    """Of children, to the microsecond, and what they had waited for."""
    account = LogicalIo()
    before = sums(account)
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    subprocess.run(["/bin/sh", "-c", f'{sys.executable} -ISE -c "$0"; :', burn], check=True)
    after = sums(account)
    used = (after[0] + after[1] - before[0] - before[1]) / 1e6
    assert 0.2 <= used < 0.5
    assert after[3] > before[3]
    for fd in account.fds:
        os.close(fd)


def test_a_tracker_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    seen = Tracker(1, b"").stop()
    assert "could not be started: No such file" in seen.problem
    usage: Usage = usage_of_processes(ENDING, seen)
    assert "could not be started" in reasons(usage.unmeasured, "ProcessesPeak")
