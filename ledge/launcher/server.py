"""The launcher's loop: an order from ledged, a fork, the next order.

It waits for nobody: what takes time, or could be made to, happens in the forked process.
"""

from __future__ import annotations

import _signal
import _socket
import gc
import posix
from errno import EINVAL, EPERM
from sys import argv

from ledge.errors import StepFailed
from ledge.job import report
from ledge.job.inheritance import hold_signals
from ledge.kernel import syscalls
from ledge.kernel.pid_namespaces import is_in_ours
from ledge.kernel.proc import lives
from ledge.launcher.likeness import Likeness, objection
from ledge.launcher.order import Entry, Order, receive_order
from ledge.launcher.process import CHANGED, become_init


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
    orders.send(b"%d" % posix.getpid())
    while True:
        order = receive_order(orders)
        if order is None:
            return
        init = 0
        try:
            if isinstance(order, Entry):
                _enter(order, orders)
            else:
                init = _launch(order, orders)
        except StepFailed as failure:
            _tell(order, failure)
        except OSError as error:
            _tell(order, StepFailed("learn what the job is to inherit", error.errno or 0))
        except (ValueError, KeyError):
            _tell(order, StepFailed("understand what the job is to inherit", EINVAL))
        finally:
            order.close()
            _acknowledge(orders, init)


def _acknowledge(orders: _socket.socket, init: int) -> None:
    """Let ledged give the wrapper its end of the socket, now that ours is closed.

    `init` is the PID of the process that was made, 0 if it is not known.

    Whoever closes a socket last closes the descriptors that are on their way in it, and of the
    user's one could be such that closing it takes hours (SO_LINGER, socket(7)).
    """
    try:
        orders.send(b"%d" % init)
    except OSError:
        pass  # ledged has gone, as the next reading says


def _tell(order: Order | Entry, failure: StepFailed) -> None:
    try:
        report.tell_failed(order.handover, failure.errno, failure.step)
    except OSError:
        pass  # the wrapper has gone, and needs no answer


def _launch(order: Order, orders: _socket.socket) -> int:
    """The PID of what becomes init, 0 if it is not known or there is none."""
    likeness = Likeness(order.proc, order.pid)
    if not lives(order.pidfd):
        return 0  # and whoever has the PID now is not concerned
    if objection(order.proc, order.uid) or not likeness.still_holds(order.proc):
        raise StepFailed(CHANGED, EPERM)
    if not is_in_ours(order.proc):
        _launch_in_theirs(order, likeness, orders)
        return 0
    init = _fork(order)
    if init == 0:
        orders.close()
        become_init(order, likeness)
    return init


def _enter(entry: Entry, orders: _socket.socket) -> None:
    """Start a session in a job: what has to be looked at for that, another process looks at."""
    if posix.fork() == 0:
        try:
            orders.close()
            from ledge.entering.session import be_session  # few jobs have to pay for it

            be_session(entry)
        finally:
            posix._exit(1)


def _launch_in_theirs(order: Order, likeness: Likeness, orders: _socket.socket) -> None:
    """With USE_PID_NAMESPACES the wrapper is in a PID namespace of HTCondor's, and init goes there.

    Entering one concerns the children of whoever enters, and who has entered one for them cannot
    make another (EINVAL): so a process enters, its child is there, and that one's child is init.
    """
    if posix.fork():
        return
    try:
        orders.close()
        syscalls.setns(order.pidfd, syscalls.CLONE_NEWPID)
        if posix.fork() == 0 and _fork(order) == 0:
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
