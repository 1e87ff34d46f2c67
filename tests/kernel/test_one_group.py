"""A job in a single control group, as HTCondor before 24.8 makes it; and after that with room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledge.condor_versions import make_room
from tests.kernel.cgroups import OneGroup, mount_point
from tests.kernel.ledged import Ledged
from tests.kernel.starter import Process, Starter, User

pytestmark = pytest.mark.requires("root", "cgroup2")

NAME = "condor_ledge_test_slot1_1@node"


@pytest.fixture
def owner() -> User:
    return User.named("nobody")


@pytest.fixture
def group(owner: User) -> Iterator[OneGroup]:
    group = OneGroup(f"{NAME}-{os.getpid()}", owner.uid)
    yield group
    group.remove()


@pytest.fixture(params=["job_wrapper", "job_wrapper_alone"])
def job(
    request: pytest.FixtureRequest,
    installed: Path,
    execute: Path,
    tmp_path: Path,
    owner: User,
    group: OneGroup,
) -> Iterator[Process]:
    """A job that waits for its gate, by ledged and without it."""
    ledged = Ledged(installed, tmp_path)
    starter = Starter(installed / request.param, execute, owner, group)
    job = starter.start("/bin/sh", "-c", "mkfifo gate; : >running; read line <gate; exit 7")
    yield job
    starter.close()
    ledged.close()


def test_the_job_gets_a_group_beside_its_wrapper(job: Process, group: OneGroup) -> None:
    job.wait_for("running")
    leaf = f"ledge-{job.pid}"
    assert group.groups() == [leaf, f"{leaf}/job", "wrapper.scope"]
    assert (group.path / "cgroup.procs").read_text() == ""
    members = (group.path / "wrapper.scope/cgroup.procs").read_text().split()
    assert str(job.pid) in members
    jobs = (group.path / leaf / "job/cgroup.procs").read_text().split()
    assert jobs
    assert not set(jobs) & set(members)
    (job.directory / "gate").write_text("go on\n")
    assert os.waitstatus_to_exitcode(job.wait()) == 7
    assert group.groups() == ["wrapper.scope"]


def test_a_group_that_root_did_not_make_is_left_as_it_is(owner: User, group: OneGroup) -> None:
    below = OneGroup(NAME, owner.uid, above=group.path)
    root = mount_point()
    assert root is not None
    path = os.fsencode(below.path.relative_to(root))
    make_room(b"/" + path, os.fsencode(root), owner.uid)
    assert below.groups() == []


def test_a_group_of_another_name_or_user_is_left_as_it_is(owner: User, group: OneGroup) -> None:
    root = mount_point()
    assert root is not None
    mounted = os.fsencode(root)
    make_room(b"/" + os.fsencode(group.path.name), mounted, owner.uid + 1)
    other = OneGroup(f"ledge-test-{os.getpid()}", owner.uid)
    try:
        make_room(b"/" + os.fsencode(other.path.name), mounted, owner.uid)
        assert (group.groups(), other.groups()) == ([], [])
    finally:
        other.remove()
