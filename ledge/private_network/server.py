"""The process that makes networks: it waits for orders, for the end of wrappers, for lost rules.

ledged has started it, and it ends with ledged; running jobs keep their networks, and whoever is
started next takes them up.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import time
from errno import ENOBUFS

from ledge.errors import LedgeError
from ledge.kernel import syscalls
from ledge.kernel.proc import lives
from ledge.private_network import programs, ruleset
from ledge.private_network.addresses import Addresses, Ports
from ledge.private_network.networks import Networks
from ledge.private_network.orders import REMARK, RULES, Answer, Order, receive_order, send_answer

_KEPT = (12, 21)  # CAP_NET_ADMIN, CAP_SYS_ADMIN: devices, rules; a namespace (capabilities(7))
# linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
_NETLINK_NETFILTER = 12
_NFNLGRP_NFTABLES = 7
_REMOVALS = (2, 5, 8, 11)  # of a table, a chain, a rule, a set
_HEADER_BYTES = 16
_PAUSE_MILLISECONDS = 30000
_LEAVING_SECONDS = 0.5


def main() -> None:
    """Serve; arguments: the descriptor of the socket to ledged, a lock, addresses, ports."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    # One at a time: the one before may be at its last work.
    lock = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    syscalls.prctl(syscalls.PR_SET_NAME, b"ledge_network\0")
    _harden()
    Server(channel, Networks(Addresses(sys.argv[3]), Ports(sys.argv[4]))).run()


def _harden() -> None:
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        last = int(file.read())
    for capability in set(range(last + 1)) - set(_KEPT):
        syscalls.prctl(syscalls.PR_CAPBSET_DROP, capability)
    kept = sum([1 << capability for capability in _KEPT])
    syscalls.capset(kept, kept, 0)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    # ledged's are blocked in it, and so here; what we start must not inherit that.
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(ignored, signal.SIG_IGN)


class Server:
    """The loop. `problem` is what is wrong with the rules, without which nothing is made."""

    def __init__(self, channel: socket.socket, networks: Networks) -> None:
        self.channel = channel
        self.networks = networks
        self.problem = ""
        self.sweep_at = 0.0
        self.poll = select.poll()
        self.poll.register(channel, select.POLLIN)
        self.changes: socket.socket | None = None
        try:
            self.changes = _changes_of_rules()
            self.poll.register(self.changes, select.POLLIN)
        except OSError:
            pass  # a kernel without nftables, as putting the rules there will say

    def run(self) -> None:
        """Serve until ledged has gone. Without a job, nothing is left then."""
        try:
            for pidfd in self.networks.restore():
                self.poll.register(pidfd, select.POLLIN)
        except LedgeError as error:
            self._say(Answer(REMARK, f"networks of earlier jobs are not known: {error}"))
        self._put_rules()
        while self._served():
            pass
        if not any(map(lives, self.networks.jobs)):
            with contextlib.suppress(LedgeError):  # there is nobody left to tell
                programs.nft(f"delete table inet {ruleset.TABLE}\n")

    def _served(self) -> bool:
        """Do what there is to be done, waiting for it; False when ledged has gone."""
        ready = self.poll.poll(self._pause())
        if self.problem and not ready:
            self._put_rules()
        if self.networks.leaving and time.monotonic() > self.sweep_at:
            self._sweep()
        for fd, _ in ready:
            if self.changes is not None and fd == self.changes.fileno():
                if self._rules_were_removed():
                    self._put_rules()
            elif fd != self.channel.fileno():
                self._end(fd)
            else:
                order = receive_order(self.channel)
                if order is None:
                    return False
                self._make(order)
        return True

    def _put_rules(self) -> None:
        before, self.problem = self.problem, ""
        try:
            self.networks.put_table()
        except LedgeError as error:
            self.problem = f"the rules of nftables cannot be set: {error}"
        self._rules_were_removed()  # by ourselves, to put them there anew
        if self.problem != before:
            self._say(Answer(RULES, self.problem))

    def _make(self, order: Order) -> None:
        if self.problem:
            os.close(order.pidfd)
            self._say(Answer(order.token, self.problem))
            return
        try:
            job, namespace = self.networks.make(order.pid, order.pidfd, order.ports)
        except (LedgeError, OSError) as error:
            self._say(Answer(order.token, str(error)))
            return
        self.poll.register(job.pidfd, select.POLLIN)
        address = self.networks.addresses.of(job.number)
        self._say(Answer(order.token, "", address, tuple(job.opened.items()), namespace))
        os.close(namespace)

    def _end(self, pidfd: int) -> None:
        self.poll.unregister(pidfd)
        if not self.networks.leaving:
            self.sweep_at = time.monotonic() + _LEAVING_SECONDS
        self.networks.end(pidfd)

    def _sweep(self) -> None:
        try:
            self.networks.sweep()
        except LedgeError as error:
            self._say(Answer(REMARK, f"what a job has left is not removed: {error}"))

    def _pause(self) -> float | None:
        """Milliseconds until there is something to be done that nobody tells."""
        if self.networks.leaving:
            return max(0.0, self.sweep_at - time.monotonic()) * 1000 + 1
        return _PAUSE_MILLISECONDS if self.problem else None

    def _say(self, answer: Answer) -> None:
        try:
            send_answer(self.channel, answer)
        except OSError:
            pass  # ledged has gone, as the next reading says

    def _rules_were_removed(self) -> bool:
        """Whether somebody has removed something of our table ("flush ruleset" does)."""
        removed = False
        while self.changes is not None:
            try:
                removed |= _is_removal(self.changes.recv(1 << 16))
            except BlockingIOError:
                return removed
            except OSError as error:
                if error.errno != ENOBUFS:
                    raise
                removed = True  # more was told than the socket holds
        return removed


def _changes_of_rules() -> socket.socket:
    """A socket on which the kernel tells every change of nftables' rules."""
    changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    changes.setblocking(False)
    changes.bind((0, 1 << (_NFNLGRP_NFTABLES - 1)))
    return changes


def _is_removal(data: bytes) -> bool:
    """Whether one of the messages (netlink(7)) is the removal of something of our table."""
    while len(data) >= _HEADER_BYTES:
        length = int.from_bytes(data[:4], sys.byteorder)
        kind = int.from_bytes(data[4:6], sys.byteorder) & 0xFF
        if kind in _REMOVALS and ruleset.TABLE.encode() + b"\0" in data[:length]:
            return True
        data = data[max(_HEADER_BYTES, (length + 3) & ~3) :]
    return False
