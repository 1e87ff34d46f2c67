#!/usr/bin/python3
"""A well-behaved job with a fixed amount of work, done twice: neighbour.py RESOURCE.

First when the file "alone" appears, then when "beside" does; how long it took is in the files
"alone.seconds" and "beside.seconds".
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

MIB = 1 << 20
WORKERS = 2
REPETITIONS = 3
ROUNDS = 50
LOOPS = 20_000
CACHED_BYTES = 400 * MIB
READS = 30_000
READ_BYTES = 4096
# Other places in every run.
PLACES = random.Random(1)
FILES = 160


def compute() -> None:
    """Two processes that start a short child for every piece of their work."""
    children = [os.fork() or worker() for _ in range(WORKERS)]
    for child in children:
        os.waitpid(child, 0)


def worker() -> int:
    for _ in range(ROUNDS):
        child = os.fork()
        if child == 0:
            sum(range(LOOPS))
            os._exit(0)
        os.waitpid(child, 0)
    os._exit(0)


def look_up() -> None:
    """Read here and there in a file which a node with memory to spare has in memory."""
    fd = os.open("input", os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    for _ in range(READS):
        os.pread(fd, READ_BYTES, PLACES.randrange(CACHED_BYTES // READ_BYTES) * READ_BYTES)
    os.close(fd)


def write_safely() -> None:
    """Write small files, each safe on the disk before the next."""
    for number in range(FILES):
        with open(f"output-{number % 4}", "wb") as file:
            file.write(b"x" * (MIB // 4))
            file.flush()
            os.fsync(file.fileno())


def prepare() -> None:
    with open("input", "wb") as file:
        for _ in range(CACHED_BYTES // MIB):
            file.write(b"x" * MIB)
        file.flush()
        os.fsync(file.fileno())


WORK: dict[str, Callable[[], None]] = {
    "processes": compute,
    "memory": look_up,
    "disk": write_safely,
}


def best_seconds(work: Callable[[], None]) -> float:
    """The least of a few runs: what else the machine does comes and goes."""
    seconds = []
    for _ in range(REPETITIONS):
        start = time.monotonic()
        work()
        seconds.append(time.monotonic() - start)
    return min(seconds)


def main() -> None:
    work = WORK[sys.argv[1]]
    if sys.argv[1] == "memory":
        prepare()
    # Once for nothing: an emulator, and a file system, have more to do the first time.
    work()
    Path("warm").write_text("", encoding="ascii")
    for phase in ("alone", "beside"):
        while not os.path.exists(phase):
            time.sleep(0.1)
        Path(f"{phase}.new").write_text(f"{best_seconds(work)}\n", encoding="ascii")
        os.rename(f"{phase}.new", f"{phase}.seconds")


if __name__ == "__main__":
    main()
