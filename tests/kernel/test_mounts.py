"""The mounts of a policy and those that a job writes itself, carried out by ledged."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kernel.cgroups import Slice
from tests.kernel.ledged import Ledged
from tests.kernel.private_node import ChirpServer
from tests.kernel.starter import JOB_AD, MACHINE_AD, Process, Starter, User

pytestmark = pytest.mark.requires("root", "cgroup2", "overlay")

POLICY = """
version: 1
defaults:
  hide: [execute, {place}/tree/secret]
  mounts:
  - {{kind: tmpfs, target: /tmp, size: 1M, inodes: 20}}
  - {{kind: tmpfs, target: /var/tmp, size: 25%}}
  - {{kind: tmpfs, target: /dev/shm}}
  - {{kind: overlay, source: {place}/software, target: {place}/site}}
  requests:
    mounts:
      offered:
        tree: {{kind: bind, source: {place}/tree, target: {place}/work}}
        linked: {{kind: bind, source: {place}/link, target: {place}/work}}
      at_most:
      - {{kind: bind, source: {place}, target: {place}/work}}
      - {{kind: tmpfs, target: {place}/work, size: 8M}}
      - {{kind: overlay, source: {place}, target: {place}/work}}
      - {{kind: private, target: {place}/work}}
rules:
- {{name: anyway, match: TARGET.RunAnyway, on_failure: run}}
"""


@pytest.fixture(scope="module")
def nobody() -> User:
    return User.named("nobody")


@pytest.fixture(scope="module")
def place(nobody: User) -> Iterator[Path]:
    """Trees to mount, of root's and of the user's, with a set-uid program and a link in them."""
    place = Path(tempfile.mkdtemp(prefix="ledge-test-", dir="/srv"))
    place.chmod(0o755)
    for name in ("tree/secret", "software/own", "software/lib", "site", "work", "late"):
        (place / name).mkdir(parents=True)
    for name in ("tree/file", "tree/secret/file", "software/lib/file", "software/own/file"):
        (place / name).write_text("original\n")
    for name in ("tree/id", "software/id"):
        shutil.copy("/usr/bin/id", place / name)
        (place / name).chmod(0o4755)
    for name in ("software/own", "software/own/file"):
        os.chown(place / name, nobody.uid, nobody.gid)
    (place / "software/open").mkdir()
    (place / "software/open").chmod(0o1777)
    (place / "software/own/shared").write_text("original\n")
    os.chown(place / "software/own/shared", nobody.uid, 0)
    (place / "link").symlink_to("tree")
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def ledged(
    installed: Path, place: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ledged]:
    directory = tmp_path_factory.mktemp("ledged")
    policy = directory / "policy.yaml"
    policy.write_text(POLICY.format(place=place))
    ledged = Ledged(installed, directory, policy)
    yield ledged
    ledged.close()


@pytest.fixture
def starter(installed: Path, execute: Path, nobody: User, ledged: Ledged) -> Iterator[Starter]:
    slice_ = Slice(f"ledge-test-{os.getpid()}.slice", nobody.uid)
    starter = Starter(installed / "job_wrapper", execute, nobody, slice_)
    mounts = Path("/proc/self/mountinfo").read_text()
    yield starter
    starter.close()
    slice_.remove()
    assert Path("/proc/self/mountinfo").read_text() == mounts


class Refused(Exception):
    """What the hook said."""


def prepare(starter: Starter, asked: str) -> None:
    """What HTCondor does before a job whose ad asks for mounts: it runs the hook."""
    hook = starter.wrapper.with_name("prepare_job")
    with tempfile.TemporaryDirectory(dir=starter.execute) as directory:
        Path(directory, ".machine.ad").write_text(MACHINE_AD)
        Path(directory).chmod(0o755)
        ad = f"{JOB_AD}LedgeMounts = {asked}\n"
        done = subprocess.run(
            [hook],
            cwd=directory,
            input=ad.encode(),
            capture_output=True,
            user=starter.user.uid,
            group=starter.user.gid,
            extra_groups=[],
        )
    if done.stdout:
        raise Refused(done.stdout.decode())


def run(starter: Starter, line: str, asked: str = "undefined", *environ: bytes) -> Process:
    """A job whose ad asks for mounts, from its hook to its end."""
    prepare(starter, asked)
    return starter.run("/bin/sh", "-c", line, environ=environ)


def asking(starter: Starter, mounts: str, line: str) -> Process:
    """The same with such a text."""
    return run(starter, line, f'"{mounts}"')


def test_a_tmpfs_is_as_large_as_the_policy_says(starter: Starter) -> None:
    process = run(
        starter,
        "dd if=/dev/zero of=/tmp/x bs=64k count=64 2>/dev/null; stat -c %s /tmp/x;"
        " i=0; while touch /tmp/$i; do i=$((i + 1)); [ $i -lt 100 ] || break; done 2>/dev/null;"
        " ls /tmp | wc -l; stat -c %a /tmp; stat -f -c '%T %b %S' /var/tmp"
    )
    size, inodes, mode, kind, blocks, block = process.output.split()
    assert (int(size), int(inodes), mode, kind) == (1 << 20, 19, b"1777", b"tmpfs")
    assert int(blocks) * int(block) == 256 << 20  # a quarter of the slot's Memory


def test_what_is_changed_in_an_overlay_is_kept_in_the_scratch_directory(
    starter: Starter, place: Path
) -> None:
    before = sorted(str(path) for path in (place / "software").rglob("*"))
    process = run(
        starter,
        f"cd {place}/site && cat lib/file && echo changed >own/file && echo new >own/new"
        " && echo top >top && mkdir dir && rm -r id && cat own/file && ls | tr '\\n' ' '"
    )
    assert process.check() == b"original\nchanged\ndir lib open own top "
    assert sorted(str(path) for path in (place / "software").rglob("*")) == before
    assert (place / "software/own/file").read_text() == "original\n"
    (upper,) = (process.directory / ".ledge").glob("*.overlay/upper")
    assert (upper / "own/file").read_text() == "changed\n"
    assert {path.stat().st_uid for path in (upper / "top", upper / "own/new")} == {starter.user.uid}


def test_in_an_overlay_a_user_changes_what_he_could_change_below_it(
    starter: Starter, place: Path
) -> None:
    process = run(
        starter,
        f"cd {place}/site; echo x >>lib/file; echo x >lib/new; chmod 777 lib; ./id -u;"
        " cat lib/file; grep ' overlay ' /proc/self/mountinfo | cut -d' ' -f6;"
        " readlink /proc/self/ns/user; grep CapEff /proc/self/status"
    )
    options = b"rw,nosuid,nodev,relatime"
    told = b"%d\noriginal\n%b\n" % (starter.user.uid, options)
    # That it was mounted from within a user namespace the job does not notice.
    told += b"%b\nCapEff:\t%016d\n" % (os.fsencode(os.readlink("/proc/self/ns/user")), 0)
    assert process.output == told
    assert process.error.count(b"Permission denied") == 2
    assert b"Operation not permitted" in process.error


def test_in_an_overlay_nothing_is_changed_that_has_other_owners(
    starter: Starter, place: Path
) -> None:
    """What is changed is copied with its owner and group, which only those of its user can be."""
    line = f"cd {place}/site; touch open/x; echo x >>own/shared; cat own/shared; ls open"
    process = run(starter, line)
    assert process.output == b"original\n"
    assert process.error.count(b"open/x") == process.error.count(b"own/shared") == 1
    assert process.error.count(b"Value too large") == 2


def test_what_is_hidden_stays_so_in_every_mount(starter: Starter, place: Path) -> None:
    words = f"bind:{place}/tree:{place}/work:ro"
    process = asking(starter, words, f"cd {place}/work; cat file; cat secret/file; touch x")
    assert process.output == b"original\n"
    assert b"secret/file: No such file or directory" in process.error
    # An overlay would see what is below the mount that hides.
    process = asking(starter, f"overlay:{place}/tree:{place}/work", ": >ran")
    assert b"cannot mount an overlay over" in process.wrapper_error
    assert b"other mounts are below it" in process.wrapper_error
    assert not (process.directory / "ran").exists()


def test_what_a_job_writes_itself_gives_no_rights(starter: Starter, place: Path) -> None:
    line = f"{place}/work/id -u"
    assert asking(starter, "tree", line).check() == b"0\n"
    written = asking(starter, f"bind:{place}/tree:{place}/work", line)
    assert written.check() == b"%d\n" % starter.user.uid


def test_a_tmpfs_and_a_directory_that_a_job_writes(starter: Starter, place: Path) -> None:
    line = f"stat -f -c '%T %b' {place}/work; touch {place}/work/x"
    assert asking(starter, f"tmpfs:{place}/work:4M", line).check() == b"tmpfs 1024\n"
    assert asking(starter, f"tmpfs:{place}/work", line).check() == b"tmpfs 2048\n"
    process = asking(starter, f"private:{place}/work", f"touch {place}/work/x")
    process.check()
    (kept,) = (process.directory / ".ledge").glob("*.work")
    assert [path.name for path in kept.iterdir()] == ["x"]


@pytest.mark.parametrize("word", ["linked", "bind:{place}/link:{place}/work"])
def test_no_source_is_reached_by_a_link(starter: Starter, place: Path, word: str) -> None:
    with pytest.raises(Refused, match="/link: a symbolic link is in the way"):
        asking(starter, word.format(place=place), ":")


@pytest.mark.parametrize("word", ["tmpfs:{place}/work/none", "bind:{place}/none:{place}/work"])
def test_what_is_not_on_the_node_puts_the_job_on_hold(
    starter: Starter, place: Path, word: str
) -> None:
    with pytest.raises(Refused, match="/none: No such file or directory") as refused:
        asking(starter, word.format(place=place), ":")
    assert "HookStatusCode = 250" in str(refused.value)


def test_or_the_job_runs_without_where_the_policy_says_so(starter: Starter, place: Path) -> None:
    asked = f'"tmpfs:{place}/work/none"\nRunAnyway = true'
    assert run(starter, f"ls -d {place}/work/none 2>&1; echo ran", asked).check().endswith(b"ran\n")


def test_a_mount_over_what_programs_of_root_s_believe_is_refused(starter: Starter) -> None:
    with pytest.raises(Refused) as refused:
        asking(starter, "tmpfs:/etc", ":")
    assert "HookStatusCode = 250" in str(refused.value)
    assert "LedgeMounts of the job asks for tmpfs:/etc; this node offers" in str(refused.value)
    assert "(defaults (" in str(refused.value)


@contextmanager
def mounted(path: Path) -> Iterator[None]:
    """A tmpfs with a file at a path of the node's."""
    subprocess.run(["mount", "-t", "tmpfs", "none", path], check=True)
    try:
        (path / "arrived").write_text("seen\n")
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def test_what_is_mounted_on_the_node_later_new_jobs_see(starter: Starter, place: Path) -> None:
    """No node is drained for it: ledged runs on, and a bind mount has the new one in it."""
    line = f"cat {place}/late/arrived {place}/work/late/arrived"
    asked = f"bind:{place}:{place}/work"
    with mounted(place / "late"):
        assert asking(starter, asked, line).check() == b"seen\nseen\n"
    assert asking(starter, asked, line).output == b""


