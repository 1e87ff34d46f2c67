"""What keeps a job from others of its user, one by one, and what it must not take from the job."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.starter import Starter

PYTHON = "/usr/bin/python3"

CONNECT = """
import socket, sys
try:
    socket.socket(socket.AF_UNIX).connect("\\0" + sys.argv[1])
    print("connected")
except OSError as error:
    print(error.strerror)
"""
TALK_INSIDE = """
import os, socket
server = socket.socket(socket.AF_UNIX)
server.bind("\\0ledge-test-inside")
server.listen()
if os.fork() == 0:
    socket.socket(socket.AF_UNIX).connect("\\0ledge-test-inside")
    os._exit(0)
server.accept()
print("connected")
"""
# The session keyring's number and permissions, then what is in it.
KEYRING = """
import ctypes
libc = ctypes.CDLL(None)
text = ctypes.create_string_buffer(200)
libc.syscall(250, 6, -3, text, ctypes.c_size_t(200))
print(libc.syscall(250, 0, -3, 0), text.value.decode(), libc.syscall(250, 11, -3, None, 0))
"""
TERMINAL = """
import os, pty
master, slave = pty.openpty()
os.write(slave, b"x")
print(os.ttyname(slave), os.read(master, 1), os.listdir("/dev/pts"))
"""


@pytest.fixture
def listener() -> Iterator[str]:
    """The name of an abstract Unix socket outside of the job."""
    name = f"ledge-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name)
        server.listen()
        yield name


def test_no_abstract_socket_of_others(starter: Starter, listener: str) -> None:
    output = starter.run(PYTHON, "-ISEc", CONNECT, listener).check()
    assert output == b"Operation not permitted\n"


def test_abstract_sockets_of_its_own(starter: Starter) -> None:
    assert starter.run(PYTHON, "-ISEc", TALK_INSIDE).check() == b"connected\n"


def test_a_session_keyring_of_its_own(starter: Starter) -> None:
    first, second = (starter.run(PYTHON, "-ISEc", KEYRING).check().split() for _ in range(2))
    assert first[0] != second[0]
    assert int(first[-1]) == 0


@pytest.mark.alone  # with ledged it is root's, so that no user's share of keys is used up
def test_a_session_keyring_is_the_user_s(starter: Starter) -> None:
    output = starter.run(PYTHON, "-ISEc", KEYRING).check().decode()
    assert output.split()[1].startswith("keyring;")


def test_terminals_of_its_own(starter: Starter) -> None:
    master, slave = os.openpty()
    try:
        output = starter.run(PYTHON, "-ISEc", TERMINAL).check()
    finally:
        os.close(master)
        os.close(slave)
    assert output == b"/dev/pts/0 b'x' ['0', 'ptmx']\n"


@pytest.mark.alone  # by ledged it is where the starter stands that counts: test_interference.py
def test_of_all_jobs_directories_its_own_alone(starter: Starter) -> None:
    process = starter.shell("cd ../..; ls; touch x; cd $_CONDOR_SCRATCH_DIR && touch y && ls")
    own = process.directory.parent.name
    assert process.output.decode().split() == [own, "_condor_stderr", "_condor_stdout", "y"]
    assert b"Read-only file system" in process.error
    assert (process.directory / "y").exists()


@pytest.fixture
def set_uid() -> Iterator[Path]:
    """id(1) as a set-uid program of root's, where a job sees it."""
    directory = Path(tempfile.mkdtemp(prefix="ledge-test-", dir="/var/lib"))
    directory.chmod(0o755)
    path = directory / "id"
    shutil.copy("/usr/bin/id", path)
    path.chmod(0o4755)
    yield path
    shutil.rmtree(directory)


def test_set_uid_programs_as_without(starter: Starter, set_uid: Path) -> None:
    """In a user namespace, where there is no ledged, root has no id."""
    found = starter.run(str(set_uid), "-u").output
    alone = starter.wrapper.name == "job_wrapper_alone" and starter.user.uid
    assert found == (b"%d\n" % starter.user.uid if alone else b"0\n")
