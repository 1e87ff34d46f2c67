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

# Neither Ledge (24.7) nor LedgeUsage is there before (ledge/condor_versions.py).
pytestmark = pytest.mark.since_htcondor(25, 4)

CONFIGURATION = """LEDGE_USAGE = True
LEDGE_RECORD = True
LEDGE_RECORD_INTERVAL = 5
LEDGE_SPOOL_FILES = 3
"""
MOST_FILES = 3
ACCESS_POINT = Path("condor_config.d/60-condor-ledge-access-point.conf")
CONFIG_FILE = f"{CONFIG_DIRECTORY}/70-recording.conf"
TOKENS = "/etc/condor-ledge/tokens.d"
SPOOL = "/var/lib/condor-ledge/spool"
LOG = "/var/log/condor/LedgeRecorderLog"
CHIRP = "/usr/libexec/condor/condor_chirp"
# A job that shows what is recorded of it: half a second of work, and then it waits.
WORK = "i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done; "
PATIENCE_SECONDS = 120.0
DENIAL_FILE = f"{CONFIG_DIRECTORY}/80-denial.conf"
CHIRP_FILE = f"{CONFIG_DIRECTORY}/80-chirp.conf"
CHIRP_SETTINGS = (
    "ENABLE_CHIRP = False",
    "ENABLE_CHIRP_DELAYED = False",
    "CHIRP_DELAYED_UPDATE_PREFIX = Other*",
)
# In which the startd updates the collector, and writes .update.ad anew (UPDATE_INTERVAL = 60).
DOWN_SECONDS = 30.0
# Patterns for pgrep -f that do not match the shell that runs it.
WRAPPER = "[c]ondor-ledge/job_wrapper"
RECORDER = "[c]ondor-ledge/ledge_recorder"


def token(pool: Pool, identity: str, more: str = "") -> None:
    """Give the node a token of that identity, and no other."""
    create = f"condor_token_create -identity {identity}@pool -authz READ -authz WRITE {more}"
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


def await_line(pool: Pool, words: str) -> None:
    """Wait until the recorder has said so."""
    pool.root(f"until tail -3 {LOG} | grep -q '{words}'; do sleep 0.5; done", timeout=60)


def await_spool(pool: Pool) -> None:
    """Wait until no last figures are in the spool."""
    pool.root(f"while ls {SPOOL} | grep -q final; do sleep 0.2; done", timeout=PATIENCE_SECONDS)


def spool_files(pool: Pool) -> tuple[list[str], int]:
    """What is in the spool, and the bytes that it takes."""
    names = pool.root(f"ls -A {SPOOL}").stdout.split()
    size = pool.root(f"cat {SPOOL}/* | wc -c").stdout
    return names, int(size)


def running_job(pool: Pool, more: str = "") -> Job:
    return test_ledged.running_job(pool, more, WORK)


def test_while_it_runs_and_at_the_end(node: Pool) -> None:
    job = running_job(node)
    ad = await_ad(job, lambda ad: reading(ad, "Ledge") == reading(ad, "LedgeUsage") == "running")
    assert ad["JobStatus"] == 2
    assert ad["Ledge"]["CpuUserSeconds"] > 0
    final = finish(node, job)
    for name in ("Ledge", "LedgeUsage"):
        assert reading(final, name) == "exact"
        # The reading that Chirp reported, too.
        for figure in ("CpuUserSeconds", "CpuSystemSeconds", "MemoryPeakBytes"):
            assert final[name][figure] == pytest.approx(final[f"ChirpLedge{figure}"])
        assert final[name]["Isolation"] == "pid,mount,ipc,cgroup,uts"


def test_a_job_of_a_moment(node: Pool) -> None:
    job = node.submit("executable = /bin/true")
    job.wait("terminated")
    ad = job.ad()
    assert (reading(ad, "Ledge"), reading(ad, "LedgeUsage")) == ("exact", "exact")


