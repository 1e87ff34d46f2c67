"""What ledged orders of the launcher: one message with descriptors, from root to root."""

from __future__ import annotations

import _socket
import marshal
import posix
from sys import byteorder

from ledge.plan.plan import Mount, Plan

_LARGEST_ORDER = 1 << 17
_INT_BYTES = 4
_DESCRIPTORS = 5
_WORDS_OF_ENTRY = 3  # an order to launch has more


class Order:
    """Launch the job of the wrapper with this PID.

    `uid` is what the kernel said of the wrapper when it connected; `leaf` is the name of the job's
    control group, `execute` the starter's working directory. Descriptors: `handover`, the
    launcher's end of the socket to the wrapper; `pidfd` and `proc`, the wrapper itself and its
    directory in /proc; `scope`, the control group it is in; and, if one was made for the job,
    `network`, a network namespace.
    """

    __slots__ = (
        "pid",
        "uid",
        "leaf",
        "execute",
        "plan",
        "handover",
        "pidfd",
        "proc",
        "scope",
        "network",
    )

    def __init__(
        self,
        pid: int,
        uid: int,
        leaf: bytes,
        execute: bytes,
        plan: Plan,
        fds: tuple[int, ...],
    ) -> None:
        self.pid = pid
        self.uid = uid
        self.leaf = leaf
        self.execute = execute
        self.plan = plan
        self.handover, self.pidfd, self.proc, self.scope, *network = fds
        self.network: int | None = network[0] if network else None

    def descriptors(self) -> tuple[int, ...]:
        """All descriptors that belong to the order."""
        network = () if self.network is None else (self.network,)
        return (self.handover, self.pidfd, self.proc, self.scope, *network)

    def close(self) -> None:
        """Close the descriptors."""
        for fd in self.descriptors():
            posix.close(fd)


# What of a plan the launcher carries out, beside the mounts.
_CARRIED_OUT = (
    "namespaces",
    "cgroup",
    "network",
    "hide",
    "abstract_sockets",
    "keyring",
    "no_new_privs",
)


def send_order(socket: _socket.socket, order: Order) -> None:
    """Raises OSError, BlockingIOError if the launcher is behind."""
    mounts = [[getattr(m, name) for name in Mount.__slots__] for m in order.plan.mounts]
    rest = [getattr(order.plan, name) for name in _CARRIED_OUT]
    data = marshal.dumps((order.pid, order.uid, order.leaf, order.execute, mounts, rest))
    _send(socket, data, order.descriptors())


def _send(socket: _socket.socket, data: bytes, fds: tuple[int, ...]) -> None:
    payload = b"".join([fd.to_bytes(_INT_BYTES, byteorder) for fd in fds])
    socket.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, payload)])


class Entry:
    """Start the session of the wrapper with this PID inside a job that runs.

    `uid` is what the kernel said of the wrapper when it connected; `init` the PID of the job's
    init, `slice` the path of its slice, `group` the name of its own group in there. Descriptors:
    `handover`, the launcher's end of the socket to the wrapper; `pidfd`, the wrapper.
    """

    __slots__ = ("pid", "uid", "init", "slice", "group", "handover", "pidfd")

    def __init__(
        self, pid: int, uid: int, job: tuple[int, bytes, bytes], fds: tuple[int, ...]
    ) -> None:
        self.pid = pid
        self.uid = uid
        self.init, self.slice, self.group = job
        self.handover, self.pidfd = fds

    def descriptors(self) -> tuple[int, ...]:
        """All descriptors that belong to the order."""
        return self.handover, self.pidfd

    def close(self) -> None:
        """Close the descriptors."""
        for fd in self.descriptors():
            posix.close(fd)


def send_entry(socket: _socket.socket, entry: Entry) -> None:
    """Raises OSError, BlockingIOError if the launcher is behind."""
    job = entry.init, entry.slice, entry.group
    _send(socket, marshal.dumps((entry.pid, entry.uid, job)), entry.descriptors())


def receive_order(socket: _socket.socket) -> Order | Entry | None:
    """The next order, waiting for it; None when ledged has gone."""
    try:
        data, ancillary, _, _ = socket.recvmsg(
            _LARGEST_ORDER, _socket.CMSG_LEN(_DESCRIPTORS * _INT_BYTES), _socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionError:
        return None  # it was killed, and had not read all that we said
    if not data:
        return None
    payload = ancillary[0][2]
    fds = [
        int.from_bytes(payload[start : start + _INT_BYTES], byteorder)
        for start in range(0, len(payload), _INT_BYTES)
    ]
    words = marshal.loads(data)
    if len(words) == _WORDS_OF_ENTRY:
        entering, visitor, job = words
        return Entry(entering, visitor, job, tuple(fds))
    pid, uid, leaf, execute, mounts, rest = words
    plan = Plan()
    plan.mounts = tuple([Mount(*mount) for mount in mounts])
    for name, value in zip(_CARRIED_OUT, rest):
        setattr(plan, name, value)
    return Order(pid, uid, leaf, execute, plan, tuple(fds))
