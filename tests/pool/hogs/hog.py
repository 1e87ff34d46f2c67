#!/usr/bin/python3
"""A job that takes all of one resource, from the file "go" on to the file "stop": hog.py RESOURCE.

It is bounded so that the node survives it: processes by a resource limit of its own, memory by what
the node has, the disk by the size of one file. "busy" is there when it has what it could get.
"""

from __future__ import annotations

import mmap
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MIB = 1 << 20
MOST_PROCESSES = 200
LOOPS = 10_000
SPARED_BYTES = 80 * MIB
# Soon written once: what is written anew concerns the disk alone, and not the journal.
FILE_BYTES = 4 * MIB
WRITERS = 4
STALLED_SECONDS = 5.0
# How far the memory hog has come, in bytes.
GRABBED = mmap.mmap(-1, 8)


def fork_bomb() -> None:
    """Every process forks as long as it can, and burns CPU time all the while."""
    resource.setrlimit(resource.RLIMIT_NPROC, (MOST_PROCESSES, MOST_PROCESSES))
    while True:
        with suppress(OSError):
            os.fork()
        sum(range(LOOPS))


def memory_hog() -> None:
    """Touch nearly all that is available to the node, and go on touching it."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    available = int(re.findall(r"MemAvailable: *(\d+) kB", text)[0]) * 1024
    size = (available - SPARED_BYTES) // MIB * MIB
    something = b"x" * MIB
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        while True:
            for offset in range(0, size, MIB):
                area[offset : offset + MIB] = something
                GRABBED.seek(0)
                GRABBED.write(offset.to_bytes(8, "little"))
            Path("busy").write_text("", encoding="ascii")


def disk_hog() -> None:
    """Write past the page cache, as fast as the disk takes it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_DIRECT
    fd = os.open("hog", flags, 0o600)
    os.posix_fallocate(fd, 0, FILE_BYTES)
    for _ in range(WRITERS - 1):
        if os.fork() == 0:
            break
    with mmap.mmap(-1, MIB) as block:
        while True:
            for offset in range(0, FILE_BYTES, MIB):
                os.pwrite(fd, block, offset)


HOGS: dict[str, Callable[[], None]] = {
    "processes": fork_bomb,
    "memory": memory_hog,
    "disk": disk_hog,
}


def wait_for(name: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not os.path.exists(name) and time.monotonic() < deadline:
        time.sleep(0.1)


def grabbing() -> bool:
    """Whether the memory hog gets on."""
    before = int.from_bytes(GRABBED[:], "little")
    wait_for("busy", STALLED_SECONDS)
    return int.from_bytes(GRABBED[:], "little") - before > 8 * MIB


def main() -> None:
    wait_for("go", 300)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        HOGS[sys.argv[1]]()
    # The memory hog says itself when it has all, or is not let; the others need a moment.
    wait_for("busy", 3.0)
    while sys.argv[1] == "memory" and not os.path.exists("busy") and grabbing():
        pass
    grabbed = int.from_bytes(GRABBED[:], "little") // MIB
    Path("busy").write_text(f"{grabbed} MiB\n", encoding="ascii")
    wait_for("stop", 120)
    # What forked away meanwhile goes with the job's group.
    os.killpg(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
