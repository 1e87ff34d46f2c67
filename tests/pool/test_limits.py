"""Every limit of the policy on real jobs: it is reached, it holds, and the job cannot lift it.

Each job measures what it gets, tries to lift its limits in every way that lift/lift.py knows,
measures again, and holds still until root has read its slice. Several run at once: what others
take only lowers the figures, and limits are upper bounds.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.pool.condor import CONFIG_DIRECTORY, Pool
from tests.pool.job import Job, Submission
from tests.pool.test_pool import shell

MIB = 1 << 20
POLICY_FILE = "/etc/condor-ledge/policy.yaml"
CONFIGURATION_FILE = f"{CONFIG_DIRECTORY}/99-test-limits.conf"
LOG = "/var/log/condor/LedgeLog"
SCHEDULER = "/sys/block/vda/queue/scheduler"
PATIENCE_SECONDS = 240.0
LIFT = Path(__file__).with_name("lift")
READ_SLICES = (LIFT / "slices.py").read_text()
DISK = "254:0"
# HTCondor puts a job on hold because its hook wanted it (CONDOR_HOLD_CODE::HookPrepareJobFailure).
HELD_BY_HOOK = 19
REFUSED = 250

# Timing under emulation on a busy machine; a limit that does not hold is off by far more.
SLACK = 1.25
PIDS_MAX = 24
MEMORY_HIGH = 48 * MIB
READ_MAX = 4 * MIB
WRITE_MAX = 2 * MIB
# What the kernel lets through before it slows a group down.
MEMORY_SLACK = 12 * MIB

POLICY = f"""
version: 1
defaults:
  requests:
    pids_max: {{at_least: 10, at_most: 100}}
rules:
- {{name: pids, match: TARGET.TestRule == "pids", pids_max: {PIDS_MAX}}}
- {{name: memory, match: TARGET.TestRule == "memory", memory_high: 48M, memory_swap_max: 1M}}
- {{name: cpu, match: TARGET.TestRule == "cpu", cpu_max: 50%}}
- {{name: bytes, match: TARGET.TestRule == "io_bytes", io_read_max: 4MB/s, io_write_max: 2MB/s}}
- name: operations
  match: TARGET.TestRule == "io_operations"
  io_read_operations_max: 30/s
  io_write_operations_max: 20/s
- {{name: weight, match: TARGET.TestRule == "io_weight", io_weight: TARGET.TestWeight}}
- name: everything
  match: TARGET.TestRule == "everything"
  namespaces: none
  mounts: none
  pids_max: {PIDS_MAX}
  memory_high: 48M
  memory_swap_max: 1M
  cpu_max: 75%
  exclusive_cpus: 1
  io_read_max: 4MB/s
  io_write_max: 2MB/s
  io_read_operations_max: 30/s
  io_write_operations_max: 20/s
  io_weight: 300
- {{name: more than there are, match: TARGET.TestRule == "never", exclusive_cpus: 3}}
- {{name: more than are free, match: TARGET.TestRule == "refuse", exclusive_cpus: 2}}
- name: more than there are, but run all the same
  match: TARGET.TestRule == "run"
  exclusive_cpus: 3
  on_failure: run
- {{name: misspelled, match: TARGET.TestRule == "undefined", memory_high: TARGET.RequestMemmory}}
- {{name: by nothing, match: TARGET.TestRule == "division", pids_max: 1000 / TARGET.TestZero}}
"""
IO_BYTES = f"{DISK} rbps={READ_MAX} wbps={WRITE_MAX} riops=max wiops=max"
IO_OPERATIONS = f"{DISK} rbps=max wbps=max riops=30 wiops=20"
IO_ALL = f"{DISK} rbps={READ_MAX} wbps={WRITE_MAX} riops=30 wiops=20"

# What root reads in the slices when the jobs have done their worst; in the job ad it stands, too.
EXPECTED = {
    "pids": {"pids.max": f"{PIDS_MAX}"},
    "memory": {"memory.high": f"{MEMORY_HIGH}", "memory.swap.max": f"{MIB}"},
    "cpu": {"cpu.max": "50000 100000"},
    "io_bytes": {"io.max": IO_BYTES},
    "io_operations": {"io.max": IO_OPERATIONS},
    "everything": {
        "pids.max": f"{PIDS_MAX}",
        "memory.high": f"{MEMORY_HIGH}",
        "memory.swap.max": f"{MIB}",
        "cpu.max": "75000 100000",
        "io.max": IO_ALL,
        "io.bfq.weight": "default 300",
    },
}

# Arguments: what to measure; "all" or "some" ways of lifting, or "none".
JOB = """#!/bin/sh
./measure.py "$1" >before 2>errors
if [ "$2" != none ]; then
    ./lift.py "$2" >lifted 2>>errors
    ./measure.py "$1" >after 2>>errors
