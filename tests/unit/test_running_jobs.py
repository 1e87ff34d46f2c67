"""The jobs that run, as ledged tells of them: which one is meant, and how it is shown."""

from __future__ import annotations

import pytest

from ledge.cli.ps import table
from ledge.cli.running import JobProcess, RunningJob, the_job
from ledge.daemon.facts import slot_of
from ledge.errors import LedgeError


def running(job: str | None, slot: str | None, number: int = 1) -> RunningJob:
    return RunningJob({
        "job": job, "slot": slot, "uid": 4000000000, "wrapper": 10 * number, "init": None,
        "slice": f"/htcondor/execute_slot1_{number}@node.slice", "group": "ledge-10", "started": 0,
    })  # fmt: skip


JOBS = [running("12.0", "slot1_1"), running("12.1", "slot1_2", 2), running(None, "slot1_3", 3)]


@pytest.mark.parametrize(
    ("word", "wrapper"),
    [
        ("12.0", 10),
        ("slot1_2", 20),
        ("slot1_2@node.example.org", 20),
        ("slot1_3", 30),
        ("execute_slot1_3@node.slice", 30),
    ],
)
def test_a_job_is_meant_by_its_id_its_slot_or_its_slice(word: str, wrapper: int) -> None:
    assert the_job(JOBS, word).wrapper == wrapper


@pytest.mark.parametrize("word", ["12", "1", "12.10", "slot1", "slot1_10", "None", "?"])
def test_no_job_is_guessed(word: str) -> None:
    with pytest.raises(LedgeError, match=r"more than one job|no job .* runs here"):
        the_job(JOBS, word)


def test_a_cluster_is_enough_for_its_only_job() -> None:
    assert the_job(JOBS[1:], "12").wrapper == 20


@pytest.mark.parametrize(
    ("arguments", "slot"),
    [
        (b"condor_starter -f -local-name slot_type_1 -a slot1_1 submit.example.org", "slot1_1"),
        (b"condor_starter -f -a 12.0 -slot-name slot1_4 submit.example.org", "slot1_4"),
        (b"condor_starter -f -a 12.0 submit.example.org", None),
        (b"condor_starter -f -a", None),
    ],
)
def test_the_slot_is_among_the_arguments_of_the_starter(
    arguments: bytes, slot: str | None
) -> None:
    assert slot_of(arguments.split(b" ")) == slot


def test_a_process_cannot_write_to_the_terminal_by_its_name() -> None:
    process = JobProcess.__new__(JobProcess)
    process.pid, process.within, process.state = 4711, None, "S"
    process.cpu_seconds, process.rss_bytes = 61.5, 3 << 19
    process.command = "evil \x1b[2J\r\n0.0 of root"
    first, _, line = table(JOBS[2], [process]).split("\n")
    assert first.startswith("job ? of 4000000000 in slot1_3, since ")
    assert line.split(None, 6) == [
        "4711", "-", "S", "1:01.50", "1.5", "MiB", "evil ?[2J??0.0 of root"
    ]  # fmt: skip
