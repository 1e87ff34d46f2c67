"""A process forked by the launcher: from root to the job's user, and from there to the job's init.

The order of the steps is the point. With root's rights it touches what the kernel says of the
wrapper, and nothing that the user made or named. Then it has the user's ids and of all capabilities
CAP_SYS_ADMIN alone: it can mount, but reach no file that the user could not. Not being dumpable it
can be neither traced nor read (ptrace(2), "Ptrace access mode checking"). Only then does it take
what the wrapper hands over. The job itself has no capability left.
"""

from __future__ import annotations

import _signal
import _socket
import posix
import select
from collections.abc import Callable
from errno import EINVAL, EPERM, ESTALE
from fcntl import F_DUPFD_CLOEXEC, fcntl
from sys import byteorder

from ledge import report
from ledge.descriptors import close_all_but, hold_standard_streams
from ledge.errors import StepFailed
from ledge.handover import Handover, take
from ledge.inheritance import Inheritance
from ledge.init import NAMESPACE_FLAGS, be_init
from ledge.isolation import prepare_launched
from ledge.kernel import syscalls
from ledge.launcher.likeness import Likeness, read_status
from ledge.launcher.order import Order
from ledge.logical_io import LogicalIo

_ENTERED = (
    syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWCGROUP
)
_SIGNALS = tuple(_signal.valid_signals() - {_signal.SIGKILL, _signal.SIGSTOP})
_MOUNTING = 1 << syscalls.CAP_SYS_ADMIN
CHANGED = "launch the job of a process that has changed its rights since it asked"


class _GiveUpRights:
    """Init's last step: what it had to mount with. The job's process drops the same by itself."""

    __slots__ = ()

    def describe(self) -> str:
        return "give up the last right of root's"

    def execute(self) -> None:
        syscalls.capset(0, 0, 0)


class LaunchedInheritance(Inheritance):
    """A job's inheritance where nothing is inherited by itself: every signal's disposition is set.

    `likeness` is set by whoever makes one.
    """

    altered = _SIGNALS
    likeness: Likeness

    def execute(self) -> None:
        """Become the job, without any right of root's."""
        self.likeness.assume_last()
        syscalls.capset(0, 0, 0)
        super().execute()


def become_init(order: Order, likeness: Likeness) -> None:
    """In the forked process, as root; does not return."""
    report_fd = order.handover
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)  # init waits for its children
    try:
        monitor = _monitor(order)
        logical_io = _enter(order, likeness)
        _drop(order, likeness)
        handover = _take(report_fd, likeness)
        report_fd = _arrange(handover, report_fd, logical_io)
        _make_namespaces(order)
        scratch = _reopened(handover.scratch)
        launch = prepare_launched(order.plan, handover.inheritance, scratch, order.leaf)
        if _is_alone(report_fd):
            launch.discard()  # ledged may have looked before it was there
            return
        if launch.operations:
            launch.operations.append(_GiveUpRights())
        else:  # nothing is left to mount, and nobody has a mount namespace to do it in
            syscalls.capset(0, 0, 0)
        launch.logical_io = logical_io
        be_init(launch, report_fd, monitor)
    except StepFailed as failure:
        report.tell_failed(report_fd, failure.errno, failure.step)
    except (OSError, ValueError) as error:
        errno = getattr(error, "errno", None) or EINVAL
        report.tell_failed(report_fd, errno, f"take over the job from the wrapper ({error})")
    finally:
        posix._exit(1)


def _is_alone(report_fd: int) -> bool:
    """Whether the wrapper has gone."""
    poll = select.poll()
    poll.register(report_fd, 0)  # a hang-up is told unasked
    return bool(poll.poll(0))


def _monitor(order: Order) -> int:
    """The PID of the wrapper as init will see it: 0 from within a PID namespace of its own."""
    if "pid" in order.plan.namespaces:
        return 0
    return int(read_status(order.proc)[b"NSpid"].split()[-1])


