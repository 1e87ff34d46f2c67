"""Which processes are a job's, as psutil sees them.

In a PID namespace nobody escapes: those of the job are those that the namespace's own /proc shows,
and looking at them costs the same however many others the node has. Without that /proc, or without
a PID namespace, the tree below init has them: a process whose parent has gone becomes init's child.
It lacks only what others started on the job's behalf (at(1), a user's systemd, a server that was
there before): for those there are marks, ledge/tracking/membership.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Protocol

import psutil

from ledge.kernel.proc import start_time
from ledge.tracking.membership import Marks, by_environment, by_files, may_be

_INIT_NAME = "ledge_init"
# Processes of the user's that nothing is known of are looked at again each time, up to so many.
_MOST_UNKNOWN = 100


class View(Protocol):
    """The processes of a job; `init` itself is not the job's."""

    init: psutil.Process

    def processes(self) -> list[psutil.Process]:
        """Those of this moment. Raises psutil.Error when init has gone."""


class NamespaceView:
    """All that the job's own /proc shows."""

    def __init__(self, init: psutil.Process) -> None:
        self.init = init

    def processes(self) -> list[psutil.Process]:
        """As in View."""
        return list(_existing([pid for pid in psutil.pids() if pid != self.init.pid]))


class MarkedView:
    """The tree, and what is the job's by other marks."""

    def __init__(self, init: psutil.Process, marks: Marks, starter: int) -> None:
        self.init = init
        self.marks = marks
        self.starter = starter
        self._others: set[int] = set()
        self._escaped: dict[int, int] = {}

    def processes(self) -> list[psutil.Process]:
        """As in View."""
        tree = self.init.children(recursive=True)
        pids = set(psutil.pids())
        self._others &= pids
        known = {process.pid for process in tree}
        unknown = [one for one in _existing(pids - known - self._others) if self._may_be(one)]
        escaped = [one for one in unknown[:_MOST_UNKNOWN] if self._belongs(one, known)]
        return tree + escaped

    def _may_be(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error, OSError):
            if may_be(process.uids().real, started(process), self.marks):
                return True
            self._others.add(process.pid)
        return False

    def _belongs(self, process: psutil.Process, known: set[int]) -> bool:
        """Who is not the job's for good is not asked again."""
        try:
            begun = started(process)
        except OSError:
            return False  # it ends in this moment
        if self._escaped.get(process.pid) == begun:
            return True
        verdict = self._verdict(process, known)
        if verdict:
            self._escaped[process.pid] = begun
        elif verdict is False:
            self._others.add(process.pid)
        return bool(verdict)

    def _verdict(self, process: psutil.Process, known: set[int]) -> bool | None:
        with suppress(psutil.Error, OSError):
            # The wrapper's, the tracker itself, and what condor_ssh_to_job started.
            if any(parent.pid == self.starter for parent in process.parents()):
                return False
            if os.getsid(process.pid) in known:
                return True
            by_marks = by_environment(process.environ(), self.marks)
            if by_marks is not None:
                return by_marks
            files = [process.cwd(), *[file.path for file in process.open_files()]]
            return by_files(files, self.marks) or None
        return None


def view_of(init: int, marks: Marks, starter: int) -> View:
    """The best view that can be had. Raises psutil.Error or OSError when init has gone."""
    process = psutil.Process(init)
    inside = _enter_proc(process)
    return MarkedView(process, marks, starter) if inside is None else NamespaceView(inside)


def _enter_proc(init: psutil.Process) -> psutil.Process | None:
    """Have psutil look at the job's own /proc; init as it is seen there, None if it is not."""
    outside, begun = psutil.PROCFS_PATH, started(init)
    for child in init.children():
        with suppress(psutil.Error, OSError):
            path = f"{outside}/{child.pid}/root/proc"
            # It stays open, and so the /proc stays, whatever becomes of the process.
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            psutil.PROCFS_PATH = f"{outside}/self/fd/{fd}"
            inside = psutil.Process(1)
            if inside.name() == _INIT_NAME and started(inside) == begun:
                return inside
            os.close(fd)
        psutil.PROCFS_PATH = outside
    return None


def started(process: psutil.Process) -> int:
    """When a process was started, in ticks since boot. Raises OSError.

    What psutil says (from 7.1 on) moves with the time of day, when that is set.
    """
    proc = os.open(f"{psutil.PROCFS_PATH}/{process.pid}", os.O_PATH | os.O_CLOEXEC)
    try:
        return start_time(proc)
    finally:
        os.close(proc)


def _existing(pids: Iterable[int]) -> Iterator[psutil.Process]:
    for pid in pids:
        with suppress(psutil.Error):
            yield psutil.Process(pid)