fi
: >ready
i=0
while [ ! -e go ] && [ $i -lt 600 ]; do sleep 0.5; i=$((i + 1)); done
"""
FILES = {
    "job": JOB,
    "lift.py": (LIFT / "lift.py").read_text(),
    "measure.py": (LIFT / "measure.py").read_text(),
    "lifted": "",
    "after": "{}",
}


class Limited(NamedTuple):
    """What became of a job with a limit."""

    before: dict[str, Any]
    after: dict[str, Any]
    lifted: list[str]
    slice: dict[str, str]
    ad: dict[str, Any]

    def show(self) -> None:
        print(f"first: {self.before}\nafterwards: {self.after}")
        print(f"enforced: {self.ad.get('ChirpLedgeEnforced')}")
        print(f"not enforced: {self.ad.get('ChirpLedgeNotEnforced')}")

    def event(self, file: str, name: str) -> int:
        """How often the kernel has said no."""
        return int(dict(line.split() for line in self.slice[file].splitlines())[name])


def limited_job(rule: str, measure: str = "", lift: str = "some", more: str = "") -> Submission:
    # Eight times the default of request_disk is more than the virtual machine has.
    description = f"executable = job\narguments = {measure or rule} {lift}\nrequest_disk = 10M\n"
    return Submission(f'{description}My.TestRule = "{rule}"\n{more}', name=rule, files=FILES)


def run(pool: Pool, submissions: dict[str, Submission]) -> dict[str, Limited]:
    """Run them at once, and look at them from within and from without."""
    jobs = dict(zip(submissions, pool.submit_all(list(submissions.values()))))
    directories = shlex.join([job.directory for job in jobs.values()])
    text = pool.root(f"python3 - {directories}", stdin=READ_SLICES, timeout=PATIENCE_SECONDS)
    seen = json.loads(text.stdout)
    assert seen["strays"] == [], seen["strays"]
    return {name: told(job, seen["jobs"].get(job.directory, {})) for name, job in jobs.items()}


def told(job: Job, facts: dict[str, str]) -> Limited:
    job.wait("terminated", PATIENCE_SECONDS)
    names = ("before", "after", "lifted", "errors")
    before, after, lifted, errors = (job.file(name).decode() for name in names)
    assert errors == ""
    return Limited(json.loads(before), json.loads(after), lifted.splitlines(), facts, job.ad())


@contextmanager
def policy(pool: Pool, text: str) -> Iterator[None]:
    """The policy in force within the block."""
    before = pool.get(POLICY_FILE).decode()
    try:
        assert f"the policy is that of {POLICY_FILE}" in put_in_force(pool, text)
        yield
    finally:
        put_in_force(pool, before)


def put_in_force(pool: Pool, text: str) -> str:
    """Write it, have it read, and return ledged's word on it."""
    pool.put(text, POLICY_FILE)
    script = f"""
        lines=$(wc -l <{LOG})
        condor_reconfig >/dev/null
        for i in $(seq 300); do
            tail -n +$((lines + 1)) {LOG} | grep policy && break
            sleep 0.1
        done
    """
    return pool.root(script).stdout


@pytest.fixture(scope="module")
def limits(pool: Pool, _installed: None) -> Iterator[Pool]:
    """The pool with the policy, swap space and a scheduler that goes by weights."""
    swap = "fallocate -l 128M /swap && chmod 600 /swap && mkswap -q /swap && swapon /swap"
    pool.root(f"modprobe bfq && echo bfq >{SCHEDULER} && {swap}")
    pool.put("DISABLE_SWAP_FOR_JOB = False\n", CONFIGURATION_FILE)
    try:
        with policy(pool, POLICY):
            yield pool
            pool.remove_all_jobs()
    finally:
        pool.root(f"rm {CONFIGURATION_FILE}; swapoff /swap; rm /swap; echo none >{SCHEDULER}")


@pytest.fixture(scope="module")
def jobs(limits: Pool) -> dict[str, Limited]:
    """Those that know of their slice only by its effects."""
    rules = ("pids", "memory", "cpu", "io_bytes", "io_operations")
    return run(limits, {rule: limited_job(rule) for rule in rules})


@pytest.fixture(scope="module")
def pair(limits: Pool, jobs: dict[str, Limited]) -> dict[str, Limited]:
    """One that sees all groups and its wrapper, and has a CPU of its own; and a neighbour."""
    submissions = {
        "everything": limited_job("everything", "cpuset", "all"),
        "neighbour": limited_job("neighbour", "cpuset", "all"),
    }
    return run(limits, submissions)


