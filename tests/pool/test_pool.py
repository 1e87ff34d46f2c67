"""The test pool itself: what it tells is what HTCondor did."""

from __future__ import annotations

import pytest

from tests.pool.condor import Pool
from tests.pool.errors import CommandError, JobEnded
from tests.pool.job import Job, Submission


def shell(line: str, more: str = "") -> str:
    """A submit description for a line of shell."""
    return f"executable = /bin/sh\narguments = \"-c '{line}'\"\n{more}"


@pytest.fixture(scope="module")
def failing_job(plain_pool: Pool) -> Job:
    job = plain_pool.submit(shell("echo out; echo err >&2; exit 7"), name="seven")
    job.wait("terminated")
    return job


@pytest.mark.both_pools
def test_versions(plain_pool: Pool) -> None:
    major, minor = plain_pool.release.htcondor
    assert f"$CondorVersion: {major}.{minor}." in plain_pool.root("condor_version").stdout
    assert plain_pool.root("stat -fc %T /sys/fs/cgroup").stdout == "cgroup2fs\n"


def test_exit_code_arrives_in_the_ad(failing_job: Job) -> None:
    ad = failing_job.ad()
    assert (ad["ExitCode"], ad["JobStatus"], ad["Owner"]) == (7, 4, "alice")


def test_output_arrives(failing_job: Job) -> None:
    assert failing_job.output() == b"out\n"
    assert failing_job.error() == b"err\n"


def test_events(failing_job: Job) -> None:
    names = [event.name for event in failing_job.events()]
    assert names[:2] == ["submitted", "executing"]
    assert names[-1] == "terminated"


def test_hold_release_and_remove(plain_pool: Pool) -> None:
    job = plain_pool.submit("executable = /bin/sleep\narguments = 600", user="bob")
    job.wait("executing")
    job.hold()
    job.wait("held")
    assert job.ad()["JobStatus"] == 5
    with pytest.raises(JobEnded, match="held"):
        job.wait("terminated")
    job.release()
    job.wait("executing", count=2)
    job.remove()
    job.wait("aborted")
    assert job.ad()["JobStatus"] == 3


def test_suspend_and_continue(plain_pool: Pool) -> None:
    job = plain_pool.submit("executable = /bin/sleep\narguments = 600")
    job.wait("executing")
    job.suspend()
    job.wait("suspended")
    job.cont()
    job.wait("unsuspended")
    job.vacate()
    job.wait("evicted")
    job.remove()
    job.wait("aborted", strict=False)


def test_two_users_at_once(plain_pool: Pool) -> None:
    users = ("alice", "bob")
    description = shell("id -un; id -Gn; sleep 1")
    jobs = plain_pool.submit_all([Submission(description, user, "who") for user in users])
    for job in jobs:
        job.wait("terminated")
    assert [job.output() for job in jobs] == [b"alice\nalice physics\n", b"bob\nbob physics\n"]


def test_files_and_many_processes(plain_pool: Pool) -> None:
    job = plain_pool.submit(
        "executable = hello\narguments = $(Process)\ntransfer_input_files = data\n"
        "should_transfer_files = YES\nqueue 3\n",
        files={"hello": '#!/bin/sh\ncat data; echo "$1"\n', "data": "hello\n"},
    )
    for sibling in job.siblings:
        sibling.wait("terminated")
    outputs = [sibling.output() for sibling in job.siblings]
    assert outputs == [b"hello\n0\n", b"hello\n1\n", b"hello\n2\n"]


def test_configured_takes_effect_and_ends(plain_pool: Pool) -> None:
    held = "SYSTEM_PERIODIC_HOLD = JobStatus == 1\nSYSTEM_PERIODIC_HOLD_REASON = \"told so\""
    with plain_pool.configured(held):
        job = plain_pool.submit("executable = /bin/true\nrequirements = False")
        assert "told so" in job.wait("held").lines
    after = plain_pool.root("condor_config_val SYSTEM_PERIODIC_HOLD", check=False)
    assert "not defined" in after.stderr.lower()
    job.remove()


@pytest.mark.both_pools
def test_memory_limit_of_the_slice(plain_pool: Pool) -> None:
    job = plain_pool.submit("executable = /bin/sleep\narguments = 600\nrequest_memory = 256")
    job.wait("executing")
    base = "/sys/fs/cgroup/system.slice/condor.service/htcondor"
    limits = plain_pool.root(f"cat {base}/*_slot*/memory.max")
    assert str(256 << 20) in limits.stdout.split()
    job.remove()


def test_put_and_get(plain_pool: Pool) -> None:
    plain_pool.put(b"\0\xff", "/home/carol/some/file", owner="carol", mode=0o600)
    assert plain_pool.get("/home/carol/some/file") == b"\0\xff"
    assert plain_pool.run_as("carol", "stat -c '%U %a' some/file").stdout == "carol 600\n"


def test_failure_shows_the_output(plain_pool: Pool) -> None:
    with pytest.raises(CommandError, match="sad words"):
        plain_pool.root("echo sad words; exit 3")
