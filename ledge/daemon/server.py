"""ledged's connections: one thread, one loop, and a bound on everything that a client can do.

A request is a line (ledge/client.py has the protocol) and a body of the length that the line says.
The verb is looked at before the body is read, so that only who may ask for a thing can make ledged
read much. A client that is slow, silent or wrong loses its connection, and nobody else's.
"""

from __future__ import annotations

import os
import secrets
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import count

from ledge.client import VERSION
from ledge.daemon.peer import Peer, PeerError, peer_of
from ledge.log import Log

LONGEST_LINE = 128
LARGEST_BODY = 1 << 20
MOST_CONNECTIONS = 2048
MOST_OF_A_USER = 512
# Of all bodies together, on their way or being worked on. One user leaves room for others in what
# may wait for a decision (ledge/policy/evaluator.py).
MOST_BUFFERED = 64 << 20
MOST_BUFFERED_OF_A_USER = 16 << 20
PATIENCE_SECONDS = 10.0
_ACCEPTED_AT_ONCE = 64
_SO_PASSRIGHTS = 83  # asm-generic/socket.h; Python has no name for it
_IMPATIENCE_SECONDS = 0.002
_CREDENTIALS = struct.Struct("iII")
_AT_ONCE = 65536


class RequestError(Exception):
    """The client did not keep to the protocol; it is told so and the connection ends."""


class Request:
    """One request: its verb, its body, whose it is; to be answered once."""

    def __init__(self, connection: Connection, verb: str, body: bytes) -> None:
        self.connection = connection
        self.peer = connection.peer
        self.verb = verb
        self.body = body

    def answer(self, status: str, body: bytes = b"", fd: int | None = None) -> None:
        """Answer; a client that has gone meanwhile does not mind."""
        self.connection.answer(status, body, fd)


class Impatience:
    """A time limit on closing what a client has sent: `with` it, no such closing takes long.

    Whoever receives or drops a message closes the descriptors in it, and closing a TCP connection
    can wait for hours (SO_LINGER, socket(7)); a signal ends that. From Linux 6.16 on the kernel
    refuses to send us descriptors at all, and there is nothing to limit.
    """

    def __init__(self, needed: bool) -> None:
        self.needed = needed
        if needed:
            signal.signal(signal.SIGALRM, lambda *_: None)

    def __enter__(self) -> None:
        if self.needed:
            signal.setitimer(signal.ITIMER_REAL, _IMPATIENCE_SECONDS, _IMPATIENCE_SECONDS)

    def __exit__(self, *_: object) -> None:
        if self.needed:
            signal.setitimer(signal.ITIMER_REAL, 0)