@pytest.fixture(scope="module")
def weighty(limits: Pool, pair: dict[str, Limited]) -> dict[str, Limited]:
    """Two that write as fast as the disk takes it."""
    weights = ("1000", "100")
    return run(
        limits,
        {w: limited_job("io_weight", lift="none", more=f"My.TestWeight = {w}") for w in weights},
    )


@pytest.mark.both_pools
def test_pids_max(jobs: dict[str, Limited]) -> None:
    job = jobs["pids"]
    job.show()
    for figures in (job.before, job.after):
        assert figures["refused"]
        assert PIDS_MAX // 2 < figures["processes"] < PIDS_MAX
        assert PIDS_MAX // 2 < figures["threads"] < PIDS_MAX
    assert job.event("pids.events", "max") > 0
    assert int(job.slice["pids.peak"]) == PIDS_MAX


@pytest.mark.both_pools
def test_memory_high(jobs: dict[str, Limited]) -> None:
    job = jobs["memory"]
    job.show()
    for figures in (job.before, job.after):
        assert not figures["all touched"]
        assert figures["memory.current"] < MEMORY_HIGH + MEMORY_SLACK
        assert figures["page cache"] < MEMORY_HIGH + MEMORY_SLACK
    assert job.event("memory.events", "high") > 0
    assert job.event("memory.events", "oom_kill") == 0


def test_memory_swap_max(jobs: dict[str, Limited]) -> None:
    job = jobs["memory"]
    job.show()
    assert max(job.before["memory.swap.current"], job.after["memory.swap.current"]) <= MIB
    # Pages are swapped in batches, the last one perhaps not. Without the limit it is 10 MiB.
    assert MIB // 2 < int(job.slice["memory.swap.peak"]) <= MIB


@pytest.mark.both_pools
def test_cpu_max(jobs: dict[str, Limited]) -> None:
    job = jobs["cpu"]
    job.show()
    assert max(job.before["cores"], job.after["cores"]) <= 0.5 * SLACK
    assert job.event("cpu.stat", "nr_throttled") > 0


def test_io_read_max(jobs: dict[str, Limited]) -> None:
    job = jobs["io_bytes"]
    job.show()
    rates = [*job.before["reads"].values(), *job.after["reads"].values()]
    assert max(rates) <= READ_MAX * SLACK


@pytest.mark.both_pools
def test_io_write_max(jobs: dict[str, Limited]) -> None:
    job = jobs["io_bytes"]
    job.show()
    rates = [*job.before["writes"].values(), *job.after["writes"].values()]
    assert max(rates) <= WRITE_MAX * SLACK


def test_io_operations_max(jobs: dict[str, Limited]) -> None:
    job = jobs["io_operations"]
    job.show()
    assert max(job.before["reads"], job.after["reads"]) <= 30 * SLACK
    assert max(job.before["writes"], job.after["writes"]) <= 20 * SLACK


@pytest.mark.both_pools
def test_exclusive_cpus(pair: dict[str, Limited]) -> None:
    own, others = pair["everything"], pair["neighbour"]
    own.show()
    others.show()
    assert len(own.after["allowed"]) == 1
    assert own.after["ran on"] == own.before["ran on"] == own.after["allowed"]
    assert set(own.after["allowed"]).isdisjoint(others.after["allowed"])
    assert own.slice["cpuset.cpus"] == f"{own.after['allowed'][0]}"
    assert f"cpuset.cpus={own.slice['cpuset.cpus']}" in own.ad["ChirpLedgeEnforced"]


def test_io_weight(weighty: dict[str, Limited]) -> None:
    heavy, light = (weighty[name].before["seconds"] for name in ("1000", "100"))
    # The first and the last second in which both wrote are not whole ones.
    both = sorted(heavy.keys() & light.keys())[1:-1]
    shares = [sum(seconds[name] for name in both) / MIB for seconds in (heavy, light)]
    print(f"in {len(both)} s the weights 1000 and 100 wrote {shares[0]} and {shares[1]} MiB")
    assert both
    assert shares[0] > 2 * shares[1]
    for weight, job in weighty.items():
        assert job.slice["io.bfq.weight"].splitlines()[0] == f"default {weight}"
        assert f"io.bfq.weight=default {weight}" in job.ad["ChirpLedgeEnforced"]