@pytest.mark.parametrize("how", ["hold", "remove"])
def test_a_job_that_is_told_to_end_is_read_at_its_end(node: Pool, how: str) -> None:
    job = running_job(node)
    await_ad(job, lambda ad: reading(ad, "Ledge") == reading(ad, "LedgeUsage") == "running")
    getattr(job, how)()
    job.wait("held" if how == "hold" else "aborted", strict=False)
    ad = job.ad()
    assert reading(ad, "Ledge") == "exact"
    # The startd may write its file anew between ledged's last writing and the starter's reading.
    assert reading(ad, "LedgeUsage") in ("exact", "running")


def test_a_job_whose_wrapper_is_killed_has_its_last_reading(node: Pool) -> None:
    job = running_job(node, "leave_in_queue = true\n")
    await_ad(job, lambda ad: reading(ad, "Ledge") == reading(ad, "LedgeUsage") == "running")
    node.root(f"pkill -KILL -f '{WRAPPER}'")
    job.wait("terminated", timeout=PATIENCE_SECONDS)
    ad = await_ad(job, lambda ad: reading(ad, "Ledge") in ("exact", "sampled"))
    print({name: (reading(ad, name), ad[name]["Taken"]) for name in ("Ledge", "LedgeUsage")})
    assert reading(ad, "LedgeUsage") in ("exact", "running", "sampled")
    for name in ("Ledge", "LedgeUsage"):
        assert ad[name]["CpuUserSeconds"] > 0


def test_its_owner_cannot_change_what_is_recorded(node: Pool) -> None:
    forged = "MY.Ledge = [ CpuUserSeconds = 77.0 ]\n"
    job = running_job(node, forged)
    factory = "requirements = false\nmax_materialize = 1\nqueue 2"
    later = node.submit(shell("true", forged + factory))
    for one in (job, later):
        ad = await_ad(one, lambda ad: True)
        assert (ad.get("Ledge") or {}).get("CpuUserSeconds") != 77.0
    await_ad(job, lambda ad: reading(ad, "Ledge") == "running")
    for which in (f"{job.id} Ledge", f"{job.cluster} ledge", "-constraint true LEDGE"):
        edit = node.run_as("alice", f"condor_qedit {which} '[ N = 1 ]'", check=False)
        assert edit.returncode != 0
        assert "N" not in job.ad()["Ledge"]
    assert reading(finish(node, job), "Ledge") == "exact"


# By chirp at once and by chirp at the end; figures, a word that an honest report leaves out, and
# one that is none of ours.
FORGERY = "; ".join(
    [f"{CHIRP} set_job_attr {name} 1" for name in ("Ledge", "ledge", "LedgeUsage", "Forged")]
    + [
        f"{CHIRP} {verb} ChirpLedge{name} 1"
        for verb in ("set_job_attr", "set_job_attr_delayed")
        for name in ("MemoryPeakBytes", "OomLevel", "Forged")
    ]
    + [f"{CHIRP} set_job_attr_delayed {name} 1" for name in ("Ledge", "chirpledgeunmeasured")]
)


def test_a_job_cannot_change_what_is_recorded(node: Pool) -> None:
    more = "+WantIOProxy = true\n+ChirpLedgeSwapCurrentBytes = 1\n"
    job = node.submit(shell(f"{FORGERY}; sleep 3", more))
    job.wait("terminated")
    ad = job.ad()
    assert (ad["Forged"], ad["ChirpLedgeForged"]) == (1, 1)  # chirp worked
    assert (reading(ad, "Ledge"), reading(ad, "LedgeUsage")) == ("exact", "exact")
    assert ad["ChirpLedgeMemoryPeakBytes"] == ad["LedgeUsage"]["MemoryPeakBytes"] > 1
    for name in ("OomLevel", "SwapCurrentBytes"):
        assert ad.get(f"ChirpLedge{name}") is None
    assert 1 not in [value for name, value in ad.items() if name.lower().endswith("unmeasured")]


def test_users_have_no_way_into_the_spool(node: Pool) -> None:
    for command in (f"ls {SPOOL}", f"touch {SPOOL}/1-1.final", f"cat {TOKENS}/ledge"):
        assert node.run_as("alice", command, check=False).returncode != 0


