"""condor_ledge ps and enter on the pool: HTCondor's own names for a job and its PIDs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.pool.condor import Pool
from tests.pool.job import Job
from tests.pool.test_ledged import await_ledged, ledged_pid

PATIENCE_SECONDS = 180.0
JOB = """#!/bin/sh
echo $$ >mine
mkfifo gate
touch running
read line <gate
exit 7
"""
DESCRIPTION = "executable = job\nrequest_memory = 100M\n"


@pytest.fixture(scope="module")
def job(pool: Pool, _installed: None) -> Iterator[Job]:
    """One that runs until the module's end, and then ends as it should."""
    await_ledged(pool)
    job = pool.submit(DESCRIPTION, files={"job": JOB})
    job.wait("executing", PATIENCE_SECONDS)
    look = f"condor_ledge enter {job.id} test -e running"
    pool.root(f"for i in $(seq 100); do {look} && exit; sleep 0.2; done; exit 1")
    slot = listed(pool, job.id)[0]["slot"]
    yield job
    pool.root(f"condor_ledge enter {slot} /bin/sh -c 'echo >gate'")
    assert job.wait("terminated", PATIENCE_SECONDS)
    assert job.ad()["ExitCode"] == 7


def listed(pool: Pool, *words: str) -> list[dict[str, Any]]:
    text = pool.root(f"condor_ledge ps --json {' '.join(words)}").stdout
    found: list[dict[str, Any]] = json.loads(text)
    return found


def slot_ad(pool: Pool, job: Job) -> dict[str, str]:
    """What the startd says of the job's slot."""
    names = "Name JobPid StarterPid"
    host = "$(condor_config_val FULL_HOSTNAME)"
    query = f"condor_status -direct {host} -constraint 'JobId == \"{job.id}\"' -af {names}"
    return dict(zip(names.split(), pool.root(query).stdout.split()))


def test_htcondor_s_pids_are_the_node_s(pool: Pool, job: Job) -> None:
    (told,) = listed(pool, job.id)
    ad = slot_ad(pool, job)
    assert (told["job"], told["owner"]) == (job.id, job.user)
    assert ad["Name"].partition("@")[0] == told["slot"]
    assert int(ad["JobPid"]) == told["wrapper"]
    parent = pool.root(f"ps -o ppid= -p {told['wrapper']}").stdout
    assert int(ad["StarterPid"]) == int(parent)


def test_what_the_job_calls_itself(pool: Pool, job: Job) -> None:
    mine = int(pool.root(f"condor_ledge enter {job.id} cat mine").stdout)
    (told,) = listed(pool, job.id, "--inside", str(mine))
    (process,) = told["processes"]
    assert process["within"] == mine
    (same,) = listed(pool, "--pid", str(process["pid"]))
    assert same["processes"][0]["within"] == mine
    text = pool.root("cat /var/log/condor/LedgeLog").stdout
    first = f"the job's first process is {process['pid']}, and {mine} to the job"
    assert f"job {job.id} of {job.user}: {first}" in text


def test_entering(pool: Pool, job: Job) -> None:
    found = pool.root(f"condor_ledge enter {job.id} id -un").stdout
    assert found == f"{job.user}\n"
    done = pool.root(f"condor_ledge enter {job.id} /bin/sh -c 'exit 42'", check=False)
    assert done.returncode == 42
    line = "cat /proc/self/cgroup; echo $_CONDOR_SLOT"
    group, slot = pool.root(f"condor_ledge enter {job.id} /bin/sh -c '{line}'").stdout.split()
    assert group == "0::/job"
    assert slot == listed(pool, job.id)[0]["slot"]


def test_a_job_with_all_the_processes_it_may_have(pool: Pool, job: Job) -> None:
    (told,) = listed(pool, job.id)
    limit = f"/sys/fs/cgroup{told['slice']}/pids.max"
    pool.root(f"cat $(dirname {limit})/pids.current >{limit}")
    done = pool.root(f"condor_ledge enter {job.id} true", check=False)
    pool.root(f"echo max >{limit}")
    assert done.returncode == 125
    assert "it has all the processes it may have" in done.stderr


def test_after_ledged_was_started_anew_the_slot_is_known(pool: Pool, job: Job) -> None:
    before = listed(pool, job.id)[0]
    pid = ledged_pid(pool)
    pool.root(f"kill -9 {pid}")
    await_ledged(pool, other_than=pid)
    (after,) = listed(pool, before["slot"])
    assert (after["job"], after["slot"]) == (None, before["slot"])
    assert [after[name] for name in ("wrapper", "init")] == [
        before[name] for name in ("wrapper", "init")
    ]
    found = pool.root(f"condor_ledge enter {before['slot']} cat /proc/self/status").stdout
    assert re.search(r"(?m)^CapEff:\t0+$", found)
