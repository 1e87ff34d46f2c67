"""condor_ledge usage and the print formats: jobs that run and jobs that have ended, on the pool."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ledge.publish.record import EXACT, RUNNING
from tests.pool.condor import Pool
from tests.pool.job import Job
from tests.pool.test_ledged import await_ledged

# It waits for LedgeUsage, which is what condor_ledge usage shows of a job that runs.
pytestmark = pytest.mark.since_htcondor(25, 4)

FORMATS = "/usr/share/condor-ledge"
PATIENCE_SECONDS = 180.0
# The first job of the cluster ends, the second waits for a file; both have something to tell. The
# first goes on for a while: just after its begin the startd writes anew where LedgeUsage is.
JOB = """#!/bin/sh
dd if=/dev/zero of=data$1 bs=1M count=8 conv=fsync 2>/dev/null
rm data$1
[ "$1" = 0 ] && sleep 8 && exit
touch started
until [ -e go ]; do sleep 0.5; done
"""
DESCRIPTION = "executable = job\narguments = $(Process)\nqueue 2\n"


@pytest.fixture(scope="module")
def jobs(pool: Pool, _installed: None) -> Iterator[tuple[Job, Job]]:
    """One that has left the queue, and one that runs and has had a report."""
    await_ledged(pool)
    finished, running = pool.submit(DESCRIPTION, files={"job": JOB}).siblings
    finished.wait("terminated", PATIENCE_SECONDS)
    running.wait("executing", PATIENCE_SECONDS)
    await_report(running)
    yield finished, running
    pool.put("", f"{running.directory}/go")
    running.wait("terminated", PATIENCE_SECONDS)


def await_report(job: Job) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "LedgeUsage" not in job.ad():
        assert time.monotonic() < deadline
        time.sleep(1)


def usage(job: Job, *arguments: str) -> str:
    """What the job's owner sees."""
    return job.pool.run_as(job.user, shlex.join(["condor_ledge", "usage", *arguments])).stdout


def figures(job: Job, *arguments: str) -> dict[str, dict[str, Any]]:
    """By the id of the job."""
    told = json.loads(usage(job, "--json", *arguments))
    return {one["job"]: one for one in told}


def test_a_finished_job(jobs: tuple[Job, Job]) -> None:
    job, _ = jobs
    ad = job.ad()
    [told] = figures(job, job.id).values()
    assert (told["source"], told["reading"]) == ("LedgeUsage", EXACT)
    for name in ("BlockWriteBytes", "MemoryPeakBytes", "CpuUserSeconds"):
        assert told["figures"][name] == ad[f"ChirpLedge{name}"]
    table = usage(job, job.id)
    print(table)
    assert table.startswith(f"Job {job.id}, alice, completed on ")
    assert re.search(r"(?m)^  written +8\.\d\d MiB ", table)


def test_a_running_job(jobs: tuple[Job, Job]) -> None:
    _, job = jobs
    deadline = time.monotonic() + 100  # three records on: the first may come before it writes
    [told] = figures(job, job.id).values()
    while told["figures"]["BlockWriteBytes"] < 8 << 20 and time.monotonic() < deadline:
        time.sleep(2)
        [told] = figures(job, job.id).values()
    assert told["reading"] == RUNNING
    assert told["figures"]["BlockWriteBytes"] >= 8 << 20
    assert usage(job, job.id).startswith(f"Job {job.id}, alice, running on ")


def test_a_cluster_and_its_event_log(jobs: tuple[Job, Job]) -> None:
    """One of the two jobs is in the queue, the other one in the history."""
    readings = {jobs[0].id: EXACT, jobs[1].id: RUNNING}
    for argument in (str(jobs[0].cluster), jobs[0].path("log")):
        told = figures(jobs[0], argument)
        assert {job: one["reading"] for job, one in told.items()} == readings
    print(usage(jobs[0], jobs[0].path("log")))


def test_a_file_of_ads(jobs: tuple[Job, Job]) -> None:
    job, _ = jobs
    path = f"{job.directory}/ads"
    job.pool.run_as(job.user, f"condor_history -long {job.id} >{path}")
    assert figures(job, path) == figures(job, job.id)


@pytest.mark.parametrize(
    ("which", "command", "reading"),
    [(0, "condor_history -wide -pr {}/history.cpf", EXACT),
     (1, "condor_q -pr {}/usage.cpf", RUNNING)],
)  # fmt: skip
def test_print_formats(jobs: tuple[Job, Job], which: int, command: str, reading: str) -> None:
    job = jobs[which]
    text = job.pool.run_as(job.user, f"{command.format(FORMATS)} {job.id}").stdout
    print(text)
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("--")]
    heading, line = (line.split() for line in lines[:2])
    assert heading == [
        "ID", "OWNER", "CPU", "%", "PEAK", "ASKED", "READ", "WRITTEN", "RECEIVED", "SENT",
        "TRACKING", "FIGURES",
    ]  # fmt: skip
    assert line[-2:] == ["cgroup", f"LedgeUsage,{reading}"]
    assert text.count(job.user) == 1
    assert float(line[-5]) == pytest.approx(8, abs=0.5)  # written; received and sent follow
