"""CPUs, cores and nodes from /sys; lists of CPUs read and written as the kernel does."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledge.kernel.cpu_topology import cpu_list, parse_cpu_list, read_topology
from tests.unit import captured_devices
from tests.unit.captured_devices import ONE_NODE, TWO_NODES

SIZE_OF_A_NODE = 65823360 * 1024


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        pytest.param(b"0-3,8\n", {0, 1, 2, 3, 8}, id="ranges and single ones"),
        pytest.param(b"7\n", {7}, id="one"),
        pytest.param(b"\n", set(), id="none, as the kernel writes it"),
        pytest.param(b"", set(), id="nothing at all"),
    ],
)
def test_a_list_of_cpus(text: bytes, cpus: set[int]) -> None:
    assert parse_cpu_list(text, "cpuset.cpus") == cpus


@pytest.mark.parametrize("text", [b"a", b"1-", b"-1", b"1,,2", b"0-99999999999", "٣".encode()])
def test_what_is_no_list_is_refused_naming_the_file(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"^cpuset\.cpus: expected "):
        parse_cpu_list(text, "cpuset.cpus")


@given(st.frozensets(st.integers(0, 300)))
def test_what_is_written_reads_the_same(cpus: frozenset[int]) -> None:
    assert parse_cpu_list(cpu_list(cpus).encode(), "cpuset.cpus") == cpus


def test_is_written_as_the_kernel_writes_it() -> None:
    assert cpu_list(frozenset({9, 0, 1, 2, 5, 8})) == "0-2,5,8-9"


@given(st.binary() | st.text("0123456789-, \n").map(str.encode))
def test_any_bytes_raise_nothing_but_value_error(text: bytes) -> None:
    with contextlib.suppress(ValueError):
        parse_cpu_list(text, "cpuset.cpus")


def test_one_node(tmp_path: Path) -> None:
    topology = read_topology(captured_devices.plant(tmp_path, ONE_NODE))
    assert topology.cores == (frozenset({0}), frozenset({1}))
    assert topology.nodes == {0: {0, 1}}
    assert topology.memory_bytes == {0: 4011868 * 1024}


def test_two_nodes_with_hyper_threads(tmp_path: Path) -> None:
    topology = read_topology(captured_devices.plant(tmp_path, TWO_NODES))
    assert topology.cpus == set(range(16))
    assert topology.cores[:2] == (frozenset({0, 8}), frozenset({1, 9}))
    assert topology.nodes[1] == {4, 5, 6, 7, 12, 13, 14, 15}
    assert topology.memory_bytes == {0: SIZE_OF_A_NODE, 1: SIZE_OF_A_NODE}


def test_a_cpu_that_is_offline_is_in_no_core_and_no_node(tmp_path: Path) -> None:
    # The kernel takes its directory topology away, and keeps it in cpulist of the node.
    online = {"devices/system/cpu/online": "0-8,10-15\n"}
    tree = {name: text for name, text in TWO_NODES.items() if "/cpu9/" not in name}
    topology = read_topology(captured_devices.plant(tmp_path, tree, online))
    assert topology.cores[1] == {1}
    assert 9 not in topology.nodes[0]


def test_a_cpu_that_isolcpus_sets_apart_is_not_for_jobs(tmp_path: Path) -> None:
    isolated = {"devices/system/cpu/isolated": "3,11\n"}
    topology = read_topology(captured_devices.plant(tmp_path, TWO_NODES, isolated))
    assert topology.cpus == set(range(16)) - {3, 11}


def test_a_node_without_memory(tmp_path: Path) -> None:
    none = {"devices/system/node/node1/meminfo": "Node 1 MemTotal:              0 kB\n"}
    topology = read_topology(captured_devices.plant(tmp_path, TWO_NODES, none))
    assert set(topology.nodes) == {0, 1}
    assert set(topology.memory_bytes) == {0}


def test_a_kernel_without_numa_has_one_node(tmp_path: Path) -> None:
    tree = {name: text for name, text in ONE_NODE.items() if "/node" not in name}
    topology = read_topology(captured_devices.plant(tmp_path, tree))
    assert topology.nodes == {0: {0, 1}}
    assert set(topology.memory_bytes) == {0}


def test_garbage_is_refused_naming_the_file(tmp_path: Path) -> None:
    garbage = {"devices/system/node/node0/meminfo": "what is this\n"}
    with pytest.raises(ValueError, match=r"node0/meminfo: expected a line MemTotal"):
        read_topology(captured_devices.plant(tmp_path, ONE_NODE, garbage))
