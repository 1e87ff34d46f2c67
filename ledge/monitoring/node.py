"""A node and its jobs as they are now: what ledged says, and what the kernel shows beside it.

ledged tells its last readings, which are up to five seconds old (ledge/daemon/readings.py). What
they have not, limits, processes and pressure, is read here, from the control groups of the job.
"""

from __future__ import annotations

import json
import os
import pwd
import re
from typing import Any

from ledge.client import Connection
from ledge.errors import LedgeError
from ledge.kernel.cgroup2 import Cgroup, mount_point, parse_pressure, parse_single

PATIENCE_SECONDS = 10.0
RESOURCES = ("cpu", "memory", "io")
_MIB = 1 << 20
_OF_THE_MOMENT = {
    "memory.current": "MemoryCurrentBytes",
    "memory.swap.current": "SwapCurrentBytes",
    "pids.current": "ProcessesCount",
}
_AVERAGE = re.compile(rb"(?m)^some avg10=([0-9.]+) ")


class Job:
    """A job that runs. What is not known is None; `memory` and `cpus` are what its slot has.

    `figures` have ledged's names (docs/attributes.md), those of the moment too, `stalled` the
    seconds by resource and "some" or "full", `pressure` the percentage of the last ten seconds by
    resource. `age` is that of ledged's reading, in seconds. The slot's memory is in bytes.
    """

    def __init__(self, told: dict[str, Any], names: list[str]) -> None:
        self.slot, self.job, self.owner = [_shown(told[name]) for name in ("slot", "job", "owner")]
        self.uid: int | None = told["uid"]
        self.slice: str | None = told["slice"]
        self.group = os.fsencode(told["group"])
        self.start: float | None = told["start"]
        self.age: float | None = told["age"]
        self.cpus: float | None = told["cpus"]
        self.memory: float | None = told["memory"] and told["memory"] * _MIB
        self.figures: dict[str, float | None] = dict(zip(names, told["values"]))
        self.stalled: dict[tuple[str, str], float] = {}
        self.pressure: dict[str, float] = {}

    @property
    def user(self) -> str | None:
        """The name of the user that the kernel knows the job by."""
        if self.uid is None:
            return None
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    @property
    def cores(self) -> float | None:
        """The CPUs that the job may use: a limit, or what its slot has."""
        quota = self.figures.get("CpuLimitCores")
        known = [value for value in (quota, self.cpus) if value is not None]
        return min(known) if known else None

    @property
    def memory_limit(self) -> float | None:
        """The limit that the kernel keeps, or what the slot has; bytes."""
        limit = self.figures.get("MemoryLimitBytes")
        return self.memory if limit is None else limit

    @property
    def memory_used(self) -> float | None:
        """What belongs to processes and cannot be dropped: anonymous and shared memory; bytes."""
        parts = [self.figures.get(f"Memory{kind}Bytes") for kind in ("Anon", "Shmem")]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None


class Node:
    """ledged's answer. `counters` has the sums since `started`, `slots` the same of each slot."""

    def __init__(self, told: dict[str, Any], status: dict[str, Any]) -> None:
        self.version: str = told["version"]
        self.started: float = told["started"]
        self.begun: int = told["jobs_begun"]
        self.ended: int = told["jobs_ended"]
        self.left_out: int = told["left_out"]
        self.counters = _known(told["counters"], told["node"])
        self.slots = {
            str(_shown(slot)): _known(told["counters"], sums)
            for slot, sums in told["slots"].items()
        }
        self.jobs = [Job(job, told["figures"]) for job in told["jobs"]]
        self.status = status


def look(socket: str) -> Node:
    """Ask ledged, and read what is of the moment. Raises LedgeError."""
    connection = Connection(socket, PATIENCE_SECONDS)
    try:
        told, status = _asked(connection, b"jobs"), _asked(connection, b"status")
    finally:
        connection.close()
    node = Node(told, status)
    mounted = _mounted()
    for job in node.jobs if mounted else ():
        try:
            _add_now(job, mounted)
        except (OSError, ValueError):
            continue  # it has ended in this moment
    return node


def _asked(connection: Connection, verb: bytes) -> dict[str, Any]:
    answer = connection.request(verb)
    if answer.status != b"done":
        reason = answer.body.decode("utf-8", "replace")
        raise LedgeError(reason, "root may ask, and a ledged of the same release knows the answer")
    return dict(json.loads(answer.body))


def _mounted() -> bytes:
    with open("/proc/self/mountinfo", "rb") as file:
        return mount_point(file.read()) or b""


def _add_now(job: Job, mounted: bytes) -> None:
    """Raises OSError, ValueError."""
    if job.slice is None:
        return
    slice_ = Cgroup.open(mounted + os.fsencode(job.slice))
    try:
        group = Cgroup.open(job.group, slice_.fd)
        try:
            _add_limits(job, slice_)
            _add_moment(job, group)
        finally:
            group.close()
    finally:
        slice_.close()


def _add_limits(job: Job, slice_: Cgroup) -> None:
    job.figures["MemoryLimitBytes"] = parse_single(slice_.read("memory.max"), "memory.max")
    quota, _, period = (slice_.read("cpu.max") or b"max").strip().partition(b" ")
    if quota.isdigit() and period.isdigit():
        job.figures["CpuLimitCores"] = int(quota) / int(period)


def _add_moment(job: Job, group: Cgroup) -> None:
    for file, name in _OF_THE_MOMENT.items():
        job.figures[name] = parse_single(group.read(file), file)
    for resource in RESOURCES:
        text = group.read(f"{resource}.pressure")
        average = _AVERAGE.search(text or b"")
        if average is not None:
            job.pressure[resource] = float(average[1])
        for kind, microseconds in parse_pressure(text, f"{resource}.pressure").items():
            job.stalled[resource, kind.decode()] = microseconds / 1e6


def _known(names: list[str], values: list[float | None]) -> dict[str, float]:
    return {name: value for name, value in zip(names, values) if value is not None}


def _shown(text: str | None) -> str | None:
    """For a terminal: nothing that it would take for a command."""
    return text and "".join([c if c.isprintable() else "?" for c in text])
