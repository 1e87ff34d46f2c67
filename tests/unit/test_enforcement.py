"""Limits on a slice: what is written, in which order, what stays, and why a limit does not hold.

The groups are directories of ordinary files (node_of_files.py).
"""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledge.kernel.block_devices import FileSystem
from ledge.kernel.cgroup2 import Cgroup
from ledge.limits import enforcement
from ledge.limits.enforcement import exclusive_cpus, share_out
from ledge.plan.limits import Limits
from tests.unit import captured_devices
from tests.unit.captured_devices import IO_COST_QOS, ONE_NODE
from tests.unit.node_of_files import PAGE_BYTES, SLICE, Kernel, Node


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


EVERYTHING: dict[str, float] = {
    "pids_max": 100,
    "memory_high_bytes": 200000001,
    "memory_swap_max_bytes": 0,
    "cpu_max_cores": 1.5,
    "exclusive_cpus": 2,
    "io_read_bytes_per_second": 10**7,
    "io_write_bytes_per_second": 1048576,
    "io_read_operations_per_second": 500,
    "io_write_operations_per_second": 50,
    "io_weight": 300,
}

NUMBERS = st.fixed_dictionaries(
    {},
    optional={
        limit: st.floats() if limit == "cpu_max_cores" else st.integers(-2, 20) | st.integers()
        for limit in Limits.__slots__
    },
)


