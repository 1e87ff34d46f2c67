"""Attributes into the job ad through the starter, by Chirp's delayed updates.

The few requests that are needed are spoken directly: htcondor2.htchirp costs 70 ms of start-up
and waits for ever for a starter that closes in mid-reply. Protocol as htcondor2.htchirp and
HTCondor's src/condor_starter.V6.1/io_proxy_handler.cpp speak it: a line a request, words parted
by blanks, a backslash before a blank or a backslash in a word; the answer is a number on a line,
negative for an error.
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
_LARGEST_ANSWER = 4096
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
) -> None:
    """Set attributes in the job ad to expressions, all within the patience. Raises ChirpError.

    The requests are sent together and the answers read after: one wait, not one for each.
    """
    requests = [b"cookie " + starter.cookie]
    requests += [_set_job_attr_delayed(name, value) for name, value in expressions.items()]
    deadline = monotonic() + patience_seconds
    family = _socket.AF_INET6 if ":" in starter.host else _socket.AF_INET
    try:
        connection = _socket.socket(family, _socket.SOCK_STREAM)
        try:
            connection.settimeout(patience_seconds)
            connection.connect((starter.host, starter.port))
            _exchange(connection, requests, deadline)
        finally:
            connection.close()
    except OSError as error:
        raise ChirpError(f"the starter does not answer: {error}") from None


def _exchange(connection: _socket.socket, requests: list[bytes], deadline: float) -> None:
    unsent = b"".join([request + b"\n" for request in requests])
    while unsent:
        _limit(connection, deadline)
        unsent = unsent[connection.send(unsent) :]
    answers = b""
    while answers.count(b"\n") < len(requests):
        _limit(connection, deadline)
        received = connection.recv(4096)
        if not received:
            raise ChirpError("the starter closed the connection in mid-answer")
        answers += received
        if len(answers) > _LARGEST_ANSWER:
            raise ChirpError("the starter talks without end")
    for request, answer in zip(requests, answers.splitlines()):
        if not _good(answer):
            what = request.partition(b" ")[0] if request is requests[0] else request.split()[1]
            raise ChirpError(f"the starter refused {what.decode()}: {answer[:40]!r}")


def _good(answer: bytes) -> bool:
    return answer.strip().isdigit()


def _limit(connection: _socket.socket, deadline: float) -> None:
    left = deadline - monotonic()
    if left <= 0:
        raise ChirpError("the starter does not answer in time")
    connection.settimeout(left)


def expression(value: Value) -> str:
    """The ClassAd literal of a value, cut to a length that the starter takes."""
    if isinstance(value, str):
        value = value.encode("utf-8", "replace")[:_LONGEST_STRING].decode("utf-8", "ignore")
    return literal(value)


def _set_job_attr_delayed(name: str, value: str) -> bytes:
    return b"set_job_attr_delayed " + _word(name) + b" " + _word(value)


def _word(text: str) -> bytes:
    escaped = text.replace("\\", "\\\\").replace(" ", "\\ ")
    return escaped.encode("utf-8", "replace")
