"""Two network namespaces joined by a cable, and processes and sockets in them.

The job's namespace has four addresses on the cable and so has its peer's: of each IP version one
that the tests call local, and one that they do not.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

from ledge.kernel import syscalls

LOCAL_4, REMOTE_4 = "10.200.0.%d", "203.0.113.%d"
LOCAL_6, REMOTE_6 = "fd00:200::%d", "2001:db8::%d"
ADDRESSES = (LOCAL_4, REMOTE_4, LOCAL_6, REMOTE_6)
JOB, PEER = 1, 2  # the last part of an address
PATIENCE_SECONDS = 20.0


def ip(*arguments: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Networks:
    """The two namespaces; gone with everything in them after close()."""

    def __init__(self) -> None:
        self.job, self.peer = [f"ledge-test-{os.getpid()}-{name}" for name in ("job", "peer")]
        for name in (self.job, self.peer):
            ip("netns", "add", name)
        ip("-n", self.job, "link", "add", "cable", "type", "veth", "peer", "cable",
           "netns", self.peer)  # fmt: skip
        for name, last in ((self.job, JOB), (self.peer, PEER)):
            for address in ADDRESSES:
                length = "64" if ":" in address else "24"
                nodad = ["nodad"] if ":" in address else []
                ip("-n", name, "address", "add", f"{address % last}/{length}", "dev", "cable",
                   *nodad)  # fmt: skip
            for device in ("lo", "cable"):
                ip("-n", name, "link", "set", device, "up")

    def peer_socket(self, address: str, type_: socket.SocketKind) -> socket.socket:
        """A bound socket of this process, which is not in any job's group, at the peer's end."""
        with within(self.peer):
            return bound(address % PEER, type_)

    def close(self) -> None:
        for name in (self.job, self.peer):
            ip("netns", "delete", name)


def enter(name: str) -> None:
    """Go into a network namespace."""
    with open(f"/run/netns/{name}") as namespace:
        syscalls.setns(namespace.fileno(), syscalls.CLONE_NEWNET)


@contextmanager
def within(name: str) -> Iterator[None]:
    """Be in a network namespace for a while: what is made there stays there."""
    with open("/proc/self/ns/net") as own:
        enter(name)
        try:
            yield
        finally:
            syscalls.setns(own.fileno(), syscalls.CLONE_NEWNET)


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def bound(address: str, type_: socket.SocketKind) -> socket.socket:
    """A socket at a free port; a stream listens."""
    made = socket.socket(family(address), type_)
    made.settimeout(PATIENCE_SECONDS)
    made.bind((address, 0))
    if type_ == socket.SOCK_STREAM:
        made.listen()
    return made


class Process:
    """A process of a job, which does some work in a control group and a network namespace."""

    def __init__(self, cgroup: Path, netns: str, work: Callable[[], object]) -> None:
        self._results, results = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._work(results, cgroup, netns, work)
        os.close(results)

    @staticmethod
    def _work(results: int, cgroup: Path, netns: str, work: Callable[[], object]) -> None:
        try:
            (cgroup / "cgroup.procs").write_text("0")
            enter(netns)
            socket.setdefaulttimeout(PATIENCE_SECONDS)
            os.write(results, json.dumps(work()).encode())
            os._exit(0)
        finally:  # the test must not go on in two processes
            traceback.print_exc()
            os._exit(1)

    def result(self) -> Any:
        """What the work returned, which is done."""
        with os.fdopen(self._results, "rb") as file:
            text = file.read()
        _, status = os.waitpid(self.pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, "see the traceback on standard error"
        return json.loads(text)


def send(address: tuple[str, int], packets: int, size: int) -> None:
    """Send UDP packets of so many bytes of data."""
    with socket.socket(family(address[0]), socket.SOCK_DGRAM) as sender:
        for _ in range(packets):
            sender.sendto(bytes(size), address)


def ask(address: tuple[str, int], packets: int, size: int) -> None:
    """Send UDP packets, and wait for the answer to each."""
    with socket.socket(family(address[0]), socket.SOCK_DGRAM) as sender:
        for _ in range(packets):
            sender.sendto(bytes(size), address)
            sender.recv(65536)


def answer(server: socket.socket, packets: int, size: int) -> None:
    """Answer UDP packets with so many bytes of data."""
    for _ in range(packets):
        _, sender = server.recvfrom(65536)
        server.sendto(bytes(size), sender)


def pour(stream: socket.socket, size: int) -> None:
    """Send so many bytes, and no more."""
    block = bytes(1 << 20)
    for at in range(0, size, len(block)):
        stream.sendall(block[: size - at])
    stream.shutdown(socket.SHUT_WR)


def drain(stream: socket.socket) -> int:
    """Receive all; how many bytes that was."""
    size = 0
    while block := stream.recv(1 << 20):
        size += len(block)
    return size


def kernel_counters() -> dict[str, int]:
    """What the kernel counted in this network namespace: "Tcp.OutSegs", "IpExt.OutOctets", …"""
    counters = {}
    for file in ("/proc/self/net/snmp", "/proc/self/net/netstat"):
        lines = Path(file).read_text().splitlines()
        for names, values in zip(lines[::2], lines[1::2]):
            prefix = names.partition(":")[0]
            pairs = zip(names.split()[1:], values.split()[1:])
            counters.update({f"{prefix}.{name}": int(value) for name, value in pairs})
    for line in Path("/proc/self/net/dev").read_text().splitlines()[2:]:
        device, _, rest = line.partition(":")
        fields = rest.split()
        counters[f"{device.strip()}.rx_bytes"] = int(fields[0])
        counters[f"{device.strip()}.tx_bytes"] = int(fields[8])
    return counters
