"""ledged under condor_master: it dies, is replaced, is switched off; jobs are what they were."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.pool.condor import Pool
from tests.pool.job import Job
from tests.pool.test_pool import shell

POLICY = "/etc/condor-ledge/policy.yaml"
GATE = "touch running; while [ ! -e gate ]; do sleep 0.2; done; echo done; exit 7"
# The hook and the wrapper wait for half a minute; under emulation all takes longer.
PATIENCE_SECONDS = 180.0
ISOLATION = "pid,mount,ipc,cgroup,uts"


def ledged_pid(pool: Pool) -> int:
    """The PID of the running daemon; 0 if there is none."""
    words = pool.root("pgrep -xo ledged", check=False).stdout.split()
    return int(words[0]) if words else 0


def await_ledged(pool: Pool, other_than: int = 0) -> int:
    """Wait until a ledged answers that is not the one with that PID."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        pid = ledged_pid(pool)
        answers = pool.root("condor_ledge status", check=False).returncode == 0
        if pid not in (0, other_than) and answers:
            return pid
        time.sleep(0.5)
    raise AssertionError(pool.root("tail -5 /var/log/condor/LedgeLog").stdout)


@pytest.fixture
def node(ledge_pool: Pool) -> Iterator[Pool]:
    """The pool with a ledged that answers; the policy is put back afterwards."""
    await_ledged(ledge_pool)
    ledge_pool.root(f"cp {POLICY} {POLICY}.kept")
    yield ledge_pool
    ledge_pool.root(f"mv {POLICY}.kept {POLICY}")
    ledge_pool.reconfigure()
    ledge_pool.remove_all_jobs()


def running_job(pool: Pool, more: str = "", before: str = "") -> Job:
    """A job that has begun and waits at a gate in its working directory.

    `more` are lines of its description, `before` is what its shell does first.
    """
    job = pool.submit(shell(before + GATE, more))
    job.wait("executing")
    pool.root(f"until [ -e {job.path('running')} ]; do sleep 0.2; done", timeout=60)
    return job


def finish(pool: Pool, job: Job) -> dict[str, Any]:
    """Open the gate; the ad of the job that ended as it should."""
    pool.root(f"touch {job.path('gate')}")
    job.wait("terminated", timeout=PATIENCE_SECONDS)
    ad = job.ad()
    assert (ad["ExitCode"], job.output(), ad["NumJobStarts"]) == (7, b"done\n", 1)
    return ad


def test_condor_master_replaces_a_ledged_that_was_killed(node: Pool) -> None:
    job = running_job(node)
    before = ledged_pid(node)
    node.root(f"kill -9 {before}")
    begin = time.monotonic()
    await_ledged(node, other_than=before)
    print(f"another ledged answered after {time.monotonic() - begin:.1f} s")
    ad = finish(node, job)
    assert ad["ChirpLedgeTracking"] == "cgroup"
    assert ad["ChirpLedgeCpuUserSeconds"] > 0


@pytest.mark.parametrize("how", ["", "-fast"])
def test_condor_off_and_on(node: Pool, how: str) -> None:
    before = ledged_pid(node)
    node.root(f"condor_off {how} -daemon ledged")
    node.root(f"while kill -0 {before} 2>/dev/null; do sleep 0.2; done", timeout=60)
    assert "ledged ends" in node.root("tail -1 /var/log/condor/LedgeLog").stdout
    node.root("condor_on -daemon ledged")
    await_ledged(node, other_than=before)


def test_as_a_unit_of_systemd_s(node: Pool) -> None:
    """Started anew while a job runs, too; condor_master has no part in it."""
    by_master = ledged_pid(node)
    with node.configured("LEDGE_DAEMONS_1_1 =\n"):
        node.root(f"while kill -0 {by_master} 2>/dev/null; do sleep 0.2; done", timeout=60)
        node.root("systemctl daemon-reload && systemctl start ledged")
        before = await_ledged(node)
        job = running_job(node)
        node.root("systemctl restart ledged")
        await_ledged(node, other_than=before)
        ad = finish(node, job)
        node.root("systemctl reload ledged && systemctl is-active ledged")
        node.root("systemctl stop ledged")
    await_ledged(node)
    if node.release.has_ledge_usage:
        assert ad["LedgeUsage"]["Reading"] == "exact"  # it has HTCondor's configuration
    assert ad["ChirpLedgeIsolation"] == ISOLATION
    assert ad["ChirpLedgeTracking"] == "cgroup"


@contextmanager
def no_ledged(pool: Pool, choice: str) -> Iterator[None]:
    """ledged is gone, after it has read what is then to become of jobs."""
    pool.put(f"version: 1\nwithout_daemon: {choice}\n", POLICY)
    pool.reconfigure()
    pool.root(f"until grep -qx {choice} /run/condor-ledge/without_daemon; do sleep 0.2; done")
    before = ledged_pid(pool)
    pool.root("condor_off -daemon ledged")
    pool.root(f"while kill -0 {before} 2>/dev/null; do sleep 0.2; done", timeout=60)
    try:
        yield
    finally:
        pool.root("condor_on -daemon ledged")
        await_ledged(pool)


