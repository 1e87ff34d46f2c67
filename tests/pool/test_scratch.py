"""What the scratch directory lies on, and whether io.stat has what is written there."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledge.kernel.block_devices import FileSystem
from tests.pool.condor import Pool
from tests.pool.test_ledged import await_ledged
from tests.pool.test_pool import shell

PLACE = "/var/tmp/ledge-scratch"
EXECUTE = "/var/lib/condor/execute"
WRITTEN = 16 << 20
SECTORS, PER_CLUSTER = 131072, 4
MOUNT = f"""set -e
cd {PLACE}
mkdir ext4 vfat tmpfs overlay low upper work
truncate -s 64M vfat.img
mount -o loop vfat.img vfat
mount -t tmpfs tmpfs tmpfs
mount -t overlay -o lowerdir=low,upperdir=upper,workdir=work overlay overlay
"""
UNMOUNT = f"cd {PLACE} && umount overlay tmpfs vfat; cd / && rm -rf {PLACE}"


def fat16() -> bytes:
    """An empty FAT file system of 64 MiB, as far as it is not zero."""
    per_table = -(-2 * (SECTORS // PER_CLUSTER + 2) // 512)
    numbers = (512, PER_CLUSTER, 1, 1, 512, 0, 0xF8, per_table, 32, 2, 0, SECTORS)
    geometry = struct.pack("<HBHBHHBHHHII", *numbers)
    boot = (b"\xeb\x3c\x90ledge   " + geometry).ljust(510, b"\0") + b"\x55\xaa"
    return boot + b"\xf8\xff\xff\xff"


@pytest.fixture
def mounted(ledge_pool: Pool) -> Iterator[Pool]:
    ledge_pool.root(f"mkdir -p {PLACE}")
    ledge_pool.put(fat16(), f"{PLACE}/vfat.img")
    ledge_pool.root(MOUNT)
    yield ledge_pool
    ledge_pool.root(UNMOUNT)


def test_what_is_written_later_counts_where_the_file_system_says_who_wrote(mounted: Pool) -> None:
    script = f"{PLACE}/written_later.py"
    mounted.put(Path(__file__).parent / "written_later.py", script)
    names = ("ext4", "vfat", "tmpfs", "overlay")
    places = " ".join([f"{PLACE}/{name}" for name in names])
    found = json.loads(mounted.root(f"python3 {script} {places}").stdout)
    counted = {name: found[f"{PLACE}/{name}"] for name in names}
    print(counted)
    for name in names:
        counts = FileSystem(7, 0, name).counts_writes
        # overlay says nothing of itself: this one is on ext4, as the guest's disk is.
        expected = WRITTEN if counts or counts is None else 0
        assert counted[name] == pytest.approx(expected, abs=65536)


def test_the_job_s_ad_says_what_its_scratch_directory_lies_on(ledge_pool: Pool) -> None:
    await_ledged(ledge_pool)
    job = ledge_pool.submit(shell("true"))
    job.wait("terminated")
    ledge_pool.root(f"mount -t tmpfs -o mode=755,uid=condor,gid=condor tmpfs {EXECUTE}")
    try:
        in_memory = ledge_pool.submit(shell("dd if=/dev/zero of=file bs=1M count=4; sync"))
        in_memory.wait("terminated")
    finally:
        ledge_pool.remove_all_jobs()
        ledge_pool.root(f"until umount {EXECUTE}; do sleep 0.2; done", timeout=60)
    told = [
        (ad["ChirpLedgeScratchFileSystem"], ad["ChirpLedgeScratchWritesCounted"])
        for ad in (job.ad(), in_memory.ad())
    ]
    assert told == [("ext4", True), ("tmpfs", False)]
    for ad in (job.ad(), in_memory.ad()) if ledge_pool.release.has_ledge_usage else ():
        assert ad["LedgeUsage"]["ScratchFileSystem"] == ad["ChirpLedgeScratchFileSystem"]
