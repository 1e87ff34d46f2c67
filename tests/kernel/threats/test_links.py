"""Links in the way of a job's mounts, and of the directories that are mounted."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from ledge.kernel import mounts, syscalls
from ledge.kernel.overlay import Overlay
from tests.kernel.threats.attacker import Attacker

ATTEMPTS = 2000  # of a race; half of them meet the link
_libc = ctypes.CDLL(None, use_errno=True)

pytestmark = pytest.mark.requires("root", "userns", "cgroup2")


@pytest.mark.parametrize("link", [".ledge", ".ledge/tmp"])
def test_a_link_where_the_private_directories_are_kept(attacker: Attacker, link: str) -> None:
    """It leads where its user could go, and no further: not to a directory of root's."""

    def plant() -> None:
        if "/" in link:
            os.mkdir(".ledge")
        os.symlink("/etc", link)

    process = attacker.start("/bin/ls", "/tmp", before=plant)
    process.wait()
    assert process.output == b""
    assert b"cannot give the job its own /tmp" in process.wrapper_error
    assert not Path("/etc/tmp").exists()


def test_a_link_put_there_between_two_steps(tmp_path: Path) -> None:
    """The user exchanges the directory for a link, and back, as fast as that goes."""
    elsewhere = tmp_path / "elsewhere/tmp"
    elsewhere.mkdir(parents=True, mode=0o700)
    (tmp_path / ".ledge/tmp").mkdir(parents=True)
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "target").mkdir()
    target, scratch = os.fsencode(tmp_path / "target"), os.fsencode(tmp_path)
    operation = mounts.PrivateDirectory(target, mounts.Kept(scratch, scratch), b".ledge/tmp")

    def mount_again_and_again() -> None:
        failures = 0
        for _ in range(ATTEMPTS):
            try:
                operation.execute()
            except NotADirectoryError:
                failures += 1
                continue
            if os.path.samestat(os.stat(target), os.stat(elsewhere)):
                raise OSError(errno.EXDEV, "it shows what the link leads to")
            _libc.umount(target)
        if not 0 < failures < ATTEMPTS:
            raise OSError(errno.EAGAIN, f"{failures} failures: nothing was exchanged in between")

    with exchanging(tmp_path / ".ledge", tmp_path / "link"):
        assert in_a_mount_namespace(mount_again_and_again) == 0
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o700


@contextlib.contextmanager
def exchanging(one: Path, other: Path) -> Iterator[None]:
    """A process that exchanges two names as fast as it can."""
    rename_exchange, here = 2, -100  # linux/fs.h, fcntl.h
    pid = os.fork()
    while pid == 0:
        _libc.renameat2(here, bytes(one), here, bytes(other), rename_exchange)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def in_a_mount_namespace(action: Callable[[], object]) -> int:
    """The errno of what is done in a mount namespace of its own."""
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            mounts.Slave().execute()
            action()
            code = 0
        except OSError as error:
            code = error.errno or 255
        finally:
            os._exit(code)
    return os.WEXITSTATUS(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("kind", ["tmpfs", "private", "bind", "overlay"])
@pytest.mark.parametrize("where", ["link", "link/below"])
def test_no_mount_through_a_link(tmp_path: Path, kind: str, where: str) -> None:
    (tmp_path / "elsewhere/below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("elsewhere")
    target, other = os.fsencode(tmp_path / where), os.fsencode(tmp_path / "elsewhere")
    operations: dict[str, mounts.Operation] = {
        "tmpfs": mounts.Tmpfs(target, of_root=True),
        "private": mounts.PrivateDirectory(target, mounts.Kept(other, other), b"backing"),
        "bind": mounts.Bind(b"/usr", target, read_only=True),
        "overlay": Overlay(b"/srv", target, mounts.Kept(other, other), b"backing"),
    }
    assert in_a_mount_namespace(operations[kind].execute) == errno.ELOOP


@pytest.mark.parametrize("kind", ["bind", "overlay"])
@pytest.mark.parametrize("where", ["link", "link/below"])
def test_nothing_is_mounted_that_a_link_leads_to(tmp_path: Path, kind: str, where: str) -> None:
    (tmp_path / "elsewhere/below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("elsewhere")
    source, other = os.fsencode(tmp_path / where), os.fsencode(tmp_path)
    operations: dict[str, mounts.Operation] = {
        "bind": mounts.Bind(source, b"/mnt", read_only=True),
        "overlay": Overlay(source, b"/mnt", mounts.Kept(other, other), b"backing"),
    }
    assert in_a_mount_namespace(operations[kind].execute) == errno.ELOOP