def end_while_it_hangs(node: Pool, job: Job, daemon: str) -> float:
    """The seconds that the wrapper takes to end while a daemon of HTCondor's is stopped."""
    node.root(f"pkill -STOP -x {daemon}")
    try:
        node.root(f"touch {job.path('gate')}")
        begin = time.monotonic()
        # Where it is the starter nobody reaps it: its command line is empty then.
        await_end(node, WRAPPER)
        waited = time.monotonic() - begin
    finally:
        node.root(f"pkill -CONT -x {daemon}")
    print(f"the wrapper ended after {waited:.1f} s")
    return waited


def test_a_schedd_that_hangs_delays_the_end_by_no_more_than_the_patience(node: Pool) -> None:
    job = running_job(node)
    waited = end_while_it_hangs(node, job, "condor_schedd")
    assert waited < 25  # 5 s, and the rest under emulation
    job.wait("terminated", timeout=PATIENCE_SECONDS)
    ad = job.ad()
    assert (ad["ExitCode"], reading(ad, "LedgeUsage")) == (7, "exact")


def test_a_schedd_that_is_killed_while_the_job_ends(node: Pool) -> None:
    job = running_job(node, "leave_in_queue = true\n")
    await_ad(job, lambda ad: reading(ad, "Ledge") == "running")
    node.root(f"pkill -KILL -x condor_schedd; touch {job.path('gate')}")
    node.root("until condor_q >/dev/null 2>&1; do sleep 0.5; done", timeout=PATIENCE_SECONDS)
    ad = await_ad(job, lambda ad: reading(ad, "Ledge") == "exact")
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
    await_ad(job, lambda ad: reading(ad, "Ledge") == "exact")
    assert ".final" not in node.root(f"ls {SPOOL}").stdout


def test_without_the_recorder_jobs_go_on_and_figures_wait(node: Pool) -> None:
    node.root("condor_off -daemon ledge_recorder")
    await_end(node, RECORDER)
    job = running_job(node, "leave_in_queue = true\n")
    ad = finish(node, job)
    assert (reading(ad, "LedgeUsage"), reading(ad, "Ledge")) == ("exact", "None")
    node.root("condor_on -daemon ledge_recorder")
    # Its starter has gone before anybody asked the startd whose job it was.
    await_spool(node)


def test_a_schedd_that_is_down_for_a_while_and_a_spool_that_is_full(node: Pool) -> None:
    """More jobs end meanwhile than the spool has room for."""
    jobs = [running_job(node, "leave_in_queue = true\n") for _ in range(MOST_FILES + 1)]
    for job in jobs:
        await_ad(job, lambda ad: reading(ad, "Ledge") == reading(ad, "LedgeUsage") == "running")
    node.root("condor_off -fast -daemon schedd; while pgrep -x condor_schedd; do sleep 0.2; done")
    begin = time.monotonic()
    try:
        node.root("touch " + " ".join([job.path("gate") for job in jobs]))
        await_end(node, WRAPPER)
        print(f"the wrappers ended after {time.monotonic() - begin:.1f} s")
        assert time.monotonic() - begin < 40  # 5 s, and the rest under emulation
        time.sleep(DOWN_SECONDS - (time.monotonic() - begin))
        waiting, size = spool_files(node)
        told = node.root("condor_ledge status; tail -5 /var/log/condor/LedgeLog").stdout
    finally:
        node.root("condor_on -daemon schedd")
        node.root("until condor_q >/dev/null 2>&1; do sleep 0.5; done", timeout=PATIENCE_SECONDS)
    print(f"{len(waiting)} files of {size} bytes waited: {waiting}")
    assert [name.partition(".")[2] for name in waiting].count("final") == MOST_FILES
    assert {name.partition(".")[2] for name in waiting} == {"final", "job"}
    assert size < 4096 * len(waiting)
    assert "dropped from a full spool" in told and "the spool is full" in told
    for job in jobs:
        job.wait("terminated", timeout=PATIENCE_SECONDS)
    ads = [await_ad(job, lambda ad: reading(ad, "LedgeUsage") == "exact") for job in jobs]
    assert {(ad["ExitCode"], ad["NumJobStarts"]) for ad in ads} == {(7, 1)}
    await_spool(node)
    readings = sorted([reading(job.ad(), "Ledge") for job in jobs])
    assert readings == ["exact"] * MOST_FILES + ["running"]


