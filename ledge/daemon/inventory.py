"""What there is to be said of the jobs that run: to root (status), and in the log.

By what the kernel says of the wrapper, and so also of jobs that were launched before ledged was
started anew; a job's id alone is known from its reservation, which went with the old ledged.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from ledge.daemon.facts import Facts
from ledge.daemon.peer import PeerError, Process, mount_point, starter_of
from ledge.daemon.reservations import Reservations
from ledge.daemon.running_job import RunningJob
from ledge.daemon.server import Server
from ledge.kernel.cgroup2 import Cgroup
from ledge.kernel.pid_namespaces import pid_within
from ledge.kernel.proc import start_time
from ledge.log import Log

INIT = b"ledge_init"
# By then a job has its first process, unless the node is very busy; many have ended.
_FIRST_SECONDS = 1.0


def described(running: RunningJob, reservations: Reservations) -> dict[str, object] | None:
    """A job that runs, for JSON; None if it ends in this moment."""
    try:
        init = init_of(running)
        status = running.status()
        name, slot = _name_and_slot(running, reservations)
        return {
            "job": name,
            "slot": slot,
            "uid": int(status[b"Uid"].split()[0]),
            "wrapper": running.pid,
            "init": init,
            "slice": os.fsdecode(running.cgroup().rpartition(b"/")[0]),
            "group": os.fsdecode(running.name),
            "started": round(started(running.proc)),
        }
    except (OSError, KeyError, ValueError, PeerError):
        return None


def _name_and_slot(
    running: RunningJob, reservations: Reservations
) -> tuple[str | None, str | None]:
    """The id from the job ad, the slot from the starter's arguments, else from the machine ad."""
    try:
        starter = starter_of(running)
    except PeerError:
        return None, None  # the starter has died
    try:
        reservation = reservations.of(starter)
        facts = (reservation.facts if reservation else Facts()).with_starter(starter)
        return facts.job, facts.slot
    finally:
        starter.close()


def init_of(running: RunningJob) -> int | None:
    """The PID of a job's init: it is in the wrapper's group, where no process of the job's is.

    None while it is made, or when it has gone. Raises OSError.
    """
    scope = Cgroup.open(mount_point() + running.cgroup())
    try:
        members = [int(word) for word in (scope.read("cgroup.procs") or b"").split()]
    finally:
        scope.close()
    for pid in members:
        if pid != running.pid and _is_init(pid):
            return pid
    return None


def _is_init(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read().strip() == INIT
    except OSError:
        return False


def started(proc: int) -> float:
    """When a process was started, in seconds since 1970.

    Raises OSError.
    """
    since_boot = start_time(proc) / os.sysconf("SC_CLK_TCK")
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot


class LaunchLog:
    """Lines of the log that say which PIDs on the node a job has: its log has others.

    The launcher knows init's at once; the job's first process is looked for later, for no launch
    is to wait for that.
    """

    def __init__(self, log: Log, running: Mapping[tuple[int, int], RunningJob]) -> None:
        self._log = log
        self._running = running
        self._ordered: dict[int, tuple[str, RunningJob | None]] = {}  # by the wrapper's PID
        self._later: Callable[[float, Callable[[], None]], object]

    def attach(self, server: Server) -> None:
        """Become part of the server's loop."""
        self._later = server.later

    def ordered(self, name: str, wrapper: int, running: RunningJob | None) -> None:
        """The launcher has an order; `running` is None for a job without a group of its own."""
        self._ordered[wrapper] = name, running

    def taken(self, wrapper: int, init: int) -> None:
        """The launcher has made this process for an order; 0 if it does not say."""
        if wrapper not in self._ordered:
            return  # ledged failed with it after the order was given
        name, running = self._ordered.pop(wrapper)
        its = f", its init is {init}" if init else ""
        self._log.write(f"{name}: launched for the wrapper {wrapper}{its}")
        if running is not None:
            self._later(_FIRST_SECONDS, lambda: self._first(name, running))

    def _first(self, name: str, running: RunningJob) -> None:
        if running not in self._running.values() or not running.lives():
            return
        try:
            init = init_of(running)
            first = first_process(init) if init else None
        except (OSError, ValueError, PeerError):
            return  # it ends in this moment
        if init and first:
            pid, within = first
            text = f"the job's first process is {pid}, and {within} to the job (its init {init})"
            self._log.write(f"{name}: {text}")


def first_process(init: int) -> tuple[int, int] | None:
    """The PIDs, on the node and in the job, of the first process that init has made.

    None if it has gone; what the job has left to init is younger. Raises OSError.
    """
    with open(f"/proc/{init}/task/{init}/children", "rb") as file:
        children = [int(word) for word in file.read().split()]
    if not children:
        return None
    parent, child = Process(init), None
    try:
        child = Process(children[0])
        within = pid_within(child.proc, parent.proc)
        return None if within is None else (child.pid, within)
    finally:
        parent.close()
        if child is not None:
            child.close()
