"""What the kernel has counted of jobs that hold still: read.py DIRECTORY ..., as root.

The arguments are their working directories. Prints a JSON document for each, as they come, with the
texts of its control group's files, and lets it end; of CPU time it is the last text that there is,
when the job has ended and the group has yet to go. The group is the one that condor-ledge made or,
without it, HTCondor's own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

FILES = ("cpu.stat", "memory.peak", "memory.swap.peak", "memory.stat", "io.stat", "pids.peak")
JOBS = Path("/sys/fs/cgroup/system.slice/condor.service/htcondor")
# HTCondor before 24.8 has no scope, and the job in the group itself.
PROCESSES = (
    "*/ledge-*/job/cgroup.procs",
    "*.slice/*.scope/cgroup.procs",
    "condor_*/cgroup.procs",
)
# What writes may still be on their way to the disk.
PAUSE_SECONDS = 0.2
TRIES = 50


def group_of(place: str) -> Path | None:
    """The innermost first: the wrapper works in the same directory."""
    for pattern in PROCESSES:
        for procs in JOBS.glob(pattern):
            if any(works_in(pid, place) for pid in procs.read_text().split()):
                return procs.parents[1] if procs.parent.name == "job" else procs.parent
    return None


def works_in(pid: str, place: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd") == place
    except OSError:
        return False  # it is gone


def read_and_release(place: str) -> dict[str, object]:
    known = json.loads(Path(place, "known").read_text())
    found: dict[str, object] = {"place": place, "known": known}
    group = group_of(place)
    if group is None:
        Path(place, "go").write_text("\n")
        return found
    found.update({name: (group / name).read_text() for name in FILES})
    with open(group / "cpu.stat", "rb", buffering=0) as file:
        Path(place, "go").write_text("\n")
        found["cpu.stat"] = last(file.fileno())
    return found


def last(fd: int) -> str:
    """The text of a control file in the moment before its group is removed."""
    text = b""
    try:
        while True:
            text = os.pread(fd, 4096, 0)
    except OSError:  # ENODEV
        return text.decode()


def drop_swap_cache(place: str) -> None:
    """What was written to the swap device stays in memory, too, until that is wanted."""
    group = group_of(place)
    for _ in range(TRIES):
        left = swapcached(group) if group else 0
        if group is None or not left:
            break
        with suppress(OSError):  # EAGAIN: less than that could be had
            (group / "memory.reclaim").write_text(str(left))
        time.sleep(PAUSE_SECONDS)
    Path(place, "back").touch()


def swapcached(group: Path) -> int:
    found = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return int(found["swapcached"])


def main() -> None:
    os.nice(-20)
    left = sys.argv[1:]
    while left:
        for place in [place for place in left if Path(place, "out").exists()]:
            if not Path(place, "back").exists():
                drop_swap_cache(place)
        for place in [place for place in left if Path(place, "known").exists()]:
            left.remove(place)
            time.sleep(PAUSE_SECONDS)
            print(json.dumps(read_and_release(place)), flush=True)
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