class TestAll:
    def test_everything_holds(self, node: Node) -> None:
        (node.root / "io.cost.qos").write_bytes(IO_COST_QOS)
        receipt = node.set(EVERYTHING)
        assert receipt.not_enforced == {}
        assert receipt.enforced == {
            "pids.max": "100",
            "memory.high": str(200000001 // PAGE_BYTES * PAGE_BYTES),
            "memory.swap.max": "0",
            "cpu.max": "150000 100000",
            "io.max": "254:0 rbps=10000000 wbps=1048576 riops=500 wiops=50",
            "io.weight": "default 300",
            "cpuset.cpus": "0,8",
            "cpuset.mems": "0",
        }
        for file, value in receipt.enforced.items():
            assert node.text(file) == value

    def test_a_second_time_changes_nothing(self, node: Node) -> None:
        (node.root / "io.cost.qos").write_bytes(IO_COST_QOS)
        first = node.set(EVERYTHING)
        again = node.set(EVERYTHING)
        assert (again.enforced, again.not_enforced) == (first.enforced, first.not_enforced)

    def test_no_limits_touch_nothing(self, node: Node) -> None:
        receipt = node.enforce()
        assert Kernel.written == []
        assert (receipt.enforced, receipt.not_enforced, receipt.remarks) == ({}, {}, {})

    def test_nothing_above_the_slice_is_written_but_cpuset_handed_on(self, node: Node) -> None:
        node.set(EVERYTHING)
        above = [(file, text) for file, text in Kernel.written if ".slice/" not in file]
        assert above == [
            ("condor.service/cgroup.subtree_control", "+cpuset"),
            ("htcondor/cgroup.subtree_control", "+cpuset"),
        ]

    def test_leaves_no_descriptor_open(self, node: Node) -> None:
        before = open_descriptors()
        node.set(EVERYTHING)
        node.give_back()
        assert open_descriptors() == before

    def test_a_slice_that_has_gone(self, node: Node) -> None:
        for path in node.slice().iterdir():
            path.unlink()
        receipt = node.set(EVERYTHING)
        assert receipt.enforced == {}
        assert "the job's group has gone" in receipt.not_enforced["pids.max"]
        assert set(receipt.not_enforced) == {
            *("pids.max", "memory.high", "memory.swap.max", "cpu.max"),
            *("io.max", "io.weight", "cpuset.cpus"),
        }

    @pytest.mark.parametrize(
        ("number", "remedy"),
        [
            (errno.EPERM, "root"),
            (errno.EACCES, "root"),
            (errno.EROFS, "ProtectControlGroups"),
            (errno.EINVAL, "policy"),
            (errno.EBUSY, "Delegate"),
            (errno.ENODEV, "gone"),
            (errno.EOPNOTSUPP, "kernel"),
            (errno.EIO, "log of the kernel"),
        ],
        ids=lambda value: errno.errorcode.get(value, ""),
    )
    def test_whatever_the_kernel_refuses_is_a_line_with_a_remedy(
        self, node: Node, number: int, remedy: str
    ) -> None:
        files = ("pids.max", "memory.high", "cpu.max", "io.max", "io.weight", "cpuset.cpus")
        Kernel.refusals.update(dict.fromkeys(files, number))
        receipt = node.set(EVERYTHING)
        assert set(receipt.not_enforced) == set(files)
        assert set(receipt.enforced) == {"memory.swap.max"}
        for reason in receipt.not_enforced.values():
            assert os.strerror(number) in reason
            assert remedy in reason
            assert "\n" not in reason

    @pytest.mark.parametrize("file", ["pids.max", "memory.high", "cpu.max", "io.max", "io.weight"])
    def test_a_file_that_is_not_there(self, node: Node, file: str) -> None:
        (node.slice() / file).unlink()
        receipt = node.set(EVERYTHING)
        assert f"this kernel has no {file}" in receipt.not_enforced[file]

    def test_a_controller_that_is_off(self, node: Node) -> None:
        (node.slice() / "cgroup.controllers").write_text("cpu memory\n")
        (node.slice() / "pids.max").unlink()
        reason = node.enforce(pids_max=5).not_enforced["pids.max"]
        assert "the pids controller is off" in reason and "Delegate=yes" in reason

    @pytest.mark.parametrize("file", ["pids.max", "memory.high", "cpu.max", "io.max"])
    @pytest.mark.parametrize("text", ["what is this", ""])
    def test_a_file_that_makes_no_sense(self, node: Node, file: str, text: str) -> None:
        (node.slice() / file).write_text(text)
        receipt = node.set(EVERYTHING)
        if file != "io.max" or text:  # an empty io.max is one without limits
            assert receipt.not_enforced[file]

    @pytest.mark.parametrize(
        ("limit", "file"),
        [
            ("pids_max", "pids.max"),
            ("memory_high_bytes", "memory.high"),
            ("cpu_max_cores", "cpu.max"),
            ("io_read_operations_per_second", "io.max"),
            ("exclusive_cpus", "cpuset.cpus"),
        ],
    )
    def test_what_does_not_stay_is_not_enforced(self, node: Node, limit: str, file: str) -> None:
        Kernel.ignored.add(file)
        receipt = node.set({limit: EVERYTHING[limit]})
        assert "was written" in receipt.not_enforced[file]
        assert file not in receipt.enforced

    @given(limits=NUMBERS)
    @settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_numbers_raise_nothing(self, node: Node, limits: dict[str, float]) -> None:
        receipt = node.set(limits)
        for reason in receipt.not_enforced.values():
            assert reason and "\n" not in reason


class TestNothingIsLoosened:
    @pytest.mark.parametrize(
        ("file", "existing", "limit", "wanted"),
        [
            ("pids.max", "50", "pids_max", 100),
            ("pids.max", "0", "pids_max", 100),
            ("memory.swap.max", "0", "memory_swap_max_bytes", 1 << 30),
            ("memory.high", "134217728", "memory_high_bytes", 200 << 20),
            ("memory.high", "134217728", "memory_high_bytes", 999 << 20),
            ("cpu.max", "50000 100000", "cpu_max_cores", 1),
            ("cpu.max", "5000 10000", "cpu_max_cores", 0.5),
            ("cpu.max", "100000 1000000", "cpu_max_cores", 0.2),
        ],
    )
    def test_a_tighter_value_stays_and_is_what_holds(
        self, node: Node, file: str, existing: str, limit: str, wanted: float
    ) -> None:
        (node.slice() / file).write_text(f"{existing}\n")
        receipt = node.set({limit: wanted})
        assert Kernel.written == []
        assert receipt.enforced == {file: existing}
        assert "was set already" in receipt.remarks[file]

    @pytest.mark.parametrize(
        ("file", "existing", "limit", "wanted", "expected"),
        [
            ("pids.max", "200", "pids_max", 100, "100"),
            ("memory.swap.max", "max", "memory_swap_max_bytes", 1 << 20, "1048576"),
            ("cpu.max", "5000 10000", "cpu_max_cores", 0.25, "25000 100000"),
            ("memory.high", "209715200", "memory_high_bytes", 100 << 20, "104857600"),
        ],
    )
    def test_a_looser_one_is_replaced_in_one_write(
        self, node: Node, file: str, existing: str, limit: str, wanted: float, expected: str
    ) -> None:
        (node.slice() / file).write_text(f"{existing}\n")
        assert node.set({limit: wanted}).enforced == {file: expected}
        assert Kernel.written == [(f"slot1_1.slice/{file}", expected)]

    def test_each_key_of_io_max_by_itself(self, node: Node) -> None:
        (node.slice() / "io.max").write_text("254:0 rbps=max wbps=1000 riops=7 wiops=max\n")
        receipt = node.enforce(
            io_write_bytes_per_second=2000, io_read_operations_per_second=5,
            io_write_operations_per_second=9,
        )
        assert receipt.enforced["io.max"] == "254:0 rbps=max wbps=1000 riops=5 wiops=9"
        assert Kernel.written == [("slot1_1.slice/io.max", "254:0 riops=5 wiops=9")]

    def test_the_burst_stays(self, node: Node) -> None:
        node.enforce(cpu_max_cores=1)
        assert node.text("cpu.max.burst") == "0"


class TestMemoryHigh:
    @pytest.mark.parametrize("wanted", [256 << 20, 300 << 20])
    def test_says_where_the_kill_comes_first(self, node: Node, wanted: int) -> None:
        receipt = node.enforce(memory_high_bytes=wanted)
        assert receipt.enforced["memory.high"] == str(wanted)
        assert receipt.not_enforced == {}
        assert "memory.max is 268435456" in receipt.remarks["memory.high"]

    def test_holds_where_there_is_no_maximum(self, node: Node) -> None:
        (node.slice() / "memory.max").write_text("max\n")
        assert "memory.high" in node.enforce(memory_high_bytes=1 << 40).enforced

    def test_below_the_usage_it_would_have_the_daemon_reclaim(self, node: Node) -> None:
        reason = node.enforce(memory_high_bytes=409600).not_enforced["memory.high"]
        assert "uses 421888" in reason
        assert node.text("memory.high") == "max"


class TestIoMax:
    def test_lvm_takes_it_itself(self, node: Node) -> None:
        receipt = node.enforce(scratch=FileSystem(253, 0, "xfs"), io_read_bytes_per_second=5)
        assert receipt.enforced["io.max"].startswith("253:0 rbps=5 ")

    @pytest.mark.parametrize("scratch", [None, FileSystem(0, 40, "btrfs"), FileSystem(9, 9, "xfs")])
    def test_no_disk_no_limit(self, node: Node, scratch: FileSystem | None) -> None:
        receipt = node.enforce(scratch=scratch, io_read_bytes_per_second=5, io_weight=5, pids_max=1)
        assert set(receipt.not_enforced) == {"io.max", "io.weight"}
        assert set(receipt.enforced) == {"pids.max"}

    def test_a_file_system_that_forgets_who_wrote(self, node: Node) -> None:
        receipt = node.enforce(
            scratch=FileSystem(254, 1, "vfat"), io_read_bytes_per_second=5,
            io_write_operations_per_second=5,
        )
        assert set(receipt.not_enforced) == {"io_write_operations_per_second"}
        assert "direct writes" in receipt.not_enforced["io_write_operations_per_second"]
        assert "io.max" in receipt.enforced


class TestIoWeight:
    def test_nothing_goes_by_it(self, node: Node) -> None:
        receipt = node.enforce(io_weight=300)
        reason = receipt.not_enforced["io.weight"]
        assert "nothing on vda" in reason and "bfq" in reason and "io.cost.qos" in reason
        assert "io.weight" not in receipt.enforced
        assert node.text("io.weight") == "default 300"

    def test_bfq_has_a_file_of_its_own_that_ends_at_1000(self, node: Node) -> None:
        (node.slice() / "io.bfq.weight").write_text("default 100\n254:0 700\n")
        receipt = node.enforce(scratch=FileSystem(7, 0, "ext4"), io_weight=3000)
        assert receipt.enforced == {"io.bfq.weight": "default 1000"}
        assert not receipt.not_enforced

    def test_one_disk_of_two(self, node: Node) -> None:
        (node.slice() / "io.bfq.weight").write_text("default 100\n")
        receipt = node.enforce(scratch=FileSystem(253, 0, "ext4"), io_weight=200)
        assert receipt.enforced == {"io.bfq.weight": "default 200"}
        assert "nothing on vda" in receipt.not_enforced["io.weight"]


class TestCpuset:
    def test_two_jobs_have_cores_of_their_own_and_the_third_the_rest(self, node: Node) -> None:
        node.enforce("slot1_1", exclusive_cpus=2)
        node.enforce("slot1_2", exclusive_cpus=3)
        assert node.cpus() == ["0,8", "1-2,9", "3-7,10-15"]
        assert node.text("cpuset.mems", "slot1_3") == ""

    def test_a_job_without_exclusive_cpus_that_comes_later_is_kept_off(self, node: Node) -> None:
        node.enforce("slot1_1", exclusive_cpus=2)
        (node.slice("slot1_2") / "cpuset.cpus").write_text("\n")
        receipt = node.enforce("slot1_2", pids_max=5)
        assert node.cpus()[1] == "1-7,9-15"
        assert receipt.enforced == {"pids.max": "5"}
        assert "0,8" in receipt.remarks["cpuset.cpus"]

    def test_the_slices_are_the_only_record(self, node: Node) -> None:
        node.enforce("slot1_1", exclusive_cpus=2)
        node.enforce("slot1_2", exclusive_cpus=1)
        jobs = Kernel.open(os.fsencode(node.jobs))
        assert exclusive_cpus(jobs) == {"slot1_1.slice": {0, 8}, "slot1_2.slice": {1}}
        jobs.close()

    def test_everything_is_given_back(self, node: Node) -> None:
        node.enforce("slot1_1", exclusive_cpus=2)
        node.enforce("slot1_2", exclusive_cpus=2)
        assert node.give_back("slot1_1") == {}
        assert node.cpus() == ["0,2-8,10-15", "1,9", "0,2-8,10-15"]
        assert node.give_back("slot1_2") == {}
        assert node.cpus() == ["", "", ""]

    def test_what_a_slice_held_that_has_gone_is_given_back_too(self, node: Node) -> None:
        node.enforce("slot1_1", exclusive_cpus=2)
        for path in node.slice().iterdir():
            path.unlink()
        assert node.give_back("slot1_1") == {}
        assert node.text("cpuset.cpus", "slot1_2") == ""

    def test_a_job_that_held_nothing_gives_nothing_back(self, node: Node) -> None:
        node.enforce("slot1_1", exclusive_cpus=2)
        Kernel.written.clear()
        assert node.give_back("slot1_2") == {}
        assert Kernel.written == []

    def test_killed_between_cpus_and_mems_it_holds_nothing(self, node: Node) -> None:
        node.enforce("slot1_2", exclusive_cpus=1)
        (node.slice() / "cpuset.cpus").write_text("3\n")
        jobs = Kernel.open(os.fsencode(node.jobs))
        assert share_out(jobs, node.sysfs) == {}
        jobs.close()
        assert node.cpus() == ["1-15", "0", "1-15"]

    def test_the_others_are_left_something(self, node: Node) -> None:
        receipt = node.enforce(exclusive_cpus=16)
        assert "none for 2 other jobs" in receipt.not_enforced["cpuset.cpus"]
        assert node.cpus() == ["", "", ""]

    def test_a_late_comer_to_whom_nothing_is_left_is_told(self, node: Node) -> None:
        for name, count in (("slot1_1", 8), ("slot1_2", 7)):
            node.enforce(name, exclusive_cpus=count)
        node.enforce("slot1_3", exclusive_cpus=1)
        captured_devices.plant(
            node.slice("slot1_4"),
            {**SLICE, "cgroup.controllers": "cpu cpuset\n", "cpuset.cpus": "\n", "cpuset.mems": ""},
        )
        reason = node.enforce("slot1_4", pids_max=1).not_enforced["cpuset.cpus"]
        assert "every CPU is some job's alone" in reason

    def test_only_what_the_unit_is_allowed(self, node: Node) -> None:
        node.enforce(exclusive_cpus=1)
        (node.jobs / "cpuset.cpus.effective").write_text("4-7\n")
        node.enforce("slot1_2", exclusive_cpus=2)
        assert node.cpus()[1:] == ["4-5", "6-7"]

    def test_a_sibling_that_cannot_be_kept_off_is_named(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node.enforce("slot1_1", exclusive_cpus=2)

        def refuse(jobs: Cgroup, name: str, cpus: frozenset[int]) -> None:
            raise OSError(errno.EBUSY, "Device or resource busy")

        monkeypatch.setattr(enforcement, "_keep_to", refuse)
        receipt = node.enforce("slot1_2", exclusive_cpus=2)
        assert receipt.enforced["cpuset.cpus"] == "1,9"
        assert "slot1_3.slice may run" in receipt.not_enforced["exclusive_cpus"]

    @pytest.mark.parametrize("number", [errno.ENODEV, errno.ENOENT])
    def test_a_sibling_that_goes_meanwhile_is_no_failure(self, node: Node, number: int) -> None:
        node.enforce("slot1_1", exclusive_cpus=2)
        (node.slice("slot1_2") / "cpuset.cpus").write_text("\n")
        Kernel.refusals["cpuset.cpus"] = number
        jobs = Kernel.open(os.fsencode(node.jobs))
        assert share_out(jobs, node.sysfs) == {}
        jobs.close()

    def test_a_job_with_more_memory_than_its_node_gets_that_of_all(self, node: Node) -> None:
        (node.slice() / "memory.max").write_text(f"{100 << 30}\n")
        receipt = node.enforce(exclusive_cpus=2)
        assert receipt.enforced["cpuset.mems"] == "0-1"
        assert "more than what nodes 0 have" in receipt.remarks["cpuset.mems"]

    def test_a_machine_with_one_node(self, node: Node) -> None:
        captured_devices.plant(node.sysfs, ONE_NODE)
        assert node.enforce(exclusive_cpus=1).enforced == {"cpuset.cpus": "0", "cpuset.mems": "0"}
        assert node.cpus() == ["0", "1", "1"]
