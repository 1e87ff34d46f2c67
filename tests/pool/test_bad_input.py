"""What is wrong, missing or hostile around a job: it runs as it should or not at all.

The starter reads its configuration and the wrapper the plan for each job anew: what is put into
the guest here is in force for the next job, without a reconfiguration of the daemons.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.pool.condor import CONFIG_DIRECTORY, Pool
from tests.pool.job import Job, Submission
from tests.pool.test_pool import shell

PLAN_FILE = "/etc/condor-ledge/plan.json"
CONFIGURATION_FILE = f"{CONFIG_DIRECTORY}/99-test-bad-input.conf"
SYSCTL = "user.max_user_namespaces"

MISSING_DIRECTORY: dict[str, Any] = {
    "version": 1,
    "mounts": [{"kind": "bind", "source": "/missing/directory", "target": "/mnt"}],
}
# name, the plan, what the line for the admin must say
BAD_PLANS: list[tuple[str, str, str]] = [
    ("no JSON", "{", "not a JSON document"),
    ("unknown keys", '{"version": 1, "colour": "red"}', "unknown key 'colour'"),
    ("missing directory", json.dumps(MISSING_DIRECTORY), "cannot mount /missing/directory at /mnt"),
    ("10 MB", '{"version": 1}'.ljust(10 << 20), "a plan has at most 65536 bytes"),
]

OVERWRITES = """#!/bin/sh
echo garbage > "$_CONDOR_CHIRP_CONFIG"
echo garbage > "$_CONDOR_JOB_AD"
exit 7
"""
# The connection with half a request stays open in a process that outlives the main one.
HANGS = """#!/usr/bin/python3
import os, socket, sys, time
host, port, cookie = open(os.environ["_CONDOR_CHIRP_CONFIG"]).read().split()
connection = socket.create_connection((host, int(port)))
connection.sendall(b"cookie " + cookie.encode() + b"\\nset_job_attr_delayed ChirpHalf")
if os.fork() == 0:
    os.setsid()
    time.sleep(600)
