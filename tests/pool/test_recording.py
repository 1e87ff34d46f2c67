"""Figures that no job can forge: recorded at the schedd, and passed on by the starter."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.pool import test_ledged
from tests.pool.condor import CONFIG_DIRECTORY, Pool
from tests.pool.conftest import SOURCE_ROOT
from tests.pool.job import Job
from tests.pool.test_ledged import await_ledged, finish, ledged_pid
from tests.pool.test_pool import shell

CONFIGURATION = """LEDGE_USAGE = True
LEDGE_RECORD = True
LEDGE_RECORD_INTERVAL = 5
"""
ACCESS_POINT = Path("condor_config.d/60-condor-ledge-access-point.conf")
CONFIG_FILE = f"{CONFIG_DIRECTORY}/70-recording.conf"
TOKENS = "/etc/condor-ledge/tokens.d"
SPOOL = "/var/lib/condor-ledge/spool"
LOG = "/var/log/condor/LedgeRecorderLog"
CHIRP = "/usr/libexec/condor/condor_chirp"
# A job that shows what is recorded of it: half a second of work, and then it waits.
WORK = "i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done; "
PATIENCE_SECONDS = 120.0
# Patterns for pgrep -f that do not match the shell that runs it.
WRAPPER = "[c]ondor-ledge/job_wrapper"
RECORDER = "[c]ondor-ledge/ledge_recorder"


def token(pool: Pool, identity: str) -> None:
    """Give the node a token of that identity, and no other."""
    create = f"condor_token_create -identity {identity}@pool -authz READ -authz WRITE"
    pool.root(
        f"install -d -o condor -g condor -m 700 {TOKENS} && rm -f {TOKENS}/* && umask 077 && "
        f"{create} >{TOKENS}/{identity} && chown condor: {TOKENS}/{identity}"
    )


def restart_ledged(pool: Pool) -> None:
    before = ledged_pid(pool)
    pool.root(f"kill {before}")
    await_ledged(pool, other_than=before)


@pytest.fixture(scope="module")
def node(pool: Pool, _installed: None) -> Iterator[Pool]:
    """The node records in both ways, and its access point lets it."""
    await_ledged(pool)
    pool.put(SOURCE_ROOT / ACCESS_POINT, f"{CONFIG_DIRECTORY}/{ACCESS_POINT.name}")
    pool.put(CONFIGURATION, CONFIG_FILE)
    token(pool, "ledge")
    pool.reconfigure()
    pool.root("condor_qusers -add ledge@pool")
    restart_ledged(pool)
    # It ends for want of a spool until ledged has made it, and condor_master starts it anew.
    pool.root(f"until grep -qs started {LOG}; do sleep 0.5; done", timeout=60)
    yield pool
    pool.root(f"rm -f {CONFIG_FILE} {CONFIG_DIRECTORY}/{ACCESS_POINT.name}; rm -rf {TOKENS}")
    pool.reconfigure()
    restart_ledged(pool)


@pytest.fixture(autouse=True)
def _nothing_left(node: Pool) -> Iterator[None]:
    yield
    node.remove_all_jobs()


def await_ad(job: Job, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The job ad as soon as the condition holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        ad = job.ad()
        if condition(ad):
            return ad
        time.sleep(0.5)
    raise AssertionError(f"{ad}\n{job.pool.root(f'tail -5 {LOG}').stdout}")


def reading(ad: dict[str, Any], name: str) -> str:
    """Where the figures of Ledge or LedgeUsage are from."""
    return str((ad.get(name) or {}).get("Reading"))


def await_end(pool: Pool, pattern: str) -> None:
    """Wait until no process's command line matches."""
    pool.root(f"while pgrep -f '{pattern}' >/dev/null; do sleep 0.2; done", timeout=60)


def running_job(pool: Pool, more: str = "") -> Job:
    return test_ledged.running_job(pool, more, WORK)


def test_while_it_runs_and_at_the_end(node: Pool) -> None:
    job = running_job(node)
    ad = await_ad(job, lambda ad: reading(ad, "Ledge") == reading(ad, "LedgeUsage") == "running")
    assert ad["JobStatus"] == 2
    assert ad["Ledge"]["CpuUserSeconds"] > 0
    final = finish(node, job)
    for name in ("Ledge", "LedgeUsage"):
        assert reading(final, name) == "final"
        # The reading that Chirp reported, too.
        for figure in ("CpuUserSeconds", "CpuSystemSeconds", "MemoryPeakBytes"):
            assert final[name][figure] == pytest.approx(final[f"ChirpLedge{figure}"])
        assert final[name]["Isolation"] == "pid,mount,ipc,cgroup,uts"


def test_a_job_of_a_moment(node: Pool) -> None:
    job = node.submit("executable = /bin/true")
    job.wait("terminated")
    ad = job.ad()
    assert (reading(ad, "Ledge"), reading(ad, "LedgeUsage")) == ("final", "final")


@pytest.mark.parametrize("how", ["hold", "remove"])
def test_a_job_that_is_told_to_end_is_read_at_its_end(node: Pool, how: str) -> None:
    job = running_job(node)
    await_ad(job, lambda ad: reading(ad, "Ledge") == reading(ad, "LedgeUsage") == "running")
    getattr(job, how)()
    job.wait("held" if how == "hold" else "aborted", strict=False)
    ad = job.ad()
    assert (reading(ad, "Ledge"), reading(ad, "LedgeUsage")) == ("final", "final")


