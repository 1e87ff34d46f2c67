"""Where HTCondor makes no control groups: what is counted, what is kept apart, what is left.

By ledged, by the wrapper alone, and under an HTCondor of a user's own, which does not run as root.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.pool.condor import Pool
from tests.pool.errors import PoolError
from tests.pool.job import Job

MIB = 1 << 20
TICKS = 100
POLICY = "/etc/condor-ledge/policy.yaml"
LIMITED = """version: 1
rules:
- name: limited
  match: TARGET.Limited =?= true
  pids_max: 100
"""
NO_CGROUPS = "BASE_CGROUP =\n"
PATIENCE_SECONDS = 120
HOME = "/home/alice/condor"

# A daemon that nothing leads to from the job: neither the process tree nor the environment, by
# which alone HTCondor would know it. The job waits until it has done its work, and says at the end
# what is known to have been used: the daemon's word, and its own line of proc(5).
JOB = r"""#!/bin/sh
mkfifo worked
env -i /usr/bin/python3 -ISE -c '
import os, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
memory = bytearray(64 << 20)
while time.process_time() < 2: sum(range(2000))
with open("data", "wb") as file:
    file.write(bytes(8 << 20)); file.flush(); os.fsync(file.fileno())
os.unlink("data")
null = os.open(os.devnull, os.O_RDWR)
for stream in (0, 1, 2): os.dup2(null, stream)
with open("worked", "w") as file: file.write(str(time.process_time()))
time.sleep(600)
'
read known <worked
sleep 3
ps -eo user= | sort | uniq -c | tr -s ' ' | sed 's/^ //'
stat -c %U /etc
rm worked
echo err >&2
read -r stat </proc/$$/stat
echo "$known ${stat##*)}"
exit 7
"""
STRAYS = "ps -eo user=,args= | grep '[w]hile time.process_time' || true"


class Outcome(NamedTuple):
    """The final ad, what was printed, the CPU seconds that are known, and what was left."""

    ad: dict[str, Any]
    output: list[str]
    error: str
    known: float
    strays: str

    def figure(self, name: str) -> float:
        return float(self.ad[f"ChirpLedge{name}"])


@pytest.fixture(scope="module")
def without(pool: Pool, _installed: None) -> Iterator[Pool]:
    """The pool without control groups, which ledged knows: it is started anew."""
    pool.root(f"cp {POLICY} {POLICY}.kept")
    pool.put(LIMITED, POLICY)
    with pool.configured(NO_CGROUPS, restart=True):
        yield pool
        pool.root(f"mv {POLICY}.kept {POLICY}")


@pytest.fixture(scope="module")
def limited(without: Pool) -> Job:
    """A job that the policy has a limit for, by ledged."""
    return without.submit("executable = /bin/true\nMy.Limited = true\n")


@pytest.fixture(scope="module")
def by_ledged(without: Pool, limited: Job) -> Outcome:
    return run(without)


@pytest.fixture(scope="module")
def alone(without: Pool) -> Outcome:
    without.plugin_on(daemon=False)
    return run(without)


def run(pool: Pool) -> Outcome:
    files = {"job": JOB}
    job = pool.submit("executable = job\n", files=files)
    job.wait("terminated", PATIENCE_SECONDS)
    return outcome_of(pool, job.ad(), job.output(), job.error())


def outcome_of(pool: Pool, ad: dict[str, Any], output: bytes, error: bytes) -> Outcome:
    *lines, last = output.decode().splitlines()
    words = last.split()
    # After the daemon's: the fields of proc(5), stat, from the third on; 14 to 17 are CPU time.
    known = float(words[0]) + sum(map(int, words[12:16])) / TICKS
    return Outcome(ad, lines, error.decode(), known, pool.root(STRAYS).stdout)


PERSONAL = """
RELEASE_DIR = /usr
LOCAL_DIR = {home}
LOG = $(LOCAL_DIR)/log
SPOOL = $(LOCAL_DIR)/spool
EXECUTE = $(LOCAL_DIR)/execute
LOCK = $(LOCAL_DIR)/log
RUN = $(LOCAL_DIR)/log
BIN = /usr/bin
SBIN = /usr/sbin
LIB = {lib}
LIBEXEC = {libexec}
include : /etc/condor/config.d/10-pool.conf
include : /etc/condor/config.d/11-pool-speed.conf
include : /etc/condor/config.d/50-condor-ledge.conf
DAEMON_LIST = MASTER COLLECTOR NEGOTIATOR SCHEDD STARTD
COLLECTOR_HOST = 127.0.0.1:9700
USE_SHARED_PORT = False
ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_NEGOTIATOR = alice@*
ALLOW_ADMINISTRATOR = alice@*
ALLOW_DAEMON = alice@*
SEC_DEFAULT_AUTHENTICATION_METHODS = FS
NUM_CPUS = 2
MEMORY = 1024
LEDGE_DAEMON = False
LEDGE_USAGE = False
"""
SUBMIT = "executable = job\nlog = log\noutput = output.0\nerror = error.0\nqueue\n"
AWAIT = "for n in $(seq {seconds}); do {test} && break; sleep 1; done"


class Personal:
    """An HTCondor of alice's own, all in her home directory."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        lib, libexec = pool.root("condor_config_val LIB LIBEXEC").stdout.split()
        directories = " ".join(f"{HOME}/{name}" for name in ("", "log", "spool", "execute", "job"))
        pool.root(f"install -d -o alice -g alice {directories}")
        config = PERSONAL.format(home=HOME, lib=lib, libexec=libexec)
        pool.put(config, f"{HOME}/config", "alice")

    def run_as(self, command: str) -> str:
        variables = f"PATH=$PATH:/usr/sbin CONDOR_CONFIG={HOME}/config"
        line = f"export {variables}; cd {HOME}/job; {command}"
        return self.pool.run_as("alice", line, check=False).stdout

    def start(self) -> None:
        """Start it, and wait until its slots are there."""
        wait = AWAIT.format(
            seconds=60, test="condor_status -af Name | grep -q . && condor_q >/dev/null"
        )
        self.run_as(f"condor_master; {{ {wait}; }} 2>/dev/null")
        if not self.run_as("condor_status -af Name"):
            raise PoolError(self.pool.root(f"tail -n 20 {HOME}/log/MasterLog").stdout)

    def run(self) -> Outcome:
        self.pool.put(JOB, f"{HOME}/job/job", "alice", 0o755)
        self.pool.put(SUBMIT, f"{HOME}/job/submit", "alice")
        wait = AWAIT.format(seconds=PATIENCE_SECONDS, test="grep -q ^005 log")
        submit = f"rm -f log; condor_submit -terse submit; {wait}"
        cluster = self.run_as(submit).partition(".")[0]
        wait = AWAIT.format(seconds=30, test=f"condor_history -json {cluster} | grep -q ExitCode")
        ad = json.loads(self.run_as(f"{wait}; condor_history -json {cluster}"))[0]
        output, error = [self.pool.get(f"{HOME}/job/{name}.0") for name in ("output", "error")]
        return outcome_of(self.pool, ad, output, error)

    def stop(self) -> None:
        wait = AWAIT.format(seconds=60, test="! pgrep -u alice -x condor_master >/dev/null")
        self.run_as(f"pkill -QUIT -u alice -x condor_master; {wait}")  # as condor_off -fast
        left = self.run_as("pgrep -u alice -x condor_master")
        assert not left, left
        self.pool.root(f"rm -rf {shlex.quote(HOME)}")


