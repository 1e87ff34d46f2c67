"""A node whose jobs have networks of their own, in a network namespace with a peer at its cable.

Whatever ledged does to the node's network it does to that namespace, and not to this machine's.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledge.kernel import syscalls
from tests.kernel.cgroups import Slice
from tests.kernel.ledged import SOCKET, Ledged
from tests.kernel.networks import JOB, PEER, REMOTE_4, Networks, enter, ip, within
from tests.kernel.starter import Process, Starter, User

ADDRESSES = "100.127.0.0/24"
GATEWAY = "100.127.0.1"
NODE, OUTSIDE = REMOTE_4 % JOB, REMOTE_4 % PEER
PORTS = "61000-61199"
PATIENCE_SECONDS = 20.0
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")

POLICY = """
version: 1
defaults:
  network: private
"""

# What programs of jobs begin with.
JOB_PRELUDE = """
import os, socket, sys, time
def reach(host, port, seconds=1.0):
    try:
        with socket.create_connection((host, port), seconds) as connection:
            return connection.recv(100).decode() or "closed"
    except OSError as error:
        return type(error).__name__
def listening(port):
    listener = socket.create_server(("", port))
    listener.settimeout(20)
    return listener
def serve(listener, text):
    connection, _ = listener.accept()
    with connection:
        connection.sendall(text.encode())
def touch(name):
    open(name, "w").close()
def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.01)
"""


class PrivateNode:
    """ledged in the node's namespace, and starters with a slice for each job."""

    def __init__(self, installed: Path, execute: Path, directory: Path) -> None:
        self.installed = installed
        self.execute = execute
        self.directory = directory
        self.user = User.named("nobody")
        self.slices: list[Slice] = []
        self.options = ["--network-addresses", ADDRESSES, "--network-ports", PORTS]
        self.networks = Networks()
        self._own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        enter(self.networks.job)
        try:
            FORWARDING.write_text("1")
            self.before = self.count()
            self.policy(POLICY)
            self.start()
        except BaseException:
            self._leave()
            raise

    def policy(self, text: str) -> None:
        """Write the policy that the next ledged has."""
        (self.directory / "policy.yaml").write_text(text)

    def start(self) -> None:
        """Start ledged, anew if it was killed."""
        self.ledged = Ledged(self.installed, self.directory, options=self.options)

    def restart(self, policy: str = POLICY) -> None:
        """End ledged and start it, with another policy."""
        self.policy(policy)
        self.ledged.close()
        (self.directory / "LedgeLog").unlink()
        self.start()

    def maker(self) -> int:
        """The PID of the process that makes networks."""
        (pid,) = self.ledged.children("ledge_network")
        return pid

    def kill(self) -> None:
        """Have ledged and what it has started die as by a crash."""
        maker = self.maker()
        os.kill(maker, signal.SIGKILL)
        self.ledged.kill()

    def job(self, code: str, *environ: bytes) -> Process:
        """Start a job, a program of Python, in a slice of its own."""
        slice_ = Slice(f"ledge-test-{os.getpid()}-{len(self.slices)}.slice", self.user.uid)
        self.slices.append(slice_)
        starter = Starter(self.installed / "job_wrapper", self.execute, self.user, slice_)
        return starter.start(
            "/usr/bin/python3", "-ISE", "-c", JOB_PRELUDE + code, environ=list(environ)
        )

    def go(self, job: Process, name: str = "go") -> None:
        """Make a file that a job waits for."""
        (job.directory / name).touch()

    @contextmanager
    def within_job(self, number: int) -> Iterator[None]:
        """Be in the network of one of the jobs that were started, as root."""
        with open("/proc/self/ns/net") as own:
            ours = os.fstat(own.fileno()).st_ino
            for pid in self.slices[number].processes():
                with open(f"/proc/{pid}/ns/net") as theirs:
                    if os.fstat(theirs.fileno()).st_ino != ours:
                        syscalls.setns(theirs.fileno(), syscalls.CLONE_NEWNET)
            try:
                yield
            finally:
                syscalls.setns(own.fileno(), syscalls.CLONE_NEWNET)

    def peer_serves(self, text: bytes, connections: int = 1) -> tuple[int, list[str]]:
        """Have the peer answer connections; its port, and a list of whom it will have seen."""
        seen: list[str] = []
        with within(self.networks.peer):
            listener = socket.create_server((OUTSIDE, 0))

        def serve() -> None:
            with listener:
                for _ in range(connections):
                    connection, address = listener.accept()
                    seen.append(address[0])
                    with connection:
                        connection.sendall(text)

        threading.Thread(target=serve, daemon=True).start()
        return listener.getsockname()[1], seen

    def peer_reaches(self, host: str, port: int) -> str:
        """What the peer gets from an address, or the name of the error."""
        with within(self.networks.peer):
            return reach(host, port)

    def devices(self) -> list[str]:
        """The ends of jobs' networks on the node."""
        return sorted(name for _, name in socket.if_nameindex() if name.startswith("ledge"))

    def descriptors(self) -> list[int]:
        """How many ledged, its launcher and the process for networks have."""
        (launcher,) = self.ledged.children("ledge_launcher")
        pids = (self.ledged.process.pid, launcher, self.maker())
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]

    def count(self) -> dict[str, object]:
        """What could be left behind on the node."""
        rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, check=True).stdout
        routes = subprocess.run(["ip", "route"], capture_output=True, check=True).stdout
        # A cable takes a moment to be up.
        routes = routes.replace(b" linkdown", b"")
        return {"devices": socket.if_nameindex(), "rules": rules, "routes": routes}

    def assert_nothing_left(self) -> None:
        """No device is left; and no rule, when ledged has ended."""
        deadline = time.monotonic() + 10
        while self.devices():
            assert time.monotonic() < deadline, self.devices()
            time.sleep(0.01)

    def close(self) -> None:
        """End everything; nothing may be left."""
        try:
            for slice_ in self.slices:
                slice_.remove()
            self.assert_nothing_left()
            self.ledged.close()
            deadline = time.monotonic() + 10
            while self.count() != self.before:
                assert time.monotonic() < deadline, self.count()
                time.sleep(0.02)
            shutil.rmtree(SOCKET.parent, ignore_errors=True)
        finally:
            self._leave()

    def _leave(self) -> None:
        with os.fdopen(self._own) as own:
            syscalls.setns(own.fileno(), syscalls.CLONE_NEWNET)
        self.networks.close()


