"""condor_ssh_to_job on the pool: a session is in its job, and otherwise as it is without us."""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from collections.abc import Iterator

import pytest

from tests.pool.condor import Pool
from tests.pool.job import Job, Submission
from tests.pool.machine import Result
from tests.pool.test_killed import await_file, let
from tests.pool.test_ledged import await_ledged

PATIENCE_SECONDS = 180.0
JOB = """#!/bin/sh
mkfifo gate
touch running
read line <gate
exit 7
"""
DESCRIPTION = "executable = job\nrequest_memory = 100M\nrequest_disk = 10M\n"
NAMES = ("visited", "ends", "removed")
NAMESPACES = "/proc/self/ns/pid /proc/self/ns/mnt /proc/self/ns/ipc /proc/self/ns/cgroup"
LOOK = f"readlink {NAMESPACES}"

BURN = "import time; sum(iter(lambda: time.process_time() < 1.5, False))"


@pytest.fixture(scope="module")
def jobs(pool: Pool, _installed: None) -> Iterator[dict[str, Job]]:
    """All of them, submitted together, when they run."""
    await_ledged(pool)
    submissions = [Submission(DESCRIPTION, name=name, files={"job": JOB}) for name in NAMES]
    found = dict(zip(NAMES, pool.submit_all(submissions)))
    for job in found.values():
        await_file(job)
    yield found
    pool.remove_all_jobs()


@pytest.fixture(scope="module")
def job(jobs: dict[str, Job]) -> Job:
    """One that runs as long as it is visited."""
    return jobs["visited"]


def visit(job: Job, command: str, options: str = "", user: str = "") -> Result:
    # On a busy machine HTCondor may ask to try again, of a job that began just now.
    words = f"condor_ssh_to_job -auto-retry {options} {job.id} {shlex.quote(command)} </dev/null"
    return job.pool.run_as(user or job.user, words, check=False, timeout=PATIENCE_SECONDS)


def begin(job: Job, name: str, command: str) -> None:
    """Begin a session that goes on; how it ends is in a file when it has."""
    place = job.path(name)
    line = f"condor_ssh_to_job {job.id} {shlex.quote(command)} >{place}.out 2>&1"
    line = f"{line}; echo $? >{place}.new; mv {place}.new {place}.code"
    script = f"setsid sh -c {shlex.quote(line)} </dev/null >/dev/null 2>&1 &"
    job.pool.run_as(job.user, script)


def code(job: Job, name: str) -> int:
    await_file(job, f"{name}.code")
    return int(job.file(f"{name}.code"))


def test_in_the_job(pool: Pool, job: Job) -> None:
    line = "id -un; hostname; tail -1 /proc/self/cgroup; ps -e -o comm=; exit 9"
    done = visit(job, f"{LOOK}; {line}")
    assert done.returncode == 9, done
    lines = done.stdout.split()
    inside = pool.root(f"condor_ledge enter {job.id} {LOOK}").stdout.split()
    assert lines[:4] == inside
    node = pool.root(LOOK).stdout.split()
    assert all(one != other for one, other in zip(inside, node))
    assert lines[4:6] == [job.user, pool.root("hostname").stdout.strip()]
    assert re.fullmatch(r"0::/session-\d+", lines[6])
    assert "ledge_init" in lines and "condor_starter" not in lines


def test_it_knows_the_job_by_its_own_pid(pool: Pool, job: Job) -> None:
    done = visit(job, "ps -o args= -p $_CONDOR_JOB_PIDS; pwd")
    assert done.returncode == 0, done
    args, directory = done.stdout.splitlines()
    assert args.endswith("/job"), args
    assert directory == pool.root(f"condor_ledge enter {job.id} pwd").stdout.strip()


def test_a_terminal(job: Job) -> None:
    done = visit(job, "tty; test -t 0 && exit 8", options="-ssh 'ssh -tt'")
    assert (done.returncode, done.stdout.strip()) == (8, "/dev/pts/0"), done


def test_files(pool: Pool, job: Job) -> None:
    pool.put(os.urandom(1 << 20), job.path("there"), owner=job.user)
    # By scp's old protocol: Debian's template of HTCondor's for sshd knows no sftp-server.
    copy = f"cd {job.directory} && condor_ssh_to_job -ssh 'scp -O' {job.id}"
    pool.run_as(job.user, f"{copy} there remote:/tmp/there </dev/null")
    assert not pool.root("ls /tmp/there", check=False).stdout  # the job's own /tmp
    pool.run_as(job.user, f"{copy} remote:/tmp/there back </dev/null")
    assert job.file("back") == job.file("there")


def test_others_are_refused(job: Job) -> None:
    done = visit(job, "id", user="bob")
    assert done.returncode != 0 and "uid=" not in done.stdout, done


