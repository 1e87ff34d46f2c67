"""Work of a known amount, resource by resource: known, the kernel, condor-ledge, HTCondor alone.

Each job does its work, notes what it knows of it, and holds still; root then reads the kernel's own
counters of its control group and lets it end. CONDOR_LEDGE_TRUTH_RUNS=10 does each ten times. The
network's is tests/pool/test_network.py, that of daemons and of 10,000 processes test_figures.py.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

import pytest

from tests.pool.condor import Pool
from tests.pool.job import Job, Submission

RUNS = int(os.environ.get("CONDOR_LEDGE_TRUTH_RUNS", "1"))
MIB = 1 << 20
PATIENCE_SECONDS = 600.0
# What a Python that has done nothing has: the job's group has its memory, too.
INTERPRETER_BYTES = 24 * MIB

JOB = r"""#!/usr/bin/python3
import ctypes, json, mmap, os, resource, subprocess, sys, threading, time

MIB = 1 << 20

def used():
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)

def burn(seconds):
    end = used() + seconds
    while used() < end:
        sum(range(2000))

def in_threads(count, seconds):
    each = used() + seconds
    def work():
        while used() < each:
            sum(range(2000))
    threads = [threading.Thread(target=work) for _ in range(count)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

def processes(count):
    for _ in range(count):
        subprocess.run(["/bin/true"])

def touch(mib, seconds=0.0):
    area = mmap.mmap(-1, mib * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for page in range(0, mib * MIB, mmap.PAGESIZE):
        area[page] = 1
    time.sleep(seconds)
    area.close()

def share(mib):
    with open("/dev/shm/shared", "wb") as file:
        for _ in range(mib):
            file.write(bytes(MIB))

def write(mib, direct=False, sync=False):
    flags = os.O_WRONLY | os.O_CREAT | (os.O_DIRECT if direct else 0)
    fd = os.open("data", flags, 0o644)
    block = mmap.mmap(-1, MIB)
    for _ in range(mib):
        os.write(fd, block)
    if sync or direct:
        os.fsync(fd)
    os.close(fd)

def read(mib):
    write(mib, direct=True)
    fd = os.open("data", os.O_RDONLY | os.O_DIRECT)
    block = mmap.mmap(-1, MIB)
    while os.readv(fd, [block]):
        pass
    os.close(fd)

WORK = {
    "cpu 0.5 s": lambda: burn(0.5),
    "cpu 5 s": lambda: burn(5),
    "cpu 3 s in 64 threads": lambda: in_threads(64, 3),
    "cpu of 300 processes": lambda: processes(300),
    "memory 10 MiB": lambda: touch(10),
    "memory 256 MiB": lambda: touch(256),
    "memory 256 MiB for 50 ms": lambda: touch(256, 0.05),
    "shared memory 64 MiB": lambda: share(64),
    "page cache 64 MiB": lambda: write(64),
    "written 64 MiB, direct": lambda: write(64, direct=True),
    "written 64 MiB, fsync": lambda: write(64, sync=True),
    "read 32 MiB, direct": lambda: read(32),
}
os.mkfifo("go")
WORK[" ".join(sys.argv[1:])]()
if os.path.exists("data"):
    os.unlink("data")
with open("known.new", "w") as file:
    json.dump({"cpu": used()}, file)
os.rename("known.new", "known")
open("go").read()
"""

# Arguments: the jobs' directories. For each, what the kernel has counted when it holds still.
READ = r"""
import glob, json, os, sys, time
FILES = ("cpu.stat", "memory.peak", "io.stat", "pids.peak")
JOBS = "/sys/fs/cgroup/system.slice/condor.service/htcondor"
for place in sys.argv[1:]:
    while not os.path.exists(place + "/known"):
        time.sleep(0.2)
    found = {"known": json.load(open(place + "/known"))}
    for procs in glob.glob(JOBS + "/*.slice/ledge-*/job/cgroup.procs"):
        group = os.path.dirname(os.path.dirname(procs))
        if any(os.readlink(f"/proc/{pid}/cwd") == place for pid in open(procs).read().split()):
            found.update((name, open(f"{group}/{name}").read()) for name in FILES)
    print(json.dumps(found), flush=True)
    open(place + "/go", "w").close()
"""


class Truth(NamedTuple):
    """What is known of one job's work: by itself, by the kernel, and by the ad of the job."""

    known: Mapping[str, float]
    files: Mapping[str, str]
    ad: Mapping[str, Any]

    def kernel_cpu(self) -> float:
        return int(self.files["cpu.stat"].split()[1]) / 1e6

    def kernel_io(self, key: str) -> int:
        words = self.files["io.stat"].split()
        return sum(int(word.partition("=")[2]) for word in words if word.startswith(key + "="))

    def ledge(self, name: str) -> float:
        return float(self.ad[f"ChirpLedge{name}"])

    def ledge_cpu(self) -> float:
        return self.ledge("CpuUserSeconds") + self.ledge("CpuSystemSeconds")


CPU = ["cpu 0.5 s", "cpu 5 s", "cpu 3 s in 64 threads", "cpu of 300 processes"]
MEMORY = {
    "memory 10 MiB": 10,
    "memory 256 MiB": 256,
    "memory 256 MiB for 50 ms": 256,
    "shared memory 64 MiB": 64,
    "page cache 64 MiB": 64,
}
IO = {
    "written 64 MiB, direct": ("BlockWriteBytes", "wbytes", 64),
    "written 64 MiB, fsync": ("BlockWriteBytes", "wbytes", 64),
    "read 32 MiB, direct": ("BlockReadBytes", "rbytes", 32),
}


@pytest.fixture(scope="module")
def truths(pool: Pool, _installed: None) -> dict[str, list[Truth]]:
    """Every work as often as is wished, all submitted together."""
    names = [*CPU, *MEMORY, *IO] * RUNS
    description = "executable = work\nrequest_memory = 400M\nrequest_disk = 100M\narguments = "
    jobs = pool.submit_all([Submission(description + name, files={"work": JOB}) for name in names])
    places = shlex.join([job.directory for job in jobs])
    command = f"python3 -c {shlex.quote(READ)} {places}"
    lines = pool.root(command, timeout=PATIENCE_SECONDS).stdout.splitlines()
    found: dict[str, list[Truth]] = {name: [] for name in names}
    for name, job, line in zip(names, jobs, lines):
        found[name].append(truth(job, json.loads(line)))
    return found


def truth(job: Job, read: dict[str, Any]) -> Truth:
    job.wait("terminated", PATIENCE_SECONDS)
    ad = job.ad()
    assert ad["ExitCode"] == 0
    return Truth(read.pop("known"), read, ad)


def check(
    name: str, truths: list[Truth], row: Callable[[Truth], tuple[float, float, float, object]]
) -> list[tuple[float, float, float, object]]:
    """Print known, kernel, condor-ledge, HTCondor of every run, and the error against the first."""
    rows = [row(one) for one in truths]
    for known, kernel, ledge, condor in rows:
        error = ledge / known - 1
        print(f"{name:26} {known:14.3f} {kernel:14.3f} {ledge:14.3f} {error:+8.2%} {condor!s:>12}")
    return rows


@pytest.mark.parametrize("name", CPU)
def test_cpu_time(name: str, truths: dict[str, list[Truth]]) -> None:
    """What came between root's look and the end is init's and the interpreter's leaving."""

    def row(one: Truth) -> tuple[float, float, float, object]:
        condor = one.ad["RemoteUserCpu"] + one.ad["RemoteSysCpu"]
        return one.known["cpu"], one.kernel_cpu(), one.ledge_cpu(), condor

    for known, kernel, ledge, _ in check(name, truths[name], row):
        assert kernel <= ledge < kernel * 1.005 + 0.2
        # The kernel counts what a process uses before and after it can ask, too.
        assert known <= ledge < known * 1.005 + 0.5


@pytest.mark.parametrize("name", MEMORY)
def test_peak_of_memory(name: str, truths: dict[str, list[Truth]]) -> None:
    """Also one that lasts for 50 ms, which a look every few seconds does not see."""

    def row(one: Truth) -> tuple[float, float, float, object]:
        kernel = float(one.files["memory.peak"])
        condor = one.ad.get("MemoryUsage")
        return MEMORY[name] * MIB, kernel, one.ledge("MemoryPeakBytes"), condor

    for known, kernel, ledge, _ in check(name, truths[name], row):
        assert ledge == kernel
        assert known <= ledge < known + INTERPRETER_BYTES


@pytest.mark.parametrize("name", IO)
def test_block_io(name: str, truths: dict[str, list[Truth]]) -> None:
    """Against the kernel's own; a file system writes a little beside the data."""
    attribute, key, mib = IO[name]

    def row(one: Truth) -> tuple[float, float, float, object]:
        condor = one.ad.get("BlockWriteKbytes" if key == "wbytes" else "BlockReadKbytes")
        return mib * MIB, one.kernel_io(key), one.ledge(attribute), condor

    for known, kernel, ledge, _ in check(name, truths[name], row):
        assert kernel <= ledge < kernel * 1.01 + MIB
        assert known <= ledge < known * 1.05 + 4 * MIB
