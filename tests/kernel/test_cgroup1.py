"""A job in control groups of version 1: what they know, and that they end empty."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from ledge.kernel.cgroup1 import mount_points, own_paths
from tests.installed import PYTHON
from tests.kernel.test_run import ENTRY

pytestmark = pytest.mark.requires("root", "cgroup1")

MIB = 1 << 20
PATIENCE_SECONDS = 30.0

JOB = """
import mmap, os, signal, subprocess, sys, time
def child(work):
    pid = os.fork()
    if pid == 0:
        try: work()
        finally: os._exit(0)
    return pid
def group(controller):
    mounts = open("/proc/self/mountinfo").read().splitlines()
    for line in open("/proc/self/cgroup"):
        _, controllers, path = line.strip().split(":", 2)
        if controllers == controller:
            for mount in mounts:
                fields, _, rest = mount.partition(" - ")
                if rest.startswith("cgroup ") and controller in rest.split(" ")[2].split(","):
                    return fields.split()[4] + path
def limit(controller, file, value):
    with open(f"{group(controller)}/{file}", "w") as control: control.write(str(value))
"""
FAULTS = """
area = mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE)
area.madvise(mmap.MADV_NOHUGEPAGE)
for page in range(0, 16 << 20, mmap.PAGESIZE): area[page] = 1
"""
FORKS_REFUSED = """
limit("pids", "pids.max", 3)
refused = 0
for _ in range(6):
    try: child(lambda: time.sleep(1))
    except OSError: refused += 1
print(refused)
"""
OUT_OF_MEMORY = """
limit("memory", "memory.limit_in_bytes", 64 << 20)
status = os.waitpid(child(lambda: bytearray(256 << 20)), 0)[1]
print(os.WTERMSIG(status))
"""
# Init is killed by the job, so that nobody is left whose child a stray would be.
INIT_KILLED = """
def stray():
    os.setsid()
    for fd in range(3): os.close(fd)
    for _ in range(3): child(lambda: time.sleep(60))
    time.sleep(60)
child(stray)
time.sleep(0.5)
os.kill(os.getppid(), signal.SIGKILL)
time.sleep(60)
"""


class Outcome:
    """The figures of a job, its output, how it ended, and the name of its groups."""

    def __init__(self, home: Path, directory: Path, program: str, plan: dict[str, Any]) -> None:
        (directory / "plan.json").write_text(json.dumps({"version": 1, **plan}))
        line = [PYTHON, "-IE", "-c", ENTRY.format(home=str(home)), "run", "--json"]
        files = ["--output", "usage.json", "--plan", "plan.json"]
        job = [PYTHON, "-IES", "-c", JOB + program]
        process = subprocess.Popen(
            [*line, *files, "--", *job], cwd=directory, stdout=subprocess.PIPE
        )
        self.output = process.communicate(timeout=PATIENCE_SECONDS)[0].split()
        self.status = process.returncode
        self.group = f"ledge-{process.pid}"
        self.figures: dict[str, Any] = json.loads((directory / "usage.json").read_text())
        print(self.figures)
        assert self.figures["Tracking"] == "cgroup1"

    def groups(self) -> list[Path]:
        """What is left of the groups in any tree."""
        mounts = mount_points(Path("/proc/self/mountinfo").read_bytes())
        paths = own_paths(Path("/proc/self/cgroup").read_bytes())
        both = [(mounts[name][1], paths[name]) for name in paths if name in mounts]
        found = [Path(os.fsdecode(point + path), self.group) for point, path in both]
        return [path for path in found if path.exists()]


@pytest.fixture
def directory(execute: Path) -> Path:
    path = execute / "cgroup1"
    path.mkdir(exist_ok=True)
    return path


NAMESPACES = {"namespaces": ["pid", "mount"], "mounts": []}


def test_page_faults(installed: Path, directory: Path) -> None:
    outcome = Outcome(installed, directory, FAULTS, NAMESPACES)
    pages = 16 * MIB // os.sysconf("SC_PAGE_SIZE")
    assert pages <= outcome.figures["PageFaultsMinorCount"] < pages + 4000
    assert outcome.figures["MemoryPeakBytes"] >= 16 * MIB
    assert outcome.figures["MemoryAndSwapPeakBytes"] >= outcome.figures["MemoryPeakBytes"]
    assert outcome.groups() == []


def test_refused_forks(installed: Path, directory: Path) -> None:
    outcome = Outcome(installed, directory, FORKS_REFUSED, NAMESPACES)
    assert outcome.output == [b"4"]
    assert outcome.figures["ForksRefusedCount"] == 4
    assert outcome.figures["ProcessesPeak"] == 3


def test_out_of_memory(installed: Path, directory: Path) -> None:
    outcome = Outcome(installed, directory, OUT_OF_MEMORY, NAMESPACES)
    assert outcome.output == [b"9"]
    assert outcome.figures["OomKills"] == 1
    assert 60 * MIB < outcome.figures["MemoryPeakBytes"] <= 64 * MIB


def test_block_io_is_counted_or_said_not_to_be(installed: Path, directory: Path) -> None:
    copy = ["dd", "if=/dev/zero", "of=data", "bs=1M", "count=8", "oflag=direct", "status=none"]
    outcome = Outcome(installed, directory, f"subprocess.check_call({copy})", NAMESPACES)
    if "BlockWriteBytes" in outcome.figures:
        assert outcome.figures["BlockWriteBytes"] >= 8 * MIB
        assert "BlockWriteBytes" in outcome.figures["Incomplete"]
    else:
        assert "a limit was set for" in outcome.figures["Unmeasured"]


def test_who_is_left_is_killed_and_the_groups_removed(installed: Path, directory: Path) -> None:
    """Also without a PID namespace, and when init was killed: the freezer has them all."""
    outcome = Outcome(installed, directory, INIT_KILLED, {"namespaces": [], "mounts": []})
    assert outcome.status == -9
    assert outcome.groups() == []
    left = [process for process in psutil.process_iter() if "def stray" in command(process)]
    assert left == []


def command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
