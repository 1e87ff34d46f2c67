"""Making a job's network and taking it down; the devices themselves are the register."""

from __future__ import annotations

import contextlib
import os
import socket

from ledge.errors import LedgeError
from ledge.kernel.proc import lives, process_start
from ledge.private_network import programs, ruleset
from ledge.private_network.addresses import Addresses, NoneLeft, Ports, device, number_of
from ledge.private_network.programs import ProgramError
from ledge.private_network.readiness import lacking

_MTU = 1500
_IPV6 = "/proc/sys/net/ipv6"


class JobNetwork:
    """The network of the job of one wrapper; `opened` has the job's port by the node's."""

    def __init__(self, number: int, pid: int, pidfd: int, started: int) -> None:
        self.number = number
        self.pid = pid
        self.pidfd = pidfd
        self.started = started
        self.opened: dict[int, int] = {}

    def alias(self) -> str:
        """What the device says of itself, so that it can be known again."""
        opened = [f"{port}:{inner}" for port, inner in self.opened.items()]
        return " ".join(["condor-ledge", str(self.pid), str(self.started), *opened])


class Networks:
    """All networks of the node."""

    def __init__(self, addresses: Addresses, ports: Ports) -> None:
        self.addresses = addresses
        self.ports = ports
        self.jobs: dict[int, JobNetwork] = {}  # by the pidfd of the wrapper
        self.mtu = _MTU
        self.leaving: list[JobNetwork] = []  # of jobs that have just ended
        self._last_number = -1
        self._last_port = -1

    def restore(self) -> list[int]:
        """Take up what is there: the networks of jobs that live; the pidfds of their wrappers.

        Others are removed. One that cannot be is in nobody's way: its number stays taken. Raises
        ProgramError.
        """
        links = programs.links()
        self.mtu = _mtu(links)
        aliases = {str(link["ifname"]): str(link.get("ifalias", "")) for link in links}
        for number in _numbers():
            found = _known_again(number, aliases.get(device(number), ""))
            if found is not None:
                self.jobs[found.pidfd] = found
            else:
                with contextlib.suppress(ProgramError):
                    self._remove(number)
            self._last_number = max(self._last_number, number)
        return list(self.jobs)

    def put_table(self) -> None:
        """The rules, whatever has become of them. Raises ProgramError."""
        opened = self._opened(*self.jobs.values(), *self.leaving)
        programs.nft(ruleset.table(self.addresses, opened))

    def make(self, pid: int, pidfd: int, ports: tuple[int, ...]) -> tuple[JobNetwork, int]:
        """A network for the job of a wrapper, and the namespace. Raises LedgeError, OSError.

        The pidfd is ours from here on.
        """
        try:
            problem = lacking()
            if problem:
                raise ProgramError(problem)
            try:
                job = self._given(pid, pidfd, ports)
            except NoneLeft:
                self.sweep()
                job = self._given(pid, pidfd, ports)
            namespace = self._made(job)
        except (LedgeError, OSError):
            os.close(pidfd)
            raise
        self.jobs[pidfd] = job
        self._last_number = job.number
        return job, namespace

    def end(self, pidfd: int) -> None:
        """A wrapper has ended: what there is for its job may go, with the next sweep().

        The devices go by themselves with the job's last process, and at no cost.
        """
        os.close(pidfd)
        self.leaving.append(self.jobs.pop(pidfd))

    def sweep(self) -> None:
        """Close the ports of jobs that have ended, and remove devices that stay.

        A connection that was left half open keeps a namespace, and its devices, for minutes. Raises
        ProgramError.
        """
        left, self.leaving = self.leaving, []
        ports = [port for job in left for port in job.opened]
        try:
            if ports:
                programs.nft(ruleset.closing(ports))
        finally:
            for number in {job.number for job in left} & _numbers():
                self._remove(number)

    def _made(self, job: JobNetwork) -> int:
        name, address = device(job.number), self.addresses.of(job.number)
        gateway, mtu, ipv6 = self.addresses.gateway, self.mtu, os.path.isdir(_IPV6)
        inside = ruleset.inside(name, os.getpid(), address, gateway, mtu, ipv6)
        namespace = programs.in_new_namespace(inside)
        try:
            programs.ip(ruleset.outside(name, job.alias(), address, gateway, ipv6))
            if job.opened:
                programs.nft(ruleset.opening(self._opened(job)))
        except ProgramError:
            os.close(namespace)  # and with it the devices go
            raise
        return namespace

    def _remove(self, number: int) -> None:
        try:
            programs.ip(ruleset.removal(device(number)))
        except ProgramError:
            if number in _numbers():
                raise

    def _given(self, pid: int, pidfd: int, ports: tuple[int, ...]) -> JobNetwork:
        """An address and ports that nobody has. Raises NoneLeft, OSError if the wrapper is gone."""
        job = JobNetwork(self._free_number(), pid, pidfd, process_start(pid))
        if ports:
            job.opened = dict(zip(self._free_ports(len(ports)), ports))
        return job

    def _free_number(self) -> int:
        taken = _numbers().union([job.number for job in self.leaving])
        return self.addresses.free(taken, self._last_number)

    def _free_ports(self, count: int) -> list[int]:
        taken = {port for job in (*self.jobs.values(), *self.leaving) for port in job.opened}
        found = self.ports.free(taken, self._last_port, count)
        self._last_port = found[-1]
        return found

    def _opened(self, *jobs: JobNetwork) -> dict[int, tuple[str, int]]:
        """Of a job from before the range was made smaller nothing is: it has an address beyond."""
        within = self.addresses.count()
        return {
            port: (self.addresses.of(job.number), inner)
            for job in jobs
            if job.number < within
            for port, inner in job.opened.items()
        }


def _numbers() -> set[int]:
    """Those of the devices that there are."""
    found = [number_of(name) for _, name in socket.if_nameindex()]
    return {number for number in found if number is not None}


def _known_again(number: int, alias: str) -> JobNetwork | None:
    """The network of a job whose wrapper lives; None for what somebody should remove."""
    try:
        _, pid, started, *opened = alias.split()
        pidfd = os.pidfd_open(int(pid))
    except (OSError, ValueError):
        return None
    job = JobNetwork(number, int(pid), pidfd, int(started))
    try:
        job.opened = {int(port): int(inner) for port, _, inner in map(_parted, opened)}
        if process_start(job.pid) == job.started and lives(pidfd):
            return job
    except (OSError, ValueError):
        pass
    os.close(pidfd)
    return None


def _parted(pair: str) -> tuple[str, str, str]:
    return pair.partition(":")


def _mtu(links: list[dict[str, object]]) -> int:
    """That of the node's way out, for what is larger would be cut (the route table of proc(5))."""
    with open("/proc/net/route", encoding="ascii") as file:
        routes = [line.split() for line in file.readlines()[1:]]
    ways_out = [words[0] for words in routes if words[1] == words[7] == "00000000"]
    found = [link["mtu"] for link in links if link["ifname"] in ways_out]
    return min([mtu for mtu in found if isinstance(mtu, int)], default=_MTU)
