"""The relay of chirp: every byte arrives, whoever ends first, and nobody is waited for."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from ledge.job.relay import Relay

LONG = 3_000_000  # more than the buffers of a socket hold
PATIENCE_SECONDS = 20.0


class Relayed:
    """A server that answers with as many bytes as it is asked for, and a relay to it."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.relay = Relay(os.dup(self.listener.fileno()))
        self.relay.address = self.server.getsockname()
        self.turns = 0
        self.stop, self._stopped = os.pipe()
        threading.Thread(target=self._serve, daemon=True).start()
        self._looping = threading.Thread(target=self._loop)
        self._looping.start()

    def connect(self, wanted: int) -> socket.socket:
        """Ask for so many bytes."""
        connection = socket.create_connection(self.listener.getsockname(), PATIENCE_SECONDS)
        connection.sendall(b"%d\n" % wanted)
        return connection

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file, contextlib.suppress(OSError):
            connection.sendall(bytes(int(file.readline())))
            file.read()

    def _loop(self) -> None:
        poll = select.poll()
        poll.register(self.stop, select.POLLIN)
        self.relay.attach(poll)
        while True:
            for fd, events in poll.poll():
                if fd == self.stop:
                    return
                self.relay.attend(fd, events)
            self.turns += 1

    def await_no_connections(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.relay.ends:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def close(self) -> None:
        """Let go of everything."""
        os.write(self._stopped, b"x")
        self._looping.join()
        with contextlib.suppress(OSError):  # a test may have done it
            self.server.shutdown(socket.SHUT_RDWR)
        for used in (self.server, self.listener, self.relay.listener):
            used.close()
        for pipe in (self.stop, self._stopped):
            os.close(pipe)


@pytest.fixture
def relayed() -> Iterator[Relayed]:
    relayed = Relayed()
    yield relayed
    relayed.close()


def received(connection: socket.socket) -> int:
    """All that comes."""
    with connection:
        return sum(map(len, iter(lambda: connection.recv(1 << 16), b"")))


@pytest.mark.parametrize("size", [1, 1000, LONG])
def test_who_ends_first_gets_everything(relayed: Relayed, size: int) -> None:
    for _ in range(20):
        connection = relayed.connect(size)
        connection.shutdown(socket.SHUT_WR)
        assert received(connection) == size
    relayed.await_no_connections()


def test_more_connections_than_are_kept_wait(relayed: Relayed) -> None:
    many = [relayed.connect(10) for _ in range(100)]
    for connection in many:
        assert len(connection.recv(100)) == 10
        connection.close()
    relayed.await_no_connections()


def test_who_does_not_read_costs_nothing(relayed: Relayed) -> None:
    connection = relayed.connect(20 * LONG)
    connection.shutdown(socket.SHUT_WR)
    time.sleep(0.5)
    before = relayed.turns
    time.sleep(0.5)
    assert relayed.turns - before < 10
    # Closed without a farewell (SO_LINGER), while the other end still sends.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    relayed.await_no_connections()


def test_nobody_listens(relayed: Relayed) -> None:
    relayed.server.shutdown(socket.SHUT_RDWR)
    connection = socket.create_connection(relayed.listener.getsockname(), PATIENCE_SECONDS)
    with connection, contextlib.suppress(ConnectionResetError):
        assert connection.recv(1) == b""
    relayed.await_no_connections()
