"""What ledged takes out of slices whose jobs, starter and ledged were all killed."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.cgroups import Slice, mount_point
from tests.kernel.ledged import Ledged
from tests.kernel.starter import Starter, User
from tests.kernel.threats.attacker import wait_until

pytestmark = pytest.mark.requires("root", "cgroup2")

_PR_SET_NAME = 15


@pytest.fixture
def master() -> Iterator[int]:
    """A process that is named like condor_master, in the root of the hierarchy as this one."""
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).prctl(_PR_SET_NAME, b"condor_master")
        while True:
            signal.pause()
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.fixture
def base() -> Iterator[Path]:
    """The group that slices are in."""
    root = mount_point()
    assert root is not None
    path = root / f"ledge-test-{os.getpid()}"
    path.mkdir()
    for controller in (root / "cgroup.subtree_control").read_text().split():
        (path / "cgroup.subtree_control").write_text(f"+{controller}")
    yield path
    path.rmdir()


@pytest.fixture
def slices(base: Path) -> Iterator[list[Slice]]:
    """Of two jobs."""
    uid = User.named("nobody").uid
    slices = [Slice(f"{base.name}/slot{number}.slice", uid) for number in (1, 2)]
    yield slices
    for slice_ in slices:
        slice_.remove()


def test_of_jobs_that_were_killed_with_ledged(
    installed: Path, execute: Path, tmp_path: Path, base: Path, slices: list[Slice], master: int
) -> None:
    options = ("--base-cgroup", base.name)
    user = User.named("nobody")
    ledged = Ledged(installed, tmp_path, options=options)
    starters = [Starter(installed / "job_wrapper", execute, user, slice_) for slice_ in slices]
    line = "echo >ready; exec sleep 600"
    killed, other = [starter.start("/bin/sh", "-c", line) for starter in starters]
    for job in (killed, other):
        job.wait_for("ready")
    ledged.kill()
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert slices[0].is_empty()
    theirs = [f"ledge-{killed.pid}", f"ledge-{killed.pid}/job"]
    assert set(slices[0].groups()) >= set(theirs)
    (slices[0].path / "kept").mkdir()  # somebody else's

    ledged = Ledged(installed, tmp_path, options=options)
    try:
        wait_until(lambda: slices[0].groups() == ["kept"], "the job's groups are left")
        assert f"removed from slot1.slice: ledge-{killed.pid}" in ledged.lines()
        assert f"ledge-{other.pid}" in slices[1].groups()
        os.kill(other.pid, signal.SIGTERM)
        other.wait()
    finally:
        ledged.close()
