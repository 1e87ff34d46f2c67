"""What ledged says of itself and its jobs, in the caller's own numbers.

ledged tells PIDs as it sees them. Where HTCondor has a PID namespace of its own and ledged is in
it, the node has other numbers for the same processes; those are found in the jobs' slices, by the
NSpid of each process (ledge/kernel/pid_namespaces.py).
"""

from __future__ import annotations

import _socket
import json
import os
from typing import Any

from ledge.client import Connection
from ledge.daemon.peer import Process, credentials_of, mount_point
from ledge.errors import LedgeError
from ledge.kernel.cgroup2 import Cgroup
from ledge.kernel.pid_namespaces import is_in_ours, pid_within

_PATIENCE_SECONDS = 5.0
_MOST_GROUPS = 2000  # of one job's own making, as a glidein has them
_TOLD = ("wrapper", "init")


def status_of(path: str) -> dict[str, Any]:
    """ledged's answer; `logged_wrapper` and `logged_init` of a job are ledged's own numbers for
    them, where the caller has others. Raises LedgeError.
    """
    connection = Connection(path, patience_seconds=_PATIENCE_SECONDS)
    try:
        answer = connection.request(b"status")
        if answer.status != b"done":
            raise LedgeError(answer.body.decode("utf-8", "replace"), "run it as root")
        ledged = _elsewhere(connection.socket)
    finally:
        connection.close()
    status: dict[str, Any] = json.loads(answer.body)
    if ledged is not None:
        status["running"] = _translated(status.get("running") or [], ledged)
        ledged.close()
    return status


def _elsewhere(connected: _socket.socket) -> Process | None:
    """ledged, if it is in a PID namespace below ours; None if it is in ours. Raises LedgeError."""
    pid, _ = credentials_of(connected)
    if pid == 0:
        problem = "ledged is not in this PID namespace, nor in one below it"
        raise LedgeError(problem, "condor_ledge outside of HTCondor's PID namespace knows more")
    try:
        ledged = Process(pid)
    except OSError:
        return None  # it has ended since it answered
    if is_in_ours(ledged.proc):
        ledged.close()
        return None
    return ledged


def _translated(running: list[dict[str, Any]], ledged: Process) -> list[dict[str, Any]]:
    """The jobs with the caller's PIDs; those that have just ended are left out."""
    found = []
    for job in running:
        numbers = _numbers(os.fsencode(job["slice"]), ledged)
        if job["wrapper"] in numbers:
            logged = {f"logged_{name}": job[name] for name in _TOLD}
            found.append({**job, **{name: numbers.get(job[name]) for name in _TOLD}, **logged})
    return found


def _numbers(path: bytes, ledged: Process) -> dict[int, int]:
    """The PIDs here of what is in a job's slice, by those that ledged knows."""
    found = {}
    try:
        slice_ = Cgroup.open(mount_point() + path)
    except OSError:
        return {}
    try:
        for pid in pids_in(slice_):
            within = _within(pid, ledged)
            if within is not None:
                found[within] = pid
    finally:
        slice_.close()
    return found


def _within(pid: int, ledged: Process) -> int | None:
    try:
        process = Process(pid)
    except OSError:
        return None
    try:
        return pid_within(process.proc, ledged.proc)
    except (OSError, KeyError, ValueError, IndexError):
        return None
    finally:
        process.close()


def pids_in(slice_: Cgroup) -> set[int]:
    """Of the group and all below it; groups that go away meanwhile are left out.

    0 is for processes that have no PID here. Raises LedgeError.
    """
    found: set[int] = set()
    directories = [b"."]
    for name in directories:
        try:
            group = Cgroup.open(name, slice_.fd)
        except OSError:
            continue
        try:
            found.update(int(word) for word in (group.read("cgroup.procs") or b"").split())
            with os.scandir(group.fd) as entries:
                children = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        finally:
            group.close()
        directories += [name + b"/" + os.fsencode(child) for child in children]
        if len(directories) > _MOST_GROUPS:
            raise LedgeError(f"a job has made more than {_MOST_GROUPS} control groups")
    return found
