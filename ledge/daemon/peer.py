"""Who is at the other end of a connection: what the kernel says, and nothing that the peer says.

A PID can be another process's by the time it is looked at. So a peer is a pidfd and a descriptor of
its directory in /proc, and it proves that it lives: each of its messages carries, attested by the
kernel (SCM_CREDENTIALS, unix(7)), the PID that connected, and a number that it can have read only
after the pidfd was opened.
"""

from __future__ import annotations

import _socket
import os
import socket
import struct

from ledge.condor_versions import make_room
from ledge.errors import LedgeError
from ledge.kernel import cgroup2
from ledge.kernel.block_devices import FileSystem, file_system
from ledge.kernel.cgroup2 import Cgroup, own_path
from ledge.kernel.proc import lives, read, read_status
from ledge.launcher.likeness import objection

_UCRED = struct.Struct("iII")
PATH_ONLY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_CLOEXEC
STARTER = b"condor_starter"
# HTCondor's init of a job's PID namespace (USE_PID_NAMESPACES), as comm has it.
PID_NAMESPACE_INIT = b"condor_pid_ns_i"


class PeerError(LedgeError):
    """The peer is not somebody for whom ledged does that."""


class Process:
    """A process as the kernel shows it, known by a pidfd. Close it when done."""

    def __init__(self, pid: int) -> None:
        """Raises OSError if there is none."""
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        try:
            self.proc = os.open(f"/proc/{pid}", PATH_ONLY)
        except OSError:
            os.close(self.pidfd)
            raise

    def lives(self) -> bool:
        """Whether it has not ended."""
        return lives(self.pidfd)

    def status(self) -> dict[bytes, bytes]:
        """The lines of /proc/PID/status. Raises OSError."""
        return read_status(self.proc)

    def parent(self) -> Process:
        """The parent, which was it while this one lived. Raises OSError."""
        parent = Process(int(self.status()[b"PPid"]))
        if int(self.status()[b"PPid"]) == parent.pid and parent.lives():
            return parent
        parent.close()
        raise ProcessLookupError

    def cgroup(self) -> bytes:
        """The path of its control group. Raises OSError."""
        return own_path(read(self.proc, "cgroup") or b"") or b"/"

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self.pidfd)
        os.close(self.proc)


class UserProcess(Process):
    """A process, and whose it was when it was looked at first: `uid`."""

    def __init__(self, pid: int, uid: int | None = None) -> None:
        """Raises OSError if there is none."""
        super().__init__(pid)
        try:
            self.uid = int(self.status()[b"Uid"].split()[0]) if uid is None else uid
        except OSError:
            self.close()
            raise


class Peer(UserProcess):
    """The process that connected; `uid` is what it was then."""

    def wrote(self, pid: int, uid: int) -> bool:
        """Whether a message that the kernel attests so is from it."""
        del uid  # a process may change its user
        return pid == self.pid and self.lives()


class Outsider(Peer):
    """A process that has no PID in our PID namespace: HTCondor may have one of its own.

    All that is known of it is whose it is. There is no way to look at it, and so it is nobody's
    hook or wrapper.
    """

    def __init__(self, uid: int) -> None:
        self.pid, self.uid = 0, uid
        self.pidfd = self.proc = -1

    def wrote(self, pid: int, uid: int) -> bool:
        return (pid, uid) == (self.pid, self.uid)

    def close(self) -> None:
        """Nothing is open."""


def credentials_of(connection: _socket.socket) -> tuple[int, int]:
    """PID, 0 for one that is not in our PID namespace or in one below, and user id of the other end
    as they were when it connected or began to listen (SO_PEERCRED, unix(7)).
    """
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _ = _UCRED.unpack(credentials)
    return pid, uid


def peer_of(connection: socket.socket) -> Peer:
    """Who is at the other end. Raises OSError if it is gone already."""
    pid, uid = credentials_of(connection)
    return Peer(pid, uid) if pid else Outsider(uid)


class Job:
    """What a wrapper is part of: its starter, the job's slice and the scope it stands in."""

    def __init__(self, starter: Process, slice_path: bytes, scope: int, slice_: Cgroup) -> None:
        self.starter = starter
        self.slice_path = slice_path
        self.scope = scope
        self.slice = slice_

    def identity(self) -> tuple[int, int]:
        """What tells the slice from every other that there is or was."""
        status = os.fstat(self.slice.fd)
        return status.st_dev, status.st_ino

    def close(self) -> None:
        """Close the descriptors."""
        self.starter.close()
        self.slice.close()
        os.close(self.scope)


def starter_of(process: Process) -> Process:
    """The starter that started a hook or a wrapper. Raises PeerError, OSError."""
    parent = process.parent()
    if _name(parent) == PID_NAMESPACE_INIT:
        child, parent = parent, parent.parent()
        child.close()
    # A user can give a process any name, but not root as its real user.
    if _name(parent) == STARTER and parent.status()[b"Uid"].split()[0] == b"0":
        return parent
    name = _name(parent).decode("ascii", "replace")
    parent.close()
    raise PeerError(f"a child of {name} and not of HTCondor's starter")


def scratch_file_system(starter: Process) -> FileSystem:
    """What the scratch directory lies on, which is the starter's own directory. Raises OSError."""
    directory = os.open("cwd", PATH_ONLY, dir_fd=starter.proc)
    try:
        with open(os.open("mountinfo", _READ, dir_fd=starter.proc), "rb") as file:
            return file_system(directory, mountinfo=file.read())
    finally:
        os.close(directory)


def working_directory(starter: Process) -> bytes:
    """Where the starter stands: in the job's directory in EXECUTE. Raises OSError."""
    return os.fsencode(os.readlink("cwd", dir_fd=starter.proc))


def job_of(peer: UserProcess, launching: bool = False) -> Job:
    """What a process is the wrapper of. Raises PeerError if it is none, OSError if it has gone.

    `launching`: where HTCondor made one group for the job, it is divided first.

    That is a child of the starter's in a control group whose parent was delegated to the peer's
    user by root: the starter does that with a job's slice, and a job's own processes are one
    level further down, or in a group that was made by its user.
    """
    why = objection(peer.proc, peer.uid)
    if why:
        raise PeerError(why)
    starter = starter_of(peer)
    scope = slice_ = None
    try:
        mounted = mount_point()
        if launching:
            make_room(peer.cgroup(), mounted, peer.uid)
        path = peer.cgroup()
        slice_path = path.rpartition(b"/")[0]
        scope = os.open(mounted + path, PATH_ONLY | os.O_NOFOLLOW)
        slice_ = Cgroup.open(mounted + slice_path)
        _check_delegation(peer, slice_, mounted + slice_path)
        return Job(starter, slice_path, scope, slice_)
    except (OSError, PeerError):
        starter.close()
        if scope is not None:
            os.close(scope)
        if slice_ is not None:
            slice_.close()
        raise


def _check_delegation(peer: UserProcess, slice_: Cgroup, path: bytes) -> None:
    owner = os.fstat(slice_.fd).st_uid
    above = os.stat(b"..", dir_fd=slice_.fd).st_uid
    if b"/../" in path or path.endswith(b"/") or owner != peer.uid or above != 0:
        raise PeerError("a process outside of the slice that HTCondor makes for a job")


def _name(process: Process) -> bytes:
    return read(process.proc, "comm") or b""


def mount_point() -> bytes:
    """Where cgroup2 is mounted. Raises PeerError if it is not."""
    with open("/proc/self/mountinfo", "rb") as file:
        mounted = cgroup2.mount_point(file.read())
    if mounted is None:
        raise PeerError("cgroup2 is not mounted on this node")
    return mounted
