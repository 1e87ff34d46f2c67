"""The messages between ledged and the process that makes networks, both of them root's."""

from __future__ import annotations

import marshal
import socket
from collections.abc import Sequence

_LARGEST = 1 << 16
# Tokens of answers that no order asked for.
RULES = 0
REMARK = -1


class Order:
    """Make a network for the job of the wrapper with this PID, of which `pidfd` is the proof."""

    __slots__ = ("token", "pid", "ports", "pidfd")

    def __init__(self, token: int, pid: int, ports: tuple[int, ...], pidfd: int) -> None:
        self.token = token
        self.pid = pid
        self.ports = ports
        self.pidfd = pidfd


class Answer:
    """The network namespace that was made, with its address, or why there is none.

    `opened` has the node's port and the job's of each that is open. With the token RULES, what is
    wrong with whatever will be ordered, empty if nothing is any more; with REMARK, a line to log.
    """

    __slots__ = ("token", "problem", "address", "opened", "namespace")

    def __init__(
        self,
        token: int,
        problem: str,
        address: str = "",
        opened: tuple[tuple[int, int], ...] = (),
        namespace: int | None = None,
    ) -> None:
        self.token = token
        self.problem = problem
        self.address = address
        self.opened = opened
        self.namespace = namespace


def send_order(channel: socket.socket, order: Order) -> None:
    """Raises OSError, BlockingIOError if the other is behind."""
    data = marshal.dumps((order.token, order.pid, order.ports))
    socket.send_fds(channel, [data], [order.pidfd])


def receive_order(channel: socket.socket) -> Order | None:
    """The next order; None when ledged has gone."""
    data, fds = _receive(channel)
    if not data:
        return None
    token, pid, ports = marshal.loads(data)
    return Order(token, pid, ports, fds[0])


def send_answer(channel: socket.socket, answer: Answer) -> None:
    """Raises OSError if ledged has gone."""
    data = marshal.dumps((answer.token, answer.problem, answer.address, answer.opened))
    fds = [] if answer.namespace is None else [answer.namespace]
    socket.send_fds(channel, [data], fds)


def receive_answer(channel: socket.socket) -> Answer | None:
    """The next answer; None when the other has gone. Raises BlockingIOError."""
    data, fds = _receive(channel)
    if not data:
        return None
    token, problem, address, opened = marshal.loads(data)
    return Answer(token, problem, address, opened, fds[0] if fds else None)


def _receive(channel: socket.socket) -> tuple[bytes, Sequence[int]]:
    try:
        data, fds, _, _ = socket.recv_fds(channel, _LARGEST, 1, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return b"", ()
    return data, fds
