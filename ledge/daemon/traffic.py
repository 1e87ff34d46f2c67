"""The jobs' network traffic in ledged's work: counted from the launch on, read with the rest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_network

from ledge.kernel.cgroup2 import Cgroup
from ledge.network.counters import NetworkCounters, NetworkError, NetworkFigures
from ledge.network.figures import add_network
from ledge.usage.usage import Usage

_NOT_FROM_THE_START = "not counted from the job's start on"


class JobTraffic:
    """The traffic of one job's slice; `problem` says why it is not counted, if it is not."""

    def __init__(self, counters: NetworkCounters | None, slice_: Cgroup, problem: str) -> None:
        self._counters = counters
        self._slice = os.fstat(slice_.fd).st_ino
        self._last: NetworkFigures | None = None
        self._before: NetworkFigures | None = None
        self.problem = problem

    def take(self) -> None:
        """Read anew; a slice that has gone leaves all as it was."""
        if self._counters is None:
            return
        self._before = self._last
        try:
            self._last = self._counters.read(self._slice) or self._last
        except NetworkError as error:
            self.problem = str(error)

    def add_to(self, usage: Usage) -> None:
        """Add the figures of the last reading."""
        add_network(usage, self._last, self.problem or _NOT_FROM_THE_START)

    def add_before_to(self, usage: Usage) -> None:
        """Add those of the reading before."""
        add_network(usage, self._before, self.problem or _NOT_FROM_THE_START)


class NodeTraffic:
    """The counters of the node; `problem` says why there are none, if there are none.

    `local_networks` are prefixes in IPv4 and IPv6; commas at their ends do not count.
    """

    def __init__(self, local_networks: Sequence[str]) -> None:
        self.problem = ""
        self._counters: NetworkCounters | None = None
        words = [word for text in local_networks for word in text.split(",") if word]
        try:
            prefixes = [ip_network(word, strict=False) for word in words]
            self._counters = NetworkCounters.open(prefixes)
        except ValueError as error:
            self.problem = f"LEDGE_LOCAL_NETWORKS: {error}; expected prefixes such as 10.0.0.0/8"
        except NetworkError as error:
            self.problem = str(error)

    def begin(self, slice_: Cgroup, identity: int = 0) -> JobTraffic:
        """Count for a job that is about to start; what cannot be counted harms no job.

        `identity` tells jobs apart whose loopback is their own (ledge/network/program.py).
        """
        problem = self.problem
        if self._counters is not None:
            try:
                self._counters.attach(slice_.fd, identity)
            except NetworkError as error:
                problem = str(error)
        return JobTraffic(self._counters, slice_, problem)

    def end(self, slice_: Cgroup) -> None:
        """Count for a slice no more that nobody is in."""
        if self._counters is not None:
            with suppress(NetworkError):  # it goes with the slice at the latest
                self._counters.detach(slice_.fd)

    def of(self, slice_: Cgroup) -> JobTraffic:
        """The traffic of a job that another ledged has begun to count, if it has."""
        return JobTraffic(self._counters, slice_, self.problem)
