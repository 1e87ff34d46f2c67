"""A job's network traffic in its ad, against what it sent and against the kernel's own counters."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from tests.pool.condor import Pool
from tests.pool.job import Submission

MB = 1000 * 1000
REMOTE, LOCAL = "198.51.100", "10.99.0"  # the latter is in LEDGE_LOCAL_NETWORKS
SENT, RECEIVED, SENT_LOCALLY, DATAGRAMS, LOOPED = 20 * MB, 5 * MB, 2 * MB, 1000, 3 * MB
TCP_PORT, UDP_PORT = 5001, 5002
DATAGRAM_BYTES, IP_AND_UDP_BYTES = 1000, 28
PATIENCE_SECONDS = 180.0

# A network namespace at the other end of a virtual cable.
CABLE = f"""
ip netns add peer
ip link add cable type veth peer name eth0 netns peer
for network in {REMOTE} {LOCAL}; do
    ip address add $network.1/24 dev cable
    ip -n peer address add $network.2/24 dev eth0
done
ip link set cable up
ip -n peer link set eth0 up
systemd-run --unit=ledge-test-peer ip netns exec peer python3 /root/peer.py
until ip netns exec peer ss -Hltn | grep -q {TCP_PORT}; do sleep 0.2; done
"""
UNPLUG = "systemctl stop ledge-test-peer; ip netns delete peer"

# It answers with as many bytes as the first line says, and throws away what follows it.
PEER = f"""
import socket, threading
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(("", {UDP_PORT}))

def swallow():
    while True:
        datagrams.recv(2048)

threading.Thread(target=swallow, daemon=True).start()
listener = socket.create_server(("", {TCP_PORT}))
while True:
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as file:
        wanted = int(file.readline())
        while file.read(65536):
            pass
        connection.sendall(bytes(wanted))
"""
JOB = f"""#!/usr/bin/python3
import socket, threading

def talk(address, sent, wanted):
    with socket.create_connection(address) as connection:
        connection.sendall(b"%d\\n" % wanted + bytes(sent))
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as file:
            assert sum(len(chunk) for chunk in iter(lambda: file.read(65536), b"")) == wanted

talk(("{REMOTE}.2", {TCP_PORT}), {SENT}, {RECEIVED})
talk(("{LOCAL}.2", {TCP_PORT}), {SENT_LOCALLY}, 0)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
    for _ in range({DATAGRAMS}):
        datagrams.sendto(bytes({DATAGRAM_BYTES}), ("{REMOTE}.2", {UDP_PORT}))

def swallow():
    connection, _ = listener.accept()
    while connection.recv(65536):
        pass

listener = socket.create_server(("127.0.0.1", 0))
thread = threading.Thread(target=swallow)
thread.start()
with socket.create_connection(listener.getsockname()) as connection:
    connection.sendall(bytes({LOOPED}))
thread.join()
"""


@pytest.fixture(scope="module")
def peer(pool: Pool, _installed: None) -> Iterator[Pool]:
    """The pool with a cable to another network."""
    pool.put(PEER, "/root/peer.py")
    pool.root(f"sh -ec {shlex.quote(CABLE)}")
    yield pool
    pool.root(UNPLUG)


def octets(pool: Pool) -> dict[str, int]:
    """What the peer's kernel has received and sent, bytes of IP (nstat(8))."""
    text = pool.root("ip netns exec peer grep ^IpExt: /proc/net/netstat").stdout
    names, values = (line.split()[1:] for line in text.splitlines())
    return {name: int(value) for name, value in zip(names, values) if "Octets" in name}


@pytest.fixture(scope="module")
def counted(peer: Pool) -> tuple[dict[str, Any], dict[str, int]]:
    """The ad of a job, and what the peer counted meanwhile."""
    before = octets(peer)
    job = peer.submit_all([Submission("executable = talk", files={"talk": JOB})])[0]
    job.wait("terminated", PATIENCE_SECONDS)
    after = octets(peer)
    ad = job.ad()
    print({name: value for name, value in ad.items() if "LedgeNetwork" in name})
    assert ad["ExitCode"] == 0
    return ad, {name: after[name] - before[name] for name in after}


def test_bytes_are_the_kernel_s(counted: tuple[dict[str, Any], dict[str, int]]) -> None:
    ad, peer_s = counted
    print(peer_s)
    assert ad["ChirpLedgeNetworkSentBytes"] == pytest.approx(peer_s["InOctets"], rel=0.001)
    assert ad["ChirpLedgeNetworkReceivedBytes"] == pytest.approx(peer_s["OutOctets"], rel=0.001)


def test_bytes_are_what_was_sent(counted: tuple[dict[str, Any], dict[str, int]]) -> None:
    """And the headers, of which TCP has a few more with every piece of up to 64 KB."""
    ad, _ = counted
    datagrams = DATAGRAMS * (DATAGRAM_BYTES + IP_AND_UDP_BYTES)
    known = {
        "Sent": SENT + SENT_LOCALLY + datagrams,
        "Received": RECEIVED,
        "LocalSent": SENT_LOCALLY,
        "LoopbackSent": LOOPED,
        "LoopbackReceived": LOOPED,
    }
    for name, bytes_ in known.items():
        counted_bytes = ad[f"ChirpLedgeNetwork{name}Bytes"]
        print(f"{name}: known {bytes_}, counted {counted_bytes}, {counted_bytes / bytes_ - 1:+.2%}")
        assert bytes_ <= counted_bytes < bytes_ * 1.05
    assert ad["ChirpLedgeNetworkSentPacketsCount"] > DATAGRAMS


def test_a_job_without_traffic(peer: Pool) -> None:
    """Zero is a figure: it was counted."""
    job = peer.submit("executable = /bin/true\n")
    job.wait("terminated", PATIENCE_SECONDS)
    ad = job.ad()
    assert ad["ChirpLedgeNetworkSentBytes"] == ad["ChirpLedgeNetworkLoopbackSentBytes"] == 0