def test_a_job_whose_wrapper_is_killed_has_its_last_sample(node: Pool) -> None:
    job = running_job(node, "leave_in_queue = true\n")
    await_ad(job, lambda ad: reading(ad, "Ledge") == reading(ad, "LedgeUsage") == "running")
    node.root(f"pkill -KILL -f '{WRAPPER}'")
    job.wait("terminated", timeout=PATIENCE_SECONDS)
    ad = await_ad(job, lambda ad: reading(ad, "Ledge") == "sampled")
    print({name: (reading(ad, name), ad[name]["Taken"]) for name in ("Ledge", "LedgeUsage")})
    assert reading(ad, "LedgeUsage") in ("running", "sampled")
    for name in ("Ledge", "LedgeUsage"):
        assert ad[name]["CpuUserSeconds"] > 0


def test_its_owner_cannot_change_what_is_recorded(node: Pool) -> None:
    job = running_job(node, "MY.Ledge = [ CpuUserSeconds = 77.0 ]\n")
    ad = await_ad(job, lambda ad: True)
    assert (ad.get("Ledge") or {}).get("CpuUserSeconds") != 77.0
    await_ad(job, lambda ad: reading(ad, "Ledge") == "running")
    edit = node.run_as("alice", f"condor_qedit {job.id} Ledge '[ N = 1 ]'", check=False)
    assert edit.returncode != 0
    assert reading(finish(node, job), "Ledge") == "final"


def test_a_job_cannot_change_what_is_recorded(node: Pool) -> None:
    forge = f"{CHIRP} set_job_attr Ledge 1; {CHIRP} set_job_attr LedgeUsage 1; "
    forge += f"{CHIRP} set_job_attr Forged 1; sleep 3"
    job = node.submit(shell(forge, "+WantIOProxy = true\n"))
    job.wait("terminated")
    ad = job.ad()
    assert ad["Forged"] == 1  # chirp worked
    assert (reading(ad, "Ledge"), reading(ad, "LedgeUsage")) == ("final", "final")


def test_users_have_no_way_into_the_spool(node: Pool) -> None:
    for command in (f"ls {SPOOL}", f"touch {SPOOL}/1-1.final", f"cat {TOKENS}/ledge"):
        assert node.run_as("alice", command, check=False).returncode != 0


def test_a_schedd_that_hangs_delays_the_end_by_no_more_than_the_patience(node: Pool) -> None:
    job = running_job(node)
    node.root("pkill -STOP -x condor_schedd")
    try:
        node.root(f"touch {job.path('gate')}")
        begin = time.monotonic()
        await_end(node, WRAPPER)
        waited = time.monotonic() - begin
    finally:
        node.root("pkill -CONT -x condor_schedd")
    print(f"the wrapper ended after {waited:.1f} s")
    assert waited < 25  # 5 s, and the rest under emulation
    job.wait("terminated", timeout=PATIENCE_SECONDS)
    ad = job.ad()
    assert (ad["ExitCode"], reading(ad, "LedgeUsage")) == (7, "final")


def test_a_schedd_that_is_killed_while_the_job_ends(node: Pool) -> None:
    job = running_job(node, "leave_in_queue = true\n")
    await_ad(job, lambda ad: reading(ad, "Ledge") == "running")
    node.root(f"pkill -KILL -x condor_schedd; touch {job.path('gate')}")
    node.root("until condor_q >/dev/null 2>&1; do sleep 0.5; done", timeout=PATIENCE_SECONDS)
    ad = await_ad(job, lambda ad: reading(ad, "Ledge") == "final")
    print(ad["Ledge"])
    await_ad(job, lambda ad: ad["JobStatus"] == 4)


def test_a_token_that_may_not_and_one_that_may(node: Pool) -> None:
    token(node, "bob")
    node.root(f"pkill -HUP -f '{RECORDER}'")
    job = running_job(node, "leave_in_queue = true\n")
    finish(node, job)
    assert "QUEUE_SUPER_USERS" in node.root(f"tail -3 {LOG}").stdout
    assert node.root(f"ls {SPOOL}").stdout.count(".final") >= 1
    token(node, "ledge")
    node.root(f"pkill -HUP -f '{RECORDER}'")
    await_ad(job, lambda ad: reading(ad, "Ledge") == "final")
    assert ".final" not in node.root(f"ls {SPOOL}").stdout


def test_without_the_recorder_jobs_go_on_and_figures_wait(node: Pool) -> None:
    node.root("condor_off -daemon ledge_recorder")
    await_end(node, RECORDER)
    job = running_job(node, "leave_in_queue = true\n")
    ad = finish(node, job)
    assert (reading(ad, "LedgeUsage"), reading(ad, "Ledge")) == ("final", "None")
    node.root("condor_on -daemon ledge_recorder")
    # Its starter has gone before anybody asked the startd whose job it was.
    node.root(f"while ls {SPOOL} | grep -q final; do sleep 0.2; done", timeout=60)
