"""The network counters of all jobs of a node, and their life.

One pair of programs counts for every job: it is loaded once and attached to each job's slice, and
the kernel keeps figures of their own for each slice and direction (BPF_MAP_TYPE_CGROUP_STORAGE).
Attachment and figures belong to the control group: no descriptor and no file holds them, so they
live on when ledged dies, and go when the group is removed, with nothing to clean up. What has to
have a name is the map, one for the node, by which the next ledged finds the figures of the jobs
that run. A job can detach nothing: that takes a descriptor of the program.

What is counted: ledge/network/program.py. What is not, because it passes through no socket of
IPv4 or IPv6 that was made in the group: sockets from elsewhere that a job was given, packet sockets
(they need CAP_NET_RAW), NFS and its like, whose sockets are the kernel's, and the few packets that
the kernel answers for a connection that is over. Traffic before a group is attached is not counted.

Rights: CAP_BPF and CAP_NET_ADMIN to open, CAP_NET_ADMIN to attach, none to read (before Linux 5.19
CAP_BPF, where kernel.unprivileged_bpf_disabled is set). The map's file is root's.

Measured (bench/network, Linux 6.18): attaching 17 µs, a reading 9 µs, 10 ns for a packet. Sending a
datagram of 16 bytes takes 3,540 ns without any program, 97 more with one that does nothing, and 115
more with this one: ratio 0.969, of which no program could make more than 0.974 (without the atomic
additions, which are what it is for, it would be 3 ns less). iperf3's TCP per CPU second is at 0.983
to 0.995 of what it is without, and without twice at 0.996 to 1.013. What was tried instead: links
(BPF_LINK_CREATE) have to be pinned to outlive ledged, which takes 22 µs instead of 7 and leaves
files behind when a group is removed; one pair of programs on the group above all slices, which
looks up bpf_skb_ancestor_cgroup_id in a map, takes 30 ns for a packet, everybody's in that group,
and leaves entries behind.

Sources: Documentation/bpf/map_cgroup_storage.rst, kernel/bpf/{cgroup,local_storage,syscall}.c.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from errno import E2BIG, EINVAL, ENOSYS, EPERM
from typing import NamedTuple

from ledge.errors import LedgeError
from ledge.kernel import bpf
from ledge.kernel.block_devices import file_system
from ledge.network.program import (
    CLASSES,
    IDENTITY_AT,
    MOST_PREFIXES,
    VALUE_BYTES,
    Prefix,
    counting_program,
)

PIN_DIRECTORY = "/sys/fs/bpf/condor-ledge"
_MAP = "network"
_NAMES = {bpf.CGROUP_INET_INGRESS: "ledge_received", bpf.CGROUP_INET_EGRESS: "ledge_sent"}
# struct bpf_cgroup_storage_key: the inode of the group, and the direction.
_KEY = struct.Struct("QI4x")
_VALUE = struct.Struct(f"{2 * len(CLASSES)}Q")
_NOTHING = bytes(VALUE_BYTES)
_IDENTITY = struct.Struct(f"{IDENTITY_AT}xI4x")
_MAP_INFO = bpf.MapInfo(bpf.MAP_TYPE_CGROUP_STORAGE, _KEY.size, VALUE_BYTES)
_MAY_NOT = (
    "bpf(2) is not permitted",
    "ledged needs CAP_BPF and CAP_NET_ADMIN, and no system call filter of a container against bpf",
)


class NetworkError(LedgeError):
    """The kernel or the node does not let us count; `errno` as the kernel had it, or 0."""

    def __init__(self, problem: str, remedy: str = "", errno: int = 0) -> None:
        super().__init__(problem, remedy)
        self.errno = errno


class Counted(NamedTuple):
    """What was counted of one class of traffic in one direction."""

    bytes: int
    packets: int


class Traffic(NamedTuple):
    """What was counted in one direction, by class."""

    loopback: Counted
    local: Counted
    remote: Counted


class NetworkFigures(NamedTuple):
    """What a group has received and sent; None for a direction that is not counted."""

    received: Traffic | None
    sent: Traffic | None


class NetworkCounters:
    """The pinned map, and the programs that count into it. Nothing here waits.

    For one ledged at a time. When the local prefixes change, jobs that are counted already keep
    those that they started with.
    """

    def __init__(self, map_fd: int, ingress: int, egress: int) -> None:
        self._map = map_fd
        self._programs = {bpf.CGROUP_INET_INGRESS: ingress, bpf.CGROUP_INET_EGRESS: egress}

    @classmethod
    def open(
        cls, local_prefixes: Sequence[Prefix], directory: str = PIN_DIRECTORY
    ) -> NetworkCounters:
        """Find the map of an earlier ledged, or make it; load the programs. Raises NetworkError."""
        if len(local_prefixes) > MOST_PREFIXES:
            problem = f"{len(local_prefixes)} local networks are more than {MOST_PREFIXES}"
            raise NetworkError(problem, "join some of them")
        with ExitStack() as opened:
            descriptors = [_open_map(directory)]
            opened.callback(os.close, descriptors[0])
            for ingress in (True, False):
                descriptors.append(_load(ingress, local_prefixes, descriptors[0]))
                opened.callback(os.close, descriptors[-1])
            opened.pop_all()
        return cls(*descriptors)

    def attach(self, cgroup_fd: int, identity: int = 0) -> None:
        """Count for a group from now on; nothing happens if it is counted. Raises NetworkError.

        If only one direction can be counted, that one is, and there are no figures of the other.
        With an identity, groups of another one do not reach it at loopback addresses, nor it them.
        """
        cgroup = os.fstat(cgroup_fd).st_ino
        for direction, program in self._programs.items():
            # A program of an earlier ledged's is another one, and both would count.
            if self._read(cgroup, direction) is None or not self._is_attached(cgroup_fd, direction):
                _attach(cgroup_fd, program, direction)
                if identity:
                    self._identify(cgroup, direction, identity)

    def detach(self, cgroup_fd: int) -> None:
        """Count for a group no more; its figures, which the kernel keeps, are zero then.

        Without CAP_SYS_ADMIN the programs of an earlier ledged stay. Raises NetworkError.
        """
        cgroup = os.fstat(cgroup_fd).st_ino
        for direction, own in self._programs.items():
            try:
                with suppress(FileNotFoundError):
                    bpf.prog_detach(cgroup_fd, own, direction)
                for id_ in bpf.progs_attached(cgroup_fd, direction):
                    _detach_ours(cgroup_fd, id_, direction)
                with suppress(FileNotFoundError):  # it was never counted
                    bpf.map_update_elem(self._map, _KEY.pack(cgroup, direction), _NOTHING)
            except OSError as error:
                if error.errno != EPERM:
                    raise _error("cannot end counting for a group", error) from error

    def _identify(self, cgroup: int, direction: int, identity: int) -> None:
        """At once after the attachment: what has been counted meanwhile is lost."""
        try:
            key, value = _KEY.pack(cgroup, direction), _IDENTITY.pack(identity)
            bpf.map_update_elem(self._map, key, value)
        except OSError as error:
            raise _error("cannot keep the job's loopback apart", error) from error

    def read(self, cgroup: int) -> NetworkFigures | None:
        """The figures of a group by the inode of its directory; None if it is not counted."""
        received = self._read(cgroup, bpf.CGROUP_INET_INGRESS)
        sent = self._read(cgroup, bpf.CGROUP_INET_EGRESS)
        return None if received is None and sent is None else NetworkFigures(received, sent)

    def close(self) -> None:
        """Let go of the descriptors; what is counted is counted on."""
        for fd in (self._map, *self._programs.values()):
            os.close(fd)

    def _is_attached(self, cgroup_fd: int, direction: int) -> bool:
        """Whether anything is attached to the group; where that cannot be asked, it is ours."""
        try:
            return bool(bpf.progs_attached(cgroup_fd, direction))
        except OSError:
            return True

    def _read(self, cgroup: int, direction: int) -> Traffic | None:
        key = _KEY.pack(cgroup, direction)
        try:
            value = bpf.map_lookup_elem(self._map, key, VALUE_BYTES)
        except OSError as error:
            raise _error("cannot read the network counters", error) from error
        if value is None:
            return None
        figures = _VALUE.unpack_from(value)
        return Traffic(Counted(*figures[0:2]), Counted(*figures[2:4]), Counted(*figures[4:6]))


def remove(directory: str = PIN_DIRECTORY) -> None:
    """Forget the map. Running jobs are counted to their end, but no ledged will find the figures.

    Raises NetworkError.
    """
    try:
        with suppress(FileNotFoundError):
            os.unlink(f"{directory}/{_MAP}")
        with suppress(FileNotFoundError):
            os.rmdir(directory)
    except OSError as error:
        raise _error(f"cannot remove {directory}", error) from error


def _open_map(directory: str) -> int:
    """The map as it is pinned, or a new one. Raises NetworkError."""
    path = os.fsencode(f"{directory}/{_MAP}")
    _make_directory(directory)
    found = _pinned_map(path)
    if found is not None:
        return found
    try:
        map_fd = bpf.map_create(_MAP_INFO, "ledge_network")
    except OSError as error:
        if error.errno != EINVAL:
            raise _error("cannot make the map of the network counters", error) from error
        problem = "this kernel has no counters for control groups"
        remedy = "Linux 5.14 or later with CONFIG_CGROUP_BPF"
        raise NetworkError(problem, remedy, error.errno) from error
    try:
        bpf.obj_pin(path, map_fd)
    except OSError as error:
        os.close(map_fd)
        raise _error(f"cannot pin a map in {directory}", error) from error
    return map_fd


def _make_directory(directory: str) -> None:
    """Make it, or see that nobody but us can have put anything there. Raises NetworkError.

    Everybody may make directories in a file system of type bpf (its root has mode 1777).
    """
    _check_file_system(os.path.dirname(directory))
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise _error(f"cannot make {directory}", error) from error
    found = os.lstat(directory)
    private = stat.S_ISDIR(found.st_mode) and not stat.S_IMODE(found.st_mode) & 0o022
    if not private or found.st_uid != os.geteuid():
        raise NetworkError(f"{directory} is not a directory of root's alone", f"rm -r {directory}")


def _check_file_system(directory: str) -> None:
    """Raises NetworkError if maps cannot be pinned there."""
    try:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _error(f"cannot open {directory}", error) from error
    try:
        type_ = file_system(fd).type
    finally:
        os.close(fd)
    if type_ != "bpf":
        problem = f"{directory} is a file system of type {type_}, not bpf"
        raise NetworkError(problem, f"mount -t bpf bpf {directory}")


def _pinned_map(path: bytes) -> int | None:
    """The map of an earlier ledged; None if there is none that we understand.

    Another version's is replaced: there are no figures any more of the jobs that count into it.
    """
    try:
        map_fd = bpf.obj_get(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _error(f"cannot open {os.fsdecode(path)}", error) from error
    if bpf.map_info(map_fd) == _MAP_INFO:
        return map_fd
    os.close(map_fd)
    os.unlink(path)
    return None


def _load(ingress: bool, prefixes: Sequence[Prefix], map_fd: int) -> int:
    """Raises NetworkError."""
    direction = bpf.CGROUP_INET_INGRESS if ingress else bpf.CGROUP_INET_EGRESS
    program = counting_program(ingress, prefixes, map_fd)
    try:
        return bpf.prog_load(bpf.PROG_TYPE_CGROUP_SKB, program, direction, _NAMES[direction])
    except bpf.RejectedProgramError as error:
        problem = f"the kernel refuses the counting program: {error.log[-200:]}"
        raise NetworkError(problem, "Linux 5.14 or later", error.errno or 0) from error
    except OSError as error:
        raise _error("cannot load the counting program", error) from error


def _attach(cgroup_fd: int, program: int, direction: int) -> None:
    """Raises NetworkError."""
    try:
        bpf.prog_attach(cgroup_fd, program, direction)
    except OSError as error:
        problem = "cannot count the network traffic of the job"
        # Without CAP_NET_ADMIN the kernel says EINVAL (bpf_prog_attach, seen on 6.18).
        if error.errno in (EPERM, EINVAL):
            remedy = "ledged needs CAP_NET_ADMIN, and other software that attaches eBPF programs "
            remedy += "to control groups above has to allow further ones (BPF_F_ALLOW_MULTI)"
            raise NetworkError(problem, remedy, error.errno) from error
        if error.errno == E2BIG:
            remedy = "64 eBPF programs count or filter there already"
            raise NetworkError(problem, remedy, E2BIG) from error
        raise _error(problem, error) from error


def _detach_ours(cgroup_fd: int, id_: int, direction: int) -> None:
    """A program of an earlier ledged's. Raises OSError."""
    program = bpf.prog_get_fd_by_id(id_)
    try:
        if bpf.prog_name(program) in _NAMES.values():
            bpf.prog_detach(cgroup_fd, program, direction)
    finally:
        os.close(program)


def _error(problem: str, error: OSError) -> NetworkError:
    errno = error.errno or 0
    if errno == EPERM:
        return NetworkError(f"{problem}: {_MAY_NOT[0]}", _MAY_NOT[1], errno)
    if errno == ENOSYS:
        return NetworkError(f"{problem}: no bpf(2)", "a kernel with CONFIG_BPF_SYSCALL", errno)
    return NetworkError(f"{problem}: {error.strerror}", "", errno)
