"""Keeping ledged from others: what would make it wait, or fill its log."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import time
from array import array

import pytest

from ledge.daemon.server import MOST_OF_A_USER, Impatience
from ledge.log import MOST_COMPLAINTS
from tests.kernel.cgroups import Slice
from tests.kernel.ledged import Ledged
from tests.kernel.threats.attacker import PYTHON, Attacker, assert_serving, proc_status

MOST_KB = 100_000  # more for one user's requests, some copies included
IDLE_DESCRIPTORS = 40

pytestmark = pytest.mark.requires("root", "userns", "cgroup2")


def test_descriptors_that_take_hours_to_close(attacker: Attacker) -> None:
    """Whoever drops a message closes what is in it: TCP connections that linger, for instance."""
    process = attacker.attack("send_lingering", "3600")
    process.wait_for("sent")
    assert_serving()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_without_so_passrights_a_signal_ends_the_closing() -> None:
    """What ledged does before Linux 6.16, on a socket of our own."""
    listener = socket.create_server(("127.0.0.1", 0))
    lingering = socket.create_connection(listener.getsockname())
    peer, _ = listener.accept()
    lingering.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            lingering.send(bytes(65536))
    lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 20))
    ours, theirs = socket.socketpair()
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [lingering.fileno()]))
    theirs.sendmsg([b"x"], [rights])
    lingering.close()
    before = signal.getsignal(signal.SIGALRM)
    begin = time.monotonic()
    with Impatience(needed=True):
        assert ours.recvmsg(1, socket.CMSG_SPACE(12))[0] == b"x"
    assert time.monotonic() - begin < 1
    signal.signal(signal.SIGALRM, before)
    for each in (ours, theirs, peer, listener):
        each.close()


def test_a_user_cannot_push_others_out_of_the_log(attacker: Attacker, ledged: Ledged) -> None:
    begin = len(ledged.lines())
    for _ in range(30):
        attacker.forge("ask_from_child")
    lines = [line for line in ledged.lines()[begin:] if f"user {attacker.user.uid}" in line]
    assert len(lines) <= 2 * (MOST_COMPLAINTS + 1)  # a minute may have ended meanwhile


def test_nor_by_jobs_that_are_refused(attacker: Attacker, ledged: Ledged) -> None:
    attacker.slice = None  # as a hook, of which each request is decided anew
    begin = len(ledged.lines())
    times = 4 * MOST_COMPLAINTS
    assert attacker.forge("be_refused", str(times)).count("refused") >= times
    lines = [line for line in ledged.lines()[begin:] if ": refused: " in line]
    assert len(lines) <= 2 * MOST_COMPLAINTS


NEST = """
import os
lines = open("/proc/self/mountinfo").read().splitlines()
os.chdir([line.split()[4] for line in lines if " - cgroup2 " in line][-1])
for _ in range(%d):
    os.mkdir("g")
    os.chdir("g")
"""


@pytest.mark.parametrize("depth", [300, 1500])
def test_control_groups_in_one_another(attacker: Attacker, slice_: Slice, depth: int) -> None:
    """So many that removing them one by one would stop ledged, or overflow its stack."""
    attacker.run(PYTHON, "-ISEc", NEST % depth).check()
    assert_serving()
    if depth == 1500:
        assert len(list_groups(slice_)) > 0  # left to HTCondor, which removes the slice
        remove_nested(slice_)


def list_groups(slice_: Slice) -> list[str]:
    return [name for name in os.listdir(slice_.path) if name.startswith("ledge-")]


def remove_nested(slice_: Slice) -> None:
    """Down to the deepest and back up: the whole path is longer than any system call takes."""
    for name in list_groups(slice_):
        back = os.open(".", os.O_RDONLY)
        os.chdir(slice_.path / name)
        while os.path.isdir("g"):
            os.chdir("g")
        while os.getcwd() != str(slice_.path / name):
            os.chdir("..")
            os.rmdir("g")
        os.fchdir(back)
        os.close(back)
        (slice_.path / name / "job").rmdir()
        (slice_.path / name).rmdir()


def test_many_control_groups_beside_the_scope(attacker: Attacker) -> None:
    assert "too many control groups" in attacker.forge("ask_beside_many_groups", "1000")


CROWD = 1500


@pytest.mark.parametrize("length", [4096, 1 << 20])
def test_a_crowd_that_waits_for_decisions(
    attacker: Attacker, ledged: Ledged, length: int
) -> None:
    """What has been sent as a whole, and is not answered, must not grow without end either."""
    attacker.slice = None  # as a hook, of which each request is decided anew
    before = resident_kb(ledged)
    process = attacker.attack("crowd", str(CROWD), str(length))
    highest = descriptors = 0
    while not (process.directory / "sent").exists():
        highest = max(highest, resident_kb(ledged))
        descriptors = max(descriptors, len(os.listdir(f"/proc/{ledged.process.pid}/fd")))
        time.sleep(0.01)
    assert_serving()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert highest < before + MOST_KB
    assert descriptors < 3 * MOST_OF_A_USER + IDLE_DESCRIPTORS


def resident_kb(ledged: Ledged) -> int:
    """The memory of ledged."""
    lines = proc_status(ledged.process.pid).splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
