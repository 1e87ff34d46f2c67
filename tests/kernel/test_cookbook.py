"""The cookbook's policies that need no limits, each in force in a ledged, and its job under it.

Those with limits are tried on the pool (tests/pool/test_cookbook.py).
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cookbook import Recipe, long_format, recipes
from tests.kernel.cgroups import Slice
from tests.kernel.ledged import Ledged
from tests.kernel.starter import JOB_AD, MACHINE_AD, Process, Starter, User

pytestmark = pytest.mark.requires("root", "cgroup2", "bpf")

RECIPES = recipes()
PATIENCE_SECONDS = 20.0
PORT = 8765
CALL = f"""
import socket
try:
    print(socket.create_connection(("127.0.0.1", {PORT}), 2).getpeername()[1])
except TimeoutError:
    print("timed out")
"""


class Node:
    """ledged with a policy of the cookbook, and a slice for each job.

    To ledged this process is the starter of them all, so that all have the plan of the first.
    """

    def __init__(self, recipe: Recipe, installed: Path, execute: Path, directory: Path) -> None:
        self.recipe = recipe
        self.installed = installed
        self.execute = execute
        self.user = User.named("nobody")
        self.starters: list[Starter] = []
        self.ledged = Ledged(installed, directory, recipe.path)

    def start(self, number: int = 0) -> Process:
        """Start a job of the page."""
        job = self.recipe.jobs[number]
        return self._start(job.argv, job.attributes)

    def python(self, program: str) -> Process:
        """Start another job, in Python."""
        return self._start(["/usr/bin/python3", "-ISEc", program], {})

    def _start(self, argv: list[str], asked: dict[str, str]) -> Process:
        name = f"ledge-test-{os.getpid()}-{len(self.starters)}.slice"
        slice_ = Slice(name, self.user.uid)
        starter = Starter(self.installed / "job_wrapper", self.execute, self.user, slice_)
        starter.job_ad = JOB_AD + long_format(asked)
        starter.machine_ad = MACHINE_AD + long_format(self.recipe.node)
        self.starters.append(starter)
        return starter.start(*argv)

    def close(self) -> None:
        for starter in self.starters:
            starter.close()
            assert starter.slice
            starter.slice.remove()
        self.ledged.close()


@pytest.fixture(scope="module")
def _counted() -> Iterator[None]:
    """Where ledged keeps its programs, without which loopback is everybody's."""
    place = "/sys/fs/bpf"
    mounted = f" {place} bpf " in Path("/proc/self/mounts").read_text()
    if not mounted:
        subprocess.run(["mount", "-t", "bpf", "bpf", place], check=True)
    yield
    if not mounted:
        subprocess.run(["umount", place], check=True)


@pytest.fixture
def node(
    request: pytest.FixtureRequest,
    installed: Path,
    execute: Path,
    tmp_path: Path,
    _counted: None,
) -> Iterator[Node]:
    node = Node(RECIPES[request.param], installed, execute, tmp_path)
    yield node
    node.close()


@contextmanager
def made(directory: str) -> Iterator[Path]:
    """A directory that the policy names, with a file in it that all may read."""
    path = Path(directory)
    path.mkdir()
    try:
        (path / "file").write_text("seen\n")
        yield path
    finally:
        (path / "file").unlink()
        path.rmdir()


@pytest.fixture
def elsewhere(node: Node) -> Node:
    """The same policy on a node that says nothing of itself."""
    node.recipe = node.recipe._replace(node={})
    return node


@pytest.mark.parametrize("node", ["06-shared-data"], indirect=True)
def test_shared_data(node: Node) -> None:
    with made("/srv/reference"):
        assert node.start(0).check() == b"file\n"


@pytest.mark.parametrize("node", ["06-shared-data"], indirect=True)
def test_data_that_is_not_there(node: Node) -> None:
    (line,) = node.recipe.sessions[1].output
    problem, _, place = line.partition("refused: ")[2].partition(" (defaults (")
    told = refused(node.start(1))
    assert problem in told
    assert told.endswith(place + "\n")


@pytest.mark.parametrize("node", ["06-shared-data"], indirect=True)
def test_shared_data_that_the_node_has_not(node: Node) -> None:
    assert "/srv/reference" in refused(node.start(0))


def refused(process: Process) -> str:
    """What the wrapper says of a job that it has not run."""
    process.wait()
    assert process.output == b""
    return process.wrapper_error.decode()


@pytest.mark.parametrize("number", [0, 1])  # also for who asks for it
@pytest.mark.parametrize("node", ["07-hidden-directory"], indirect=True)
def test_a_hidden_directory(node: Node, number: int) -> None:
    with made("/srv/clinical"):
        assert node.start(number).check() == b""


@pytest.mark.parametrize("node", ["08-no-network"], indirect=True)
def test_no_network(node: Node) -> None:
    assert devices(node.start()) == ["lo"]


@pytest.mark.parametrize("node", ["08-no-network"], indirect=True)
def test_a_network_elsewhere(elsewhere: Node) -> None:
    assert devices(elsewhere.start()) == sorted(name for _, name in socket.if_nameindex())


def devices(process: Process) -> list[str]:
    """Those that /proc/net/dev has after its two lines of headings."""
    lines = process.check().decode().splitlines()[2:]
    return sorted(line.partition(":")[0].strip() for line in lines)


@pytest.mark.parametrize("node", ["09-talking-jobs"], indirect=True)
def test_jobs_that_talk(node: Node) -> None:
    node.start()
    await_listener()
    assert node.python(CALL).check() == b"%d\n" % PORT


@pytest.mark.parametrize("node", ["09-talking-jobs"], indirect=True)
def test_jobs_that_do_not_talk_elsewhere(elsewhere: Node) -> None:
    elsewhere.start()
    await_listener()
    assert elsewhere.python(CALL).check() == b"timed out\n"


def await_listener() -> None:
    """Until somebody listens there; a test is in no job, and reaches them all."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", PORT)).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "nobody listens"
            time.sleep(0.05)
