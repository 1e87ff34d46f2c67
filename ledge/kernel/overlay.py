"""A tree at another place, with what is changed there kept in the scratch directory (overlayfs).

The kernel goes through both trees with the rights of whoever mounts them together, for as long as
they are (overlayfs.rst, "Permission model"). It needs more than a user's: its directory for work in
progress has mode 0. But root's, or the right to pass by modes alone, would let a user see what is
not his, copied into that directory on the way. So it is mounted from within a user namespace that
has the user's own ids and no others: what rights one has there end at what is the user's.
"""

from __future__ import annotations

import _socket
import posix
from errno import EBUSY, EIO, EPERM
from sys import byteorder

from ledge.kernel import syscalls as sys
from ledge.kernel.mounts import Kept, attach, make_path, open_place, shown

_DIRECTORY = posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC


class Overlay:
    """The tree `source` at `target`, with all that is changed in `path` of the scratch directory.

    Set-uid programs and devices have no rights in there. `user_namespace` is the descriptor of the
    one to mount from; None: from the one that whoever executes it is in. The kernel does not show
    what is mounted below `source`; where something hides what is there, it would be seen.
    """

    __slots__ = ("source", "target", "scratch", "path", "user_namespace")

    def __init__(
        self,
        source: bytes,
        target: bytes,
        scratch: Kept,
        path: bytes,
        user_namespace: int | None = None,
    ) -> None:
        self.source = source
        self.target = target
        self.scratch = scratch
        self.path = path
        self.user_namespace = user_namespace

    def describe(self) -> str:
        return f"mount an overlay over {shown(self.source)} at {shown(self.target)}"

    def execute(self) -> None:
        scratch = posix.open(self.scratch.source, _DIRECTORY)
        if self.user_namespace is None:
            mount = self._mount(scratch)
        else:
            mount = self._mount_from(self.user_namespace, scratch)
        posix.close(scratch)
        attach(mount, self.target)

    def _mount(self, scratch: int) -> int:
        """A descriptor of the mount, attached nowhere yet."""
        lower = open_place(self.source)
        if _has_mounts_below(posix.readlink(b"/proc/self/fd/%d" % lower)):
            raise OSError(EBUSY, "there are mounts below it")
        upper = make_path(scratch, self.path + b"/upper")
        work = make_path(scratch, self.path + b"/work")
        posix.chmod(b"/proc/self/fd/%d" % upper, 0o755)
        overlay = sys.fsopen(b"overlay")
        for key, fd in ((b"lowerdir", lower), (b"upperdir", upper), (b"workdir", work)):
            sys.fsconfig_set(overlay, key, b"/proc/self/fd/%d" % fd)
        if posix.geteuid() != 0:
            sys.fsconfig_set(overlay, b"userxattr")  # trusted ones are for root alone
        sys.fsconfig_create(overlay)
        mount = sys.fsmount(overlay, sys.MOUNT_ATTR_NOSUID | sys.MOUNT_ATTR_NODEV)
        for fd in (lower, upper, work, overlay):
            posix.close(fd)
        return mount

    def _mount_from(self, user_namespace: int, scratch: int) -> int:
        """The same by a process in the user namespace, which then has no right of ours left."""
        ours, its = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        pid = posix.fork()
        if pid == 0:
            errno = EIO
            try:
                posix.fchdir(scratch)
                sys.setns(user_namespace, sys.CLONE_NEWUSER)
                sys.prctl(sys.PR_SET_DUMPABLE, 0)  # whatever fs.suid_dumpable says
                # A descriptor stays with the mounts of its namespace; the working directory alone
                # goes along.
                sys.unshare(sys.CLONE_NEWNS)
                _send(its, self._mount(posix.open(b".", _DIRECTORY)))
                errno = 0
            except OSError as error:
                errno = error.errno or EIO
            finally:
                posix._exit(errno)
        its.close()
        mount = _receive(ours)
        ours.close()
        errno = posix.waitstatus_to_exitcode(posix.waitpid(pid, 0)[1])
        if mount is None:
            errno = errno if errno > 0 else EIO
            raise OSError(errno, posix.strerror(errno))
        return mount


def user_namespace_of(uid: int, gid: int) -> int:
    """As root: a new user namespace with these ids alone, by a descriptor. Raises OSError.

    The user is its owner, and so who comes in with that user's id has all rights in there. With
    root's id those would be root's own everywhere: there is none for root.
    """
    if uid == 0:
        raise PermissionError(EPERM, posix.strerror(EPERM))
    ours, its = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    pid = posix.fork()
    if pid == 0:
        ours.close()
        _be_in_a_user_namespace(uid, gid, its)
    its.close()
    try:
        proc = _receive(ours)
        errno = int(ours.recv(16) or EIO)
        if proc is None or errno:
            raise OSError(errno, posix.strerror(errno))
        return _mapped(proc, uid, gid)
    finally:
        ours.close()
        posix.waitpid(pid, 0)


def _be_in_a_user_namespace(uid: int, gid: int, socket: _socket.socket) -> None:
    """In the child: make one, and stay until it is known to others.

    Its PID is one of a new PID namespace, and nothing in this /proc: it tells its directory there.
    """
    try:
        _send(socket, posix.open("/proc/self", posix.O_PATH | posix.O_CLOEXEC))
        posix.setgroups([])
        posix.setresgid(gid, gid, gid)
        sys.prctl(sys.PR_SET_KEEPCAPS, 1)
        posix.setresuid(uid, uid, uid)
        # Where users may make none, who has this capability still may; it ends with the next step.
        sys.capset(1 << sys.CAP_SYS_ADMIN, 1 << sys.CAP_SYS_ADMIN, 0)
        sys.prctl(sys.PR_SET_DUMPABLE, 0)
        sys.unshare(sys.CLONE_NEWUSER)
        socket.send(b"0")
        socket.recv(1)
    except OSError as error:
        socket.send(b"%d" % (error.errno or EIO))
    finally:
        posix._exit(0)


def _mapped(proc: int, uid: int, gid: int) -> int:
    """The user namespace of a process, after its ids have been mapped to themselves."""
    maps = {"setgroups": b"deny", "uid_map": b"%d %d 1" % (uid, uid)}
    maps["gid_map"] = b"%d %d 1" % (gid, gid)
    try:
        for name, text in maps.items():
            fd = posix.open(name, posix.O_WRONLY | posix.O_CLOEXEC, dir_fd=proc)
            try:
                posix.write(fd, text)
            finally:
                posix.close(fd)
        return posix.open("ns/user", posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=proc)
    finally:
        posix.close(proc)


def _send(socket: _socket.socket, fd: int) -> None:
    payload = fd.to_bytes(4, byteorder)
    socket.sendmsg([b"mount"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, payload)])


def _receive(socket: _socket.socket) -> int | None:
    _, ancillary, _, _ = socket.recvmsg(16, _socket.CMSG_LEN(4), _socket.MSG_CMSG_CLOEXEC)
    return int.from_bytes(ancillary[0][2][:4], byteorder) if ancillary else None


def _has_mounts_below(path: bytes) -> bool:
    """Whether something is mounted below a path, as the kernel writes it (mountinfo of proc(5))."""
    for character in (b"\\", b" ", b"\t", b"\n"):
        path = path.replace(character, b"\\%03o" % ord(character))
    with open("/proc/self/mountinfo", "rb", buffering=0) as file:
        lines = file.readall().splitlines()
    beginning = path.rstrip(b"/") + b"/"
    return any(line.split(b" ", 5)[4].startswith(beginning) for line in lines)
