"""Chirp against a peer that does what it likes: an answer or a ChirpError, always in time."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Callable

import pytest
from htcondor2.htchirp import HTChirp
from hypothesis import given
from hypothesis import strategies as st

from ledge.classads import literal
from ledge.ledger.table import reasons
from ledge.publish.chirp import ChirpError, Starter, expression, publish

COOKIE = "c0ffee"
PATIENCE_SECONDS = 0.5
Behaviour = Callable[[socket.socket], None]


class Peer:
    """A listener on the loopback that treats each caller as `behaviour` says."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(10)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            with connection:
                connection.settimeout(10)
                try:
                    self._behaviour(connection)
                    while connection.recv(65536):
                        pass
                except OSError:
                    pass  # the caller has gone, as it should

    def close(self) -> None:
        """Wait for the caller to be gone."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def starter(self, cookie: str = COOKIE) -> Starter:
        """What .chirp.config would say."""
        return Starter(f"127.0.0.1 {self.port} {cookie}\n".encode())


@pytest.fixture
def peer() -> Iterator[Callable[[Behaviour], Peer]]:
    peers: list[Peer] = []

    def start(behaviour: Behaviour) -> Peer:
        peers.append(Peer(behaviour))
        return peers[-1]

    yield start
    for each in peers:
        each.close()


class Recorder:
    """Answers every line with "0", as a starter does; keeps what the last caller sent."""

    def __init__(self, cookie: str = COOKIE) -> None:
        self.requests: list[bytes] = []
        self._cookie = cookie.encode()

    def __call__(self, connection: socket.socket) -> None:
        self.requests = []  # HTChirp calls twice, once only to see whether the cookie is right
        with connection.makefile("rb") as stream:
            for line in stream:
                self.requests.append(line)
                good = len(self.requests) > 1 or line == b"cookie %s\n" % self._cookie
                connection.sendall(b"0\n" if good else b"-1\n")


def read_requests(connection: socket.socket) -> None:
    connection.recv(65536)


def closes_at_once(connection: socket.socket) -> None:
    connection.close()


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def hangs(connection: socket.socket) -> None:
    del connection


def closes_in_mid_answer(connection: socket.socket) -> None:
    read_requests(connection)
    connection.sendall(b"0\n0")
    connection.close()


def babbles(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"babble" * 1000)


def babbles_lines(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"babble\n" * 1000)


def drips(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"0")
        time.sleep(0.02)


def answers(text: bytes) -> Behaviour:
    def behaviour(connection: socket.socket) -> None:
        read_requests(connection)
        connection.sendall(text)

    return behaviour


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(closes_at_once, id="closes at once"),
        pytest.param(resets, id="resets the connection"),
        pytest.param(hangs, id="hangs"),
        pytest.param(closes_in_mid_answer, id="closes in mid-answer"),
        pytest.param(babbles, id="babbles without end"),
        pytest.param(babbles_lines, id="babbles lines without end"),
        pytest.param(drips, id="drips a byte at a time, never a line"),
        pytest.param(answers(b"-1\n0\n"), id="does not know the cookie"),
        pytest.param(answers(b"0\n-3\n"), id="refuses the attribute"),
        pytest.param(answers(b"yes\nyes\n"), id="answers with words"),
        pytest.param(answers(b"\n\n"), id="answers with empty lines"),
        pytest.param(answers(b"\xff\x00\n\xfe\n"), id="answers garbage"),
    ],
)
def test_a_bad_peer_is_an_error_in_time(
    peer: Callable[[Behaviour], Peer], behaviour: Behaviour
) -> None:
    starter = peer(behaviour).starter()
    begin = time.monotonic()
    with pytest.raises(ChirpError) as caught:
        publish(starter, {"ChirpLedgeVersion": expression("1")}, PATIENCE_SECONDS)
    assert time.monotonic() - begin < PATIENCE_SECONDS + 0.5
    assert "\n" not in str(caught.value)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ChirpError, match="refused"):
        publish(Starter(b"127.0.0.1 %d x" % port), {"A": "1"}, PATIENCE_SECONDS)


def test_nobody_accepts() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        crowd = [socket.socket() for _ in range(4)]
        for each in crowd:
            each.setblocking(False)
            each.connect_ex(address)
        begin = time.monotonic()
        with pytest.raises(ChirpError):
            publish(Starter(b"127.0.0.1 %d x" % address[1]), {"A": "1"}, PATIENCE_SECONDS)
        assert time.monotonic() - begin < PATIENCE_SECONDS + 0.5
        for each in crowd:
            each.close()


def test_a_slow_but_honest_peer_is_waited_for(peer: Callable[[Behaviour], Peer]) -> None:
    def slow(connection: socket.socket) -> None:
        read_requests(connection)
        for byte in b"0\n0\n":
            time.sleep(0.05)
            connection.sendall(bytes([byte]))

    publish(peer(slow).starter(), {"A": "1"}, 5)


def test_the_wrong_cookie_is_named(peer: Callable[[Behaviour], Peer]) -> None:
    starter = peer(Recorder()).starter(cookie="wrong")
    with pytest.raises(ChirpError, match="refused cookie"):
        publish(starter, {"A": "1"}, PATIENCE_SECONDS)


def test_the_refused_attribute_is_named(peer: Callable[[Behaviour], Peer]) -> None:
    starter = peer(answers(b"0\n0\n-3\n")).starter()
    with pytest.raises(ChirpError, match="refused ChirpB"):
        publish(starter, {"ChirpA": "1", "ChirpB": "2"}, PATIENCE_SECONDS)


ATTRIBUTES: dict[str, int | float | str] = {
    "ChirpLedgeInteger": 80109568,
    "ChirpLedgeSeconds": 38.557845,
    "ChirpLedgeWord": "cgroup",
    "ChirpLedgeWords": "user, pid  and mount",
    "ChirpLedgeEmpty": "",
    "ChirpLedgeQuotes": 'a "quoted" word',
    "ChirpLedgeBackslash": "a\\b\\",
    "ChirpLedgeLines": "one\ntwo\tthree\r",
    "ChirpLedgeForeign": "naïve 日本語",
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # HTChirp's own
def test_the_requests_are_those_of_htchirp(peer: Callable[[Behaviour], Peer]) -> None:
    ours, theirs = Recorder(), Recorder()
    expressions = {name: expression(value) for name, value in ATTRIBUTES.items()}
    publish(peer(ours).starter(), expressions)
    listening = peer(theirs)
    with HTChirp("127.0.0.1", listening.port, ["cookie"], COOKIE) as client:
        for name, value in ATTRIBUTES.items():
            client.set_job_attr_delayed(name, literal(value))
    assert ours.requests == theirs.requests
    assert len(ours.requests) == 1 + len(ATTRIBUTES)


class Remembers:
    """Answers as a starter whose job ad has some attributes already; `values` are all of them."""

    def __init__(self, values: dict[str, bytes]) -> None:
        self.values = values

    def __call__(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            for line in stream:
                verb, name, *expression = line.rstrip(b"\n").split(b" ", 2)
                connection.sendall(self.answer(verb, name.decode(), expression))

    def answer(self, verb: bytes, name: str, expression: list[bytes]) -> bytes:
        if verb == b"get_job_attr_delayed":
            value = self.values.get(name)
            return b"-2\n" if value is None else b"%d\n%s" % (len(value), value)
        if verb == b"set_job_attr_delayed":
            self.values[name] = expression[0]
        return b"0\n"


@pytest.mark.parametrize("old", [b"7", b"", b'"a\n0\n-1\nlines"', b"x" * 1_000_000])
def test_what_is_not_reported_is_undefined_afterwards(
    peer: Callable[[Behaviour], Peer], old: bytes
) -> None:
    starter = Remembers({"ChirpOld": old, "ChirpMine": b"8", "ChirpNew": b"9"})
    others = ("ChirpNever", "ChirpOld", "ChirpNeither")
    publish(peer(starter).starter(), {"ChirpNew": "1"}, others=others)
    assert starter.values == {"ChirpOld": b"undefined", "ChirpMine": b"8", "ChirpNew": b"1"}


def test_a_starter_that_knows_no_such_question(peer: Callable[[Behaviour], Peer]) -> None:
    behaviour = answers(b"0\n0\n-2\n-2\n")
    publish(peer(behaviour).starter(), {"A": "1"}, PATIENCE_SECONDS, ("B", "C"))


def test_a_value_that_never_comes(peer: Callable[[Behaviour], Peer]) -> None:
    starter = peer(answers(b"0\n0\n99999999999\nx")).starter()
    begin = time.monotonic()
    with pytest.raises(ChirpError):
        publish(starter, {"A": "1"}, PATIENCE_SECONDS, ("B",))
    assert time.monotonic() - begin < PATIENCE_SECONDS + 0.5


@pytest.mark.parametrize("text", ["x" * 5000, '"' * 5000, "\\" * 5000, "日" * 5000, "\n " * 5000])
def test_no_expression_is_longer_than_the_starter_takes(
    peer: Callable[[Behaviour], Peer], text: str
) -> None:
    recorder = Recorder()
    publish(peer(recorder).starter(), {"ChirpLedgeLong": expression(text)})
    assert len(recorder.requests) == 2
    sent = recorder.requests[1].rstrip(b"\n").split(b" ", 2)[2]
    unescaped = sent.replace(b"\\\\", b"\\").replace(b"\\ ", b" ")
    assert len(unescaped) <= 993  # io_proxy_handler.cpp


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"127.0.0.1 5", id="no cookie"),
        pytest.param(b"127.0.0.1 port cookie", id="a word for a port"),
        pytest.param(b"127.0.0.1 99999 cookie", id="a port too large"),
        pytest.param(b"127.0.0.1 " + b"9" * 5000 + b" cookie", id="a port of 5,000 digits"),
        pytest.param(b"\xff\xfe 5 cookie", id="a host that is no text"),
        pytest.param(b"127.0.0.1\x00 5 cookie", id="a host with a NUL"),
        pytest.param(b"::1\x00 5 cookie", id="an address with a NUL"),
    ],
)
def test_a_config_that_is_none(config: bytes) -> None:
    with pytest.raises(ChirpError):
        publish(Starter(config), {"A": "1"}, PATIENCE_SECONDS)


@given(st.binary())
def test_any_config_is_a_starter_or_an_error(config: bytes) -> None:
    with contextlib.suppress(ChirpError):
        Starter(config)


def test_a_text_that_is_too_long_ends_with_a_whole_entry() -> None:
    text = "; ".join(f"Figure{number}Bytes: no file{number}" for number in range(40))
    cut = expression(text).strip('"')
    assert len(cut) < 500 and cut.endswith("; ...")
    assert text.startswith(cut.removesuffix("..."))
    told = reasons(cut)
    assert told["Figure0Bytes"] == "no file0" and len(told) > 10
    assert all(reason == f"no file{number}" for number, reason in enumerate(told.values()))
