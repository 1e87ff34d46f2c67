"""Jobs whose loopback is their own, on the real kernel: who hears whom, and by which address."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledge.network.counters import NetworkCounters
from ledge.network.program import identity_of
from tests.kernel import networks
from tests.kernel.cgroups import Slice
from tests.kernel.networks import JOB, LOCAL_4, LOCAL_6, Networks, Process

pytestmark = pytest.mark.requires("root", "cgroup2", "bpf", "ip")

SO_RCVMARK = 75  # asm-generic/socket.h


@pytest.fixture
def counters(pins: str) -> Iterator[NetworkCounters]:
    counters = NetworkCounters.open([], pins)
    yield counters
    counters.close()


@pytest.fixture
def neighbours(counters: NetworkCounters) -> Iterator[dict[str, Path]]:
    """Groups by name: two with one identity, one with another, one with none, one not attached."""
    groups = {}
    for name, identity in (("a", 1), ("a too", 1), ("b", 2), ("shared", 0), ("none", None)):
        slice_ = Slice(f"ledge-test-{os.getpid()}-{name.replace(' ', '-')}.slice", os.getuid())
        groups[name] = slice_
        fd = os.open(slice_.path, os.O_RDONLY | os.O_DIRECTORY)
        if identity is not None:
            counters.attach(fd, identity_of(identity) if identity else 0)
        os.close(fd)
    yield {name: slice_.scope for name, slice_ in groups.items()}
    for slice_ in groups.values():
        slice_.remove()


def reaches(network: Networks, source: Path, target: Path, address: str, type_: int) -> bool:
    """Whether a process in one group is heard by one in the other, and TCP answered."""
    read, write = os.pipe()

    def serve() -> bool:
        server = networks.bound(address, socket.SocketKind(type_))
        server.settimeout(1)
        os.write(write, b"%d\n" % server.getsockname()[1])
        try:
            if type_ == socket.SOCK_DGRAM:
                return server.recv(10) == b"hello"
            connection, _ = server.accept()
            connection.sendall(b"welcome")
            return connection.recv(10) == b"hello"
        except TimeoutError:
            return False

    serving = Process(target, network.job, serve)
    port = int(os.read(read, 10))

    def call() -> bool:
        with socket.socket(networks.family(address), type_) as caller:
            caller.settimeout(1)
            try:
                caller.connect((address, port))
                caller.send(b"hello")
                return type_ == socket.SOCK_DGRAM or caller.recv(10) == b"welcome"
            except (TimeoutError, ConnectionRefusedError):  # the server may give up first
                return False

    called = Process(source, network.job, call).result()
    heard: bool = serving.result()
    assert called == heard or type_ == socket.SOCK_DGRAM
    os.close(read)
    os.close(write)
    return heard


@pytest.mark.parametrize("type_", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1"])
def test_loopback_of_a_group_s_own(
    network: Networks, neighbours: dict[str, Path], address: str, type_: int
) -> None:
    def found(source: str, target: str) -> bool:
        return reaches(network, neighbours[source], neighbours[target], address, type_)

    assert not found("a", "b")
    assert not found("b", "a")
    assert found("a", "a too")
    for other in ("shared", "none"):
        assert found("a", other)
        assert found(other, "a")


def test_loopback_by_the_group_s_other_addresses(
    network: Networks, neighbours: dict[str, Path]
) -> None:
    """As over the network."""
    for address in (LOCAL_4 % JOB, LOCAL_6 % JOB):
        assert reaches(network, neighbours["a"], neighbours["b"], address, socket.SOCK_STREAM)


def test_a_mark_that_is_an_admin_s(network: Networks, neighbours: dict[str, Path]) -> None:
    """It stays as it is, and what has it is let through."""

    def work() -> list[int]:
        server = networks.bound("127.0.0.1", socket.SOCK_DGRAM)
        server.setsockopt(socket.SOL_SOCKET, SO_RCVMARK, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 77)
            sender.sendto(b"x", server.getsockname())
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0)
            sender.sendto(b"x", server.getsockname())
        marks = [server.recvmsg(1, 64)[1][0][2] for _ in range(2)]
        return [int.from_bytes(mark, sys.byteorder) for mark in marks]

    assert Process(neighbours["a"], network.job, work).result() == [77, identity_of(1)]
