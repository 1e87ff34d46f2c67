"""Chirp for a job with a network of its own: from its loopback to the node's, where the starter is.

The starter listens on 127.0.0.1 of the node (HTCondor's src/condor_starter.V6.1/io_proxy.cpp) and
says so in .chirp.config. A socket belongs to the network namespace that it was made in, wherever
its descriptor is: so init makes one that listens at the same address in the job's, and the wrapper,
which stays in the node's, takes what connects there and connects it with the starter. Both do it
with the user's rights, and reach nothing that a job on the node's network would not.
"""

from __future__ import annotations

import _socket
import posix
import select
from errno import EAGAIN, EINPROGRESS
from sys import byteorder

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from ledge.job.inheritance import Inheritance

_INT_BYTES = 4
_AT_ONCE = 65536
_MOST_CONNECTIONS = 64
_BACKLOG = 64
_LARGEST_CONFIG = 4096
_LOOPBACKS = {b"127.0.0.1": _socket.AF_INET, b"::1": _socket.AF_INET6}
_ENDED = select.POLLHUP | select.POLLERR


def listen(inheritance: Inheritance) -> _socket.socket | None:
    """In the job's network: a socket at the address of .chirp.config; None if that is no use."""
    path = inheritance.variable(b"_CONDOR_CHIRP_CONFIG")
    try:
        fd = posix.open(path or b"", posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    except OSError:
        return None  # the job has no chirp
    try:
        host, port = posix.read(fd, _LARGEST_CONFIG).split()[:2]
        listener = _socket.socket(_LOOPBACKS[host.strip(b"[]")], _socket.SOCK_STREAM)
        listener.bind((host.strip(b"[]").decode(), int(port)))
        listener.listen(_BACKLOG)
    except (OSError, KeyError, ValueError, OverflowError):
        return None  # another address, which may be reached as it is, or none
    finally:
        posix.close(fd)
    return listener


def send_listener(socket: _socket.socket, listener: _socket.socket | None) -> None:
    """Give it to the wrapper. Raises OSError."""
    rights = []
    if listener is not None:
        payload = listener.fileno().to_bytes(_INT_BYTES, byteorder)
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, payload)]
    socket.sendmsg([b"relay\n"], rights)
    if listener is not None:
        listener.close()


class _End:
    """One end of a connection: what was read here and not yet written at the other end."""

    __slots__ = ("socket", "other", "unsent", "exhausted", "told")

    def __init__(self, socket: _socket.socket) -> None:
        self.socket = socket
        self.other = self
        self.unsent = b""
        self.exhausted = False
        self.told = False  # that nothing will come from here

    def pull(self) -> None:
        """Read, if there is room. Raises OSError."""
        if not self.unsent and not self.exhausted:
            self.unsent = self.socket.recv(_AT_ONCE)
            self.exhausted = not self.unsent

    def push(self) -> None:
        """Write at the other end what was read. Raises OSError."""
        if self.unsent:
            self.unsent = self.unsent[self.other.socket.send(self.unsent) :]
        if self.exhausted and not self.unsent and not self.told:
            self.told = True  # once: a second time is ENOTCONN when the other end has ended, too
            self.other.socket.shutdown(_socket.SHUT_WR)

    def is_done(self) -> bool:
        """Whether nothing will come from here any more."""
        return self.exhausted and not self.unsent

    def events(self) -> int:
        """What is worth waiting for at this end."""
        reading = 0 if self.unsent or self.exhausted else select.POLLIN
        return reading | (select.POLLOUT if self.other.unsent else 0)


class Relay:
    """In the wrapper: the connections, part of its loop. Never waits, and raises nothing."""

    __slots__ = ("listener", "address", "poll", "ends")

    def __init__(self, listener: int) -> None:
        """The descriptor of a socket that listens in the job's network. Raises OSError."""
        self.listener = _socket.socket(fileno=listener)
        self.listener.setblocking(False)
        self.address = self.listener.getsockname()
        self.ends: dict[int, _End] = {}

    def descriptors(self) -> tuple[int, ...]:
        """Those to be kept."""
        return (self.listener.fileno(), *self.ends)

    def attach(self, poll: select.poll) -> None:
        """Become part of a loop."""
        self.poll = poll
        poll.register(self.listener.fileno(), select.POLLIN)

    def attend(self, fd: int, events: int) -> None:
        """Do what can be done at a descriptor, if it is one of ours."""
        try:
            if fd == self.listener.fileno():
                self._accept()
            elif fd in self.ends:
                self._move(self.ends[fd], events)
        except OSError as error:
            if error.errno == EAGAIN:
                return
            if fd in self.ends:
                self._close(self.ends[fd])
            else:  # no more descriptors: until one of them is closed
                self.poll.modify(fd, 0)

    def _accept(self) -> None:
        fd, _ = self.listener._accept()  # type: ignore[attr-defined]  # socket.accept() calls it
        socket = _socket.socket(fileno=fd)
        inner, outer = _End(socket), _End(_socket.socket(self.listener.family, socket.type))
        inner.other, outer.other = outer, inner
        for end in (inner, outer):
            end.socket.setblocking(False)
            self.ends[end.socket.fileno()] = end
        if outer.socket.connect_ex(self.address) not in (0, EINPROGRESS):
            self._close(inner)
            return
        self._wait_for(inner)
        if len(self.ends) >= 2 * _MOST_CONNECTIONS:
            self.poll.modify(self.listener.fileno(), 0)

    def _move(self, end: _End, events: int) -> None:
        """Both ways: what can be read is passed on, and what waits here is written."""
        if events & (select.POLLIN | _ENDED):
            end.pull()
        for one in (end, end.other):
            try:
                one.push()
            except BlockingIOError:
                pass  # there is no room at the other end
        over = end.is_done() and end.other.is_done()
        if over or events & select.POLLERR:
            self._close(end)
        else:
            self._wait_for(end)

    def _wait_for(self, end: _End) -> None:
        for one in (end, end.other):
            events = one.events()
            if events:
                self.poll.register(one.socket.fileno(), events)
            else:  # a hang-up would be told over and over
                self._forget(one)

    def _forget(self, end: _End) -> None:
        try:
            self.poll.unregister(end.socket.fileno())
        except KeyError:
            pass  # it was not waited for

    def _close(self, end: _End) -> None:
        for one in (end, end.other):
            self._forget(one)
            del self.ends[one.socket.fileno()]
            one.socket.close()
        self.poll.modify(self.listener.fileno(), select.POLLIN)