def reach(host: str, port: int, seconds: float = 1.0) -> str:
    """What is said at an address, or the name of the error."""
    try:
        with socket.create_connection((host, port), seconds) as connection:
            return connection.recv(100).decode() or "closed"
    except OSError as error:
        return type(error).__name__


def route_to_jobs(networks: Networks) -> None:
    """Let the peer know the way to the jobs' addresses, as an attacker beside the node could."""
    ip("-n", networks.peer, "route", "add", ADDRESSES, "via", NODE)


class ChirpServer:
    """The starter's end of chirp, on the node's loopback: it takes everything."""

    def __init__(self, directory: Path) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.attributes: dict[str, str] = {}
        self.greetings: list[bytes] = []
        self.config = directory / ".chirp.config"
        self.config.write_text(f"127.0.0.1 {self.listener.getsockname()[1]} secret\n")
        self.config.chmod(0o644)
        threading.Thread(target=self._accept, daemon=True).start()

    def environ(self) -> bytes:
        """What tells a job of it."""
        return b"_CONDOR_CHIRP_CONFIG=" + os.fsencode(self.config)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as file:
            for line in file:
                words = line.replace(b"\\ ", b"\0").split()
                if words[0] == b"set_job_attr_delayed":
                    value = words[2].replace(b"\0", b" ").decode()
                    self.attributes[words[1].decode()] = value.strip('"')
                elif words[0] == b"echo":
                    file.write(words[1])
                    self.greetings.append(words[1][:20])
                file.write(b"0\n")
                file.flush()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
