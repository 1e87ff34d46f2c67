"""The admin's plan, /etc/condor-ledge/plan.json, as the wrapper carries it out."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from tests.kernel.starter import Starter

DIRECTORY = Path("/etc/condor-ledge")
WritePlan = Callable[[object], None]

pytestmark = [pytest.mark.requires("no_plan"), pytest.mark.alone]


@pytest.fixture
def plan() -> Iterator[WritePlan]:
    """Write the plan: a string as it is, anything else as JSON."""
    DIRECTORY.mkdir()

    def write(value: object) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        (DIRECTORY / "plan.json").write_text(text)

    yield write
    shutil.rmtree(DIRECTORY)


BARE = {"version": 1, "namespaces": [], "mounts": [], "cgroup": "none"}
MISSING = {"kind": "tmpfs", "target": "/no/such/directory"}


def test_a_directory_without_a_plan_is_the_built_in_plan(starter: Starter, plan: WritePlan) -> None:
    assert starter.shell("ls -A /tmp").check() == b""


def test_a_plan_without_namespaces(starter: Starter, plan: WritePlan) -> None:
    plan(BARE)
    output = starter.shell("readlink /proc/self/ns/pid /proc/self/ns/mnt; exit 0").check()
    links = [Path(f"/proc/self/ns/{name}").readlink() for name in ("pid", "mnt")]
    assert output.decode().split() == [str(link) for link in links]


def test_a_plan_with_a_bind_mount(starter: Starter, plan: WritePlan) -> None:
    mount = {"kind": "bind", "source": "/usr/share", "target": "/mnt", "read_only": True}
    plan({"version": 1, "mounts": [mount]})
    process = starter.run("/bin/sh", "-c", "ls -d /mnt/doc; touch /mnt/x")
    assert process.output == b"/mnt/doc\n"
    assert b"Read-only" in process.error or b"Permission denied" in process.error


def test_a_plan_with_a_tmpfs_of_a_size(starter: Starter, plan: WritePlan) -> None:
    mount = {"kind": "tmpfs", "target": "/tmp", "size_bytes": 1 << 20, "inodes": 9}
    plan({"version": 1, "mounts": [mount]})
    process = starter.shell("stat -f -c '%T %b %c' /tmp; touch /tmp/x")
    assert process.check() == b"tmpfs 256 9\n"


def test_a_tmpfs_over_the_scratch_directory_leaves_it_in_sight(
    starter: Starter, plan: WritePlan, tmp_path: Path
) -> None:
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    starter.execute = tmp_path
    plan({"version": 1, "mounts": [{"kind": "tmpfs", "target": "/tmp", "size_bytes": 1 << 20}]})
    process = starter.shell("echo hello >file; cat $_CONDOR_SCRATCH_DIR/file; ls -A /tmp")
    top = process.directory.parts[2]
    assert process.check().decode().splitlines() == ["hello", top]
    assert (process.directory / "file").read_text() == "hello\n"


@pytest.mark.requires("overlay")
def test_a_plan_with_an_overlay(starter: Starter, plan: WritePlan, tree: Path) -> None:
    plan({"version": 1, "mounts": [{"kind": "overlay", "source": str(tree), "target": "/mnt"}]})
    line = "cd /mnt && cat own/file && echo changed >own/file && echo x >new && cat own/file new"
    process = starter.shell(line)
    assert process.check() == b"original\nchanged\nx\n"
    assert (tree / "own/file").read_text() == "original\n"
    assert (process.directory / ".ledge/mnt.overlay/upper/new").read_text() == "x\n"


@pytest.fixture
def tree(starter: Starter) -> Iterator[Path]:
    """A tree of the user's, not below /tmp."""
    tree = Path(tempfile.mkdtemp(prefix="ledge-test-", dir="/srv"))
    tree.chmod(0o755)
    (tree / "own").mkdir()
    (tree / "own/file").write_text("original\n")
    for path in (tree / "own", tree / "own/file"):
        os.chown(path, starter.user.uid, starter.user.gid)
    yield tree
    shutil.rmtree(tree)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        pytest.param("{", "not a JSON document", id="not JSON"),
        pytest.param("", "not a JSON document", id="empty"),
        pytest.param({}, "version", id="no version"),
        pytest.param({"version": 1, "typo": 1}, "unknown key 'typo'", id="unknown key"),
        pytest.param(" " * 10_000_000, "at most", id="10 MB"),
        pytest.param(
            '{"version": 1, "mounts": [{"kind": "tmpfs", "target": "/\\ud800"}]}',
            "target",
            id="half a character",
        ),
    ],
)
def test_a_wrong_plan_refuses_the_job_in_one_line(
    starter: Starter, plan: WritePlan, value: object, said: str
) -> None:
    plan(value)
    process = starter.run("/bin/sh", "-c", ": >ran")
    refused(process.wrapper_error, said)
    assert process.wait() != 0
    assert not (process.directory / "ran").exists()


def refused(wrapper_error: bytes, said: str) -> None:
    text = wrapper_error.decode()
    assert text.startswith("condor-ledge: ")
    assert text.count("\n") == 1
    assert said in text
    assert "internal error" not in text


def test_a_plan_that_cannot_be_read_refuses_the_job(starter: Starter, plan: WritePlan) -> None:
    (DIRECTORY / "plan.json").mkdir()
    refused(starter.run("/bin/true").wrapper_error, "Is a directory")


def test_a_step_that_fails_refuses_the_job_and_says_why(starter: Starter, plan: WritePlan) -> None:
    plan({"version": 1, "mounts": [MISSING]})
    process = starter.run("/bin/sh", "-c", ": >ran")
    refused(process.wrapper_error, "/no/such/directory")
    assert "; " in process.wrapper_error.decode()  # a remedy
    assert not (process.directory / "ran").exists()


def test_or_runs_it_without_where_the_plan_says_so(starter: Starter, plan: WritePlan) -> None:
    plan({"version": 1, "mounts": [MISSING], "on_failure": "run"})
    output = starter.shell("readlink /proc/self/ns/mnt").check().decode()
    assert output.strip() == str(Path("/proc/self/ns/mnt").readlink())
