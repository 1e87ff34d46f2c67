"""How a process is scheduled: policy, nice, I/O priority, CPU affinity. sched(7), ioprio_set(2)."""

from __future__ import annotations

import os

from ledge.kernel import syscalls


class Scheduling:
    """Policy and real-time priority, nice value, I/O priority (None: unknown here), CPUs."""

    __slots__ = ("policy", "priority", "nice", "io_priority", "cpus")

    def __init__(
        self, policy: int, priority: int, nice: int, io_priority: int | None, cpus: set[int]
    ) -> None:
        self.policy = policy
        self.priority = priority
        self.nice = nice
        self.io_priority = io_priority
        self.cpus = cpus

    def assume(self) -> None:
        """Be scheduled like this. Raises OSError."""
        own = of(0)
        if self.cpus != own.cpus:
            os.sched_setaffinity(0, self.cpus)
        if (self.policy, self.priority) != (own.policy, own.priority):
            os.sched_setscheduler(0, self.policy, os.sched_param(self.priority))
        if self.nice != own.nice:
            os.setpriority(os.PRIO_PROCESS, 0, self.nice)
        if self.io_priority is not None and self.io_priority != own.io_priority:
            syscalls.ioprio_set(0, self.io_priority)


def of(pid: int) -> Scheduling:
    """The scheduling of a process, 0 for oneself. Raises OSError."""
    return Scheduling(
        os.sched_getscheduler(pid),
        os.sched_getparam(pid).sched_priority,
        os.getpriority(os.PRIO_PROCESS, pid),
        syscalls.ioprio_get(pid),
        os.sched_getaffinity(pid),
    )