@pytest.fixture
def no_other_way(node: Pool) -> Iterator[None]:
    """The recorder is on the schedd's own machine, where it is somebody without a token, too."""
    node.put("SCHEDD.DENY_WRITE = condor@pool\n", DENIAL_FILE)
    node.reconfigure()
    yield
    node.root(f"rm {DENIAL_FILE}")
    token(node, "ledge")
    node.reconfigure()


def test_a_token_that_has_expired_one_that_is_missing_and_a_new_one(
    node: Pool, no_other_way: None
) -> None:
    job = running_job(node, "leave_in_queue = true\n")
    begin = int(node.root(f"wc -l <{LOG}").stdout)
    token(node, "ledge", "-lifetime 1")
    node.root(f"sleep 2; touch {job.path('gate')}")
    job.wait("terminated", timeout=PATIENCE_SECONDS)
    await_line(node, "expired at")
    node.root(f"rm {TOKENS}/ledge")
    await_line(node, "there is no token in")
    node.root("sleep 10")  # it is tried again meanwhile
    lines = node.root(f"tail -n +{begin + 1} {LOG}").stdout.splitlines()
    print("\n".join(lines))
    for words in ("expired at", "there is no token in"):
        assert len([line for line in lines if words in line and "condor_token_create" in line]) == 1
    recorder = node.root(f"pgrep -of '{RECORDER}'").stdout
    token(node, "ledge")
    await_ad(job, lambda ad: reading(ad, "Ledge") == "exact")
    assert node.root(f"pgrep -of '{RECORDER}'").stdout == recorder
    await_line(node, "records again")


def end_of_a_job(pool: Pool, more: str = "") -> tuple[dict[str, Any], float]:
    """The ad of a job, and the seconds from its own end to that of its wrapper."""
    job = running_job(pool, more)
    begin = f"touch {job.path('gate')}; begin=$(date +%s%N)"
    watch = f"{begin}; while pgrep -f '{WRAPPER}' >/dev/null; do sleep 0.1; done"
    took = pool.root(f"{watch}; echo $(($(date +%s%N) - begin))", timeout=60).stdout
    return finish(pool, job), int(took) / 1e9


def test_where_chirp_is_refused_the_job_ends_as_soon_and_is_recorded(node: Pool) -> None:
    usual = end_of_a_job(node)
    refused = {"by the job": end_of_a_job(node, "+WantDelayedUpdates = false\n")}
    try:
        for setting in CHIRP_SETTINGS:
            node.put(f"{setting}\n", CHIRP_FILE)  # read by each starter and shadow
            refused[setting] = end_of_a_job(node)
    finally:
        node.root(f"rm -f {CHIRP_FILE}")
    print({"usual": usual[1], **{name: seconds for name, (_, seconds) in refused.items()}})
    assert "ChirpLedgeVersion" in usual[0]
    for ad, seconds in refused.values():
        assert not [name for name in ad if name.startswith("ChirpLedge")]
        assert reading(ad, "Ledge") == "exact"
        # The startd may have written its file anew between ledged and the starter.
        assert reading(ad, "LedgeUsage") in ("exact", "running")
        assert seconds < usual[1] + 5


def test_a_starter_that_hangs_as_the_job_ends(node: Pool) -> None:
    job = running_job(node)
    waited = end_while_it_hangs(node, job, "condor_starter")
    assert waited < 25  # 5 s for chirp, and the rest under emulation
    job.wait("terminated", timeout=PATIENCE_SECONDS)
    ad = job.ad()
    assert ad["ExitCode"] == 7
    assert (reading(ad, "Ledge"), reading(ad, "LedgeUsage")) == ("exact", "exact")
