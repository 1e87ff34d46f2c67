"""The launcher's loop: an order from ledged, a fork, the next order.

It waits for nobody: what takes time, or could be made to, happens in the forked process.
"""

from __future__ import annotations

import _signal
import _socket
import gc
import posix
import select
from sys import argv

from ledge import report
from ledge.errors import StepFailed
from ledge.inheritance import hold_signals
from ledge.kernel import syscalls
from ledge.launcher.likeness import Likeness
from ledge.launcher.order import Order, receive_order
from ledge.launcher.process import become_init


def main() -> None:
    """Serve ledged at the socket whose descriptor is the argument; does not return."""
    orders = _socket.socket(fileno=int(argv[1]))
    posix.set_inheritable(orders.fileno(), False)
    serve(orders)
    posix._exit(0)


def serve(orders: _socket.socket) -> None:
    """Carry out orders until ledged goes; running jobs do not notice that."""
    hold_signals()
    # Nobody waits for what is forked here: the wrapper hears of its end by itself.
    _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)
    syscalls.prctl(syscalls.PR_SET_NAME, b"ledge_launcher\0")
    posix.umask(0o022)
    posix.chdir("/")
    # A collection would write to every page that is shared with the forked processes.
    gc.freeze()
    gc.disable()
    while True:
        order = receive_order(orders)
        if order is None:
            return
        try:
            _launch(order, orders)
        except StepFailed as failure:
            _tell(order, failure)
        except OSError as error:
            _tell(order, StepFailed("learn what the job is to inherit", error.errno or 0))
        finally:
            order.close()


def _tell(order: Order, failure: StepFailed) -> None:
    try:
        report.tell_failed(order.handover, failure.errno, failure.step)
    except OSError:
        pass  # the wrapper has gone, and needs no answer


def _launch(order: Order, orders: _socket.socket) -> None:
    likeness = Likeness(order.proc, order.pid)
    if not lives(order.pidfd) or likeness.uid != order.uid:
        return  # and whoever has the PID now is not concerned
    if not _in_our_pid_namespace(order):
        _launch_in_theirs(order, likeness, orders)
        return
    if _fork(order) == 0:
        orders.close()
        become_init(order, likeness)


def _launch_in_theirs(order: Order, likeness: Likeness, orders: _socket.socket) -> None:
    """With USE_PID_NAMESPACES the wrapper is in a PID namespace of HTCondor's, and init goes there.

    Entering one concerns the children of whoever enters, so a process does it that has no other
    work.
    """
    if posix.fork():
        return
    try:
        orders.close()
        syscalls.setns(order.pidfd, syscalls.CLONE_NEWPID)
        if _fork(order) == 0:
            become_init(order, likeness)
    except StepFailed as failure:
        _tell(order, failure)
    except OSError as error:
        _tell(order, StepFailed("enter HTCondor's PID namespace of the job", error.errno or 0))
    finally:
        posix._exit(0)


def _fork(order: Order) -> int:
    flags = syscalls.CLONE_INTO_CGROUP
    if "pid" in order.plan.namespaces:
        flags |= syscalls.CLONE_NEWPID
    try:
        return syscalls.clone3(flags, _signal.SIGCHLD, order.scope)
    except OSError as error:
        raise StepFailed("start init in the job's control group", error.errno or 0) from None


def _in_our_pid_namespace(order: Order) -> bool:
    theirs = posix.stat("ns/pid", dir_fd=order.proc)
    ours = posix.stat("/proc/self/ns/pid")
    return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)


def lives(pidfd: int) -> bool:
    """Whether the process of a pidfd has not ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return not poll.poll(0)
