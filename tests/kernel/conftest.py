"""Fixtures: a starter for each kind of user, in a delegated control group and without one.

Whatever a test does, nothing may be left of it: every starter's fixture looks for processes,
control groups and mounts when the test is over.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.cgroups import Slice
from tests.kernel.ledged import Ledged
from tests.kernel.networks import Networks
from tests.kernel.starter import SIGNALS_OF_LIBC, Starter, User, set_default_disposition

BY_LEDGED = "nobody_by_ledged"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for a starter runs as root, as nobody, and as nobody launched by ledged."""
    if "user" in metafunc.fixturenames:
        needs = pytest.mark.requires("root", "userns", "cgroup2")
        names = ["root", "nobody"]
        if "starter" in metafunc.fixturenames and not _is_alone(metafunc):
            names.append(BY_LEDGED)
        parameters = [pytest.param(name, marks=needs) for name in names]
        metafunc.parametrize("user", parameters, indirect=True)


def _is_alone(metafunc: pytest.Metafunc) -> bool:
    return any(mark.name == "alone" for mark in metafunc.definition.iter_markers())


@pytest.fixture
def user(request: pytest.FixtureRequest) -> User:
    return User.named(request.param.partition("_")[0])


@pytest.fixture(scope="module")  # there is but one on a node, and some modules have their own
def _ledged(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledged]:
    ledged = Ledged(installed, tmp_path_factory.mktemp("ledged"))
    yield ledged
    ledged.close()


@pytest.fixture
def by_ledged(request: pytest.FixtureRequest) -> Ledged | None:
    """The daemon that launches the jobs of this test, if one does."""
    if request.node.callspec.params["user"] != BY_LEDGED:
        return None
    ledged: Ledged = request.getfixturevalue("_ledged")
    return ledged


@pytest.fixture(scope="package", autouse=True)
def _alone() -> Iterator[None]:
    """One run at a time: a plan in /etc, which test_plan_file.py writes, is everybody's."""
    with Path(tempfile.gettempdir(), f"ledge-test-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def execute() -> Iterator[Path]:
    """HTCondor's EXECUTE directory: on a disk, and not below /tmp."""
    path = Path(tempfile.mkdtemp(prefix="ledge-execute-", dir="/var/lib"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def starter(
    installed: Path, execute: Path, user: User, by_ledged: Ledged | None
) -> Iterator[Starter]:
    """A starter whose jobs have a delegated control group."""
    slice_ = Slice(f"ledge-test-{os.getpid()}.slice", user.uid)
    wrapper = "job_wrapper" if by_ledged else "job_wrapper_alone"
    starter = Starter(installed / wrapper, execute, user, slice_)
    mounts = Path("/proc/self/mountinfo").read_text()
    try:
        yield starter
        starter.close()
        assert slice_.is_empty(), f"processes are left: {slice_.processes()}"
        assert slice_.groups() == []
        assert Path("/proc/self/mountinfo").read_text() == mounts
    finally:
        slice_.remove()


@pytest.fixture
def starter_without_cgroup(installed: Path, execute: Path, user: User) -> Iterator[Starter]:
    """A starter whose jobs have no control group of their own to divide."""
    starter = Starter(installed / "job_wrapper_alone", execute, user, None)
    yield starter
    starter.close()


@pytest.fixture(scope="session", autouse=True)
def nothing_ignored() -> None:
    """Undo what whoever started the tests ignores (nohup, a service manager), but for Python's."""
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    for reserved in SIGNALS_OF_LIBC:
        set_default_disposition(reserved)


@pytest.fixture
def default_dispositions() -> Iterator[None]:
    """Have the starter, this process, ignore nothing: Python ignores SIGPIPE and SIGXFSZ."""
    before = {number: signal.getsignal(number) for number in (signal.SIGPIPE, signal.SIGXFSZ)}
    for number in before:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def network() -> Iterator[Networks]:
    network = Networks()
    yield network
    network.close()


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[str]:
    """Where the map is pinned: in a file system of type bpf that is this test's own."""
    mount = tmp_path / "bpf"
    mount.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", mount], check=True)
    yield str(mount / "condor-ledge")
    subprocess.run(["umount", mount], check=True)
