"""Talking to ledged from the wrapper and the hooks; the other end is ledge/daemon/server.py.

On connecting, ledged greets with its version and a number of its own choosing for this connection;
a request repeats both, which shows that it comes from a process that lives now:

    ledged:  ledged 1 NONCE
    client:  launch 1 NONCE 0           the verb, version, nonce and the length of a body
    ledged:  done 12                    how it went, the length of a body, and perhaps a descriptor
"""

from __future__ import annotations

import _socket
import posix
from sys import byteorder
from time import monotonic, sleep

from ledge.errors import LedgeError

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from typing import Callable

SOCKET = "/run/condor-ledge/socket"
WITHOUT_DAEMON = "/run/condor-ledge/without_daemon"
VERSION = 1
# ledged may be about to start, with HTCondor or anew after a crash (MASTER_BACKOFF_CONSTANT, 9 s).
PATIENCE_SECONDS = 30.0
_PAUSE_SECONDS = 0.25
_LONGEST_LINE = 256
_LARGEST_ANSWER = 1 << 20
_ONE_DESCRIPTOR = 4
_SO_SNDTIMEO = 21  # asm-generic/socket.h, with a struct timeval


class UnavailableError(LedgeError):
    """ledged does not answer, or not as the protocol says."""


class Answer:
    """What ledged answered: `status` is done, refused, unreserved, run or error.

    `body` is the reason for all but done; `fd` a descriptor that came with it.
    """

    __slots__ = ("status", "body", "fd")

    def __init__(self, status: bytes, body: bytes, fd: int | None) -> None:
        self.status = status
        self.body = body
        self.fd = fd


class Connection:
    """A connection to ledged. Every method raises UnavailableError."""

    __slots__ = ("socket", "nonce", "unread", "fd")

    def __init__(self, path: str = SOCKET, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.unread = b""
        self.fd: int | None = None
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            # Waiting is for the kernel to do: with settimeout() connect(2) does not wait for its
            # turn, and fails (EAGAIN) where somebody has filled the queue of a socket.
            limit = max(1, int(patience_seconds)).to_bytes(8, byteorder) + bytes(8)
            self.socket.setsockopt(_socket.SOL_SOCKET, _SO_SNDTIMEO, limit)
            self.socket.connect(path)
            self.socket.settimeout(patience_seconds)
            self.nonce = self._greeting()
        except OSError as error:
            self.socket.close()
            raise _unavailable(f"{path}: {error.strerror or error}") from None
        except UnavailableError:
            self.socket.close()
            raise

    def _greeting(self) -> bytes:
        words = self._line().split()
        if len(words) != 3 or words[0] != b"ledged":
            raise _unavailable(f"it greets with {words!r:.80}")
        if words[1] != b"%d" % VERSION:
            raise UnavailableError(
                f"ledged speaks version {words[1].decode('ascii', 'replace')} of the protocol, "
                f"this program {VERSION}",
                "restart ledged (condor_restart -daemon ledged): it is of another installation",
            )
        return words[2]

    def request(self, verb: bytes, body: bytes = b"") -> Answer:
        """Ask ledged for something, and wait for the answer."""
        header = b"%s %d %s %d\n" % (verb, VERSION, self.nonce, len(body))
        try:
            self.socket.sendall(header + body)
        except OSError as error:
            raise _unavailable(error.strerror or str(error)) from None
        status, _, length = self._line().partition(b" ")
        if not length.isdigit() or int(length) > _LARGEST_ANSWER:
            raise _unavailable(f"it answers {status!r:.80}")
        while len(self.unread) < int(length):
            self._receive()
        answer, self.unread = self.unread[: int(length)], self.unread[int(length) :]
        fd, self.fd = self.fd, None
        return Answer(status, answer, fd)

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def _line(self) -> bytes:
        while b"\n" not in self.unread:
            if len(self.unread) > _LONGEST_LINE:
                raise _unavailable("it talks without end")
            self._receive()
        line, _, self.unread = self.unread.partition(b"\n")
        return line

    def _receive(self) -> None:
        try:
            data, ancillary, _, _ = self.socket.recvmsg(65536, _socket.CMSG_LEN(_ONE_DESCRIPTOR))
        except OSError as error:
            raise _unavailable(error.strerror or str(error)) from None
        for level, kind, payload in ancillary:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                self.fd = int.from_bytes(payload[:_ONE_DESCRIPTOR], byteorder)
                posix.set_inheritable(self.fd, False)
        if not data:
            raise _unavailable("it closed the connection")
        self.unread += data


def persistently(ask: Callable[[Connection], Answer], patience_seconds: float) -> Answer:
    """Ask on a connection, and on another if ledged dies meanwhile, as long as there is patience.

    Every request can be made again: what ledged did before it died is undone, or found done.
    Raises UnavailableError.
    """
    deadline = monotonic() + patience_seconds
    while True:
        try:
            connection = Connection(patience_seconds=patience_seconds)
            try:
                return ask(connection)
            finally:
                connection.close()
        except UnavailableError:
            if monotonic() > deadline:
                raise
        sleep(_PAUSE_SECONDS)


def choice_without_daemon() -> str:
    """What the admin wants while ledged does not answer: hold, requeue or run.

    ledged leaves the policy's word there. Where it never ran, nobody said that jobs may run
    without it.
    """
    try:
        with open(WITHOUT_DAEMON, "rb", buffering=0) as file:
            return file.read(16).decode("ascii", "replace").strip()
    except OSError:
        return "hold"


def _unavailable(detail: str) -> UnavailableError:
    return UnavailableError(
        f"ledged does not answer ({detail})",
        "its log is LedgeLog in HTCondor's log directory; without_daemon in policy.yaml says what "
        "jobs do meanwhile",
    )
