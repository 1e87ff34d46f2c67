"""What a job sees, and what is left when it has ended: nothing (the fixture looks, every time)."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.starter import Starter


def test_ps_shows_the_job_and_its_init_alone(starter: Starter) -> None:
    lines = starter.run("/bin/ps", "-e", "-o", "pid=,comm=").check().decode().splitlines()
    assert [line.split()[1] for line in lines] == ["ledge_init", "ps"]
    assert lines[0].split()[0] == "1"


def test_init_tells_nothing_and_takes_nothing(starter: Starter) -> None:
    line = "cat /proc/1/environ /proc/1/maps; ls /proc/1/fd /proc/1/root/ /proc/1/cwd/"
    process = starter.shell(line)
    if starter.user.name == "root":
        return  # root may look at what is its own
    assert process.output == b""
    assert process.error.count(b"Permission denied") >= 4


@pytest.mark.parametrize("directory", ["/tmp", "/var/tmp", "/dev/shm"])
def test_a_directory_that_all_share_is_private(starter: Starter, directory: str) -> None:
    theirs = Path(directory, f"ledge-test-theirs-{os.getpid()}")
    ours = Path(directory, f"ledge-test-ours-{os.getpid()}")
    theirs.touch()
    try:
        output = starter.shell(f"ls -A {directory}; echo x >{ours} && cat {ours}").check()
    finally:
        theirs.unlink()
    assert output == b"x\n"
    assert not ours.exists()


@pytest.mark.parametrize("directory", ["/tmp", "/var/tmp", "/dev/shm"])
def test_everybody_may_write_there_and_delete_nobody_else_s(
    starter: Starter, directory: str
) -> None:
    assert starter.run("/usr/bin/stat", "-c", "%a", directory).check() == b"1777\n"


def test_a_scratch_directory_below_tmp_is_still_seen(starter: Starter, tmp_path: Path) -> None:
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    starter.execute = tmp_path
    process = starter.shell("echo hello >file; pwd; cat $_CONDOR_SCRATCH_DIR/file; ls -A /tmp")
    top = process.directory.parts[2]
    assert process.check().decode().splitlines() == [str(process.directory), "hello", top]
    assert (process.directory / "file").read_text() == "hello\n"


@pytest.fixture
def message_queue() -> Iterator[None]:
    """A POSIX message queue outside, and /dev/mqueue to see it, where the machine has none."""
    librt = ctypes.CDLL("librt.so.1", use_errno=True)
    directory = Path("/dev/mqueue")
    made = not directory.exists()
    if made:
        directory.mkdir()
    name = b"/ledge-test-%d" % os.getpid()
    queue = librt.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, None)
    assert queue >= 0, os.strerror(ctypes.get_errno())
    yield
    os.close(queue)
    librt.mq_unlink(name)
    if made:
        directory.rmdir()


@pytest.mark.usefixtures("message_queue")
def test_message_queues_are_fresh(starter: Starter) -> None:
    assert starter.shell("stat -f -c %T /dev/mqueue; ls -A /dev/mqueue").check() == b"mqueue\n"


@pytest.fixture
def shared_memory() -> Iterator[int]:
    """The number of a System V segment outside."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = libc.shmget(0, 4096, 0o600)
    assert number >= 0
    yield number
    libc.shmctl(number, 0, None)


def test_system_v_ipc_is_separate(starter: Starter, shared_memory: int) -> None:
    assert len(Path("/proc/sysvipc/shm").read_text().splitlines()) > 1
    assert len(starter.shell("cat /proc/sysvipc/shm").check().splitlines()) == 1


def test_the_job_sees_its_own_control_group_as_the_root(starter: Starter) -> None:
    lines = starter.run("/bin/cat", "/proc/self/cgroup").check().splitlines()
    assert [line for line in lines if line.startswith(b"0::")] == [b"0::/job"]


