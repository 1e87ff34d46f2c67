"""What ledged orders of the launcher: one message with descriptors, from root to root."""

from __future__ import annotations

import _socket
import marshal
import posix
from sys import byteorder

from ledge.plan import Mount, Plan

_LARGEST_ORDER = 1 << 17
_INT_BYTES = 4
_DESCRIPTORS = 4


class Order:
    """Launch the job of the wrapper with this PID.

    `uid` is what the kernel said of the wrapper when it connected; `leaf` is the name of the job's
    control group. Descriptors: `handover`, the launcher's end of the socket to the wrapper; `pidfd`
    and `proc`, the wrapper itself and its directory in /proc; `scope`, the control group it is in.
    """

    __slots__ = ("pid", "uid", "leaf", "plan", "handover", "pidfd", "proc", "scope")

    def __init__(self, pid: int, uid: int, leaf: bytes, plan: Plan, fds: tuple[int, ...]) -> None:
        self.pid = pid
        self.uid = uid
        self.leaf = leaf
        self.plan = plan
        self.handover, self.pidfd, self.proc, self.scope = fds

    def descriptors(self) -> tuple[int, ...]:
        """All descriptors that belong to the order."""
        return self.handover, self.pidfd, self.proc, self.scope

    def close(self) -> None:
        """Close the descriptors."""
        for fd in self.descriptors():
            posix.close(fd)


def send_order(socket: _socket.socket, order: Order) -> None:
    """Raises OSError, BlockingIOError if the launcher is behind."""
    mounts = [(m.kind, m.target, m.source, m.read_only) for m in order.plan.mounts]
    plan = (order.plan.namespaces, mounts, order.plan.cgroup)
    data = marshal.dumps((order.pid, order.uid, order.leaf, plan))
    payload = b"".join([fd.to_bytes(_INT_BYTES, byteorder) for fd in order.descriptors()])
    socket.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, payload)])


def receive_order(socket: _socket.socket) -> Order | None:
    """The next order, waiting for it; None when ledged has gone."""
    data, ancillary, _, _ = socket.recvmsg(
        _LARGEST_ORDER, _socket.CMSG_LEN(_DESCRIPTORS * _INT_BYTES), _socket.MSG_CMSG_CLOEXEC
    )
    if not data:
        return None
    payload = ancillary[0][2]
    fds = [
        int.from_bytes(payload[start : start + _INT_BYTES], byteorder)
        for start in range(0, len(payload), _INT_BYTES)
    ]
    pid, uid, leaf, (namespaces, mounts, cgroup) = marshal.loads(data)
    plan = Plan()
    plan.namespaces, plan.cgroup = namespaces, cgroup
    plan.mounts = tuple([Mount(*mount) for mount in mounts])
    return Order(pid, uid, leaf, plan, tuple(fds))
