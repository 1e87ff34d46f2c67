"""Jobs that are killed, and what ledged still reads of them; what it costs to watch for that."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledge.client import Connection
from tests.installed import SOURCE_ROOT
from tests.kernel.cgroups import Slice
from tests.kernel.starter import Process
from tests.kernel.test_ledged import Node

pytestmark = pytest.mark.requires("root", "cgroup2")

KILLINGS = 20
KINDS = ("exact", "sampled", "not_read")
# Toggles the frozen state, which cgroup.events shows, as fast as it can.
FREEZE = "while :; do echo 1 >$0/cgroup.freeze; echo 0 >$0/cgroup.freeze; done"
BURN = "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done; touch running; exec sleep 600"


@pytest.fixture
def node(installed: Path, execute: Path, tmp_path: Path) -> Iterator[Node]:
    node = Node(installed, execute, tmp_path)
    yield node
    node.close()


def status() -> dict[str, Any]:
    connection = Connection()
    answer = connection.request(b"status")
    connection.close()
    return dict(json.loads(answer.body))


def inotify_watches(node: Node) -> int:
    """As the kernel has them (proc_pid_fdinfo(5))."""
    directory = Path(f"/proc/{node.ledged.process.pid}/fdinfo")
    return sum(path.read_text().count("inotify wd:") for path in directory.iterdir())


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def last_words(node: Node) -> list[str]:
    return [line for line in node.ledged.lines() if "gone without settling" in line]


def await_last_words(node: Node, count: int) -> list[str]:
    deadline = time.monotonic() + 20
    while len(last_words(node)) < count:
        assert time.monotonic() < deadline, last_words(node)
        time.sleep(0.02)
    return last_words(node)


def await_endings(count: int) -> dict[str, Any]:
    """What became of so many jobs that did not settle."""
    deadline = time.monotonic() + 20
    while sum((counts := status()["endings"])[kind] for kind in KINDS) < count:
        assert time.monotonic() < deadline, counts
        time.sleep(0.02)
    return dict(counts)


def kill(job: Process) -> None:
    os.kill(job.pid, signal.SIGKILL)
    job.wait()


def remove_group(slice_: Slice, group: Path) -> None:
    """As HTCondor's starter does when the wrapper has gone, and as quickly."""
    (slice_.path / "cgroup.kill").write_text("1")
    while group.exists():
        for path in (group / "job", group):
            with contextlib.suppress(OSError):  # not empty yet, or removed by ledged
                path.rmdir()


def test_wrappers_that_are_killed_leave_exact_readings(node: Node) -> None:
    jobs = [node.job(BURN) for _ in range(KILLINGS)]
    for job in jobs:
        job.wait_for("running")
    groups = [next(slice_.path.glob("ledge-*")) for slice_ in node.slices]
    used = [int((group / "cpu.stat").read_text().split()[1]) / 1e6 for group in groups]
    for job in jobs:
        kill(job)
    lines = await_last_words(node, KILLINGS)
    told = {
        int(re.findall(r"the wrapper (\d+)", line)[0]): sum(
            float(value) for value in re.findall(r"Cpu(?:User|System)Seconds=([\d.]+)", line)
        )
        for line in lines
        if "; exact: " in line
    }
    assert len(told) == KILLINGS
    for job, seconds in zip(jobs, used):
        assert seconds <= told[job.pid] < seconds + 0.05  # its end
    assert status()["endings"]["exact"] == KILLINGS
    node.assert_nothing_left()


def test_a_starter_that_removes_everything_at_once(node: Node) -> None:
    """It is a race, which ledged mostly wins; of a group that it never saw nothing is known."""
    for number in range(KILLINGS):
        job = node.job("touch running; exec sleep 600")
        job.wait_for("running")
        (group,) = node.slices[-1].path.glob("ledge-*")
        kill(job)
        remove_group(node.slices[-1], group)
        await_endings(number + 1)
    print(await_endings(KILLINGS))
    assert await_endings(KILLINGS)["exact"] > 0


def test_no_watch_outlives_its_job(node: Node) -> None:
    before = inotify_watches(node)
    running = [node.job("touch running; exec sleep 600") for _ in range(3)]
    for job in running:
        job.wait_for("running")
    watched = inotify_watches(node)
    assert before < watched <= before + 3 * 2
    assert status()["endings"]["watches"] == watched - before
    for _ in range(KILLINGS):
        assert os.WEXITSTATUS(node.job("exit 7").wait()) == 7
    for job in running:
        kill(job)
    await_last_words(node, 3)
    node.assert_nothing_left()
    deadline = time.monotonic() + 5
    while inotify_watches(node) > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert inotify_watches(node) == before
    assert status()["endings"]["watches"] == 0


