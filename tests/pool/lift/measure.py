#!/usr/bin/python3
"""What a job gets of one resource, in figures that it measures itself: measure.py RESOURCE.

Prints a JSON document. Each does more than its limit would let it do in the time.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable

MIB = 1 << 20
MOST_PROCESSES = 200
MOST_CPUS = 64
BUSY_SECONDS = 3.0
TOUCH_BYTES = 80 * MIB
TOUCH_SECONDS = 4.0
IO_BYTES = 4 * MIB
BLOCK_BYTES = 4096
OPERATIONS = 60
SHARE_SECONDS = 8.0
WRITERS = 4

Figures = dict[str, object]


def processes() -> Figures:
    """How many can be started, and how many threads; "refused" says that there was an end."""
    children: list[int] = []
    try:
        while len(children) < MOST_PROCESSES:
            child = os.fork()
            if child == 0:
                signal.pause()
            children.append(child)
        refused = False
    except OSError:
        refused = True
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return {"processes": len(children), "refused": refused, "threads": threads()}


def threads() -> int:
    over = threading.Event()
    started: list[threading.Thread] = []
    try:
        while len(started) < MOST_PROCESSES:
            thread = threading.Thread(target=over.wait)
            thread.start()
            started.append(thread)
    except RuntimeError:
        pass
    over.set()
    for thread in started:
        thread.join()
    return len(started)


def memory() -> Figures:
    """How much can be touched in a while, and what the group had of memory and swap at most."""
    child = os.fork()
    if child == 0:
        touch()
    highest = dict.fromkeys(("memory.current", "memory.swap.current"), 0)
    deadline = time.monotonic() + TOUCH_SECONDS
    over = False
    while not over and time.monotonic() < deadline:
        for name in highest:
            highest[name] = max(highest[name], current(name))
        over = os.waitpid(child, os.WNOHANG)[0] != 0
        time.sleep(0.01)
    if not over:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return {"all touched": over, **highest, "page cache": page_cache()}


def touch() -> None:
    with mmap.mmap(-1, TOUCH_BYTES) as area:
        for offset in range(0, TOUCH_BYTES, 4096):
            area[offset] = 1
        os._exit(0)


def page_cache() -> int:
    """The most that the group has in memory while a file larger than its limit is written."""
    most = 0
    with open("cache", "wb") as file:
        for _ in range(TOUCH_BYTES // MIB):
            file.write(b"x" * MIB)
            most = max(most, current("memory.current"))
    os.unlink("cache")
    return most


def current(name: str) -> int:
    with open(f"/sys/fs/cgroup/{name}", encoding="ascii") as file:
        return int(file.read())


def cpu() -> Figures:
    """The CPU time that two busy processes get, in cores."""
    start = time.monotonic()
    children = [os.fork() or burn(start) for _ in range(2)]
    used = 0.0
    for child in children:
        usage = os.wait4(child, 0)[2]
        used += usage.ru_utime + usage.ru_stime
    return {"cores": used / (time.monotonic() - start)}


def burn(start: float) -> int:
    while time.monotonic() - start < BUSY_SECONDS:
        pass
    os._exit(0)


def cpus() -> Figures:
    """The CPUs on which it may run, having asked for all, and those on which it ran."""
    os.sched_setaffinity(0, range(MOST_CPUS))
    seen = set()
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        with open("/proc/self/stat", encoding="ascii") as file:
            seen.add(int(file.read().rpartition(")")[2].split()[36]))
    return {"allowed": sorted(os.sched_getaffinity(0)), "ran on": sorted(seen)}


@contextmanager
def direct(name: str, size: int) -> Iterator[tuple[int, mmap.mmap]]:
    """A file of some size, past the page cache, and a block of memory for it."""
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)
    os.posix_fallocate(fd, 0, size)
    with mmap.mmap(-1, MIB) as block:
        try:
            yield fd, block
        finally:
            os.close(fd)
            os.unlink(name)


def timed(action: Callable[[], object]) -> float:
    start = time.monotonic()
    action()
    return time.monotonic() - start


def writes() -> Figures:
    """Bytes a second, past the page cache, through it, and from memory."""
    with direct("data", IO_BYTES) as (fd, block):
        past = timed(lambda: [os.pwrite(fd, block, n * MIB) for n in range(IO_BYTES // MIB)])
    through, mapped = timed(write_through), timed(write_mapped)
    rates = {"direct": past, "buffered": through, "mapped": mapped}
    return {name: IO_BYTES / seconds for name, seconds in rates.items()}


def write_through() -> None:
    with open("data", "wb") as file:
        file.write(b"x" * IO_BYTES)
        file.flush()
        os.fsync(file.fileno())
    os.unlink("data")


def write_mapped() -> None:
    with open("data", "w+b") as file:
        file.truncate(IO_BYTES)
        with mmap.mmap(file.fileno(), IO_BYTES) as area:
            area[:] = b"y" * IO_BYTES
            area.flush()
        os.fsync(file.fileno())
    os.unlink("data")


def reads() -> Figures:
    """Bytes a second."""
    with written("data", IO_BYTES) as (fd, block):
        past = timed(lambda: [os.preadv(fd, [block], n * MIB) for n in range(IO_BYTES // MIB)])
        through = timed(lambda: read_through("data"))
    return {"direct": IO_BYTES / past, "buffered": IO_BYTES / through}


def read_through(name: str) -> None:
    fd = os.open(name, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    while os.read(fd, MIB):
        pass
    os.close(fd)


@contextmanager
def written(name: str, size: int) -> Iterator[tuple[int, mmap.mmap]]:
    """The same with something in it: what is only allocated is not read from the disk."""
    with direct(name, size) as (fd, block):
        for n in range(size // MIB):
            os.pwrite(fd, block, n * MIB)
        yield fd, block


def operations() -> Figures:
    """Small writes and reads a second."""
    with written("data", MIB) as (fd, _), mmap.mmap(-1, BLOCK_BYTES) as small:
        places = [n * BLOCK_BYTES for n in range(OPERATIONS)]
        writing = timed(lambda: [os.pwrite(fd, small, place) for place in places])
        reading = timed(lambda: [os.preadv(fd, [small], place) for place in places])
    return {"writes": OPERATIONS / writing, "reads": OPERATIONS / reading}


def share() -> Figures:
    """Bytes written in each second of the clock by a few writers at once."""
    seconds: dict[str, int] = {}
    deadline = time.monotonic() + SHARE_SECONDS

    def write_on(fd: int, block: mmap.mmap) -> None:
        while time.monotonic() < deadline:
            os.pwrite(fd, block, 0)
            second = f"{time.time():.0f}"
            seconds[second] = seconds.get(second, 0) + MIB

    with direct("data", MIB) as (fd, block):
        writers = [threading.Thread(target=write_on, args=(fd, block)) for _ in range(WRITERS)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
    return {"seconds": seconds}


MEASURES: dict[str, Callable[[], Figures]] = {
    "pids": processes,
    "memory": memory,
    "cpu": cpu,
    "cpuset": cpus,
    "io_bytes": lambda: {"reads": reads(), "writes": writes()},
    "io_operations": operations,
    "io_weight": share,
}


if __name__ == "__main__":
    print(json.dumps(MEASURES[sys.argv[1]]()))
