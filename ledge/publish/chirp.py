"""Attributes into the job ad through the starter, by Chirp's delayed updates.

The few requests that are needed are spoken directly: htcondor2.htchirp costs 70 ms of start-up
and waits for ever for a starter that closes in mid-reply. Protocol as htcondor2.htchirp and
HTCondor's src/condor_starter.V6.1/io_proxy_handler.cpp speak it: a line a request, words parted
by blanks, a backslash before a blank or a backslash in a word; the answer is a number on a line,
negative for an error; that of a value is its length, and the value follows.
"""

from __future__ import annotations

import _socket
from time import monotonic

from ledge.classads import literal

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from ledge.classads import Value

PATIENCE_SECONDS = 5.0
_LONGEST_STRING = 480  # io_proxy_handler.cpp refuses an expression of more than 993 bytes
_LONGEST_LINE = 100
_PIECE = 65536
_GET = b"get_job_attr_delayed "
_ADDRESS = b"0123456789abcdefABCDEF.:[]"


class ChirpError(Exception):
    """The starter could not be reached in time, or did not answer as the protocol says."""


class Starter:
    """Where the starter listens: the contents of .chirp.config, "HOST PORT COOKIE"."""

    __slots__ = ("host", "port", "cookie")

    def __init__(self, config: bytes) -> None:
        """Raises ChirpError for contents that are not of that form."""
        words = config.split()
        if len(words) != 3:
            raise ChirpError(f"expected HOST PORT COOKIE in .chirp.config, not {len(words)} words")
        # An address and no name: looking a name up knows no time limit.
        if words[0].strip(_ADDRESS):
            raise ChirpError(f"expected an address in .chirp.config, not {words[0]!r:.80}")
        if not words[1].isdigit() or len(words[1]) > 5 or int(words[1]) > 65535:
            raise ChirpError(f"expected a port in .chirp.config, not {words[1]!r:.80}")
        self.host = words[0].decode("ascii").strip("[]")
        self.port = int(words[1])
        self.cookie = words[2]


def publish(
    starter: Starter,
    expressions: dict[str, str],
    patience_seconds: float = PATIENCE_SECONDS,
    others: tuple[str, ...] = (),
) -> None:
    """Set attributes in the job ad to expressions, all within the patience. Raises ChirpError.

    `others` are undefined afterwards: what the ad has under these names, an earlier run of the job
    or the job itself has put there. The requests are sent together and the answers read after: one
    wait, not one for each.
    """
    requests = [b"cookie " + starter.cookie]
    requests += [_set_job_attr_delayed(name, value) for name, value in expressions.items()]
    questions = [_GET + _word(name) for name in others]
    deadline = monotonic() + patience_seconds
    family = _socket.AF_INET6 if ":" in starter.host else _socket.AF_INET
    try:
        connection = _socket.socket(family, _socket.SOCK_STREAM)
        try:
            connection.settimeout(patience_seconds)
            connection.connect((starter.host, starter.port))
            answers = _Answers(connection, deadline)
            there = _exchange(connection, answers, requests + questions, deadline)
            stale = [name for name in others if _GET + _word(name) in there]
            again = [_set_job_attr_delayed(name, "undefined") for name in stale]
            _exchange(connection, answers, again, deadline)
        finally:
            connection.close()
    except OSError as error:
        raise ChirpError(f"the starter does not answer: {error}") from None


def _exchange(
    connection: _socket.socket, answers: _Answers, requests: list[bytes], deadline: float
) -> list[bytes]:
    """Send requests and read their answers; the questions to which there was a value."""
    unsent = b"".join([request + b"\n" for request in requests])
    while unsent:
        _limit(connection, deadline)
        unsent = unsent[connection.send(unsent) :]
    there = []
    for request in requests:
        answer = answers.line()
        if not request.startswith(_GET):
            if not answer.isdigit():
                what = request.partition(b" ")[0] if request[:4] == b"cook" else request.split()[1]
                raise ChirpError(f"the starter refused {what.decode()}: {answer[:40]!r}")
        elif answer.isdigit():
            answers.skip(int(answer))
            there.append(request)
    return there


class _Answers:
    """What the starter says: a number on a line, after which its bytes may follow."""

    __slots__ = ("connection", "deadline", "unread")

    def __init__(self, connection: _socket.socket, deadline: float) -> None:
        self.connection = connection
        self.deadline = deadline
        self.unread = b""

    def line(self) -> bytes:
        """The next line."""
        while b"\n" not in self.unread:
            if len(self.unread) > _LONGEST_LINE:
                raise ChirpError("the starter talks without end")
            self._read()
        line, _, self.unread = self.unread.partition(b"\n")
        return line.strip()

    def skip(self, length: int) -> None:
        """Pass over the bytes of a value, which may be one that a job has set."""
        while len(self.unread) < length:
            length -= len(self.unread)
            self.unread = b""
            self._read()
        self.unread = self.unread[length:]

    def _read(self) -> None:
        _limit(self.connection, self.deadline)
        received = self.connection.recv(_PIECE)
        if not received:
            raise ChirpError("the starter closed the connection in mid-answer")
        self.unread += received


def _limit(connection: _socket.socket, deadline: float) -> None:
    left = deadline - monotonic()
    if left <= 0:
        raise ChirpError("the starter does not answer in time")
    connection.settimeout(left)


def expression(value: Value) -> str:
    """The ClassAd literal of a value, cut to a length that the starter takes."""
    if isinstance(value, str):
        text = value.encode("utf-8", "replace")
        if len(text) > _LONGEST_STRING:
            whole, entries, _ = text[:_LONGEST_STRING].rpartition(b"; ")
            text = whole + b"; ..." if entries else text[:_LONGEST_STRING]
        value = text.decode("utf-8", "ignore")
    return literal(value)


def _set_job_attr_delayed(name: str, value: str) -> bytes:
    return b"set_job_attr_delayed " + _word(name) + b" " + _word(value)


def _word(text: str) -> bytes:
    escaped = text.replace("\\", "\\\\").replace(" ", "\\ ")
    return escaped.encode("utf-8", "replace")
