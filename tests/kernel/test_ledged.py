"""ledged itself: it may die at any moment, and no job notices; many jobs may come at once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from tests.kernel.cgroups import Slice
from tests.kernel.ledged import SOCKET, Ledged
from tests.kernel.starter import Process, Starter, User

pytestmark = pytest.mark.requires("root", "cgroup2")

CROWD = 300
KILLINGS = 20


class Node:
    """ledged, and starters with a slice for each job, as HTCondor has them."""

    def __init__(self, installed: Path, execute: Path, directory: Path) -> None:
        self.installed = installed
        self.execute = execute
        self.directory = directory
        self.user = User.named("nobody")
        self.slices: list[Slice] = []
        self.start()

    def start(self) -> None:
        """Start ledged, anew if it was killed."""
        self.ledged = Ledged(self.installed, self.directory)

    def kill(self) -> None:
        """Have ledged die as by a crash; its launcher follows by itself."""
        self.ledged.kill()

    def job(self, line: str, before: Callable[[], object] = lambda: None) -> Process:
        """Start a job, a line of shell, in a slice of its own."""
        slice_ = Slice(f"ledge-test-{os.getpid()}-{len(self.slices)}.slice", self.user.uid)
        self.slices.append(slice_)
        starter = Starter(self.installed / "job_wrapper", self.execute, self.user, slice_)
        return starter.start("/bin/sh", "-c", line, before=before)

    def assert_nothing_left(self) -> None:
        """No process and no group of ours is left in any slice."""
        assert [s.path.name for s in self.slices if not s.is_empty()] == []
        deadline = time.monotonic() + 10
        while left := [group for s in self.slices for group in s.groups()]:
            assert time.monotonic() < deadline, left
            time.sleep(0.02)

    def close(self) -> None:
        self.ledged.close()
        for slice_ in self.slices:
            slice_.remove()


@pytest.fixture
def node(installed: Path, execute: Path, tmp_path: Path) -> Iterator[Node]:
    node = Node(installed, execute, tmp_path)
    yield node
    node.close()


def test_a_running_job_does_not_notice_that_ledged_dies(node: Node) -> None:
    job = node.job("touch running; read line <gate; echo $line; exit 7")
    os.mkfifo(job.directory / "gate")
    os.chown(job.directory / "gate", node.user.uid, -1)
    job.wait_for("running")
    node.kill()
    (job.directory / "gate").write_text("done\n")
    node.start()
    assert os.WEXITSTATUS(job.wait(60)) == 7
    assert job.output == b"done\n"
    node.assert_nothing_left()


def test_a_job_that_ends_while_there_is_no_ledged(node: Node) -> None:
    job = node.job("touch running; sleep 0.5; exit 7")
    job.wait_for("running")
    node.kill()
    assert os.WEXITSTATUS(job.wait(60)) == 7  # the wrapper reads the figures itself
    node.assert_nothing_left()
    node.start()


def test_a_job_that_starts_before_ledged_waits_for_it(node: Node) -> None:
    node.kill()
    job = node.job("exit 7")
    time.sleep(0.5)
    node.start()
    assert os.WEXITSTATUS(job.wait(60)) == 7
    assert job.wrapper_error == b""


def test_killed_at_any_moment(node: Node) -> None:
    """Whatever ledged was doing: every job runs, once, and nothing is left of any."""
    dice = random.Random(20111)
    for _ in range(KILLINGS):
        jobs = [node.job("echo ran; exit 7") for _ in range(4)]
        time.sleep(dice.uniform(0, 0.08))
        node.kill()
        node.start()
        assert [os.WEXITSTATUS(job.wait(60)) for job in jobs] == [7] * 4
        assert [job.output for job in jobs] == [b"ran\n"] * 4
    node.assert_nothing_left()


def test_without_its_launcher_ledged_ends_to_be_started_anew(node: Node) -> None:
    (launcher,) = node.ledged.children("ledge_launcher")
    os.kill(launcher, signal.SIGKILL)
    assert node.ledged.process.wait(20) == 1
    node.start()
    assert os.WEXITSTATUS(node.job("exit 7").wait()) == 7


def test_a_crowd_at_once(node: Node) -> None:
    gate, opener = os.pipe()

    def wait() -> None:
        os.close(opener)
        os.read(gate, 1)  # ends when the last end that can be written to is closed

    jobs = [node.job("echo ran; exit 7", wait) for _ in range(CROWD)]
    os.close(opener)
    begin = time.monotonic()
    found = [os.WEXITSTATUS(job.wait(120)) for job in jobs]
    os.close(gate)
    print(f"{CROWD} jobs that entered at once were gone after {time.monotonic() - begin:.1f} s")
    assert found == [7] * CROWD
    assert {job.output for job in jobs} == {b"ran\n"}
    node.assert_nothing_left()


def test_a_full_run(installed: Path, execute: Path, tmp_path: Path) -> None:
    SOCKET.parent.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", SOCKET.parent], check=True)
    try:
        (SOCKET.parent / "ballast").write_bytes(bytes(4096))
        node = Node(installed, execute, tmp_path)
        assert os.WEXITSTATUS(node.job("exit 7").wait()) == 7
        assert any("No space left" in line for line in node.ledged.lines())
        node.ledged.kill()
    finally:
        subprocess.run(["umount", SOCKET.parent], check=True)
        SOCKET.parent.rmdir()
    for slice_ in node.slices:
        slice_.remove()


def test_a_second_ledged_is_refused(node: Node, installed: Path) -> None:
    command = [sys.executable, "-I", str(installed / "ledged")]
    second = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert second.returncode == 1
    assert "another ledged is running" in second.stderr
    assert os.WEXITSTATUS(node.job("exit 7").wait()) == 7


def test_a_wrapper_that_is_killed_leaves_an_exact_reading_in_the_log(node: Node) -> None:
    job = node.job("touch running; exec sleep 600")
    job.wait_for("running")
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    node.assert_nothing_left()
    lines = [line for line in node.ledged.lines() if "gone without settling; exact" in line]
    assert len(lines) == 1
    assert "CpuUserSeconds=" in lines[0]