def test_without_ledged_beside_the_job(pool: Pool, job: Job) -> None:
    pid = await_ledged(pool)
    pool.root(f"kill -STOP {pid}")
    try:
        done = visit(job, f"{LOOK}; cat $_CONDOR_SCRATCH_DIR/.condor_ssh_to_job_*/sshd.log; exit 9")
    finally:
        pool.root(f"kill -CONT {pid}")
    assert done.returncode == 9, done
    pid_namespace = pool.root("readlink /proc/self/ns/pid").stdout.strip()
    assert done.stdout.split()[0] == pid_namespace
    assert "condor-ledge: this session is not in the job's namespaces" in done.stdout


def test_a_job_with_all_the_processes_it_may_have(pool: Pool, job: Job) -> None:
    """It is not entered: without condor-ledge there would be a session."""
    (told,) = json.loads(pool.root(f"condor_ledge ps --json {job.id}").stdout)
    limit = f"/sys/fs/cgroup{told['slice']}/pids.max"
    pool.root(f"cat $(dirname {limit})/pids.current >{limit}")
    done = visit(job, f"{LOOK}; exit 9")
    pool.root(f"echo max >{limit}")
    assert done.returncode == 9, done
    assert done.stdout.split()[0] == pool.root("readlink /proc/self/ns/pid").stdout.strip()


def test_a_second_session(job: Job) -> None:
    """By its source, HTCondor 25 kills the first one, for both have one control group."""
    begin(job, "first", "touch begun; sleep 60; exit 3")
    await_file(job, "begun")
    done = visit(job, "exit 4")
    assert done.returncode == 4, done
    first = code(job, "first")
    print(f"the first session ended with {first}")
    assert first in (3, 255)


def test_the_job_ends_while_somebody_is_in_it(jobs: dict[str, Job]) -> None:
    job = jobs["ends"]
    begin(job, "open", "touch begun; exec sleep 600")
    await_file(job, "begun")
    before = time.monotonic()
    let(job, "gate")
    job.wait("terminated", PATIENCE_SECONDS)
    print(f"terminated after {time.monotonic() - before:.1f} s")
    assert job.ad()["ExitCode"] == 7
    assert code(job, "open") == 255
    assert not job.pool.root("pgrep -x -f 'sleep 600'", check=False).stdout


def test_the_job_is_removed_while_somebody_is_in_it(jobs: dict[str, Job]) -> None:
    job = jobs["removed"]
    begin(job, "open", "touch begun; trap '' HUP TERM; setsid sleep 601 & sleep 602; sleep 603")
    await_file(job, "begun")
    job.remove()
    job.wait("aborted", PATIENCE_SECONDS)
    assert code(job, "open") == 255
    gone = "for i in $(seq 50); do pgrep -f '^sleep 60[123]' || exit 0; sleep 0.2; done; exit 1"
    job.pool.root(gone)


def test_what_sessions_use_is_the_job_s(job: Job) -> None:
    """The last session of this job, which ends."""
    done = visit(job, f"python3 -ISEc {shlex.quote(BURN)}")
    assert done.returncode == 0, done
    let(job, "gate")
    job.wait("terminated", PATIENCE_SECONDS)
    ad = job.ad()
    assert ad["ExitCode"] == 7
    assert ad["ChirpLedgeCpuUserSeconds"] + ad["ChirpLedgeCpuSystemSeconds"] > 1.5


def interactive(pool: Pool, text: str) -> tuple[str, list[str]]:
    """What a session says, and of its job how it ended, and what CPU time it used."""
    done = pool.run_as(
        "alice", f"echo {shlex.quote(text)} | condor_submit -interactive", check=False,
        timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    cluster = re.search(r"submitted to cluster (\d+)", done.stdout)
    assert cluster, done
    left = f"condor_q {cluster[1]} -af JobStatus"
    pool.root(f'for i in $(seq 120); do [ "$({left})" ] || exit 0; sleep 0.5; done; exit 1')
    names = "JobStatus ExitBySignal ExitSignal ExitCode RemoteUserCpu ChirpLedgeCpuUserSeconds"
    return done.stdout, pool.root(f"condor_history {cluster[1]} -af {names}").stdout.split()


def test_an_interactive_job(pool: Pool, jobs: dict[str, Job]) -> None:
    """Its session is in it, and it ends with the session; not three minutes after its start."""
    before = time.monotonic()
    text = f"{LOOK}; ps -e -o comm=; python3 -ISEc {shlex.quote(BURN)}; exit 5"
    said, ended = interactive(pool, text)
    print(f"interactive: {time.monotonic() - before:.1f} s, {ended}")
    assert time.monotonic() - before < 170  # the waiting program alone takes 180 s
    assert "ledge_init" in said, said
    assert not set(pool.root(LOOK).stdout.split()) & set(said.split())
    assert float(ended[-1]) > 1.0
    pool.plugin_off()
    try:
        _, without = interactive(pool, "exit 5")
    finally:
        pool.plugin_on()
    print(f"without: {without}")
    # Not ExitCode, which is sshd's: with us and without it is 0 or 255, as the connection ends.
    assert ended[:3] == without[:3]
