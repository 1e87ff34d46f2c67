"""One reading of a job's control group: its files, and what the node says of the disks in them."""

from __future__ import annotations

import posix

from ledge.kernel.cgroup2 import Cgroup
from ledge.usage.of_cgroup2 import CGROUP2_FILES, SLICE_FILES, usage_of_cgroup2
from ledge.usage.usage import Usage

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from ledge.job.leaf_v1 import LeafV1


def read_usage(group: Cgroup, slice_is_the_jobs: bool) -> Usage:
    """What the kernel says of the job's own group by now. Raises OSError.

    The slice above it is read too where nobody else's processes can be in it.
    """
    files = [name for name in CGROUP2_FILES if slice_is_the_jobs or name not in SLICE_FILES]
    texts = {name: group.read(name) for name in files}
    return usage_of_texts(texts, "the group above is not the job's alone")


def read_usage_of_version_1(leaf: LeafV1) -> Usage:
    """The same of groups of version 1. Raises OSError."""
    from ledge.usage.of_cgroup1 import BLOCK_BYTES, CGROUP1_FILES, usage_of_cgroup1

    texts = {name: leaf.read(name) for name in CGROUP1_FILES}
    devices = _devices(texts[BLOCK_BYTES] or b"")
    return usage_of_cgroup1(texts, _stacked(devices), _names(devices))


def usage_of_texts(texts: dict[str, bytes | None], unread: str) -> Usage:
    """The usage that these files tell, with what the node says of its disks."""
    devices = _devices(texts.get("io.stat") or b"")
    return usage_of_cgroup2(texts, _stacked(devices), _names(devices), unread)


def _devices(io_stat: bytes) -> list[bytes]:
    """The devices, MAJOR:MINOR, that are looked up: a single one needs no telling."""
    words = [line.partition(b" ")[0] for line in io_stat.splitlines()]
    devices = dict.fromkeys([word for word in words if b":" in word])
    return list(devices) if len(devices) > 1 else []


def _stacked(devices: list[bytes]) -> frozenset[bytes]:
    """The devices that pass their I/O on to others (/sys/dev/block/…/slaves)."""
    stacked = set()
    for device in devices:
        try:
            if posix.listdir(b"/sys/dev/block/" + device + b"/slaves"):
                stacked.add(device)
        except OSError:
            pass  # a device that has gone, or never had slaves: it counts by itself
    return frozenset(stacked)


def _names(devices: list[bytes]) -> dict[bytes, str]:
    """The names of devices, as lsblk(8) shows them (/sys/dev/block/… is a link to …/block/sda)."""
    names = {}
    for device in devices:
        try:
            target = posix.readlink(b"/sys/dev/block/" + device)
        except OSError:
            continue  # it has gone, and keeps its number
        names[device] = target.rpartition(b"/")[2].decode("ascii", "replace")
    return names
