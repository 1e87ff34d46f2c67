"""From a directory to the disk that takes its limits: partitions, LVM, and no disk at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ledge.kernel.block_devices import (
    FileSystem,
    NoDiskError,
    disk_of,
    disks_below,
    disks_with_io_cost,
    file_system,
    type_of_mount,
    weight_file,
)
from tests.unit import captured, captured_devices
from tests.unit.captured_devices import DISK_LINKS, DISKS, FDINFO, IO_COST_QOS, MOUNTINFO_BTRFS


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    captured_devices.plant(tmp_path, DISKS)
    return captured_devices.plant_links(tmp_path, DISK_LINKS)


def on(major: int, minor: int, type_: str | None = "ext4") -> FileSystem:
    return FileSystem(major, minor, type_)


@pytest.mark.parametrize(
    ("device", "number", "name"),
    [
        pytest.param((254, 0), "254:0", "vda", id="a disk"),
        pytest.param((254, 1), "254:0", "vda", id="a partition"),
        pytest.param((259, 0), "7:0", "loop0", id="a partition with a number from elsewhere"),
        pytest.param((253, 0), "253:0", "dm-0", id="LVM takes the limit itself"),
        pytest.param((104, 0), "104:0", "cciss/c0d0", id="a name with a slash"),
    ],
)
def test_the_disk_of_a_file_system(
    sysfs: Path, device: tuple[int, int], number: str, name: str
) -> None:
    disk = disk_of(on(*device), sysfs)
    assert (disk.number, disk.name) == (number, name)


@pytest.mark.parametrize(
    ("device", "names"),
    [
        pytest.param((254, 1), ["vda"], id="a disk is at the bottom itself"),
        pytest.param((253, 0), ["vda", "loop0"], id="LVM over a partition and a disk"),
        pytest.param((253, 1), ["vda", "loop0"], id="encryption over LVM"),
    ],
)
def test_the_disks_at_the_bottom(sysfs: Path, device: tuple[int, int], names: list[str]) -> None:
    assert [disk.name for disk in disks_below(disk_of(on(*device), sysfs), sysfs)] == names


def test_devices_that_stand_on_each_other_in_a_ring_have_an_end(sysfs: Path) -> None:
    # The kernel makes no such ring; a device may be replaced by another while we read, though.
    (sysfs / "devices/virtual/block/dm-0/slaves/dm-1").symlink_to(
        sysfs / "devices/virtual/block/dm-1"
    )
    assert disks_below(disk_of(on(253, 0), sysfs), sysfs)


@pytest.mark.parametrize(
    ("type_", "remedy"),
    [
        ("tmpfs", "memory.max"),
        ("nfs4", "network"),
        ("btrfs", "ext4 or xfs"),
        ("overlay", "ext4 or xfs"),
        ("zfs", "ext4 or xfs"),
        (None, "ext4 or xfs"),
    ],
)
def test_a_file_system_without_a_disk(sysfs: Path, type_: str | None, remedy: str) -> None:
    with pytest.raises(NoDiskError, match=f"{type_ or 'a file system'} without a disk") as refused:
        disk_of(on(0, 45, type_), sysfs)
    assert remedy in refused.value.remedy


def test_a_device_that_sysfs_does_not_know(sysfs: Path) -> None:
    with pytest.raises(NoDiskError, match="device 9:9, unknown"):
        disk_of(on(9, 9), sysfs)


@pytest.mark.parametrize("text", ["", "what is this\n"])
def test_a_device_number_that_is_none(sysfs: Path, text: str) -> None:
    (sysfs / "devices/pci0/virtio2/block/vda/dev").write_text(text)
    with pytest.raises(NoDiskError, match="expected MAJOR:MINOR"):
        disk_of(on(254, 0), sysfs)


def test_who_goes_by_weights(sysfs: Path) -> None:
    files = {
        disk.name: weight_file(disk, disks_with_io_cost(IO_COST_QOS), sysfs)
        for disk in disks_below(disk_of(on(253, 0), sysfs), sysfs)
    }
    assert files == {"vda": "io.weight", "loop0": "io.bfq.weight"}


@pytest.mark.parametrize("text", ["[none] bfq \n", "mq-deadline\n", "", None])
def test_who_does_not(sysfs: Path, text: str | None) -> None:
    scheduler = sysfs / "devices/pci0/virtio2/block/vda/queue/scheduler"
    scheduler.unlink()
    if text is not None:
        scheduler.write_text(text)
    assert weight_file(disk_of(on(254, 0), sysfs), frozenset(), sysfs) is None


def test_io_cost_is_on_where_it_says_so() -> None:
    assert disks_with_io_cost(IO_COST_QOS) == {"254:0"}
    assert disks_with_io_cost(None) == disks_with_io_cost(b"\n") == set()


@pytest.mark.parametrize(
    ("fdinfo", "mountinfo", "number", "type_"),
    [
        pytest.param(FDINFO, captured.MOUNTINFO, b"254:0", "ext4", id="by its mount"),
        pytest.param(FDINFO, MOUNTINFO_BTRFS, b"0:31", "btrfs", id="a subvolume, by its mount"),
        pytest.param(b"mnt_id:\t999\n", captured.MOUNTINFO, b"0:37", "tmpfs", id="by its device"),
        pytest.param(b"mnt_id:\t999\n", captured.MOUNTINFO, b"0:99", None, id="elsewhere"),
        pytest.param(b"", b"", b"0:99", None, id="nothing to go by"),
        pytest.param(FDINFO, b"\n31\n31 - \n", b"0:99", "", id="garbage"),
    ],
)
def test_the_type_of_a_file_system(
    fdinfo: bytes, mountinfo: bytes, number: bytes, type_: str | None
) -> None:
    assert type_of_mount(fdinfo, mountinfo, number) == type_


@pytest.mark.parametrize(
    ("type_", "knows"), [("ext4", True), ("xfs", True), ("vfat", False), (None, True)]
)
def test_who_knows_who_wrote(type_: str | None, knows: bool) -> None:
    assert on(8, 1, type_).knows_who_wrote is knows


@pytest.mark.parametrize(
    ("type_", "counts"),
    [
        ("ext4", True),
        ("xfs", True),
        ("vfat", False),
        ("tmpfs", False),
        ("overlay", None),
        (None, None),
    ],
)
def test_whose_writing_is_counted(type_: str | None, counts: bool | None) -> None:
    assert on(8, 1, type_).counts_writes is counts


def test_a_directory_of_this_machine(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    found = file_system(fd)
    os.close(fd)
    assert os.makedev(found.major, found.minor) == tmp_path.stat().st_dev
    assert found.type
