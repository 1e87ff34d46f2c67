"""Hostile input to ledged's socket: whatever comes, others are served, and nothing grows.

hypothesis makes up messages; two users' processes send many variants of each over many connections
at once, cut into pieces, closed half-way, with descriptors, while others hold a thousand open.
Meanwhile root asks for the status and jobs are started.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import pwd
import random
import select
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledge.kernel import syscalls
from tests.kernel.cgroups import Slice
from tests.kernel.ledged import SOCKET, Ledged
from tests.kernel.starter import Starter, User

MESSAGES = 100_000
EXAMPLES = 100
AT_ONCE = 50  # connections of the fuzzer
HELD = 500  # by each of two users: ledged closes what a user has beyond 512
WITHIN_SECONDS = 3.0  # that root is answered, on a machine that is busy with the attack
JOB_WITHIN_SECONDS = 10.0
GROWTH_KB = 3000
IDLE_DESCRIPTORS = 24
LONG_LINE = bytes(10_000_000)

pytestmark = pytest.mark.requires("root", "userns", "cgroup2")

VERBS = [b"reserve", b"launch", b"settle", b"status", b"jobs"]
verbs = st.sampled_from(VERBS) | st.binary(max_size=12)
lengths = st.integers(-2, 1 << 70).map(b"%d".__mod__) | st.binary(max_size=9)
versions = st.sampled_from([b"1", b"0", b"2", b"-1", b"1.0"]) | st.binary(max_size=5)
lines = st.builds(
    lambda verb, version, length: b"%s %s NONCE %s\n" % (verb, version, length),
    verbs, versions, lengths | st.just(b"0"),
)  # fmt: skip
messages = st.builds(lambda *parts: b"".join(parts), lines, st.binary(max_size=40))
junk = st.binary(max_size=300) | st.text(max_size=100).map(str.encode)


class Fuzzer:
    """One process of a user's that sends; `messages` counts what it has sent.

    It is the child of a starter of its own, who may reserve, or of some other process.
    """

    def __init__(self, uid: int, starter: bool) -> None:
        self.messages = 0
        self.ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.ours.close()
                if not starter:
                    syscalls.prctl(syscalls.PR_SET_NAME, b"nobody\0")
                _send_as(uid, theirs)
            finally:
                os._exit(0)
        theirs.close()

    def send(self, templates: list[bytes], seed: int, number: int) -> None:
        """Have variants of the templates sent; wait() says when that is done."""
        work = pickle.dumps((templates, seed, number))
        self.ours.sendall(struct.pack("I", len(work)) + work)
        self.messages += number

    def is_done(self) -> bool:
        return bool(select.select([self.ours], [], [], 0.02)[0])

    def finish(self) -> None:
        assert self.ours.recv(1) == b"."

    def close(self) -> None:
        self.ours.shutdown(socket.SHUT_RDWR)  # the other one has it open as well
        self.ours.close()
        os.waitpid(self.pid, 0)


def _send_as(uid: int, orders: socket.socket) -> None:
    if os.fork() == 0:
        User("", uid, uid).become()
        _send_forever(orders)
        return
    orders.close()
    os.wait()


def _send_forever(orders: socket.socket) -> None:
    while header := orders.recv(4, socket.MSG_WAITALL):
        work = orders.recv(struct.unpack("I", header)[0], socket.MSG_WAITALL)
        templates, seed, number = pickle.loads(work)
        dice = random.Random(seed)
        for start in range(0, number, AT_ONCE):
            _send_batch(templates, dice, min(AT_ONCE, number - start))
        orders.send(b".")


def _send_batch(templates: list[bytes], dice: random.Random, number: int) -> None:
    connections = []
    for _ in range(number):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(SOCKET))
        connection.settimeout(5)
        connections.append(connection)
    for connection in connections:
        with contextlib.suppress(OSError):  # ledged had enough of it
            _send_one(connection, _variant(connection, dice.choice(templates), dice), dice)
    dice.shuffle(connections)
    for connection in connections:
        connection.close()


def _variant(connection: socket.socket, message: bytes, dice: random.Random) -> bytes:
    kind = dice.randrange(2000)
    if kind == 0:
        return LONG_LINE
    if kind < 1200:
        nonce = connection.recv(256).split()[-1:]  # none if it has been closed to make room
        message = message.replace(b"NONCE", b"".join(nonce))
    if kind % 5 == 0 and message:
        at = dice.randrange(len(message))
        message = message[:at] + bytes([dice.randrange(256)]) + message[at + 1 :]
    return message * (2 if kind % 7 == 0 else 1)


def _send_one(connection: socket.socket, message: bytes, dice: random.Random) -> None:
    how = dice.randrange(12)
    middle = dice.randrange(len(message) + 1)
    if how == 0:
        connection.sendall(message[:middle])  # and no more
    elif how == 1:
        connection.sendall(message[:middle])
        connection.sendall(message[middle:])
    elif how == 2:
        connection.sendall(message)
        connection.shutdown(socket.SHUT_WR)
    elif how == 3:
        socket.send_fds(connection, [message or b"x"], [0] * dice.choice([1, 3, 253]))
    elif how == 4 and message:
        connection.send(message[:1], socket.MSG_OOB)
    else:
        connection.sendall(message)


def hold(uid: int) -> int:
    """A process of the user's that keeps connections open, and renews those that are closed."""
    pid = os.fork()
    if pid == 0:
        try:
            User("", uid, uid).become()
            _hold_forever()
        finally:
            os._exit(0)
    return pid


