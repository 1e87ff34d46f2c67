"""The CPUs of this machine: which of them share a core, and which a NUMA node.

Sources: Documentation/admin-guide/cputopology.rst and Documentation/ABI/stable/sysfs-devices-node
for the files below /sys/devices/system; bitmap_parselist in lib/bitmap-str.c for lists of CPUs.
"""

from __future__ import annotations

from pathlib import Path

# The kernel's own bound (CONFIG_NR_CPUS, CONFIG_NODES_SHIFT): a text beyond it is no list of CPUs.
_MOST = 1 << 16


class CpuTopology:
    """The CPUs that the scheduler may use: those that are online and not set apart by isolcpus=.

    cores           the CPUs of each core: one, or its hyper-threads
    nodes           the CPUs of each NUMA node that has any
    memory_bytes    the memory of each NUMA node that has any
    """

    __slots__ = ("cores", "nodes", "memory_bytes")

    def __init__(
        self,
        cores: tuple[frozenset[int], ...],
        nodes: dict[int, frozenset[int]],
        memory_bytes: dict[int, int],
    ) -> None:
        self.cores = cores
        self.nodes = nodes
        self.memory_bytes = memory_bytes

    @property
    def cpus(self) -> frozenset[int]:
        """All of them."""
        return frozenset().union(*self.cores)


def usable_cpus(sysfs: Path = Path("/sys")) -> frozenset[int]:
    """The CPUs alone, without what they share. Raises OSError and ValueError."""
    directory = sysfs / "devices/system/cpu"
    return _list(directory / "online") - _list_if_there(directory / "isolated")


def read_topology(sysfs: Path = Path("/sys")) -> CpuTopology:
    """The topology as it is now: CPUs and nodes come and go. Raises OSError and ValueError."""
    system = sysfs / "devices/system"
    cpus = usable_cpus(sysfs)
    siblings = (_list(system / f"cpu/cpu{cpu}/topology/thread_siblings_list") for cpu in cpus)
    cores = {core & cpus for core in siblings}
    nodes, memory_bytes = _nodes(system / "node", cpus)
    return CpuTopology(tuple(sorted(cores, key=min)), nodes, memory_bytes)


def parse_cpu_list(text: bytes, name: str) -> frozenset[int]:
    """The CPUs of a list such as "0-3,8"; the set of none for an empty one. Raises ValueError."""
    found: set[int] = set()
    for part in text.strip().split(b",") if text.strip() else ():
        first, dash, last = part.partition(b"-")
        last = last if dash else first
        if not first.isdigit() or not last.isdigit() or int(last) >= _MOST:
            raise ValueError(f"{name}: expected a list of CPUs such as 0-3,8, not {text!r:.80}")
        found.update(range(int(first), int(last) + 1))
    return frozenset(found)


def cpu_list(cpus: frozenset[int]) -> str:
    """The list as the kernel writes it, "0-3,8"."""
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and ranges[-1][-1] == cpu - 1:
            ranges[-1] = [ranges[-1][0], cpu]
        else:
            ranges.append([cpu])
    return ",".join("-".join(map(str, part)) for part in ranges)


def _nodes(
    directory: Path, cpus: frozenset[int]
) -> tuple[dict[int, frozenset[int]], dict[int, int]]:
    """CPUs and memory by node; one node 0 where the kernel was built without NUMA."""
    if not directory.is_dir():
        return {0: cpus}, {0: 0}
    nodes, memory_bytes = {}, {}
    for node in sorted(_list(directory / "online")):
        own = _list(directory / f"node{node}/cpulist") & cpus
        if own:
            nodes[node] = own
        size = _memory_bytes(directory / f"node{node}/meminfo")
        if size:
            memory_bytes[node] = size
    return nodes, memory_bytes


def _memory_bytes(meminfo: Path) -> int:
    """From the line "Node 0 MemTotal:  4011868 kB"."""
    for line in meminfo.read_bytes().splitlines():
        words = line.split()
        if words[2:3] == [b"MemTotal:"] and words[3].isdigit():
            return int(words[3]) * 1024
    raise ValueError(f"{meminfo}: expected a line MemTotal")


def _list(path: Path) -> frozenset[int]:
    return parse_cpu_list(path.read_bytes(), str(path))


def _list_if_there(path: Path) -> frozenset[int]:
    try:
        return _list(path)
    except FileNotFoundError:
        return frozenset()