def _enter(order: Order, likeness: Likeness) -> LogicalIo:
    """Take the wrapper's place; init's account, opened while it may be.

    No path is opened on the way but the node's own /dev/null and, of its /proc, init's account.
    """
    close_all_but(order.descriptors())
    hold_standard_streams()
    logical_io = LogicalIo()
    _step("take over what the job inherits from the wrapper", likeness.assume)
    root = posix.open("root", posix.O_PATH | posix.O_CLOEXEC, dir_fd=order.proc)
    _step("enter the wrapper's namespaces", syscalls.setns, order.pidfd, _ENTERED)
    # Only now is it known whose they are: a process may have gone into a user namespace since it
    # asked, where it can have any root directory and any /etc for set-uid programs to believe.
    if not likeness.still_holds(order.proc):
        raise StepFailed(CHANGED, EPERM)
    posix.fchdir(root)
    posix.chroot(".")
    posix.close(root)
    return logical_io


def _drop(order: Order, likeness: Likeness) -> None:
    """Become the user, with the one capability that mounting needs."""
    posix.setgroups(likeness.groups)
    posix.setresgid(likeness.gid, likeness.gid, likeness.gid)
    syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
    posix.setresuid(order.uid, order.uid, order.uid)
    syscalls.capset(_MOUNTING, _MOUNTING, 0)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # as it is by now, whatever fs.suid_dumpable says


def _make_namespaces(order: Order) -> None:
    flags = 0
    for name in order.plan.namespaces:
        flags |= NAMESPACE_FLAGS[name] if name not in ("pid", "cgroup") else 0
    _step("create the namespaces of the job", syscalls.unshare, flags)


def _take(handover_fd: int, likeness: Likeness) -> Handover:
    def make(argv: list[bytes], environ: list[bytes]) -> Inheritance:
        inheritance = LaunchedInheritance(argv, environ)
        inheritance.likeness = likeness
        return inheritance

    socket = _socket.socket(fileno=handover_fd)
    try:
        _send_pidfd(socket)
        handover = take(socket, make)
    finally:
        socket.detach()
    ignored = {signal for signal in _SIGNALS if likeness.ignored >> (signal - 1) & 1}
    # Python ignores two signals in the wrapper; of those the wrapper knows what the job's are.
    python = {_signal.SIGPIPE, _signal.SIGXFSZ}
    handover.inheritance.ignored |= ignored - python
    return handover


def _send_pidfd(socket: _socket.socket) -> None:
    """Let the wrapper know init, to send signals to and to wait for."""
    pidfd = posix.pidfd_open(posix.getpid())
    payload = pidfd.to_bytes(4, byteorder)
    socket.sendmsg([b"init"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, payload)])
    posix.close(pidfd)


def _arrange(handover: Handover, report_fd: int, logical_io: LogicalIo) -> int:
    """Put the job's descriptors at their numbers, ours above them; return that of the report."""
    # What can fail comes first: later there is no telling the wrapper.
    posix.fchdir(handover.working_directory)
    above = max(handover.descriptors, default=2) + 1
    report_fd = _move(report_fd, above)
    handover.scratch = _move(handover.scratch, above)
    logical_io.fds = tuple([_move(fd, above) for fd in logical_io.fds])
    moved = {number: _move(fd, above) for number, fd in handover.descriptors.items()}
    close_all_but((report_fd, handover.scratch, *logical_io.fds, *moved.values()))
    for number, fd in moved.items():
        posix.dup2(fd, number)
        posix.close(fd)
    hold_standard_streams()
    return report_fd


def _reopened(directory: int) -> int:
    """The same directory, reached through the mounts of the new mount namespace.

    A descriptor stays with the mounts of its own; the working directory alone goes along
    (unshare(2)). The name is the kernel's, the rights the user's.
    """
    name = posix.readlink(b"/proc/self/fd/%d" % directory)
    fd = posix.open(name, posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    one, other = posix.fstat(directory), posix.fstat(fd)
    if (one.st_dev, one.st_ino) != (other.st_dev, other.st_ino):
        raise StepFailed("find the job's scratch directory again", ESTALE)
    posix.close(directory)
    return fd


def _move(fd: int, above: int) -> int:
    """The same file at a number of `above` or higher; those that are moved need not be closed."""
    return fcntl(fd, F_DUPFD_CLOEXEC, max(above, 3))


def _step(name: str, action: Callable[..., None], *arguments: int) -> None:
    try:
        action(*arguments)
    except OSError as error:
        raise StepFailed(name, error.errno or 0) from None
