"""Why no map wider than the user's own ids is ever written into a user namespace.

An identity map would make everybody's files show their owners again inside, and root could write
it. But whoever is in there could then become root, outside as well.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ledge.kernel import syscalls
from ledge.kernel.overlay import user_namespace_of
from tests.kernel.starter import Starter, User

LEDGE = Path(__file__).resolve().parents[2] / "ledge"
WHOLE = "0 0 4294967295"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that root alone can read, in a directory that everybody can reach."""
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    secret = tmp_path / "secret"
    secret.write_text("root's own")
    secret.chmod(0o600)
    return secret


def read_as_root_of_a_namespace(secret: Path, uid_map: str) -> bytes:
    """What a process of nobody's reads after root has written the map into its namespace."""
    hear, tell = os.pipe()
    go, start = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            User("nobody", 65534, 65534).become()
            syscalls.unshare(syscalls.CLONE_NEWUSER)
            os.write(tell, b".")
            os.read(go, 1)
            os.setuid(0)
            os.write(tell, secret.read_bytes())
        except OSError as error:
            os.write(tell, b"errno %d" % (error.errno or 0))
        finally:
            os._exit(0)
    assert os.read(hear, 1) == b"."
    Path(f"/proc/{pid}/uid_map").write_text(uid_map)
    os.write(start, b".")
    os.waitpid(pid, 0)
    found = os.read(hear, 100)
    for fd in (hear, tell, go, start):
        os.close(fd)
    return found


@pytest.mark.requires("root", "userns")
def test_a_wide_map_makes_its_owner_root_everywhere(secret: Path) -> None:
    assert read_as_root_of_a_namespace(secret, WHOLE) == b"root's own"


@pytest.mark.requires("root", "userns")
def test_a_map_of_one_s_own_id_does_not(secret: Path) -> None:
    assert read_as_root_of_a_namespace(secret, "65534 65534 1").startswith(b"errno ")


def test_no_job_has_one(starter: Starter) -> None:
    """By ledged or as root it has no user namespace; alone it has its user's ids, and no other."""
    output = starter.shell("cat /proc/self/uid_map /proc/self/gid_map; readlink /proc/self/ns/user")
    uids, gids, namespace = output.check().decode().splitlines()
    if namespace == os.readlink("/proc/self/ns/user"):
        return
    assert uids.split() == [str(starter.user.uid), str(starter.user.uid), "1"]
    assert gids.split() == [str(starter.user.gid), str(starter.user.gid), "1"]


# What has come into the namespace that overlays are mounted from tries to be more than its user.
MORE = (
    lambda: os.setuid(0),
    lambda: os.setgid(0),
    lambda: os.setgroups([0]),
    lambda: Path("/proc/self/uid_map").write_text(WHOLE),
)


@pytest.mark.requires("root", "userns")
def test_the_one_that_overlays_are_mounted_from_has_one_s_own_ids(secret: Path) -> None:
    namespace = user_namespace_of(65534, 65534)
    hear, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            User("nobody", 65534, 65534).become()
            syscalls.setns(namespace, syscalls.CLONE_NEWUSER)
            for name in ("uid_map", "gid_map", "setgroups"):
                os.write(tell, Path(f"/proc/self/{name}").read_bytes())
            for attempt in (*MORE, secret.read_bytes):
                try:
                    attempt()
                    os.write(tell, b"done ")
                except OSError:
                    os.write(tell, b"no ")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(namespace)
    assert os.read(hear, 1000).split() == [b"65534", b"65534", b"1"] * 2 + [b"deny"] + [b"no"] * 5
    for fd in (hear, tell):
        os.close(fd)


@pytest.mark.requires("root")
def test_root_has_none_made() -> None:
    with pytest.raises(PermissionError):
        user_namespace_of(0, 65534)


def test_two_modules_alone_write_maps() -> None:
    """One is run by the user's own process, the other for one that is the user's already."""
    writers = {path.name for path in LEDGE.rglob("*.py") if "_map\"" in path.read_text()}
    assert writers == {"init.py", "overlay.py"}
    launcher = "".join(path.read_text() for path in (LEDGE / "launcher").glob("*.py"))
    assert "CLONE_NEWUSER" not in launcher
