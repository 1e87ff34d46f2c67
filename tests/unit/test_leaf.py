"""What the job's own group has of the limits of its slice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ledge.job.leaf import Leaf
from ledge.kernel.cgroup2 import Cgroup


class _WithMemory(Cgroup):
    """A slice whose children have the memory controller, of ordinary files."""

    def make(self, name: bytes) -> Cgroup:
        group = super().make(name)
        os.close(os.open("memory.max", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=group.fd))
        return group


@pytest.mark.parametrize(("limit", "shown"), [("536870912\n", "536870912\n"), ("max\n", "")])
def test_the_memory_limit_is_shown(tmp_path: Path, limit: str, shown: str) -> None:
    (tmp_path / "memory.max").write_text(limit)
    Leaf(_WithMemory.open(os.fsencode(tmp_path)), b"ledge-1", b"/sys/fs/cgroup")
    assert (tmp_path / "ledge-1/memory.max").read_text() == shown


def test_without_the_memory_controller_there_is_nothing_to_show(tmp_path: Path) -> None:
    for limit in (None, "536870912\n"):
        name = b"ledge-%d" % len(os.listdir(tmp_path))
        if limit:
            (tmp_path / "memory.max").write_text(limit)
        Leaf(Cgroup.open(os.fsencode(tmp_path)), name, b"/sys/fs/cgroup")
        assert os.listdir(tmp_path / os.fsdecode(name)) == ["job"]
