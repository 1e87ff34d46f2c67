"""Reading control groups of version 1, whose controllers have a tree each."""

from __future__ import annotations

import pytest

from ledge.kernel.cgroup1 import mount_points, own_paths, parse_blkio
from ledge.usage.of_cgroup1 import CGROUP1_FILES, usage_of_cgroup1
from tests.unit import captured

TEXTS: dict[str, bytes | None] = {
    "cpuacct.usage": b"1764000000\n",
    "cpuacct.usage_user": b"1500000000\n",
    "cpuacct.usage_sys": b"264000000\n",
    "memory.max_usage_in_bytes": b"1048576\n",
    "memory.memsw.max_usage_in_bytes": b"2097152\n",
    "memory.stat": captured.MEMORY_STAT_V1,
    "memory.oom_control": b"oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "blkio.throttle.io_service_bytes_recursive": (
        b"8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 12288\n8:0 Async 0\n8:0 Discard 512\n"
        b"8:0 Total 12800\n8:16 Read 1024\n8:16 Write 0\n8:16 Discard 0\nTotal 13824\n"
    ),
    "blkio.throttle.io_serviced_recursive": (
        b"8:0 Read 1\n8:0 Write 3\n8:0 Discard 1\n8:0 Total 5\n8:16 Read 2\nTotal 7\n"
    ),
    "pids.peak": b"7\n",
    "pids.events": b"max 4\n",
}


def test_own_paths() -> None:
    assert own_paths(captured.PROC_SELF_CGROUP_HYBRID) == {
        b"pids": b"/user.slice/user-1000.slice",
        b"memory": b"/user.slice",
        b"cpu": b"/user.slice",
        b"cpuacct": b"/user.slice",
    }


def test_a_path_with_colons_is_whole() -> None:
    assert own_paths(captured.PROC_SELF_CGROUP_V1)[b"memory"] == b"/docker/0::/misleading"


def test_mount_points() -> None:
    found = mount_points(captured.MOUNTINFO_HYBRID)
    assert found[b"cpu"] == (b"/", b"/sys/fs/cgroup/cpu")
    assert found[b"memory"] == (b"/", b"/sys/fs/cgroup/memory")
    assert mount_points(captured.MOUNTINFO) == {}


def test_every_file() -> None:
    assert set(TEXTS) == set(CGROUP1_FILES)
    usage = usage_of_cgroup1(TEXTS)
    assert {name: value for name, value in usage.figures.items() if value is not None} == {
        "CpuUserSeconds": 1.5,
        "CpuSystemSeconds": 0.264,
        "MemoryPeakBytes": 1048576,
        "MemoryAndSwapPeakBytes": 2097152,
        "PageFaultsMinorCount": 547548011,
        "PageFaultsMajorCount": 23177,
        "RefaultsAnonCount": 0,
        "RefaultsFileCount": 3069958,
        "BlockReadBytes": 5120,
        "BlockWriteBytes": 8192,
        "BlockDiscardBytes": 512,
        "BlockReadOperations": 3,
        "BlockWriteOperations": 3,
        "BlockDiscardOperations": 1,
        "ProcessesPeak": 7,
        "ForksRefusedCount": 4,
        "OomKills": 2,
    }
    assert usage.devices["8:16"] == {
        "rbytes": 1024, "wbytes": 0, "dbytes": 0, "rios": 2, "wios": 0, "dios": 0,
    }  # fmt: skip
    assert usage.tracking == "cgroup1"


@pytest.mark.parametrize(
    ("total", "user", "system", "expected"),
    [
        (1000, 3, 1, (750, 250)),
        (1000, 0, 0, (1000, 0)),  # shorter than a tick
        (1000, 0, 4, (0, 1000)),
        (1000, 4, 0, (1000, 0)),
    ],
)
def test_ticks_are_scaled_to_the_exact_sum(
    total: int, user: int, system: int, expected: tuple[int, int]
) -> None:
    counts = {"usage": total, "usage_user": user, "usage_sys": system}
    texts = {f"cpuacct.{name}": b"%d\n" % (count * 10**6) for name, count in counts.items()}
    figures = usage_of_cgroup1({**TEXTS, **texts}).figures
    milliseconds = [figures[f"Cpu{part}Seconds"] for part in ("User", "System")]
    assert milliseconds == [part / 1000 for part in expected]


def test_writes_are_told_to_be_a_lower_bound() -> None:
    usage = usage_of_cgroup1(TEXTS)
    assert list(usage.incomplete.values()) == [["BlockWriteBytes", "BlockWriteOperations"]]
    missing = {name for names in usage.unmeasured.values() for name in names}
    assert missing == {"SwapPeakBytes", "all else"}


def test_a_device_that_passes_its_io_on_does_not_count() -> None:
    usage = usage_of_cgroup1(TEXTS, frozenset([b"8:16"]), {b"8:0": "sda"})
    assert usage.figures["BlockReadBytes"] == 4096
    assert list(usage.devices) == ["sda"]


def test_no_device_is_no_zero() -> None:
    """Of a job with no I/O and of one that nobody counted the kernel says the same."""
    none = {name: b"Total 0\n" for name in TEXTS if name.startswith("blkio.")}
    usage = usage_of_cgroup1({**TEXTS, **none})
    assert usage.figures["BlockReadBytes"] is None
    assert usage.figures["BlockWriteOperations"] is None
    assert usage.incomplete == {}
    assert any("a limit was set" in reason for reason in usage.unmeasured)


def test_devices_need_both_files() -> None:
    texts = {**TEXTS, "blkio.throttle.io_serviced_recursive": None}
    assert usage_of_cgroup1(texts).devices == {}


@pytest.mark.parametrize("file", CGROUP1_FILES)
@pytest.mark.parametrize("text", [None, b"8:0 Read garbage\n"], ids=["missing", "garbage"])
def test_a_bad_file_is_no_zero(file: str, text: bytes | None) -> None:
    usage = usage_of_cgroup1({**TEXTS, file: text})
    assert any(file in reason for reason in usage.unmeasured)


def test_garbage_is_refused_naming_the_file() -> None:
    with pytest.raises(ValueError, match=r"^blkio\.x: expected a number"):
        parse_blkio(b"8:0 Read x\n", "blkio.x")