def test_a_job_that_never_is_quiet_does_not_keep_ledged_busy(node: Node) -> None:
    job = node.job("touch running; exec sleep 600")
    job.wait_for("running")
    (group,) = node.slices[-1].path.glob("ledge-*")
    pid = node.ledged.process.pid
    noise = subprocess.Popen(["sh", "-c", FREEZE, str(group)])
    time.sleep(0.5)
    before = cpu_seconds(pid)
    time.sleep(5)
    used = cpu_seconds(pid) - before
    noise.kill()
    noise.wait()
    (group / "cgroup.freeze").write_text("0")
    print(f"ledged used {used:.2f} s in 5 s, {status()['endings']}")
    assert status()["endings"]["paused"] >= 3
    assert used < 0.1
    time.sleep(1.5)  # it is listened to again
    kill(job)
    assert "; exact: " in await_last_words(node, 1)[0]


# In a user namespace of its own a limit is ours to set, and nobody else's.
FEW = """
import os, sys
from ledge.daemon.changes import Changes
from ledge.daemon.server import Server
from ledge.log import Log

class Watched(Server):
    def __init__(self):
        pass
    def watch(self, fd, action):
        pass

changes = Changes(Log(None))
changes.attach(Watched())
directory = os.open(sys.argv[1], os.O_RDONLY)
began = [changes.begin(directory, name, lambda: None) for name in ("a", "b", "c")]
print([change is not None for change in began], len(changes), changes.problem)
changes.end(began[0])
print(changes.begin(directory, "c", lambda: None) is not None, len(changes))
"""


@pytest.mark.requires("userns")
def test_no_watches_left_is_told_once(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).touch()
    line = 'echo 1 >/proc/sys/user/max_inotify_watches && exec "$0" -c "$1" "$2"'
    command = ["unshare", "-U", "-r", "sh", "-c", line, sys.executable, FEW, str(tmp_path)]
    environ = {**os.environ, "PYTHONPATH": str(SOURCE_ROOT)}
    run = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=20)
    assert run.stdout == (
        "[True, False, False] 1 control files are not watched: No space left on device; "
        "see fs.inotify.max_user_watches\nTrue 1\n"
    )
    assert run.stderr.count("are not watched") == 1


def test_jobs_that_run_while_there_is_no_ledged_are_found_again(node: Node) -> None:
    jobs = [node.job("touch running; read line <gate; exit 7") for _ in range(3)]
    for job in jobs:
        os.mkfifo(job.directory / "gate")
        os.chown(job.directory / "gate", node.user.uid, -1)
    idle = node.job("touch running; exec sleep 600")
    for job in [*jobs, idle]:
        job.wait_for("running")
    node.kill()
    (jobs[0].directory / "gate").write_text("done\n")  # ends meanwhile, and waits for ledged
    time.sleep(0.5)
    node.start()
    found = re.findall(r"wrapper (\d+) runs already", "\n".join(node.ledged.lines()))
    assert sorted(map(int, found)) == sorted(job.pid for job in [*jobs, idle])
    for job in jobs[1:]:
        (job.directory / "gate").write_text("done\n")
    assert [os.WEXITSTATUS(job.wait(60)) for job in jobs] == [7] * 3
    kill(idle)
    assert "; exact: " in await_last_words(node, 1)[0]
    assert len(last_words(node)) == 1  # the others settled
    assert status()["jobs"] == 0
    node.assert_nothing_left()


def test_a_group_of_the_right_name_is_not_enough_to_be_found(node: Node) -> None:
    """A process of the user's beside the wrapper, with a group made for it."""
    job = node.job("touch running; exec sleep 600")
    job.wait_for("running")
    slice_ = node.slices[-1]
    stranger = subprocess.Popen(["sleep", "600"])
    (slice_.scope / "cgroup.procs").write_text(str(stranger.pid))
    (slice_.path / f"ledge-{stranger.pid}").mkdir()
    node.kill()
    node.start()
    lines = "\n".join(node.ledged.lines())
    stranger.kill()
    stranger.wait()
    assert re.findall(r"wrapper (\d+) runs already", lines) == [str(job.pid)]
    kill(job)
    await_last_words(node, 1)
