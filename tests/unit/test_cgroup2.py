"""Reading control files of version 2: right, missing, garbage; finding one's own group."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledge.kernel.cgroup2 import (
    Cgroup,
    mount_point,
    own_path,
    parse_flat_keyed,
    parse_nested_keyed,
    parse_pressure,
    parse_single,
)
from tests.unit import captured

SINGLE, FLAT, NESTED, PRESSURE = parse_single, parse_flat_keyed, parse_nested_keyed, parse_pressure
Parser = Callable[[bytes, str], object]


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        pytest.param(SINGLE, captured.MEMORY_PEAK, 80109568, id="memory.peak"),
        pytest.param(SINGLE, captured.SWAP_PEAK, 0, id="memory.swap.peak: zero is a figure"),
        pytest.param(SINGLE, captured.PIDS_PEAK, 14, id="pids.peak"),
        pytest.param(SINGLE, b"max\n", None, id="memory.max: max is no number"),
        pytest.param(SINGLE, b"18446744073709551615\n", 2**64 - 1, id="the largest number"),
        pytest.param(FLAT, captured.CGROUP_EVENTS, {b"populated": 1, b"frozen": 0}, id="events"),
        pytest.param(FLAT, b"", {}, id="an empty flat file"),
        pytest.param(
            PRESSURE,
            captured.CPU_PRESSURE,
            {b"some": 12305816, b"full": 7144294},
            id="cpu.pressure",
        ),
        pytest.param(
            PRESSURE, captured.CPU_PRESSURE_SOME_ALONE, {b"some": 28025744}, id="some alone"
        ),
        pytest.param(PRESSURE, b"", {}, id="an empty pressure file"),
        pytest.param(
            NESTED,
            captured.IO_STAT,
            {
                b"254:0": {
                    b"rbytes": 49479680,
                    b"wbytes": 3084288,
                    b"rios": 1199,
                    b"wios": 620,
                    b"dbytes": 0,
                    b"dios": 0,
                }
            },
            id="io.stat",
        ),
        pytest.param(NESTED, b"", {}, id="io.stat without any I/O"),
        pytest.param(NESTED, b"7:0 \n", {b"7:0": {}}, id="io.stat with a device alone"),
    ],
)
def test_real_text(parse: Parser, text: bytes, expected: object) -> None:
    assert parse(text, "a.file") == expected


def test_cpu_stat() -> None:
    figures = parse_flat_keyed(captured.CPU_STAT, "cpu.stat")
    assert (figures[b"user_usec"], figures[b"system_usec"]) == (38557845, 25191690)
    assert figures[b"nr_throttled"] == 0


def test_memory_events_keeps_keys_that_nobody_knows_yet() -> None:
    assert b"sock_throttled" in parse_flat_keyed(captured.MEMORY_EVENTS, "memory.events")


def test_io_stat_of_many_devices_with_what_io_cost_adds() -> None:
    devices = parse_nested_keyed(captured.IO_STAT_OF_MANY_DEVICES, "io.stat")
    assert devices is not None
    assert list(devices) == [b"8:0", b"8:16", b"253:0", b"7:0"]
    assert devices[b"8:0"][b"cost.usage"] == 42
    assert b"cost.vrate" not in devices[b"8:0"]  # 100.00 is no whole number
    assert devices[b"8:16"][b"dbytes"] == 50331648
    assert b"depth" not in devices[b"8:16"]  # max
    assert devices[b"7:0"] == {}


@pytest.mark.parametrize(
    ("parse", "absent"), [(parse_single, None), (parse_flat_keyed, {}), (parse_nested_keyed, None)]
)
def test_a_file_that_is_not_there(
    parse: Callable[[bytes | None, str], object], absent: object
) -> None:
    assert parse(None, "a.file") == absent
    assert parse_pressure(None, "a.file") == {}


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        pytest.param(SINGLE, b"", id="nothing for a number"),
        pytest.param(SINGLE, b"-1\n", id="a negative number"),
        pytest.param(SINGLE, b"1 2\n", id="two numbers"),
        pytest.param(SINGLE, b"12kB\n", id="a unit"),
        pytest.param(SINGLE, "٣\n".encode(), id="digits that are not ASCII"),
        pytest.param(FLAT, b"user_usec\n", id="a key without value"),
        pytest.param(FLAT, b"user_usec x\n", id="a word for a value"),
        pytest.param(FLAT, b"user_usec  1\n", id="two blanks"),
        pytest.param(FLAT, b"\n", id="a blank line among keys"),
        pytest.param(NESTED, b"8:0 rbytes\n", id="a key without equals sign"),
        pytest.param(NESTED, b"\n", id="a blank line among devices"),
        pytest.param(PRESSURE, b"some avg10=0.00\n", id="no total"),
        pytest.param(PRESSURE, b"some total=x\n", id="a word for a total"),
        pytest.param(PRESSURE, b"garbage\n", id="garbage for pressure"),
    ],
)
def test_garbage_is_refused_naming_the_file(parse: Parser, text: bytes) -> None:
    with pytest.raises(ValueError, match=r"^a\.file: expected "):
        parse(text, "a.file")


@pytest.mark.parametrize("parse", [SINGLE, FLAT, NESTED, PRESSURE])
def test_any_bytes_raise_nothing_but_value_error(parse: Parser) -> None:
    @given(st.binary() | st.text(" =:\n0123456789abtlmx.").map(str.encode))
    def try_it(text: bytes) -> None:
        with contextlib.suppress(ValueError):
            parse(text, "a.file")

    try_it()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            captured.PROC_SELF_CGROUP,
            b"/system.slice/condor.service/htcondor/slot1_1.slice/slot1_1.scope",
            id="version 2",
        ),
        pytest.param(
            captured.PROC_SELF_CGROUP_HYBRID,
            b"/user.slice/user-1000.slice/session-2.scope",
            id="hybrid",
        ),
        pytest.param(captured.PROC_SELF_CGROUP_V1, None, id="version 1"),
        pytest.param(b"", None, id="no control groups in the kernel"),
        pytest.param(b"0::/\n", b"/", id="the root of a namespace"),
    ],
)
def test_own_path(text: bytes, expected: bytes | None) -> None:
    assert own_path(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(captured.MOUNTINFO, b"/sys/fs/cgroup", id="version 2"),
        pytest.param(captured.MOUNTINFO_HYBRID, b"/sys/fs/cgroup/unified", id="hybrid"),
        pytest.param(captured.MOUNTINFO_V1, None, id="version 1 at a misleading place"),
        pytest.param(captured.MOUNTINFO_ODD_PLACE, b"/mnt/control groups\\v2", id="octal escapes"),
        pytest.param(b"", None, id="no mounts"),
    ],
)
def test_mount_point(text: bytes, expected: bytes | None) -> None:
    assert mount_point(text) == expected


@given(st.binary() | st.text("0: /-cgroup2\n").map(str.encode))
def test_any_bytes_are_at_most_no_answer(text: bytes) -> None:
    own_path(text)
    for line in (text, b"1 2 3 4 5 - cgroup2 " + text):
        mount_point(line)


class _Leaving(Cgroup):
    """A group that somebody is still on the way out of: EBUSY, until the last refusal is used up.

    The kernel shows this for microseconds after a process was reaped, too seldom for a test.
    """

    refusals = 0

    def write(self, name: str, value: bytes) -> None:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.EBUSY, "Device or resource busy")
        super().write(name, value)


class TestControllers:
    @pytest.fixture
    def groups(self, tmp_path: Path) -> tuple[Cgroup, _Leaving]:
        for name, text in (("slice", "cpu io memory pids\n"), ("root", "")):
            (tmp_path / name).mkdir()
            (tmp_path / name / "cgroup.subtree_control").write_text(text)
        root = _Leaving(os.open(tmp_path / "root", os.O_RDONLY))
        return Cgroup.open(os.fsencode(tmp_path / "slice")), root

    def test_waits_for_whoever_is_leaving(self, groups: tuple[Cgroup, _Leaving]) -> None:
        above, root = groups
        root.refusals = 5
        root.enable_controllers_of(above)
        assert root.read("cgroup.subtree_control") == b"+cpu +io +memory +pids"

    def test_gives_up_when_nobody_leaves(self, groups: tuple[Cgroup, _Leaving]) -> None:
        above, root = groups
        root.refusals = 1000
        with pytest.raises(OSError, match="busy"):
            root.enable_controllers_of(above, patience_seconds=0.01)
        assert root.read("cgroup.subtree_control") == b""


class TestGroup:
    """A directory of ordinary files is as good as the kernel's for opening and reading."""

    @pytest.fixture
    def group(self, tmp_path: Path) -> Cgroup:
        (tmp_path / "memory.peak").write_bytes(captured.MEMORY_PEAK)
        (tmp_path / "cgroup.events").write_bytes(captured.CGROUP_EVENTS)
        (tmp_path / "pids.peak").symlink_to("memory.peak")
        return Cgroup.open(os.fsencode(tmp_path))

    def test_reads_a_file(self, group: Cgroup) -> None:
        assert group.read("memory.peak") == captured.MEMORY_PEAK

    def test_an_absent_file_is_none_and_not_zero(self, group: Cgroup) -> None:
        assert group.read("memory.swap.peak") is None

    def test_follows_no_symbolic_link(self, group: Cgroup) -> None:
        with pytest.raises(OSError, match="symbolic links"):
            group.read("pids.peak")

    def test_is_populated(self, group: Cgroup) -> None:
        assert group.populated()

    def test_does_not_create_what_it_writes(self, group: Cgroup) -> None:
        with pytest.raises(FileNotFoundError):
            group.write("cgroup.kill", b"1")

    def test_removes_a_child_and_all_below(self, group: Cgroup, tmp_path: Path) -> None:
        (tmp_path / "child/grandchild").mkdir(parents=True)
        assert group.remove(b"child")
        assert not (tmp_path / "child").exists()

    def test_removing_what_is_gone_is_no_error(self, group: Cgroup) -> None:
        assert group.remove(b"never was")

    def test_says_when_it_could_not_remove(self, group: Cgroup, tmp_path: Path) -> None:
        (tmp_path / "child").mkdir()
        (tmp_path / "child/file").write_text("as good as a process")
        assert not group.remove(b"child", patience_seconds=0.01)

    def test_reads_by_descriptor_whatever_happens_to_the_path(
        self, group: Cgroup, tmp_path: Path
    ) -> None:
        tmp_path.rename(tmp_path.with_name("elsewhere"))
        assert group.read("memory.peak") == captured.MEMORY_PEAK


def test_a_text_of_any_length_is_whole(tmp_path: Path) -> None:
    text = b"8:0 rbytes=1 wbytes=2\n" * 10_000
    (tmp_path / "io.stat").write_bytes(text)
    group = Cgroup.open(os.fsencode(tmp_path))
    assert group.read("io.stat") == text
    group.close()
