"""The waiter and the command: from root to the job's user, and from there into the job.

The waiter is born into the job's group. It takes root's session keyring off, becomes the job's user
with CAP_SYS_ADMIN and CAP_SYS_CHROOT alone, is not dumpable from then on, enters the namespaces by
descriptors that root has opened, and gives up the two. What it then forks is the first that the
job can see: it has no right, no descriptor of root's but /dev/null and the socket to the relay,
which execve(2) closes, and until execve(2) can be neither traced nor read.
"""

from __future__ import annotations

import _signal
import _socket
import os
import posix
import select
from errno import EACCES, EINVAL, ENOENT, ENOSYS, ENOTDIR
from fcntl import ioctl
from sys import byteorder
from termios import TIOCSCTTY
from typing import Callable

from ledge.entering.place import Place
from ledge.errors import StepFailed, take_step
from ledge.job import report
from ledge.job.inheritance import Inheritance
from ledge.job.init import end_the_rest
from ledge.kernel import syscalls
from ledge.kernel.confinement import AbstractSockets
from ledge.kernel.descriptors import close_all_but, hold_standard_streams
from ledge.launcher.process import LaunchedInheritance

NAME = b"ledge_enter\0"
_CAP_SYS_CHROOT = 18
_ENTERING = 1 << syscalls.CAP_SYS_ADMIN | 1 << _CAP_SYS_CHROOT
_SIGNALS = tuple(_signal.valid_signals() - {_signal.SIGKILL, _signal.SIGSTOP})


class Command:
    """What is to be executed. `streams` are its standard ones, None for a terminal of the job's.

    `traces`: without a Landlock domain of its own, which would keep it from tracing the job.
    """

    def __init__(self, argv: list[bytes], streams: tuple[int, int, int] | None) -> None:
        self.argv = argv
        self.streams = streams
        self.as_root = False
        self.traces = False


class _RootInheritance(Inheritance):
    """Root's: nothing that the job could have chosen is in it."""

    altered = _SIGNALS


def start(place: Place, command: Command, environ: list[bytes], relay: _socket.socket) -> int:
    """Make the waiter in the job's group; return its PID. Raises OSError.

    All signals are blocked in the caller, and stay so until execve(2). Whatever the caller forks
    from here on may be in HTCondor's PID namespace.
    """
    if place.outer_pids is not None:
        syscalls.setns(place.outer_pids, syscalls.CLONE_NEWPID)
    # Waited for by nobody, it keeps no PID namespace from ending, though the caller is stopped.
    _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)
    pid = syscalls.clone3(syscalls.CLONE_INTO_CGROUP, _signal.SIGCHLD, place.group.fd)
    if pid:
        return pid
    fd = relay.fileno()
    try:
        _be_waiter(place, command, environ, relay)
    except StepFailed as failure:
        report.tell_failed(fd, failure.errno, failure.step)
    except (OSError, ValueError) as error:
        errno = getattr(error, "errno", None) or EINVAL
        report.tell_failed(fd, errno, f"enter the job ({error})")
    finally:
        # Whatever went wrong: a copy of the relay must never run on in here.
        posix._exit(1)


def _be_waiter(
    place: Place, command: Command, environ: list[bytes], relay: _socket.socket
) -> None:
    fd = relay.fileno()
    streams = command.streams or ()
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    posix.setsid()  # the caller's terminal stops the relay alone
    syscalls.prctl(syscalls.PR_SET_NAME, NAME)
    close_all_but((fd, *streams, *place.descriptors()))
    hold_standard_streams()
    leave_keyring()
    if not command.as_root:
        become_user(place)
    enter(place)
    if not command.as_root:
        if not command.traces:
            take_step("keep abstract sockets apart", AbstractSockets(required=False).execute)
        syscalls.capset(0, 0, 0)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # entering a user namespace has changed it
    inheritance = _inheritance(place, command, environ)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    child = posix.fork()
    if child == 0:
        _become_command(place, command, inheritance, relay)
    close_all_but((0, 1, 2, fd, place.init.pidfd))
    report.tell_ended(fd, wait_for(child, place.init.pidfd, fd, _hang_up), child)
    posix._exit(0)


def leave_keyring() -> None:
    """Not to be the holder of root's session keyring as the job's user. Raises StepFailed."""
    try:
        syscalls.join_session_keyring()
    except OSError as error:
        if error.errno != ENOSYS:
            raise StepFailed("make a session keyring", error.errno or 0) from None