def _hold_forever() -> None:
    poll = select.poll()
    held: dict[int, socket.socket] = {}
    while True:
        while len(held) < HELD:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(SOCKET))
            held[connection.fileno()] = connection
            poll.register(connection, select.POLLRDHUP)
        for fd, _ in poll.poll(1000):
            poll.unregister(fd)
            held.pop(fd).close()


class Watch:
    """The well-behaved clients, and how long they waited at most."""

    def __init__(self, starter: Starter, ledged: Ledged) -> None:
        self.starter = starter
        self.ledged = ledged
        self.longest_status = 0.0
        self.longest_job = 0.0
        self.jobs = 0

    def ask(self) -> None:
        begin = time.monotonic()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(SOCKET))
            connection.settimeout(30)
            nonce = connection.recv(256).split()[2]
            connection.sendall(b"status 1 %s 0\n" % nonce)
            assert connection.recv(65536).startswith(b"done ")
        self.longest_status = max(self.longest_status, time.monotonic() - begin)

    def start_job(self) -> None:
        begin = time.monotonic()
        self.starter.run("/bin/true").check()
        self.longest_job = max(self.longest_job, time.monotonic() - begin)
        self.jobs += 1

    def memory_kb(self) -> dict[str, int]:
        """Anonymous memory (Pss) of ledged, its launcher and its evaluator, when they are idle."""
        names = ("ledge_launcher", "ledged-policy")
        pids = {name: self.ledged.children(name)[0] for name in names}
        pids["ledged"] = self.ledged.process.pid
        deadline = time.monotonic() + 20
        while _children(pids["ledged-policy"]) or self.descriptors() > IDLE_DESCRIPTORS:
            assert time.monotonic() < deadline, "ledged is busy still"
            time.sleep(0.1)
        return {name: _pss_kb(pid) for name, pid in pids.items()}

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.ledged.process.pid}/fd"))


def _children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


def _pss_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:"))


@pytest.fixture
def watch(installed: Path, execute: Path, _ledged: Ledged) -> Iterator[Watch]:
    nobody = pwd.getpwnam("nobody")
    slice_ = Slice(f"ledge-test-{os.getpid()}.slice", nobody.pw_uid)
    user = User(nobody.pw_name, nobody.pw_uid, nobody.pw_gid)
    yield Watch(Starter(installed / "job_wrapper", execute, user, slice_), _ledged)
    slice_.remove()


def attack(watch: Watch, fuzzers: list[Fuzzer], number: int, examples: int) -> None:
    """Let hypothesis make messages up, and have that many sent."""
    share = number // examples // len(fuzzers)

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.lists(lines | messages | junk, min_size=5, max_size=10), st.integers(0, 1 << 32))
    def example(templates: list[bytes], seed: int) -> None:
        for index, fuzzer in enumerate(fuzzers):
            fuzzer.send(templates, seed + index, share)
        for fuzzer in fuzzers:
            while not fuzzer.is_done():
                watch.ask()
            fuzzer.finish()
        if sum(fuzzer.messages for fuzzer in fuzzers) % (10 * share) == 0:
            watch.start_job()

    example()


def test_hostile_clients(watch: Watch) -> None:
    """See the module's docstring."""
    fuzzers = [Fuzzer(65534, starter=True), Fuzzer(65533, starter=False)]
    attack(watch, fuzzers, MESSAGES // 20, 5)  # caches are full, buffers as large as they get
    watch.start_job()
    time.sleep(1)
    memory, descriptors = watch.memory_kb(), watch.descriptors()
    holders = [hold(uid) for uid in (65532, 65531)]
    begin = time.monotonic()
    attack(watch, fuzzers, MESSAGES, EXAMPLES)
    seconds = time.monotonic() - begin
    for holder in holders:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
    for fuzzer in fuzzers:
        fuzzer.close()
    sent = sum(fuzzer.messages for fuzzer in fuzzers) - MESSAGES // 20
    time.sleep(2)
    watch.ask()
    found = watch.memory_kb()
    print(
        f"{sent} messages in {seconds:.0f} s, {sent / seconds:.0f} a second; "
        f"longest status {watch.longest_status:.2f} s, longest of {watch.jobs} jobs "
        f"{watch.longest_job:.2f} s; memory (kB) {memory} before, {found} after; "
        f"descriptors {descriptors} before, {watch.descriptors()} after"
    )
    assert sent >= MESSAGES
    assert watch.longest_status < WITHIN_SECONDS
    assert watch.longest_job < JOB_WITHIN_SECONDS
    assert watch.descriptors() <= descriptors + 2
    # Together: what the two of ledged share after a fork becomes the one's and the other's.
    assert sum(found.values()) < sum(memory.values()) + GROWTH_KB
