"""Reading control groups of version 1, whose controllers have a tree each."""

from __future__ import annotations

import pytest

from ledge.kernel.cgroup1 import mount_points, own_paths, parse_blkio_read
from ledge.usage_of_cgroup1 import CGROUP1_FILES, usage_of_cgroup1
from tests.unit import captured

TEXTS: dict[str, bytes | None] = {
    "cpuacct.usage": b"1764000000\n",
    "cpuacct.usage_user": b"1500000000\n",
    "cpuacct.usage_sys": b"264000000\n",
    "memory.max_usage_in_bytes": b"1048576\n",
    "memory.oom_control": b"oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "blkio.throttle.io_service_bytes_recursive": (
        b"8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 12288\n8:0 Async 0\n8:0 Discard 0\n"
        b"8:0 Total 12288\nTotal 12288\n"
    ),
    "blkio.throttle.io_serviced_recursive": b"8:0 Read 1\n8:16 Read 2\n8:0 Write 3\nTotal 6\n",
    "pids.peak": b"7\n",
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
        "BlockReadBytes": 4096,
        "BlockReadOperations": 3,
        "ProcessesPeak": 7,
        "OomKills": 2,
    }
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


def test_writes_are_not_told_to_be_zero() -> None:
    usage = usage_of_cgroup1(TEXTS)
    assert usage.figures.get("BlockWriteBytes") is None
    assert usage.figures.get("BlockWriteOperations") is None
    assert usage.unmeasured == {"cgroup version 1 does not tell": ["all else"]}


@pytest.mark.parametrize("file", CGROUP1_FILES)
@pytest.mark.parametrize("text", [None, b"8:0 Read garbage\n"], ids=["missing", "garbage"])
def test_a_bad_file_is_no_zero(file: str, text: bytes | None) -> None:
    usage = usage_of_cgroup1({**TEXTS, file: text})
    assert any(file in reason for reason in usage.unmeasured)


def test_garbage_is_refused_naming_the_file() -> None:
    with pytest.raises(ValueError, match=r"^blkio\.x: expected a number"):
        parse_blkio_read(b"8:0 Read x\n", "blkio.x")