os._exit(7)
"""
TRANSFER = "should_transfer_files = YES\ntransfer_output_files = result\n"

# Where something of a job could be left: mounts, its scratch directory, groups, processes. The
# group of a preflight that was killed with its ledged is no job's, and goes with the next one.
LEFT_OVERS = r"""
grep -hs '/\.ledge\|/missing' /proc/[0-9]*/mountinfo
ls -d /var/lib/condor/execute/dir_* 2>/dev/null
find /sys/fs/cgroup/system.slice/condor.service -name 'ledge-*' ! -name 'ledge-preflight-*'
pgrep -u alice -a
true
"""


@pytest.fixture
def clean(ledge_pool: Pool) -> Iterator[Pool]:
    """The pool; plan, configuration and jobs of the test are taken away afterwards."""
    yield ledge_pool
    ledge_pool.root(f"rm -f {PLAN_FILE} {CONFIGURATION_FILE}")
    ledge_pool.remove_all_jobs()


@pytest.fixture
def alone(clean: Pool, alone_pool: Pool) -> Pool:
    """The same without ledged: with a plan from a file, and a user namespace."""
    return alone_pool


@contextmanager
def no_user_namespaces(pool: Pool) -> Iterator[None]:
    before = pool.root(f"sysctl -n {SYSCTL}").stdout.strip()
    pool.root(f"sysctl -q -w {SYSCTL}=0")
    try:
        yield
    finally:
        pool.root(f"sysctl -q -w {SYSCTL}={before}")


def assert_refused(pool: Pool, problem: str) -> None:
    """A job does not run and goes back to the queue; its log has our line; nothing is left."""
    job = pool.submit(shell("touch ran"))
    job.wait("evicted", timeout=60)
    errors = [event for event in job.events() if event.name == "remote error"]
    assert errors, "no error of the starter in the job's log"
    line = " ".join(errors[0].lines)
    assert "The job wrapper failed to execute the job: condor-ledge: " in line
    assert problem in line
    pool.remove_all_jobs()
    assert "ran" not in pool.root(f"ls {job.directory}").stdout.split()
    assert pool.root(LEFT_OVERS).stdout == ""


def exit_code_and_attributes(job: Job) -> tuple[Any, list[str]]:
    """The exit code of the ended job, and which of our attributes its ad has."""
    job.wait("terminated")
    ad = job.ad()
    return ad.get("ExitCode"), [name for name in ad if name.startswith("ChirpLedge")]


@pytest.mark.parametrize(
    ("plan", "problem"), [case[1:] for case in BAD_PLANS], ids=[case[0] for case in BAD_PLANS]
)
def test_bad_plan_refuses_the_job(alone: Pool, plan: str, problem: str) -> None:
    alone.put(plan, PLAN_FILE)
    assert_refused(alone, problem)


def test_no_user_namespaces_refuses_the_job_and_names_the_sysctl(alone: Pool) -> None:
    with no_user_namespaces(alone):
        assert_refused(alone, f"sysctl {SYSCTL}=15000")


def test_missing_directory_on_failure_run(alone: Pool) -> None:
    alone.put(json.dumps({**MISSING_DIRECTORY, "on_failure": "run"}), PLAN_FILE)
    job = alone.submit(shell("exit 7"))
    job.wait("terminated")
    ad = job.ad()
    assert ad["ExitCode"] == 7
    assert ad["ChirpLedgeIsolation"] == "none"
    assert "cannot mount /missing/directory at /mnt" in ad["ChirpLedgeIsolationReason"]
    assert "make the directory on the node" in ad["ChirpLedgeIsolationReason"]
    assert alone.root(LEFT_OVERS).stdout == ""


def test_no_user_namespaces_on_failure_run(alone: Pool) -> None:
    alone.put('{"version": 1, "on_failure": "run"}', PLAN_FILE)
    with no_user_namespaces(alone):
        job = alone.submit(shell("exit 7"))
        job.wait("terminated")
    ad = job.ad()
    assert ad["ExitCode"] == 7
    assert ad["ChirpLedgeIsolation"] == "none"
    assert f"sysctl {SYSCTL}=15000" in ad["ChirpLedgeIsolationReason"]


def test_hostile_jobs_and_file_transfer(clean: Pool) -> None:
    line = "echo output; echo result > result; exit 7"
    overwrites, hangs, transfers = clean.submit_all(
        [
            Submission("executable = overwrites", files={"overwrites": OVERWRITES}),
            Submission("executable = hangs", files={"hangs": HANGS}),
            Submission(shell(line, TRANSFER)),
        ]
    )
    # Read before the job could change it: the starter is found all the same.
    code, attributes = exit_code_and_attributes(overwrites)
    assert code == 7 and "ChirpLedgeCpuUserSeconds" in attributes
    assert exit_code_and_attributes(hangs)[0] == 7
    code, attributes = exit_code_and_attributes(transfers)
    assert code == 7 and "ChirpLedgeCpuUserSeconds" in attributes
    assert transfers.output() == b"output\n"
    assert transfers.file("result") == b"result\n"


def test_job_exit_hook_evicts_jobs_that_transfer_files(clean: Pool) -> None:
    """Why condor-ledge sets no <KEYWORD>_HOOK_JOB_EXIT (HTCondor 25.4 to 25.14.1, at least).

    The starter leaves when the hook is done, in the middle of the output transfer. The day that
    this test fails, HTCondor has mended it.
    """
    hook = "T_HOOK_JOB_EXIT = /bin/true\nUSER_JOB_WRAPPER =\n"
    clean.put(hook, CONFIGURATION_FILE)
    line = "echo result > result"
    job = clean.submit(shell(line, TRANSFER + '+HookKeyword = "T"\n'))
    job.wait("reconnect failed", timeout=60)
    told = [line for event in job.events() for line in event.lines]
    assert "Job not found at execution machine" in told
    assert not [event for event in job.events() if event.name == "terminated"]
