"""HTCondor in a PID namespace of its own, by each of the two drop-ins for condor.service.

Three jobs run at once: one as the policy comes, one that the policy leaves in HTCondor's PID
namespace, and one that is removed.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from tests.pool.condor import Pool
from tests.pool.job import Job, Submission
from tests.pool.test_ledged import await_ledged

pytestmark = pytest.mark.machine("container")

PATIENCE_SECONDS = 180.0
DIRECTORY = "/etc/systemd/system/condor.service.d"
SHARE = "/usr/share/condor-ledge/systemd"
POLICY = "/etc/condor-ledge/policy.yaml"
RULES = """
version: 1
rules:
- name: in HTCondor's PID namespace
  match: TARGET.SeesHTCondor =?= true
  namespaces: [mount, ipc, cgroup, uts]
"""
OF_THE_SYSTEM = {"systemd", "systemd-journal", "sshd"}
OF_HTCONDOR = {"condor_master", "condor_startd", "condor_starter", "ledged"}

# It notes what it sees and how much CPU time it has used, leaves a process and waits.
JOB = r"""#!/usr/bin/python3 -ISE
import os, resource, subprocess, sys
os.mkfifo("gate")
with open("seen", "w") as file:
    subprocess.run(["ps", "-e", "-o", "comm="], stdout=file)
subprocess.Popen(["sleep", "600"], start_new_session=True)
used = 0.0
while used < 0.5:
    used = sum([sum(resource.getrusage(who)[:2]) for who in (0, -1)])
with open("known", "w") as file:
    file.write(str(used))
