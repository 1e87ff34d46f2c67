"""Nothing is left on the node of jobs with every isolation, killed at random moments on the pool.

Root kills wrappers, inits, first processes and starters of jobs, ledged, its launcher and the
process for networks, while the jobs run; what there is (tests/inventory.py) is counted before and
after. CONDOR_LEDGE_LEFT_JOBS is how many jobs there are.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import inventory
from tests.kernel.killed_jobs import ISOLATED_KINDS, ISOLATION, MESS
from tests.pool.condor import Pool
from tests.pool.job import Submission
from tests.pool.test_ledged import await_ledged
from tests.pool.test_limits import policy
from tests.pool.test_private_network import private_networks

JOBS = int(os.environ.get("CONDOR_LEDGE_LEFT_JOBS", "14"))
SEED = int(os.environ.get("CONDOR_LEDGE_SEED", "2011"))
PROGRAM = "/root/inventory.py"
COUNTED = (
    "/sys/fs/cgroup",
    "/run/condor-ledge",
    "/tmp",
    "/var/tmp",
    "/dev/shm",
    "/srv",
)
# A starter that was killed leaves its job's slice to HTCondor's next job in the slot. ledged takes
# its own out of it, but for the programs of an earlier ledged, which it has no right to any more.
OF_HTCONDOR = re.compile(r"cgroup .*\.slice(/[^/]*\.scope)?")
OF_SLICES = ("bpf program ledge_received", "bpf program ledge_sent")
OF_OTHERS = re.compile(r"cgroup (?!.*/htcondor/).*")
RULES = "rule table inet condor_ledge {"
PLACES = "/srv/tree /srv/bound /srv/site"
PATIENCE_SECONDS = 90.0
POLICY = f"""
version: 1
without_daemon: run
{ISOLATION}
- name: limits
  match: TARGET.Kind == "limits"
  pids_max: 500
  memory_high: 90%
  memory_swap_max: 0
  cpu_max: 1.5
  io_write_max: 100MB/s
"""
KINDS = (*ISOLATED_KINDS, "limits")
JOB = f"#!/usr/bin/python3 -ISE{MESS}time.sleep(os.urandom(1)[0] / 32)\n"
# A job whose starter was killed begins again; one that is kept from starting is held.
DESCRIPTION = """
executable = mess
transfer_output_files = ""
request_memory = 128M
request_disk = 10M
periodic_remove = NumJobStarts > 3 || JobStatus == 5
"""

# Arguments: a seed and seconds. Kills until the queue is empty, and says whom how often.
KILLER = """
import json, os, random, subprocess, sys, time
from collections import Counter
chance, deadline = random.Random(int(sys.argv[1])), time.monotonic() + float(sys.argv[2])
OF_JOBS = ("job_wrapper", "ledge_init", "condor_starter", "mess")
DAEMONS = ("ledged", "ledge_launcher", "ledge_network")
def pids(name):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm") as file:
                found += [int(pid)] if file.read().strip() == name else []
        except OSError:
            pass
    return found
killed = Counter()
while time.monotonic() < deadline:
    for _ in range(10):
        name = chance.choice(DAEMONS if chance.random() < 0.05 else OF_JOBS)
        victims = pids(name)
        if victims:
            try:
                os.kill(chance.choice(victims), 9)
                killed[name] += 1
            except ProcessLookupError:
                pass
        time.sleep(chance.uniform(0, 1))
    queue = ["condor_q", "-allusers", "-af", "ClusterId"]
    done = subprocess.run(queue, capture_output=True)
    if done.returncode == 0 and not done.stdout.strip():
        break
print(json.dumps(killed))
"""


MADE = {"process", "namespace", "mount", "cgroup"}


class Counts(NamedTuple):
    """What there is too much of while jobs run and afterwards, and who was killed how often."""

    meanwhile: Counter[str]
    left: list[str]
    killed: dict[str, int]


def count(pool: Pool) -> Counter[str]:
    told = json.loads(pool.root(shlex.join(["python3", PROGRAM, *COUNTED])).stdout)
    return Counter({name: told[name] for name in told if not OF_OTHERS.fullmatch(name)})


def at_rest(pool: Pool) -> Counter[str]:
    """When the rules for networks are there; ledged does not wait for them, and they stay."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while RULES not in (found := count(pool)):
        assert time.monotonic() < deadline, "no rules for networks"
        time.sleep(1)
    return found


def not_htcondor_s(found: list[str]) -> list[str]:
    slices = [name for name in found if OF_HTCONDOR.fullmatch(name)]
    return [one for one in found if one not in slices and not (slices and one in OF_SLICES)]


@pytest.fixture(scope="module")
def node(pool: Pool, _installed: None) -> Iterator[Pool]:
    """The pool with private networks, the policy above, and nothing going on."""
    pool.remove_all_jobs()
    pool.put(Path(inventory.__file__), PROGRAM)
    pool.root(f"mkdir -p {PLACES}")
    try:
        with private_networks(pool), policy(pool, POLICY):
            yield pool
            pool.remove_all_jobs()
    finally:
        pool.root(f"rm -rf {PLACES}")


@pytest.fixture(scope="module")
def counts(node: Pool) -> Counts:
    # One job has been there: HTCondor and condor-ledge have made what they keep.
    first = node.submit("executable = /bin/true\n")
    first.wait("terminated", PATIENCE_SECONDS)
    before = at_rest(node)
    submissions = [
        Submission(
            f'{DESCRIPTION}My.Kind = "{kind}"\nqueue {-(-JOBS // len(KINDS))}\n',
            name=kind.replace(" ", "-"),
            files={"mess": JOB},
        )
        for kind in KINDS
    ]
    jobs = node.submit_all(submissions)
    jobs[0].wait("executing", PATIENCE_SECONDS)
    meanwhile = made(node, before)
    seconds = 120 + 5 * JOBS
    command = shlex.join(["python3", "-c", KILLER, str(SEED), str(seconds)])
    killed = json.loads(node.root(command, timeout=seconds + 60).stdout)
    await_ledged(node)
    node.remove_all_jobs()
    return Counts(meanwhile, left(node, before), killed)


def made(pool: Pool, before: Counter[str]) -> Counter[str]:
    """What there is too much of, once a job has all that it is to have."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = Counter(name.split()[0] for name in inventory.surplus(before, count(pool)))
        if set(found) >= MADE or time.monotonic() > deadline:
            return found


def left(pool: Pool, before: Counter[str]) -> list[str]:
    """After a while for what HTCondor, ledged and the kernel do later."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while found := not_htcondor_s(inventory.surplus(before, count(pool))):
        if time.monotonic() > deadline:
            break
        time.sleep(2)
    return found


def test_killed_at_random_moments(counts: Counts) -> None:
    print(counts.meanwhile, counts.killed, counts.left)
    assert set(counts.meanwhile) >= MADE
    assert counts.left == []


def test_everybody_was_killed(counts: Counts) -> None:
    assert set(counts.killed) >= {"job_wrapper", "ledge_init", "condor_starter", "mess"}
