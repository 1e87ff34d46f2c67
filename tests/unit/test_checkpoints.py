"""Adding up the starts of a self-checkpointing job."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ledge.usage.usage import Usage
from ledge.wrapper.checkpoints import add_earlier_starts


def start(scratch: Path, **figures: int | float | None) -> Usage:
    """What one more start used, after the earlier ones have been added."""
    usage = Usage("cgroup")
    usage.figures.update(figures)
    add_earlier_starts(usage, bytes(scratch))
    return usage


def test_sums_and_peaks(tmp_path: Path) -> None:
    start(tmp_path, CpuUserSeconds=1.5, MemoryPeakBytes=300, OomKills=0)
    start(tmp_path, CpuUserSeconds=0.25, MemoryPeakBytes=100, OomKills=1)
    usage = start(tmp_path, CpuUserSeconds=0.25, MemoryPeakBytes=200, OomKills=1)
    assert usage.figures == {"CpuUserSeconds": 2.0, "MemoryPeakBytes": 300, "OomKills": 2}
    assert usage.unmeasured == {}


@pytest.mark.parametrize("seconds", [0.0, 5e-05, 1e-06, 1234567.890123])
def test_every_number_survives(tmp_path: Path, seconds: float) -> None:
    start(tmp_path, CpuSystemSeconds=seconds)
    assert start(tmp_path, CpuSystemSeconds=seconds).figures["CpuSystemSeconds"] == 2 * seconds


def test_what_an_earlier_start_did_not_measure_is_missing_with_the_reason(tmp_path: Path) -> None:
    start(tmp_path, CpuUserSeconds=1.0, MemoryPeakBytes=None)
    usage = start(tmp_path, CpuUserSeconds=1.0, MemoryPeakBytes=100)
    assert usage.figures == {"CpuUserSeconds": 2.0, "MemoryPeakBytes": None}
    assert usage.unmeasured == {"not measured in every start of the job": ["MemoryPeakBytes"]}


@pytest.mark.parametrize("figure", ["lots", "nan", "inf", "-5", "9" * 400])
def test_a_file_that_the_job_spoilt_makes_no_sum(tmp_path: Path, figure: str) -> None:
    start(tmp_path, CpuUserSeconds=1.0, OomKills=1)
    (tmp_path / ".ledge/usage").write_text(f"CpuUserSeconds {figure}\nOomKills 1\n")
    usage = start(tmp_path, CpuUserSeconds=1.0, OomKills=1)
    assert usage.figures == {"CpuUserSeconds": None, "OomKills": 2}
    assert usage.unmeasured


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / ".ledge").mkdir()
    os.mkfifo(tmp_path / ".ledge/usage")
    before = signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, 5)
    try:
        usage = start(tmp_path, CpuUserSeconds=1.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert "cannot write" in "; ".join(usage.unmeasured)


def too_late(_signal: int, _frame: object) -> None:
    raise AssertionError("it waits for whoever opens the other end")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    (tmp_path / ".ledge").mkdir()
    (tmp_path / ".ledge/usage").symlink_to(target)
    start(tmp_path, CpuUserSeconds=1.0)
    assert target.read_text() == "precious"
