"""The jobs that run already when ledged starts: another ledged launched them, or none did.

Nothing is kept on disk; the kernel still knows all that is needed. A job is a child of HTCondor's
starter in a slice that root delegated to its user (ledge/daemon/peer.py), in which there is a group
of the name that a job with this wrapper has.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ledge.daemon.peer import (
    PID_NAMESPACE_INIT,
    STARTER,
    Job,
    PeerError,
    Process,
    UserProcess,
    job_of,
)
from ledge.daemon.running_job import group_name


def running_jobs() -> Iterator[tuple[UserProcess, Job]]:
    """The wrapper and the job of each; whoever takes them closes both."""
    for pid in _children_of_starters():
        found = _job(pid)
        if found is not None:
            yield found


def _job(pid: int) -> tuple[UserProcess, Job] | None:
    """None for a process that is no job's wrapper, or has gone."""
    try:
        process = UserProcess(pid)
    except (OSError, KeyError, ValueError):
        return None
    try:
        job = job_of(process)
    except (OSError, PeerError):
        process.close()
        return None
    if _has_group(job, process):
        return process, job
    job.close()
    process.close()
    return None


def _has_group(job: Job, process: Process) -> bool:
    try:
        os.stat(group_name(process.pid), dir_fd=job.slice.fd, follow_symlinks=False)
    except OSError:
        return False
    return True


def _children_of_starters() -> list[int]:
    """By their names alone; who they are is looked at later."""
    names: dict[int, bytes] = {}
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        stat = _stat(entry) if entry.isdigit() else b""
        name, parenthesis, rest = stat.partition(b"(")[2].rpartition(b")")
        if parenthesis:
            names[int(entry)] = name
            parents[int(entry)] = int(rest.split()[1])

    def is_starter(pid: int) -> bool:
        if names.get(pid) == PID_NAMESPACE_INIT:
            pid = parents[pid]
        return names.get(pid) == STARTER

    return [pid for pid in names if is_starter(parents[pid])]


def _stat(pid: str) -> bytes:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read()
    except OSError:
        return b""