def become_user(place: Place) -> None:
    """Become the job's user, with what entering takes."""
    likeness = place.likeness
    take_step("take over what the job has inherited", likeness.assume)
    posix.setgroups(likeness.groups)
    posix.setresgid(likeness.gid, likeness.gid, likeness.gid)
    syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
    posix.setresuid(place.uid, place.uid, place.uid)
    syscalls.capset(_ENTERING, _ENTERING, 0)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


def enter(place: Place) -> None:
    for fd, flag in place.namespaces:
        take_step("enter the job's namespaces", syscalls.setns, fd, flag)
        posix.close(fd)
    posix.fchdir(place.root)
    posix.chroot(".")
    posix.close(place.root)


def _inheritance(place: Place, command: Command, environ: list[bytes]) -> Inheritance:
    if command.as_root:
        return _RootInheritance(command.argv, environ)
    inheritance = LaunchedInheritance(command.argv, environ)
    inheritance.likeness = place.likeness
    inheritance.umask = place.umask
    return inheritance


def _become_command(
    place: Place, command: Command, inheritance: Inheritance, relay: _socket.socket
) -> None:
    """In the child, which is in the job's PID namespace. Does not return."""
    fd = relay.fileno()
    try:
        posix.close(place.init.pidfd)
        posix.setsid()
        streams = command.streams or _terminal(relay)
        for number, stream in enumerate(streams):
            posix.dup2(stream, number)
        _go_to(place.directory, command.as_root)
        close_all_but((0, 1, 2, fd))
        report.tell_exec_failed(fd, _execute(inheritance))
    except StepFailed as failure:
        report.tell_failed(fd, failure.errno, failure.step)
    except OSError as error:
        report.tell_failed(fd, error.errno or 0, f"start the command in the job ({error})")
    finally:
        posix._exit(127)


def _terminal(relay: _socket.socket) -> tuple[int, int, int]:
    """A terminal of the job's own, by its own /dev/ptmx; the other end is sent to the relay."""
    try:
        master, slave = os.openpty()
        ioctl(slave, TIOCSCTTY, 0)
    except OSError as error:
        raise StepFailed("open a terminal in the job", error.errno or 0) from None
    payload = master.to_bytes(4, byteorder)
    relay.sendmsg([b"terminal\n"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, payload)])
    return slave, slave, slave


def _go_to(directory: int, as_root: bool) -> None:
    try:
        posix.fchdir(directory)
    except OSError:
        as_root = True  # the job has shut itself out of where it stands
    if as_root:
        posix.chdir("/")


def _execute(inheritance: Inheritance) -> int:
    """Execute the command, along the PATH as a shell does; the errno if there is none."""
    failed = ENOENT
    for path in _paths(inheritance):
        inheritance.path = path
        try:
            inheritance.execute()
        except OSError as error:
            if error.errno not in (ENOENT, ENOTDIR, EACCES):
                return error.errno or 0
            if error.errno == EACCES:
                failed = EACCES
    return failed


def _paths(inheritance: Inheritance) -> list[bytes]:
    name = inheritance.argv[0]
    if b"/" in name:
        return [name]
    search = inheritance.variable(b"PATH") or os.fsencode(os.defpath)
    return [os.path.join(directory or b".", name) for directory in search.split(b":")]


def wait_for(child: int, init: int, caller: int, gone: Callable[[int], None]) -> int:
    """The wait status of the command, which is not to outlive the job.

    `gone` is called when there is no caller any more at the other end of a socket.
    """
    poll = select.poll()
    pidfd = posix.pidfd_open(child)
    for fd, events in ((pidfd, select.POLLIN), (init, select.POLLIN), (caller, 0)):
        poll.register(fd, events)
    while True:
        ready = [fd for fd, _ in poll.poll()]
        if pidfd in ready:
            return posix.waitpid(child, 0)[1]
        if init in ready:  # without a PID namespace the kernel does not do it
            end_the_rest()
            return int(_signal.SIGKILL)
        poll.unregister(caller)
        gone(child)


def _hang_up(child: int) -> None:
    for send, pid in ((posix.killpg, child), (posix.kill, child)):
        try:
            send(pid, _signal.SIGHUP)
        except OSError:
            pass  # it leads no session yet, has just gone, or is another user's by now (sudo)