open("running", "w").close()
open("gate").read()
sys.exit(7)
"""
DESCRIPTION = "executable = work\nrequest_memory = 64M\nrequest_disk = 10M\n"
AWAIT = "until [ -e {path} ]; do sleep 0.2; done"


def main_process(pool: Pool, property_: str = "MainPID") -> str:
    return pool.root(f"systemctl show condor --value -p {property_}").stdout.strip()


def namespaces(pool: Pool) -> int:
    """How many PID namespaces there are."""
    return int(pool.root("lsns --noheadings --type pid | wc -l").stdout)


@pytest.fixture(scope="module")
def switched_back(pool: Pool, _installed: None) -> Iterator[Pool]:
    """At the end HTCondor is as it was, and nothing is left."""
    await_ledged(pool)
    before = namespaces(pool)
    pool.root(f"cp {POLICY} {POLICY}.kept; cat >{POLICY}", stdin=RULES)
    yield pool
    pool.root(f"rm -r {DIRECTORY}; mv {POLICY}.kept {POLICY}; systemctl daemon-reload")
    pool.restart()
    await_ledged(pool)
    seen = pool.root(f"nsenter -t {main_process(pool)} -p -m ps -e -o comm=").stdout.split()
    assert set(seen) >= OF_THE_SYSTEM
    assert namespaces(pool) == before


@pytest.fixture(scope="module", params=["private-pids.conf", "private-pids-before-257.conf"])
def node(request: pytest.FixtureRequest, switched_back: Pool) -> Pool:
    """With this drop-in alone."""
    pool = switched_back
    link = f"rm -rf {DIRECTORY}; mkdir {DIRECTORY}; ln -s {SHARE}/{request.param} {DIRECTORY}"
    pool.root(f"{link}; systemctl daemon-reload")
    pool.restart()
    await_ledged(pool)
    return pool


@pytest.fixture(scope="module")
def jobs(node: Pool) -> Iterator[dict[str, Job]]:
    """They run, and have noted what they see."""
    lines = {"alone": "", "beside": "+SeesHTCondor = true\n", "removed": ""}
    submissions = [
        Submission(DESCRIPTION + line, files={"work": JOB}) for line in lines.values()
    ]
    found = dict(zip(lines, node.submit_all(submissions)))
    waits = [AWAIT.format(path=shlex.quote(job.path("running"))) for job in found.values()]
    node.root("; ".join(waits), timeout=PATIENCE_SECONDS)
    yield found
    node.remove_all_jobs()


def listed(pool: Pool, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(pool.root(f"condor_ledge ps --json {words[0]}").stdout)
    return found


def names(text: str) -> set[str]:
    return set(text.split())


def test_neither_htcondor_nor_jobs_see_the_system(node: Pool, jobs: dict[str, Job]) -> None:
    assert names(node.root("ps -e -o comm=").stdout) >= OF_THE_SYSTEM
    inside = f"nsenter -t {main_process(node)} -p -m"
    of_daemons = names(node.root(f"{inside} ps -e -o comm=").stdout)
    of_job = names(jobs["beside"].file("seen").decode())
    for seen in (of_daemons, of_job):
        assert seen >= OF_HTCONDOR and not seen & OF_THE_SYSTEM
    assert not names(jobs["alone"].file("seen").decode()) & (OF_THE_SYSTEM | OF_HTCONDOR)
    assert node.root(f"{inside} cat /proc/1/comm").stdout == "condor_master\n"


def test_systemd_knows_condor_master(node: Pool) -> None:
    comm = f"cat /proc/{main_process(node)}/comm"
    assert node.root(comm).stdout == "condor_master\n"
    # It comes with condor_master's WATCHDOG=1.
    assert "responding" in main_process(node, "StatusText")
    node.root("systemctl reload condor")
    assert node.root(comm).stdout == "condor_master\n"


def test_commands_from_outside(node: Pool, jobs: dict[str, Job]) -> None:
    job = jobs["alone"]
    (told,) = listed(node, job.id)
    numbers = node.root(f"grep NSpid /proc/{told['wrapper']}/status").stdout.split()[1:]
    assert [int(number) for number in numbers] == [told["wrapper"], told["logged_wrapper"]]
    line = f"launched for the wrapper {told['logged_wrapper']}, its init is {told['logged_init']}"
    assert line in node.root("cat /var/log/condor/LedgeLog").stdout
    entered = node.root(f"condor_ledge enter {job.id} ps -e -o comm=").stdout
    assert names(entered) >= {"ps", "sleep"} and not names(entered) & OF_HTCONDOR
    # To HTCondor, nothing in the group is a 0: it would kill its own process group for it.
    begun = "until pgrep -xf 'sleep 300' >/dev/null; do sleep 0.2; done; "
    watch = f"condor_ledge enter {job.id} sleep 300 </dev/null >/dev/null & {begun}"
    group = f"find /sys/fs/cgroup{told['slice']} -name cgroup.procs -exec cat {{}} +"
    inside = f"nsenter -t {main_process(node)} -p -m {group}"
    found = node.root(f"{watch}{inside}; kill $!").stdout.split()
    assert len(found) > 4 and "0" not in found
    told = json.loads(node.root("condor_ledge doctor --json", check=False).stdout)
    by_name = {one["subject"]: one for one in told["subjects"]}
    assert by_name["PID namespace"]["summary"] == "HTCondor's own"
    assert by_name["ledged"]["status"] == "ok"


def test_the_tree_of_a_job_that_is_removed(node: Pool, jobs: dict[str, Job]) -> None:
    """While somebody is in it from outside, who goes with it."""
    job = jobs["removed"]
    begun = "until pgrep -xf 'sleep 301' >/dev/null; do sleep 0.2; done"
    node.root(f"condor_ledge enter {job.id} sleep 301 </dev/null >/dev/null 2>&1 & {begun}")
    (told,) = listed(node, job.id)
    pids = [one["pid"] for one in told["processes"]]
    assert len(pids) >= 6
    job.remove()
    job.wait("aborted", PATIENCE_SECONDS)
    gone = " && ".join([f"! [ -e /proc/{pid} ]" for pid in pids])
    node.root(f"until {gone}; do sleep 0.2; done", timeout=60)


@pytest.mark.parametrize("name", ["alone", "beside"])
def test_the_end_and_the_figures_of_a_job(node: Pool, jobs: dict[str, Job], name: str) -> None:
    job = jobs[name]
    known = float(job.file("known"))
    node.root(f"echo >{shlex.quote(job.path('gate'))}")
    job.wait("terminated", PATIENCE_SECONDS)
    ad = job.ad()
    used = ad["ChirpLedgeCpuUserSeconds"] + ad["ChirpLedgeCpuSystemSeconds"]
    print(f"{job.id}: CPU {used:.3f} s, known {known:.3f} s")
    assert (ad["ExitCode"], ad["ChirpLedgeTracking"]) == (7, "cgroup")
    assert known <= used < known + 1.5
    assert ("pid" in ad["ChirpLedgeIsolation"].split(",")) == (name == "alone")
