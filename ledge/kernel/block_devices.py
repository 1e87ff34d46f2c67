"""From a directory to the disk that takes an I/O limit, and what that disk does with a weight.

io.max wants a whole disk (a partition is refused with ENODEV) and takes device-mapper and MD
devices as well as disks. On those it is set: there every bio still belongs to the process that
caused it, which a driver such as dm-crypt, with threads of its own, may lose on the way down. On
the disks below as well it would count twice: 4 MB at 1 MB/s took 6.1 s with a limit on both, 4.0 s
with either (Linux 7.2, two loop devices joined by dm-linear). io.weight is a matter of the request
queue, which only the disks at the bottom have.

Sources: Documentation/admin-guide/cgroup-v2.rst (IO), block/blk-cgroup.c (blkg_conf_open_bdev),
Documentation/ABI/stable/sysfs-block, proc_pid_fdinfo(5), proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
from pathlib import Path

from ledge.errors import LedgeError

# cgroup-v2.rst, "Writeback": on all others, who wrote a page is forgotten when it goes to disk.
# ext3 is mounted by the ext4 driver.
_KNOWS_WHO_WROTE = frozenset(("btrfs", "ext2", "ext3", "ext4", "f2fs", "xfs"))
_DEEPEST = 8  # LVM on encryption on RAID on multipath is four


class NoDiskError(LedgeError):
    """A file system without a disk that could take a limit."""


class FileSystem:
    """The file system that a directory lies on: its device, and its type where that is known."""

    __slots__ = ("major", "minor", "type")

    def __init__(self, major: int, minor: int, type_: str | None) -> None:
        self.major = major
        self.minor = minor
        self.type = type_

    @property
    def knows_who_wrote(self) -> bool:
        """Whether what is written to a file and goes to disk later counts for its writer."""
        return self.type is None or self.type in _KNOWS_WHO_WROTE

    @property
    def counts_writes(self) -> bool | None:
        """Whether io.stat has all that is written here; None where that is not known.

        overlay passes all on to a file system of which nothing is known here.
        """
        return None if self.type in (None, "overlay") else self.type in _KNOWS_WHO_WROTE


class Disk:
    """A disk by its number ("8:0") and its name ("sda")."""

    __slots__ = ("number", "name")

    def __init__(self, number: str, name: str) -> None:
        self.number = number
        self.name = name


def file_system(
    directory: int, proc: Path = Path("/proc"), mountinfo: bytes | None = None
) -> FileSystem:
    """The file system of an open directory. Raises OSError.

    `mountinfo` is that of the mount namespace which the descriptor came from, if it is not ours.
    """
    device = os.fstat(directory).st_dev
    major, minor = os.major(device), os.minor(device)
    fdinfo = (proc / f"self/fdinfo/{directory}").read_bytes()
    if mountinfo is None:
        mountinfo = (proc / "self/mountinfo").read_bytes()
    number = f"{major}:{minor}".encode()
    return FileSystem(major, minor, type_of_mount(fdinfo, mountinfo, number))


def type_of_mount(fdinfo: bytes, mountinfo: bytes, number: bytes) -> str | None:
    """The type of the file system, from the texts of fdinfo and mountinfo; None if not in there.

    A descriptor that came from another mount namespace has a mount that is not in ours: then any
    mount of the device `number` will do.
    """
    mount = next((line[7:].strip() for line in fdinfo.splitlines() if line[:7] == b"mnt_id:"), None)
    same_device = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(b" - ")
        fields, type_ = before.split(b" "), after.partition(b" ")[0].decode("ascii", "replace")
        if fields[0] == mount:
            return type_
        if fields[2:3] == [number]:
            same_device = type_
    return same_device


def disk_of(file_system: FileSystem, sysfs: Path = Path("/sys")) -> Disk:
    """The disk, or device-mapper or MD device, that takes the limits. Raises NoDiskError."""
    number = f"{file_system.major}:{file_system.minor}"
    if file_system.major == 0:
        raise NoDiskError(*_why_anonymous(number, file_system.type))
    directory = sysfs / "dev/block" / number
    try:
        return _disk(directory)
    except (OSError, ValueError) as error:
        problem = f"the scratch directory lies on device {number}, unknown to {sysfs}: {error}"
        raise NoDiskError(problem, "mount /sys for ledged") from error


def disks_below(disk: Disk, sysfs: Path = Path("/sys")) -> tuple[Disk, ...]:
    """The disks at the bottom: `disk` itself, unless it hands its I/O on. Raises OSError."""
    found = {below.number: below for below in _bottom(sysfs / "dev/block" / disk.number, _DEEPEST)}
    return tuple(found[number] for number in sorted(found))


def weight_file(
    disk: Disk, with_io_cost: frozenset[str], sysfs: Path = Path("/sys")
) -> str | None:
    """The control file whose weights the disk goes by; None if it goes by none. Raises OSError.

    That a group has the file says nothing: io.bfq.weight is there once the module is loaded.
    """
    if scheduler(sysfs / "dev/block" / disk.number / "queue/scheduler") == "bfq":
        return "io.bfq.weight"
    return "io.weight" if disk.number in with_io_cost else None


def scheduler(file: Path) -> str | None:
    """The I/O scheduler in use, from a text such as "none [bfq]"; None where there is none."""
    try:
        return file.read_text("ascii").partition("[")[2].partition("]")[0] or None
    except FileNotFoundError:
        return None


def disks_with_io_cost(io_cost_qos: bytes | None) -> frozenset[str]:
    """The numbers of the disks for which the root group's io.cost.qos says enable=1."""
    lines = [line.split() for line in (io_cost_qos or b"").splitlines()]
    return frozenset(words[0].decode("ascii") for words in lines if b"enable=1" in words[1:])


def _disk(directory: Path) -> Disk:
    """The disk itself, or the one that a partition is a part of."""
    resolved = directory.resolve(strict=True)
    if (resolved / "partition").exists():
        resolved = resolved.parent
    number = (resolved / "dev").read_text("ascii").strip()
    if not number.replace(":", "").isdigit():
        raise ValueError(f"{resolved}/dev: expected MAJOR:MINOR, not {number!r:.80}")
    return Disk(number, resolved.name.replace("!", "/"))


def _bottom(directory: Path, deepest: int) -> list[Disk]:
    disk = _disk(directory)
    slaves = directory.parent / disk.number / "slaves"
    below = sorted(slaves.iterdir()) if slaves.is_dir() and deepest else []
    if not below:
        return [disk]
    numbers = [(slave / "dev").read_text("ascii").strip() for slave in below]
    return [one for number in numbers for one in _bottom(directory.parent / number, deepest - 1)]


def _why_anonymous(number: str, type_: str | None) -> tuple[str, str]:
    """Problem and remedy for a file system that the kernel knows no disk of."""
    problem = f"the scratch directory lies on {type_ or 'a file system'} without a disk ({number})"
    if type_ == "tmpfs":
        return problem, "it is memory: memory.max limits it"
    if type_ is not None and type_.startswith(("nfs", "cifs", "smb", "ceph", "lustre", "fuse")):
        return problem, "its traffic is the network's; EXECUTE on a local disk takes limits"
    return problem, "ext4 or xfs on a disk, a partition or LVM for EXECUTE takes limits"
