"""condor_master in a PID namespace of its own, where systemd has no PrivatePIDs= (before 257).

    private_pids /usr/sbin/condor_master -f

stands in condor.service instead of condor_master alone. It makes condor_master the first process
of a new PID namespace, in a mount namespace with a /proc to match, tells systemd that this is now
the service's main process (MAINPID=, sd_notify(3)), and ends. So nobody stands between the two:
signals, watchdog, exit status and the end of the whole service are as without.

    systemd ── private_pids ── the parent: makes the namespace, and ends at once, which leaves
                                 └─ the child, PID 1 there, to systemd; it waits until systemd
                                    has taken it for the main process, and becomes condor_master
"""

from __future__ import annotations

import _signal
import _socket
import posix
import select
import sys
from errno import EINVAL
from sys import byteorder

from ledge.errors import LedgeError
from ledge.kernel import syscalls

_PATIENCE_SECONDS = 30.0
_EXEC_FAILED, _NAMESPACE_FAILED = 203, 226  # as systemd names them (systemd.exec(5))
_GO = b"go"
_HIDING = (b"hidepid=", b"gid=")


class ServiceError(LedgeError):
    """This is not the service that it is made for, or systemd does not answer."""


def main() -> None:
    """Start the command; the exit status 0 says that it is systemd's from now on."""
    command = sys.argv[1:]
    if not command:
        _fail("usage: private_pids PROGRAM ARGUMENT ...", 2)
    try:
        _start(command)
    except LedgeError as error:
        _fail(str(error), 1)
    except OSError as error:
        _fail(f"cannot start {command[0]} in a PID namespace: {error.strerror}", _NAMESPACE_FAILED)


def _start(command: list[str]) -> None:
    """Raises ServiceError, OSError; then the child ends as well, for nobody lets it go."""
    notify = _notify_socket()
    # What libc or Python has added to the environment is not the service's (PEP 538).
    environ = _corrected(_read("/proc/self/environ").split(b"\0")[:-1])
    gate, go = posix.pipe()
    pid = _make_child(gate, go, command, environ)
    posix.close(gate)
    notify.send(b"MAINPID=%d" % pid)
    _await_systemd(notify)
    posix.write(go, _GO)


def _notify_socket() -> _socket.socket:
    """Connected to systemd. Raises ServiceError, OSError."""
    address = posix.environ.get(b"NOTIFY_SOCKET", b"")
    if address[:1] not in (b"/", b"@"):
        remedy = "NotifyAccess=main in condor.service"
        raise ServiceError("systemd has given no NOTIFY_SOCKET", remedy)
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    socket.connect(b"\0" + address[1:] if address[:1] == b"@" else address)
    return socket


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _corrected(environ: list[bytes]) -> list[bytes]:
    """With the PID that the service will have, where systemd says whom it means."""
    names = (b"LISTEN_PID", b"WATCHDOG_PID")
    return [
        entry.partition(b"=")[0] + b"=1" if entry.partition(b"=")[0] in names else entry
        for entry in environ
    ]


def _make_child(gate: int, go: int, command: list[str], environ: list[bytes]) -> int:
    """Its PID here. It is nobody's child, and so systemd's. Raises OSError."""
    ours, theirs = posix.pipe()
    parent = posix.fork()
    if parent == 0:
        _make_namespace(theirs, gate, go, command, environ)
    posix.close(theirs)
    posix.waitpid(parent, 0)
    words = posix.read(ours, 64).split()
    posix.close(ours)
    if len(words) == 1:
        return int(words[0])
    errno = int(words[1])
    raise OSError(errno, posix.strerror(errno))


def _make_namespace(
    told: int, gate: int, go: int, command: list[str], environ: list[bytes]
) -> None:
    """In the parent: tell the child's PID, or `errno` and a number. Does not return."""
    try:
        syscalls.unshare(syscalls.CLONE_NEWPID)
        child = posix.fork()
        if child == 0:
            posix.close(go)
            _become(gate, command, environ)
        posix.write(told, b"%d" % child)
    except OSError as error:
        posix.write(told, b"errno %d" % (error.errno or 0))
    finally:
        posix._exit(0)


def _await_systemd(notify: _socket.socket) -> None:
    """Until it has taken all that it was sent (sd_notify_barrier(3)): it closes its end of a pipe.

    Else it could see us end first, and take that for the end of the service.
    """
    ours, theirs = posix.pipe()
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, theirs.to_bytes(4, byteorder))]
    notify.sendmsg([b"BARRIER=1"], rights)
    posix.close(theirs)
    poll = select.poll()
    poll.register(ours, 0)  # a hang-up is told unasked
    if not poll.poll(int(_PATIENCE_SECONDS * 1000)):
        raise ServiceError("systemd does not take the new main process", "NotifyAccess=main")
    posix.close(ours)


def _become(gate: int, command: list[str], environ: list[bytes]) -> None:
    """In the child, as PID 1: wait, mount, and become the command. Does not return."""
    failed = _NAMESPACE_FAILED
    try:
        if posix.read(gate, len(_GO)) != _GO:
            posix._exit(1)  # systemd has not taken us
        posix.setsid()  # the one that systemd made for the service has no number in here
        _mount_proc()
        failed = _EXEC_FAILED
        # systemd ignores SIGPIPE for its services, as Python does, but not this one.
        _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)
        words = [word.encode(errors="surrogateescape") for word in command]
        syscalls.execve(words[0], words, environ)
    except OSError as error:
        _tell(f"cannot start {command[0]} in a PID namespace: {error.strerror}")
    finally:
        posix._exit(failed)


def _mount_proc() -> None:
    """A /proc of this PID namespace in place of the node's, hiding what that hides. Raises OSError.

    What the node mounts appears here, too, but nothing that is mounted here on the node; and it is
    shared on, as all mounts are in systemd's services (systemd.exec(5), PrivateMounts=).
    """
    options = _hiding(_read("/proc/self/mountinfo"))
    syscalls.unshare(syscalls.CLONE_NEWNS)
    for propagation in (syscalls.MS_SLAVE, syscalls.MS_SHARED):
        syscalls.mount(b"none", b"/", None, syscalls.MS_REC | propagation)
    _unmount_proc()
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount(b"proc", b"/proc", b"proc", flags, options)


def _unmount_proc() -> None:
    """With all that is mounted there, below it and over it."""
    try:
        while True:
            syscalls.umount2(b"/proc", syscalls.MNT_DETACH)
    except OSError as error:
        if error.errno != EINVAL:  # nothing is mounted there any more
            raise


def _hiding(mountinfo: bytes) -> bytes:
    """hidepid and gid of the /proc that is seen, the last that is mounted there (proc(5))."""
    found: list[bytes] = []
    for line in mountinfo.splitlines():
        place, _, file_system = line.partition(b" - ")
        if place.split()[4:5] == [b"/proc"]:
            found = [one for one in file_system.split()[-1].split(b",") if one.startswith(_HIDING)]
    return b",".join(found)


def _tell(text: str) -> None:
    posix.write(2, f"private_pids: {text}\n".encode(errors="replace"))


def _fail(text: str, status: int) -> None:
    _tell(text)
    sys.exit(status)
