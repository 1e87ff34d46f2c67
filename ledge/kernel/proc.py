"""Files of /proc/PID (proc(5)), by a descriptor of that directory, and pidfds.

A PID can be another process's by now; what is below such a descriptor never is, nor is a pidfd's.
"""

from __future__ import annotations

import posix
import select

_LARGEST_FILE = 65536


def read_status(proc: int) -> dict[bytes, bytes]:
    """The lines of /proc/PID/status. Raises OSError."""
    status = {}
    for line in (read(proc, "status") or b"").splitlines():
        name, _, value = line.partition(b":")
        status[name] = value.strip()
    if not status:
        raise ProcessLookupError
    return status


def read(proc: int, name: str) -> bytes | None:
    """The text of a file of /proc/PID; None if this kernel has none. Raises OSError."""
    try:
        fd = posix.open(name, posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=proc)
    except FileNotFoundError:
        return None
    try:
        return posix.read(fd, _LARGEST_FILE).rstrip(b"\n\0")
    finally:
        posix.close(fd)


def start_time(proc: int) -> int:
    """When a process was started, in ticks since boot (proc(5), stat). Raises OSError."""
    text = read(proc, "stat")
    if not text:
        raise ProcessLookupError
    return int(text.rpartition(b")")[2].split()[19])


def process_start(pid: int) -> int:
    """The start time of what has that PID now. Raises OSError."""
    proc = posix.open(f"/proc/{pid}", posix.O_PATH | posix.O_CLOEXEC)
    try:
        return start_time(proc)
    finally:
        posix.close(proc)


def lives(pidfd: int) -> bool:
    """Whether the process of a pidfd has not ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return not poll.poll(0)


def read_own(name: str) -> bytes | None:
    """The text of a file of /proc/self."""
    proc = posix.open("/proc/self", posix.O_PATH | posix.O_CLOEXEC)
    try:
        return read(proc, name)
    finally:
        posix.close(proc)


def write_own(name: str, value: bytes) -> None:
    """Write a file of /proc/self. Raises OSError."""
    fd = posix.open(f"/proc/self/{name}", posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        posix.write(fd, value)
    finally:
        posix.close(fd)