def test_and_jobs_that_run_see_it_where_the_node_shares_its_mounts(
    starter: Starter, place: Path
) -> None:
    """As systemd has all of them shared."""
    prepare(starter, f'"bind:{place}:{place}/work"')
    seen = f"cat {place}{{,/work}}/late/arrived"
    line = f"touch ready; while [ ! -e go ]; do sleep 0.05; done; {seen}"
    with shared(place):
        job = starter.start("/bin/bash", "-c", line)
        job.wait_for("ready")
        with mounted(place / "late"):
            (job.directory / "go").touch()
            assert job.check() == b"seen\nseen\n"


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """A mount of its own for a directory, whose changes others are told."""
    subprocess.run(["mount", "--bind", path, path], check=True)
    try:
        subprocess.run(["mount", "--make-shared", path], check=True)
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def test_the_ad_says_what_was_mounted(starter: Starter, place: Path) -> None:
    chirp = ChirpServer(place)
    asked = f'{{"tmpfs:{place}/work:64K"}}'
    try:
        run(starter, ":", asked, chirp.environ()).check()
    finally:
        chirp.close()
    assert chirp.attributes["ChirpLedgeMounts"].split(", ") == [
        "tmpfs:/tmp:1M:20",
        "tmpfs:/var/tmp:256M",
        "tmpfs:/dev/shm",
        f"overlay:{place}/software:{place}/site",
        f"tmpfs:{place}/work:64K",
    ]