@pytest.fixture(scope="module")
def personal(pool: Pool, _installed: None) -> Iterator[Outcome]:
    own = Personal(pool)
    own.start()
    try:
        yield own.run()
    finally:
        own.stop()


@pytest.fixture(params=["by_ledged", "alone", "personal"])
def outcome(request: pytest.FixtureRequest, pool: Pool) -> Outcome:
    found: Outcome = request.getfixturevalue(request.param)
    return found


def test_the_job_is_as_without(outcome: Outcome) -> None:
    assert outcome.ad["ExitCode"] == 7
    assert outcome.error == "err\n"


def test_the_daemon_is_counted(outcome: Outcome) -> None:
    """By the kernel's own sums, for init has waited for it in the end."""
    figures = {name: value for name, value in outcome.ad.items() if "Ledge" in name}
    print(outcome.known, outcome.ad["RemoteUserCpu"] + outcome.ad["RemoteSysCpu"], figures)
    assert outcome.ad["ChirpLedgeTracking"] == "processes"
    cpu = outcome.figure("CpuUserSeconds") + outcome.figure("CpuSystemSeconds")
    # Ticks are rounded down; init alone has waited for who lived between the daemon's forks.
    assert outcome.known <= cpu < outcome.known * 1.005 + 0.7
    assert 8 * MIB <= outcome.figure("StorageWriteBytes") < 9 * MIB
    assert outcome.figure("LogicalWriteBytes") >= 8 * MIB
    assert 64 * MIB <= outcome.figure("MemoryProcessPeakBytes") < 96 * MIB
    assert outcome.ad.get("ChirpLedgeIncomplete") is None


def test_what_was_seen_says_how_often(outcome: Outcome) -> None:
    assert 64 * MIB <= outcome.figure("MemoryRssPeakBytes") < 192 * MIB
    pss = outcome.figure("MemoryPssPeakBytes")
    assert 64 * MIB <= pss <= outcome.figure("MemoryRssPeakBytes")
    assert 2 <= outcome.figure("ProcessesPeak") <= 12  # the job and its daemon
    sampled = outcome.ad["ChirpLedgeSampled"]
    names, _, how = sampled.partition(": ")
    assert names == "MemoryRssPeakBytes, ProcessesPeak, MemoryPssPeakBytes"
    assert "of one reading" in how or "readings" in how
    assert outcome.ad.get("ChirpLedgeMemoryPeakBytes") is None
    assert "no control group" in outcome.ad["ChirpLedgeUnmeasured"]


def test_the_daemon_does_not_live_on(outcome: Outcome) -> None:
    assert outcome.strays == ""


def test_the_job_sees_itself_alone(outcome: Outcome) -> None:
    *processes, owner = outcome.output
    assert len(processes) == 1 and processes[0].endswith(" alice"), processes
    by_root = outcome.ad["ChirpLedgeIsolation"].startswith("pid")
    assert owner == ("root" if by_root else "nobody")


def test_ledged_needs_no_user_namespace(by_ledged: Outcome) -> None:
    assert by_ledged.ad["ChirpLedgeIsolation"] == "pid,mount,ipc,uts"


def test_alone_there_is_a_user_namespace(alone: Outcome, personal: Outcome) -> None:
    for one in (alone, personal):
        assert one.ad["ChirpLedgeIsolation"].startswith("user,pid,mount,ipc")


@pytest.mark.since_htcondor(24, 8)
def test_a_limit_that_nothing_can_hold_holds_the_job(limited: Job) -> None:
    limited.wait("held", strict=False)
    assert "pids_max: HTCondor makes no control group for jobs here" in limited.ad()["HoldReason"]
    limited.remove()