@pytest.mark.both_pools
@pytest.mark.parametrize("name", [*EXPECTED, "neighbour"])
def test_cannot_be_lifted(
    name: str, jobs: dict[str, Limited], pair: dict[str, Limited]
) -> None:
    job = {**jobs, **pair}[name]
    print("\n".join(job.lifted))
    tried = job.lifted[1:]
    assert len(tried) >= 40
    assert [line for line in tried if ": LIFTED: " in line or ": MISTAKE: " in line] == []
    for file, text in EXPECTED.get(name, {}).items():
        assert text in job.slice[file].splitlines()
        assert f"{file}={text}" in job.ad["ChirpLedgeEnforced"]


class Decided(NamedTuple):
    """What became of a job on which the policy had its say."""

    job: Job
    ad: dict[str, Any]


@pytest.fixture(scope="module")
def decisions(limits: Pool, weighty: dict[str, Limited]) -> dict[str, Decided]:
    """Jobs that ask for something, and those on which the policy fails."""
    more = {
        "asks": "My.LedgePidsMax = 50",
        "asks for too much": "My.LedgePidsMax = 5000",
        "undefined": 'My.TestRule = "undefined"',
        "division": 'My.TestRule = "division"\nMy.TestZero = 0',
        "run": 'My.TestRule = "run"',
        "never": 'My.TestRule = "never"',
        "refuse": 'My.TestRule = "refuse"',
    }
    # It has to have one of two CPUs to run on.
    neighbour = limits.submit(shell("sleep 600", "request_disk = 10M\n"))
    neighbour.wait("executing", PATIENCE_SECONDS)
    lines = [shell("exit 7", f"request_disk = 10M\n{text}\n") for text in more.values()]
    jobs = limits.submit_all([Submission(line) for line in lines])
    decided = {}
    events = {"asks": "terminated", "run": "terminated", "refuse": "evicted"}
    for name, job in zip(more, jobs):
        job.wait(events.get(name, limits.release.refused), PATIENCE_SECONDS)
        decided[name] = Decided(job, job.ad())
    # What was sent back would be tried again and again.
    for name, one in decided.items():
        if events.get(name) != "terminated":
            one.job.remove()
    neighbour.remove()
    return decided


def test_a_job_may_ask(decisions: dict[str, Decided]) -> None:
    ad = decisions["asks"].ad
    assert ad["ExitCode"] == 7
    assert ad["ChirpLedgeEnforced"] == "pids.max=50"


@pytest.mark.both_pools
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("asks for too much", ("LedgePidsMax of the job is 5000", "at most 100")),
        ("undefined", ("misspelled", "memory_high", "undefined", f"{POLICY_FILE}:")),
        ("division", ("by nothing", "pids_max", "error", f"{POLICY_FILE}:")),
        ("never", ("cannot be enforced: cpuset.cpus", "wanted 3, but the node has 2")),
    ],
)
def test_refused_with_the_reason(
    name: str, words: tuple[str, ...], decisions: dict[str, Decided]
) -> None:
    job, ad = decisions[name]
    reason = ad["HoldReason"] if job.pool.release.has_hook else first_error(job)
    print(reason)
    assert [word for word in words if word not in reason] == []
    if job.pool.release.has_hook:
        assert (ad["HoldReasonCode"], ad["HoldReasonSubCode"]) == (HELD_BY_HOOK, REFUSED)


def first_error(job: Job) -> str:
    """What its event log says of why it was sent back."""
    errors = [event for event in job.events() if event.name == "remote error"]
    return " ".join(errors[0].lines)


def test_what_cannot_be_enforced_now_sends_the_job_back(decisions: dict[str, Decided]) -> None:
    line = first_error(decisions["refuse"].job)
    print(line)
    assert "ledged refused to start the job: limits that cannot be enforced: cpuset.cpus:" in line


def test_what_cannot_be_enforced_is_in_the_ad(decisions: dict[str, Decided]) -> None:
    ad = decisions["run"].ad
    print(ad["ChirpLedgeNotEnforced"])
    assert ad["ExitCode"] == 7
    assert ad["ChirpLedgeNotEnforced"].startswith("cpuset.cpus: ")


def test_a_wrong_policy_leaves_the_old_one_in_force(limits: Pool) -> None:
    with policy(limits, "version: 1\ndefaults: {pids_max: 77}\n"):
        said = put_in_force(limits, "version: 1\ndefaults:\n  pids_maxx: 5\n")
        print(said)
        assert f"{POLICY_FILE}:3: " in said and "pids_maxx" in said
        assert "the old policy stays in force" in said
        job = limits.submit(shell("true", "request_disk = 10M\n"))
        job.wait("terminated")
        assert job.ad()["ChirpLedgeEnforced"] == "pids.max=77"
