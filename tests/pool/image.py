"""The image of the pool: a Debian with HTCondor on a disk, kept in a cache.

An image is a directory `<cache>/<key>/` whose key is a hash over everything that went
into it. It is built in a temporary directory beside it and renamed when complete, so a
killed build leaves nothing that could be taken for an image.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

from tests.pool import host_needs
from tests.pool.errors import PoolError
from tests.pool.progress import Progress
from tests.pool.releases import RELEASES, Release
from tests.programs import PACKAGES as OF_PROGRAMS

MIRROR = "http://deb.debian.org/debian"
PACKAGES = (
    "bubblewrap",
    "ca-certificates",
    "condor",
    "initramfs-tools",
    "iproute2",
    "linux-image-cloud-amd64",
    "nftables",
    "openssh-client",
    "openssh-server",
    "procps",
    "python3",
    "python3-psutil",
    "python3-yaml",  # what the packages of condor-ledge depend on, beside condor itself
    "rpm",
    "strace",
    "systemd-sysv",
    "util-linux",
    *OF_PROGRAMS,
)
DISK_SIZE = "6G"
MEMORY_SIZE = "4G"
PROCESSORS = 2

HERE = Path(__file__).resolve().parent
GUEST_FILES = HERE / "guest"
RECIPE = ("image.py", "machine.py", "qmp.py", "guest_setup.sh")

Boot = Callable[["Image", Progress], None]


class Image:
    """The files of one image."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.disk = directory / "disk.raw"
        self.kernel = directory / "vmlinuz"
        self.initrd = directory / "initrd.img"
        self.ssh_key = directory / "ssh_key"
        self.state = directory / "state"
        self.facts = directory / "facts.json"

    def hold(self) -> int:
        """A descriptor that keeps the image from being pruned while it is open.

        A child that inherits it (QEMU) holds the image as long as it lives.
        """
        return hold(self.directory)


def hold(directory: Path) -> int:
    """A descriptor with a shared lock on the directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def cache_directory() -> Path:
    """Where images are kept: $CONDOR_LEDGE_CACHE, else below the user's cache."""
    own = os.environ.get("CONDOR_LEDGE_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "condor-ledge" / "pool"


def key(release: Release) -> str:
    """Hash over all that goes into an image."""
    digest = hashlib.sha256()
    settings = (*release, MIRROR, PACKAGES, DISK_SIZE, MEMORY_SIZE, PROCESSORS, qemu_version())
    digest.update(repr(settings).encode())
    sources = [HERE / name for name in RECIPE]
    sources += sorted(path for path in GUEST_FILES.rglob("*") if path.is_file())
    for path in sources:
        digest.update(str(path.relative_to(HERE)).encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def qemu_version() -> str:
    """First line of `qemu --version`: a saved state fits one version only."""
    output = _run([host_needs.program("qemu-system-x86_64"), "--version"])
    return output.splitlines()[0]


def ready_image(release: Release, boot: Boot, progress: Progress) -> Image:
    """The image of this recipe and release, built first if the cache has none.

    `boot` starts the new image once and saves the state of the running pool.
    """
    host_needs.install_missing_packages(progress)
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    image = Image(cache / key(release))
    if not image.directory.exists():
        with _build_lock(cache, progress):
            if not image.directory.exists():
                _build(image, release, boot, progress)
            _prune(cache, {cache / key(one) for one in RELEASES})
    return image


@contextmanager
def _build_lock(cache: Path, progress: Progress) -> Iterator[None]:
    with open(cache / "build.lock", "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say("another process builds an image: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(image: Image, release: Release, boot: Boot, progress: Progress) -> None:
    host_needs.check_build(image.directory.parent)
    host_needs.check_run()
    progress.say(f"building the image in {image.directory.parent} (usually 3 to 5 minutes)")
    temporary = Path(tempfile.mkdtemp(prefix="building-", dir=image.directory.parent))
    try:
        draft = Image(temporary)
        _make_ssh_key(draft)
        _make_disk(draft, release, progress)
        boot(draft, progress)
        os.chmod(temporary, 0o755)
        os.rename(temporary, image.directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)    # gone already after a rename


def _make_ssh_key(image: Image) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "condor-ledge test pool"]
    _run([*command, "-f", str(image.ssh_key)])


def _make_disk(image: Image, release: Release, progress: Progress) -> None:
    root = image.directory / "root"
    with progress.step(f"installing Debian {release.suite} with debootstrap", 30):
        _bootstrap(root, release)
    _copy_guest_files(image, root)
    with progress.step("installing HTCondor, a kernel and programs", 60):
        _install(root)
    with progress.step("making the disk", 10):
        _extract_kernel(image, root)
        options = ["-q", "-t", "ext4", "-d", str(root), "-E", "lazy_itable_init=0,root_owner=0:0"]
        _run([host_needs.program("mke2fs"), *options, str(image.disk), DISK_SIZE])
    version = (root / "root/condor_version").read_text().split()[1]
    facts = {"suite": release.suite, "condor": version}
    image.facts.write_text(json.dumps(facts), encoding="ascii")
    shutil.rmtree(root)


def _bootstrap(root: Path, release: Release) -> None:
    options = ["--variant=minbase", "--include=ca-certificates"]
    place = [release.suite, str(root), MIRROR, release.script]
    _isolated([host_needs.program("debootstrap"), *options, *place])


def _copy_guest_files(image: Image, root: Path) -> None:
    shutil.copytree(GUEST_FILES, root, dirs_exist_ok=True)
    shutil.copy(HERE / "guest_setup.sh", root / "root/guest_setup.sh")
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")    # the set-up removes it
    ssh = root / "root/.ssh"
    ssh.mkdir(mode=0o700)
    public = image.ssh_key.with_suffix(".pub")
    shutil.copy(public, ssh / "authorized_keys")


def _install(root: Path) -> None:
    script = 'mount -t proc proc "$0/proc" && exec chroot "$0" /root/guest_setup.sh "$@"'
    _isolated(["sh", "-c", script, str(root), *PACKAGES])


def _extract_kernel(image: Image, root: Path) -> None:
    for pattern, target in (("vmlinuz-*", image.kernel), ("initrd.img-*", image.initrd)):
        newest = sorted((root / "boot").glob(pattern))[-1]
        shutil.move(str(newest), target)


def _isolated(command: list[str]) -> str:
    """Run with private mounts and processes: nothing stays mounted or running after it."""
    prefix = ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child"]
    return _run([host_needs.program("setpriv"), "--pdeathsig", "KILL", *prefix, *command])


def _run(command: list[str]) -> str:
    environment: dict[str, str] = {**os.environ, "LC_ALL": "C.UTF-8"}
    environment["PATH"] = environment.get("PATH", "") + ":" + host_needs.SYSTEM_PATH
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-30:])
        raise PoolError(f"{' '.join(command)} ended with {done.returncode}:\n{tail}")
    return done.stdout


def _prune(cache: Path, keep: set[Path]) -> None:
    """Remove other images and left-overs that no process holds; the build lock is ours."""
    for directory in cache.iterdir():
        if directory.is_dir() and directory not in keep and directory.name != "machines":
            remove_unless_held(directory)


def remove_unless_held(directory: Path) -> None:
    """Remove a directory on which no process has a lock."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory)
    except BlockingIOError:
        return                                          # a machine runs on it
    finally:
        os.close(descriptor)
