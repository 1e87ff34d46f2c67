"""A node that is not as it should be: one clear line, nothing lost, nothing left."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Callable

import pytest

from tests.kernel.starter import Process, Starter, User

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS = 0x20000
_MS_PRIVATE_RECURSIVE = 0x40000 | 0x4000


def refused(process: Process) -> str:
    """The line of a wrapper that did not run its job."""
    process.wait()
    assert process.output == b""
    line = process.wrapper_error.decode()
    assert line.startswith("condor-ledge: ")
    assert line.count("\n") == 1
    assert "internal error" not in line
    return line


class Covered(User):
    """A user for whom, and for no one else, an empty file system lies over a directory."""

    def __init__(self, user: User, path: str) -> None:
        super().__init__(user.name, user.uid, user.gid)
        self.path = path

    def become(self) -> None:
        assert _libc.unshare(_CLONE_NEWNS) == 0
        assert _libc.mount(b"none", b"/", None, _MS_PRIVATE_RECURSIVE, None) == 0
        assert _libc.mount(b"none", self.path.encode(), b"tmpfs", 0, None) == 0
        super().become()


@pytest.fixture
def set_scratch(starter: Starter, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Have the starter name another scratch directory, or none."""
    environment = starter.environment
    name = b"_CONDOR_SCRATCH_DIR="

    def set_to(path: str | None) -> None:
        def changed(directory: Path) -> list[bytes]:
            others = [entry for entry in environment(directory) if not entry.startswith(name)]
            return others if path is None else [*others, name + path.encode()]

        monkeypatch.setattr(starter, "environment", changed)

    return set_to


@pytest.mark.parametrize("path", ["/no/such/directory", "/proc/1"])
def test_a_scratch_directory_that_is_missing_or_not_ours(
    starter: Starter, set_scratch: Callable[[str | None], None], path: str
) -> None:
    set_scratch(path)
    line = refused(starter.start("/bin/echo", "ran"))
    assert path in line
    assert "the job's scratch directory must be there and its user's" in line


def test_no_scratch_directory_at_all(
    starter: Starter, set_scratch: Callable[[str | None], None]
) -> None:
    set_scratch(None)
    assert "no _CONDOR_SCRATCH_DIR" in refused(starter.start("/bin/echo", "ran"))


def test_without_proc(starter: Starter) -> None:
    starter.user = Covered(starter.user, "/proc")
    assert "needs /proc to be mounted" in refused(starter.start("/bin/echo", "ran"))


def test_without_the_control_groups_the_job_runs(starter: Starter) -> None:
    starter.user = Covered(starter.user, "/sys/fs/cgroup")
    assert starter.start("/bin/echo", "ran").check() == b"ran\n"