def test_a_job_can_divide_its_share_as_a_glidein_does(starter: Starter) -> None:
    line = """
        root=$(sed -n 's/.* - cgroup2 .*//;t;d' /proc/self/mountinfo;
               awk '/ - cgroup2 /{print $5}' /proc/self/mountinfo | tail -1)
        mkdir $root/slot1 && echo $$ >$root/slot1/cgroup.procs && grep ^0:: /proc/self/cgroup
    """
    assert starter.shell(line).check().split() == [b"0::/slot1"]


def test_the_figures_come_from_a_group_beside_the_scope(starter: Starter) -> None:
    assert starter.slice is not None
    process = starter.start("/bin/sh", "-c", ": >ready; exec sleep 0.3")
    process.wait_for("ready")
    name = f"ledge-{process.pid}"
    assert starter.slice.groups() == [name, f"{name}/job"]
    process.check()


ESCAPES = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 100)
        os.chdir("/")
        time.sleep(100)
    os._exit(0)
os.wait()
"""


def test_a_daemon_that_the_job_left_is_gone_with_it(starter: Starter) -> None:
    begin = time.monotonic()
    starter.run("/usr/bin/python3", "-ISEc", ESCAPES).check()
    assert time.monotonic() - begin < 10
    # That nothing is left sees the fixture.


def test_the_wrapper_does_not_end_before_what_the_job_left(starter: Starter) -> None:
    assert starter.slice is not None
    starter.shell("for i in 1 2 3 4 5 6 7 8; do setsid sleep 100 & done").check()
    assert starter.slice.processes() == []


def test_orphans_are_reaped(starter: Starter) -> None:
    line = "for i in 1 2 3 4 5; do (sh -c 'exit 3' &); done; sleep 0.3; ps -e -o stat= | grep -c Z"
    assert starter.run("/bin/sh", "-c", f"{line}; :").check() == b"0\n"


def test_many_short_processes(starter: Starter) -> None:
    line = "for i in $(seq 200); do (:) & done; wait; (setsid sh -c : &); exit 3"
    assert os.WEXITSTATUS(starter.shell(line).wait()) == 3


def test_control_groups_that_the_job_made_and_locked_are_removed(starter: Starter) -> None:
    line = """
        root=$(awk '/ - cgroup2 /{print $5}' /proc/self/mountinfo | tail -1)
        mkdir -p $root/a/b/c $root/job/d && chmod 000 $root/a/b/c $root/a/b $root/a $root/job/d
    """
    starter.shell(line).check()


def test_the_job_cannot_reach_the_groups_above_its_own(starter: Starter) -> None:
    assert starter.slice is not None
    line = """
        root=$(awk '/ - cgroup2 /{print $5}' /proc/self/mountinfo | tail -1)
        ls -d $root/*.scope $root/../*.scope; echo $$ >$root/../cgroup.procs
    """
    assert starter.shell(line).output == b""


@pytest.mark.parametrize("line", ["mount -t tmpfs none /mnt", "mount --bind /usr /mnt"])
def test_what_the_job_mounts_stays_inside(starter: Starter, line: str) -> None:
    starter.shell(line)
    assert not Path("/mnt/bin").exists()


def test_without_a_control_group_the_rest_is_the_same(starter_without_cgroup: Starter) -> None:
    process = starter_without_cgroup.shell("ps -e -o comm=; ls -A /tmp; exit 3")
    assert process.output == b"ledge_init\nsh\nps\n"
    assert os.WEXITSTATUS(process.wait()) == 3


@pytest.mark.alone  # HTCondor has one job in a slice, and ledged sees to it
def test_the_pid_in_the_name_of_the_group_is_never_the_job_s_business(starter: Starter) -> None:
    # Two at once in one slice (a job and condor_ssh_to_job) must not get in each other's way.
    processes = [starter.start("/bin/sleep", "0.2") for _ in range(4)]
    for process in processes:
        process.check()
