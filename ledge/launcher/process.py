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
from collections.abc import Iterable, Mapping
from errno import EINVAL, EPERM, ESTALE
from fcntl import F_DUPFD_CLOEXEC, fcntl
from sys import byteorder

from ledge.errors import StepFailed, take_step
from ledge.job import relay, report
from ledge.job.handover import Handover, take
from ledge.job.inheritance import Inheritance
from ledge.job.init import NAMESPACE_FLAGS, be_init, confine
from ledge.job.isolation import prepare_launched
from ledge.job.logical_io import LogicalIo
from ledge.kernel import syscalls
from ledge.kernel.confinement import SessionKeyring
from ledge.kernel.descriptors import close_all_but, hold_standard_streams
from ledge.kernel.loopback import raise_loopback
from ledge.kernel.proc import read_status
from ledge.launcher.likeness import Likeness
from ledge.launcher.order import Order

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
        logical_io, user_namespace = _enter(order, likeness)
        _drop(order, likeness)
        handover = _take(order, likeness)
        report_fd, user_namespace = _arrange(handover, report_fd, logical_io, user_namespace)
        _make_namespaces(order)
        scratch = _reopened(handover.scratch)
        launch = prepare_launched(
            order.plan, handover.inheritance, scratch, order.execute, order.leaf,
            user_namespace,
        )  # fmt: skip
        if _is_alone(report_fd):
            launch.discard()  # ledged may have looked before it was there
            return
        confine(launch)
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


def _enter(order: Order, likeness: Likeness) -> tuple[LogicalIo, int | None]:
    """Take the wrapper's place; what is opened while it may be: init's account, and the user
    namespace that overlays are mounted from, if there are any.

    No path is opened on the way but the node's own /dev/null and, of its /proc, init's account.
    """
    close_all_but(order.descriptors())
    hold_standard_streams()
    logical_io = LogicalIo()
    user_namespace = None
    if any(mount.kind == "overlay" for mount in order.plan.mounts):
        user_namespace = _user_namespace(order.uid, likeness.gid)
    if order.plan.keyring == "own":
        # As root: what the user has used up of his share of keys must not keep a job from running.
        take_step("make a session keyring for the job", SessionKeyring().execute)
    take_step("take over what the job inherits from the wrapper", likeness.assume)
    root = posix.open("root", posix.O_PATH | posix.O_CLOEXEC, dir_fd=order.proc)
    take_step("enter the wrapper's namespaces", syscalls.setns, order.pidfd, _ENTERED)
    # Only now is it known whose they are: a process may have gone into a user namespace since it
    # asked, where it can have any root directory and any /etc for set-uid programs to believe.
    if not likeness.still_holds(order.proc):
        raise StepFailed(CHANGED, EPERM)
    posix.fchdir(root)
    posix.chroot(".")
    posix.close(root)
    _enter_network(order)
    return logical_io, user_namespace


def _user_namespace(uid: int, gid: int) -> int:
    """The one that overlays are mounted from, with the user's own ids and no others."""
    from ledge.kernel.overlay import user_namespace_of  # few jobs have to pay for it

    try:
        return user_namespace_of(uid, gid)
    except OSError as error:
        raise StepFailed("make a user namespace to mount from", error.errno or 0) from None


def _enter_network(order: Order) -> None:
    """Leave the wrapper's network for the job's own, if it has one; its devices are root's."""
    if order.network is not None:
        take_step("enter the job's network", syscalls.setns, order.network, syscalls.CLONE_NEWNET)
        posix.close(order.network)
    elif order.plan.network != "host":
        take_step("create the job's network namespace", syscalls.unshare, syscalls.CLONE_NEWNET)
        take_step("bring up the loopback of the job's network", raise_loopback)


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
    take_step("create the namespaces of the job", syscalls.unshare, flags)


def _take(order: Order, likeness: Likeness) -> Handover:
    socket = _socket.socket(fileno=order.handover)
    try:
        send_pidfd(socket, b"init", posix.getpid())
        handover = take_over(socket, likeness)
        if order.plan.network != "host":
            relay.send_listener(socket, relay.listen(handover.inheritance))
        return handover
    finally:
        socket.detach()


def take_over(socket: _socket.socket, likeness: Likeness) -> Handover:
    """What the wrapper hands over, to be executed in its likeness. Raises OSError, ValueError."""

    def make(argv: list[bytes], environ: list[bytes]) -> Inheritance:
        inheritance = LaunchedInheritance(argv, environ)
        inheritance.likeness = likeness
        return inheritance

    handover = take(socket, make)
    ignored = {signal for signal in _SIGNALS if likeness.ignored >> (signal - 1) & 1}
    # Python ignores two signals in the wrapper; of those the wrapper knows what the job's are.
    python = {_signal.SIGPIPE, _signal.SIGXFSZ}
    handover.inheritance.ignored |= ignored - python
    return handover


def send_pidfd(socket: _socket.socket, message: bytes, pid: int) -> None:
    """Let the wrapper know a process, to send signals to and to wait for."""
    pidfd = posix.pidfd_open(pid)
    payload = pidfd.to_bytes(4, byteorder)
    socket.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, payload)])
    posix.close(pidfd)


def _arrange(
    handover: Handover, report_fd: int, logical_io: LogicalIo, user_namespace: int | None
) -> tuple[int, int | None]:
    """Put the job's descriptors at their numbers, ours above them; return those of the two."""
    # What can fail comes first: later there is no telling the wrapper.
    posix.fchdir(handover.working_directory)
    held = [report_fd, handover.scratch, *logical_io.fds]
    if user_namespace is not None:
        held.append(user_namespace)
    report_fd, handover.scratch, *held = put_in_place(handover.descriptors, held)
    if user_namespace is not None:
        user_namespace = held.pop()
    logical_io.fds = tuple(held)
    return report_fd, user_namespace


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


def put_in_place(descriptors: Mapping[int, int], held: Iterable[int]) -> list[int]:
    """Have each number of `descriptors` be the file that it says, and close all others but `held`.

    Those are moved out of the way, to numbers above; returned are the new ones. Closed standard
    streams are held (hold_standard_streams). Raises OSError, before a number has changed its file.
    """
    above = max(descriptors, default=2) + 1
    kept = [_moved(fd, above) for fd in held]
    moved = {number: _moved(fd, above) for number, fd in descriptors.items()}
    close_all_but((*kept, *moved.values()))
    for number, fd in moved.items():
        posix.dup2(fd, number)
        posix.close(fd)
    hold_standard_streams()
    return kept


def _moved(fd: int, above: int) -> int:
    return fcntl(fd, F_DUPFD_CLOEXEC, max(above, 3))
