"""The client of ledged, against one that hangs, babbles, closes or is of another version."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from ledge.client import Connection, UnavailableError

PATIENCE_SECONDS = 0.5
Behaviour = Callable[[socket.socket], None]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[[Behaviour], str]]:
    """A socket at which somebody behaves that way, once."""
    threads = []
    listener = socket.socket(socket.AF_UNIX)

    def serve(behaviour: Behaviour) -> None:
        with listener.accept()[0] as connection:
            behaviour(connection)

    def start(behaviour: Behaviour) -> str:
        path = str(tmp_path / "socket")
        listener.bind(path)
        listener.listen()
        threads.append(threading.Thread(target=serve, args=(behaviour,), daemon=True))
        threads[0].start()
        return path

    yield start
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    listener.close()


def says(*parts: bytes) -> Behaviour:
    """Send the parts, one after each request, and close."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(parts[0])
        for part in parts[1:]:
            connection.recv(65536)
            connection.sendall(part)

    return behave


def hangs(connection: socket.socket) -> None:
    connection.settimeout(10)
    connection.recv(1)  # until the client goes


def babbles(connection: socket.socket) -> None:
    try:
        while True:
            connection.sendall(b"x" * 4096)
    except OSError:
        pass


def test_an_answer(daemon: Callable[[Behaviour], str]) -> None:
    path = daemon(says(b"ledged 1 abc\n", b"done 5\nhello"))
    connection = Connection(path, PATIENCE_SECONDS)
    answer = connection.request(b"status")
    connection.close()
    assert (answer.status, answer.body, answer.fd) == (b"done", b"hello", None)


def ask(path: str) -> None:
    connection = Connection(path, PATIENCE_SECONDS)
    try:
        connection.request(b"status")
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("behaviour", "problem"),
    [
        pytest.param(says(b""), "closed the connection", id="closes"),
        pytest.param(hangs, "timed out", id="hangs"),
        pytest.param(babbles, "talks without end", id="babbles"),
        pytest.param(says(b"hello there\n"), "it greets with", id="greets otherwise"),
        pytest.param(says(b"ledged 2 abc\n"), "speaks version 2", id="another version"),
        pytest.param(says(b"ledged 1 a\n", b"done 5\nhe"), "closed", id="closes in mid-answer"),
        pytest.param(says(b"ledged 1 a\n", b"done x\n"), "it answers", id="no length"),
        pytest.param(says(b"ledged 1 a\n", b"done 99999999\n"), "it answers", id="too much"),
    ],
)
def test_a_bad_daemon_is_an_error_in_time(
    daemon: Callable[[Behaviour], str], behaviour: Behaviour, problem: str
) -> None:
    path = daemon(behaviour)
    begin = time.monotonic()
    with pytest.raises(UnavailableError, match=problem) as caught:
        ask(path)
    assert time.monotonic() - begin < PATIENCE_SECONDS + 1
    assert "\n" not in str(caught.value)


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="No such file"):
        Connection(str(tmp_path / "socket"), PATIENCE_SECONDS)