@pytest.mark.since_htcondor(24, 8)
def test_without_ledged_jobs_are_held(node: Pool) -> None:
    with no_ledged(node, "hold"):
        job = node.submit(shell("exit 7"))
        job.wait("held", timeout=PATIENCE_SECONDS)
    ad = job.ad()
    assert "ledged does not answer" in ad["HoldReason"]
    assert ad["HoldReasonSubCode"] == 251


def test_without_ledged_jobs_run_if_the_admin_says_so(node: Pool) -> None:
    with no_ledged(node, "run"):
        job = node.submit(shell("exit 7"))
        job.wait("terminated", timeout=PATIENCE_SECONDS)
    ad = job.ad()
    assert ad["ExitCode"] == 7
    assert ad["ChirpLedgeIsolation"] == "user," + ISOLATION
    assert "ledged does not answer" in ad["ChirpLedgeIsolationReason"]


def test_a_job_with_a_hook_keyword_of_its_own_has_its_plan_all_the_same(node: Pool) -> None:
    node.put("version: 1\ndefaults: {pids_max: 50}\n", POLICY)
    node.reconfigure()
    job = node.submit(shell("exit 7", '+HookKeyword = "OTHER"\n'))
    job.wait("terminated")
    ad = job.ad()
    assert ad["ChirpLedgeIsolation"] == ISOLATION
    assert "pids.max=50" in ad["ChirpLedgeEnforced"]


WRAPPER = "#!/bin/sh\nexport MINE=set\nexec {} \"$@\"\n"
PREPARE = """#!/bin/sh
ad=$(cat)
printf '%s\\n' "$ad" | grep -q '^Owner = ' && touch prepared || exit 1
exec /usr/libexec/condor/condor-ledge/prepare_job <<END
$ad
END
"""
CHAINED = """LEDGE_JOB_WRAPPER_1_1 = /usr/local/bin/wrapper_then_ledge
LEDGE_JOB_WRAPPER_0_1 = /usr/local/bin/wrapper
LEDGE_PREPARE_JOB_1_1 = /usr/local/bin/prepare_then_ledge
"""


def test_the_administrator_s_own_wrapper_and_hook_come_first(node: Pool) -> None:
    """As docs/packages.md says, with condor-ledge on and off."""
    ours = "/usr/libexec/condor/condor-ledge/job_wrapper"
    node.put(PREPARE, "/usr/local/bin/prepare_then_ledge", mode=0o755)
    node.put(WRAPPER.format(ours), "/usr/local/bin/wrapper_then_ledge", mode=0o755)
    node.put(WRAPPER.format(""), "/usr/local/bin/wrapper", mode=0o755)
    with node.configured(CHAINED):
        on = node.submit(shell("cd $_CONDOR_SCRATCH_DIR && ls prepared; echo $MINE; exit 7"))
        on.wait("terminated")
        doctor = node.root("condor_ledge doctor --json", check=False).stdout
        assert ", after /usr/local/bin/wrapper_then_ledge" in doctor
        assert ", after /usr/local/bin/prepare_then_ledge" in doctor
        with node.configured("LEDGE_ENABLED = False\n"):
            off = node.submit(shell("echo $MINE; exit 7"))
            off.wait("terminated")
    assert (on.ad()["ExitCode"], on.output()) == (7, b"prepared\nset\n")
    assert (off.ad()["ExitCode"], off.output()) == (7, b"set\n")
    assert on.ad()["ChirpLedgeIsolation"] == ISOLATION
    assert "ChirpLedgeIsolation" not in off.ad()


def test_in_a_pid_namespace_of_htcondor_s(node: Pool) -> None:
    with node.configured("USE_PID_NAMESPACES = True\n"):
        job = node.submit(shell("ls -d /proc/[0-9]* | wc -l; exit 7"))
        job.wait("terminated")
    ad = job.ad()
    assert (ad["ExitCode"], ad["ChirpLedgeIsolation"]) == (7, ISOLATION)
    assert int(job.output()) < 10


def test_where_htcondor_makes_no_control_group(node: Pool) -> None:
    """A slice of the job's own is what ledged knows a job by: without, it launches nothing."""
    node.put("version: 1\ndefaults: {on_failure: run}\n", POLICY)
    with node.configured("BASE_CGROUP =\n"):
        job = node.submit(shell("exit 7"))
        job.wait("terminated")
    ad = job.ad()
    assert (ad["ExitCode"], ad["ChirpLedgeTracking"]) == (7, "processes")
    assert "outside of the slice" in ad["ChirpLedgeIsolationReason"]
