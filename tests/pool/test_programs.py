"""Programs that people run (tests/programs.py) on the pool, with the policy as it comes.

All are submitted together, and those whose output depends on the node once more without
condor-ledge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest

from tests.pool.condor import Pool
from tests.pool.job import Job, Submission
from tests.pool.test_ledged import await_ledged
from tests.programs import DEVICE, TABLE, Program

pytestmark = pytest.mark.machine("container")

MIB = 1 << 20
MEMORY_MIB = 512
PATIENCE_SECONDS = 300.0
DESCRIPTION = f"""
executable = program
should_transfer_files = YES
transfer_output_files = ""
request_memory = {MEMORY_MIB}M
request_disk = 100M
"""
PROLOGUE = "#!/bin/sh\nexport PATH=/usr/bin:/bin\n"
COMPARED = [program for program in TABLE if program.compared]


class Ran(NamedTuple):
    """What became of a program's job."""

    job: Job
    ad: dict[str, Any]

    def output(self) -> str:
        return self.job.output().decode(errors="replace")


def run(pool: Pool, programs: Iterable[Program]) -> dict[str, Ran]:
    """Run them all; by name."""
    submissions = {
        program.name: Submission(
            DESCRIPTION, name="program", files={"program": PROLOGUE + program.script}
        )
        for program in programs
    }
    jobs = dict(zip(submissions, pool.submit_all(list(submissions.values()))))
    for job in jobs.values():
        job.wait("terminated", PATIENCE_SECONDS)
    return {name: Ran(job, job.ad()) for name, job in jobs.items()}


@pytest.fixture(scope="module")
def _device(pool: Pool) -> None:
    """It stays: the machine is the tests' own."""
    pool.root(f"[ -e {DEVICE} ] || mknod -m 666 {DEVICE} c 1 3")


@pytest.fixture(scope="module")
def with_ledge(pool: Pool, _installed: None, _device: None) -> dict[str, Ran]:
    await_ledged(pool)
    return run(pool, TABLE)


@pytest.fixture(scope="module")
def without(pool: Pool, with_ledge: dict[str, Ran]) -> dict[str, Ran]:
    pool.plugin_off()
    try:
        return run(pool, COMPARED)
    finally:
        pool.plugin_on()


@pytest.mark.parametrize("program", TABLE, ids=lambda program: program.name)
def test_what_people_run(program: Program, with_ledge: dict[str, Ran]) -> None:
    ran = with_ledge[program.name]
    errors = ran.job.error().decode(errors="replace")
    assert re.fullmatch(program.output, ran.output()), ran.output() + errors
    assert (ran.ad["ExitCode"], errors) == (0, "")
    assert ran.ad["ChirpLedgeIsolation"] == "pid,mount,ipc,cgroup,uts"


@pytest.mark.parametrize("program", COMPARED, ids=lambda program: program.name)
def test_the_same_as_without(
    program: Program, with_ledge: dict[str, Ran], without: dict[str, Ran]
) -> None:
    assert without[program.name].output() == with_ledge[program.name].output()


@pytest.mark.machine("vm")  # a limit on memory
def test_a_jvm_sees_the_memory_of_the_job(with_ledge: dict[str, Ran]) -> None:
    """It takes a quarter of it, and not of the node's; a slot may have a little more than asked."""
    heap = int(with_ledge["Java"].output().split()[1])
    print(f"a heap of {heap / MIB:.0f} MiB")
    assert MEMORY_MIB / 8 < heap / MIB < MEMORY_MIB / 2


def test_a_program_that_the_job_would_not_find_is_a_hold(ledge_pool: Pool) -> None:
    """It is in the node's /tmp, and the job has one of its own; it would be tried for ever."""
    await_ledged(ledge_pool)
    ledge_pool.root("cp /bin/true /tmp/program")
    job = ledge_pool.submit("executable = /tmp/program\n")
    job.wait("held", 60)
    ledge_pool.root("rm /tmp/program")
    reason = job.ad()["HoldReason"]
    assert "Failed to execute '/tmp/program': (errno=2: 'No such file or directory')" in reason
    ledge_pool.remove_all_jobs()