class Connection:
    """One client. It reads nothing while a request of its own is being worked on."""

    def __init__(self, server: Server, stream: socket.socket, peer: Peer) -> None:
        self.server = server
        self.stream = stream
        self.peer = peer
        self.nonce = secrets.token_hex(8).encode()
        self.unread = bytearray()
        self.unsent = b"ledged %d %s\n" % (VERSION, self.nonce)
        self.fd: int | None = None
        self.awaited: tuple[str, int] | None = None  # the verb and the length of its body
        self.busy = False
        self.worked_on = 0  # the length of the body of the request that is not answered yet
        self.closed = False
        self.deadline = time.monotonic() + PATIENCE_SECONDS

    def readable(self) -> None:
        """Take what has come. Raises OSError, RequestError, PeerError."""
        space = socket.CMSG_SPACE(_CREDENTIALS.size)
        # No space for descriptors: the kernel closes those that a client sends.
        with self.server.impatience:
            data, ancillary, _, _ = self.stream.recvmsg(_AT_ONCE, space)
        if not data:
            raise ConnectionError
        self._check_sender(ancillary)
        self.server.note_buffered(self.peer.uid, len(data))
        self.unread += data
        self.server.check_buffered(self.peer.uid)
        self._proceed()

    def writable(self) -> None:
        """Send what is left of an answer. Raises OSError."""
        rights = [] if self.fd is None else [_rights(self.fd)]
        sent = self.stream.sendmsg([self.unsent], rights)
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
        self.unsent = self.unsent[sent:]

    def answer(self, status: str, body: bytes, fd: int | None) -> None:
        """Queue an answer and read on; the descriptor is closed when it is sent."""
        self.server.note_buffered(self.peer.uid, -self.worked_on)
        self.worked_on = 0
        if self.closed:
            if fd is not None:
                os.close(fd)
            return
        self.busy = False
        self.deadline = time.monotonic() + PATIENCE_SECONDS
        self.unsent += b"%s %d\n" % (status.encode(), len(body)) + body
        self.fd = fd
        self.server.attend(self)

    def close(self) -> None:
        """Let go of everything."""
        self.closed = True
        self._consume(len(self.unread))
        with self.server.impatience:
            self.stream.close()
        self.peer.close()
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def _check_sender(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                if self.peer.wrote(*_CREDENTIALS.unpack(payload)[:2]):
                    return
                break
        raise RequestError("a message of another process than the one that connected")

    def _proceed(self) -> None:
        if self.awaited is None:
            line, newline, _ = self.unread.partition(b"\n")
            if len(line) > LONGEST_LINE:
                raise RequestError("a line that is too long")
            if not newline:
                return
            self.awaited = self._parse(bytes(line))
            self._consume(len(line) + 1)
        verb, length = self.awaited
        if len(self.unread) > length:
            raise RequestError("more than one request at once")
        if len(self.unread) == length:
            body = bytes(self.unread)
            self.unread.clear()
            self.awaited, self.busy, self.worked_on = None, True, length
            self.server.handle(Request(self, verb, body))

    def _consume(self, length: int) -> None:
        del self.unread[:length]
        self.server.note_buffered(self.peer.uid, -length)

    def _parse(self, line: bytes) -> tuple[str, int]:
        words = line.split(b" ")
        if len(words) != 4:
            raise RequestError("expected VERB VERSION NONCE LENGTH")
        verb, version, nonce, length = words
        if version != b"%d" % VERSION:
            raise RequestError(
                f"version {version.decode('ascii', 'replace')} of the protocol; "
                f"ledged speaks {VERSION}"
            )
        if not secrets.compare_digest(nonce, self.nonce):
            raise RequestError("a nonce of another connection")
        if not length.isdigit() or len(length) > 8 or int(length) > LARGEST_BODY:
            raise RequestError(f"expected a length of at most {LARGEST_BODY}")
        name = verb.decode("ascii", "replace")
        self.server.admit(name, int(length), self.peer)
        return name, int(length)


class Server:
    """The loop. `admit(verb, length, peer)` raises RequestError or PeerError for what is not to
    be read; `handle(request)` works on it, or arranges that it is answered later."""

    def __init__(
        self,
        listener: socket.socket,
        admit: Callable[[str, int, Peer], None],
        handle: Callable[[Request], None],
        log: Log,
    ) -> None:
        self.listener = listener
        self.admit = admit
        self.handle = handle
        self.log = log
        self.selector = selectors.DefaultSelector()
        self.connections: dict[int, Connection] = {}  # in the order of their arrival
        self.buffered: dict[int, int] = {}  # bytes by the user who sent them
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.stopping = False
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)  # accepted ones inherit it
        self.impatience = Impatience(not _refuse_descriptors(listener))
        self.watch(listener.fileno(), self._accept)

    def watch(self, fd: int, action: Callable[[], None]) -> None:
        """Call `action` whenever the descriptor is readable."""
        self.selector.register(fd, selectors.EVENT_READ, action)

    def forget(self, fd: int) -> None:
        """Watch the descriptor no longer."""
        self.selector.unregister(fd)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` once, after a while."""
        heappush(self._timers, (time.monotonic() + seconds, next(self._order), action))

    def note_buffered(self, uid: int, length: int) -> None:
        """Count what a user's clients have sent of requests that are not answered."""
        total = self.buffered.pop(uid, 0) + length
        if total:
            self.buffered[uid] = total

    def check_buffered(self, uid: int) -> None:
        """Raises RequestError if the user's clients, or all together, have sent too much."""
        if self.buffered.get(uid, 0) > MOST_BUFFERED_OF_A_USER:
            raise RequestError("too much at once from all clients of this user; try again")
        if sum(self.buffered.values()) > MOST_BUFFERED:
            raise RequestError("too much at once from all clients together; try again")

    def run(self) -> None:
        """Serve until `stopping` is set."""
        self.later(1.0, self._expire)
        while not self.stopping:
            for key, events in self.selector.select(self._pause()):
                if self._is_stale(key):
                    continue
                if isinstance(key.data, Connection):
                    self._serve(key.data, events)
                else:
                    self._act(key.data)
            for action in self._due():
                self._act(action)

    def _act(self, action: Callable[[], None]) -> None:
        """One job's bad luck must not be every job's; what waits for an answer goes on without."""
        try:
            action()
        except Exception as error:  # noqa: BLE001  # see above
            self.log.write(f"internal error: {type(error).__name__}: {error}")

    def attend(self, connection: Connection) -> None:
        """Wait for what the connection can do next: send the rest, or hear more."""
        events = selectors.EVENT_WRITE if connection.unsent else selectors.EVENT_READ
        if connection.busy and not connection.unsent:
            self._unregister(connection)
            return
        try:
            self.selector.modify(connection.stream, events, connection)
        except KeyError:
            self.selector.register(connection.stream, events, connection)

    def _is_stale(self, key: selectors.SelectorKey) -> bool:
        """Whether what was done in this round has made an end of it."""
        current = self.selector.get_map().get(key.fd)
        return current is None or current.data is not key.data

    def _serve(self, connection: Connection, events: int) -> None:
        if connection.closed:
            return
        try:
            if events & selectors.EVENT_WRITE:
                connection.writable()
            else:
                connection.readable()
            if not connection.closed:
                self.attend(connection)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(connection)
        except (RequestError, PeerError) as error:
            self._dismiss(connection, str(error))

    def _dismiss(self, connection: Connection, reason: str) -> None:
        """Say what was wrong, as far as that can be said at once, and end the connection."""
        peer = connection.peer
        text = f"refused the process {peer.pid} of user {peer.uid}: {reason}"
        self.log.complain(peer.uid, text)
        body = reason.encode("utf-8", "replace")
        try:
            connection.stream.send(connection.unsent + b"error %d\n" % len(body) + body)
        except OSError:
            pass
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        if connection.closed:
            return
        self._unregister(connection)
        del self.connections[connection.stream.fileno()]
        connection.close()

    def _unregister(self, connection: Connection) -> None:
        try:
            self.selector.unregister(connection.stream)
        except KeyError:
            pass

    def _accept(self) -> None:
        """Take in some of those who wait: who floods us must not keep others from connecting."""
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return  # that was all, or there are no descriptors left: next time
            self._take_in(stream)

    def _take_in(self, stream: socket.socket) -> None:
        stream.setblocking(False)
        try:
            connection = Connection(self, stream, peer_of(stream))
        except OSError:
            stream.close()
            return
        if not self._has_room(connection.peer.uid):
            connection.close()
            return
        self.connections[stream.fileno()] = connection
        self.attend(connection)

    def _has_room(self, uid: int) -> bool:
        """Whether the user may have another connection.

        Where there are too many the oldest idle one is closed for it: of the user's, or anybody's
        if the user has none. Root is turned away by nobody.
        """
        own = [c for c in self.connections.values() if c.peer.uid == uid]
        if len(own) < MOST_OF_A_USER and len(self.connections) < MOST_CONNECTIONS:
            return True
        idle = [c for c in own or self.connections.values() if not c.busy]
        if idle:
            self._drop(idle[0])
        return bool(idle) or uid == 0

    def _expire(self) -> None:
        now = time.monotonic()
        late = [c for c in self.connections.values() if not c.busy and c.deadline < now]
        for connection in late:
            self._drop(connection)
        self.later(1.0, self._expire)

    def _pause(self) -> float:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else 1.0

    def _due(self) -> Iterator[Callable[[], None]]:
        while self._timers and self._timers[0][0] <= time.monotonic():
            yield heappop(self._timers)[2]


def _refuse_descriptors(listener: socket.socket) -> bool:
    """Have the kernel refuse descriptors that are sent to us; whether it knows how to."""
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)  # accepted ones inherit it
    except OSError:
        return False
    return True


def _rights(fd: int) -> tuple[int, int, bytes]:
    return socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd)
