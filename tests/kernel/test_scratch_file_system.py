"""What a starter's directory lies on, also where nobody but the starter has it mounted."""

from __future__ import annotations

import os
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from ledge.daemon.peer import Process, scratch_file_system

# The process stands in a file system that it alone sees; its own root directory is another's.
STARTER = "mount -t {type} none {place} && cd {place} && echo ready && exec sleep 60"


@pytest.mark.requires("root")
@pytest.mark.parametrize(("type_", "counts"), [("tmpfs", False), ("ramfs", False)])
def test_a_mount_of_the_starter_s_own(tmp_path: Path, type_: str, counts: bool) -> None:
    script = STARTER.format(type=type_, place=tmp_path)
    with subprocess.Popen(["unshare", "-m", "sh", "-c", script], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"ready\n"
        with closing(Process(starter.pid)) as process:
            found = scratch_file_system(process)
        starter.kill()
    assert (found.type, found.counts_writes) == (type_, counts)


@pytest.mark.requires("root")
def test_a_directory_that_all_see(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    with subprocess.Popen(["sleep", "60"], cwd=tmp_path) as starter:
        with closing(Process(starter.pid)) as process:
            found = scratch_file_system(process)
        starter.kill()
    assert (os.makedev(found.major, found.minor), bool(found.type)) == (device, True)
