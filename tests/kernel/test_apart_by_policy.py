"""The same by a policy, carried out by ledged: what it hides, and what it leaves."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.cgroups import Slice
from tests.kernel.ledged import Ledged
from tests.kernel.starter import Starter, User
from tests.kernel.test_apart import CONNECT, PYTHON

pytestmark = pytest.mark.requires("root", "cgroup2")

POLICY = """
version: 1
defaults:
  hide: [execute, {place}/hidden, {place}/secret, /no/such/place]
  abstract_sockets: shared
  keyring: shared
  no_new_privs: true
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory and a file to hide, and id(1) as a set-uid program of root's."""
    place = Path(tempfile.mkdtemp(prefix="ledge-test-", dir="/var/lib"))
    place.chmod(0o755)
    (place / "hidden").mkdir()
    for name in ("hidden/file", "secret"):
        (place / name).write_text("seen\n")
    shutil.copy("/usr/bin/id", place / "id")
    (place / "id").chmod(0o4755)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def starter(installed: Path, execute: Path, place: Path, tmp_path: Path) -> Iterator[Starter]:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.format(place=place))
    ledged = Ledged(installed, tmp_path, policy)
    user = User.named("nobody")
    slice_ = Slice(f"ledge-test-{os.getpid()}.slice", user.uid)
    starter = Starter(installed / "job_wrapper", execute, user, slice_)
    yield starter
    starter.close()
    slice_.remove()
    ledged.close()


def test_what_is_hidden(starter: Starter, place: Path) -> None:
    process = starter.shell(f"cd {place}; ls -A hidden; cat secret; touch hidden/x")
    assert process.output == b""
    assert b"Read-only file system" in process.error
    assert (place / "hidden/file").read_text() == "seen\n"


def test_shared_abstract_sockets(starter: Starter) -> None:
    name = f"ledge-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name)
        server.listen()
        assert starter.run(PYTHON, "-ISEc", CONNECT, name).check() == b"connected\n"


def test_no_new_privs(starter: Starter, place: Path) -> None:
    assert starter.run(str(place / "id"), "-u").check() == b"%d\n" % starter.user.uid
