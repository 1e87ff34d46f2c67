"""Which CPUs a job gets for itself alone: decisions only, no I/O and no state.

One NUMA node where the CPUs fit into one, and in it whole cores before single hyper-threads: a
core that two jobs share is exclusive to neither of them in what matters, its caches and units.
What is left after the whole cores comes from cores that are shared already.
"""

from __future__ import annotations

from collections.abc import Collection

from ledge.errors import LedgeError
from ledge.kernel.cpu_topology import CpuTopology, cpu_list

Cpus = frozenset[int]


class NoCpusError(LedgeError):
    """There are not as many CPUs as a job wants for itself alone."""


class Allocation:
    """The CPUs of a job, and the NUMA nodes whose memory is near them."""

    __slots__ = ("cpus", "mems")

    def __init__(self, cpus: Cpus, mems: Cpus) -> None:
        self.cpus = cpus
        self.mems = mems


def choose(
    topology: CpuTopology, taken: Cpus, own: Cpus, allowed: Cpus, count: int, others: int
) -> Allocation:
    """For a job that holds `own` already (or none), beside `others` that have none exclusively.

    It keeps what it has if that is as many as wanted. Raises NoCpusError, also where the others
    would be left without any CPU.
    """
    usable = topology.cpus & allowed
    if len(own & usable) == count:
        cpus = own & usable
        chosen = Allocation(cpus, nearest_memory(topology, cpus))
    else:
        chosen = allocate(topology, taken, allowed, count)
    if others and not usable - taken - chosen.cpus:
        raise NoCpusError(
            f"{count} of {len(usable)} CPUs for one job would leave none for {others} other jobs",
            "NUM_CPUS no more than the CPUs, and no job with more exclusive ones than request_cpus",
        )
    return chosen


def allocate(topology: CpuTopology, taken: Cpus, allowed: Cpus, count: int) -> Allocation:
    """`count` logical CPUs of `allowed` that are not `taken`; the same question, the same answer.

    Raises NoCpusError.
    """
    free = (topology.cpus & allowed) - taken
    if count < 1:
        raise NoCpusError(f"{count} is no number of exclusive CPUs", "the policy wants one or more")
    if count > len(free):
        raise NoCpusError(
            f"exclusive CPUs wanted {count}, free {len(free)}"
            f" (allowed {cpu_list(allowed) or 'none'}, taken {cpu_list(taken) or 'none'})",
            "let fewer jobs ask for exclusive CPUs, or NUM_CPUS be no more than the CPUs",
        )
    cpus = _within_one_node(topology, free, count) or _across_nodes(topology, free, count)
    return Allocation(cpus, nearest_memory(topology, cpus))


def memory_nodes(topology: CpuTopology, near: Cpus, memory_max: int | None) -> Cpus:
    """The nodes `near`, or all that have memory where a job's memory.max is more than theirs."""
    room = sum(topology.memory_bytes[node] for node in near)
    fits = memory_max is None or memory_max <= room
    return near if fits else frozenset(topology.memory_bytes)


def nearest_memory(topology: CpuTopology, cpus: Cpus) -> Cpus:
    """The nodes of `cpus` that have memory; all that have, where these have none."""
    near = {node for node, own in topology.nodes.items() if own & cpus}
    return frozenset(near & topology.memory_bytes.keys() or topology.memory_bytes)


def _within_one_node(topology: CpuTopology, free: Cpus, count: int) -> Cpus | None:
    """In the node that gives most whole cores, then breaks none, then fits most closely."""
    found = []
    for node, own in topology.nodes.items():
        here = free & own
        if len(here) >= count:
            cpus = _pick(topology, here, count)
            found.append((*_shared_and_broken(topology, free, cpus), len(here), node, cpus))
    return min(found, key=lambda one: one[:4])[-1] if found else None


def _across_nodes(topology: CpuTopology, free: Cpus, count: int) -> Cpus:
    """From as few nodes as possible: those with most free CPUs first."""
    cpus: set[int] = set()
    by_room = sorted(topology.nodes.items(), key=lambda item: (-len(item[1] & free), item[0]))
    for _, own in by_room:
        cpus |= _pick(topology, own & free, min(count - len(cpus), len(own & free)))
    return frozenset(cpus)


def _pick(topology: CpuTopology, free: Cpus, count: int) -> Cpus:
    """`count` of the `free` CPUs, of which there are enough."""
    cpus: set[int] = set()
    whole = [core for core in topology.cores if core <= free]
    for core in sorted(whole, key=lambda core: (-len(core), min(core))):
        if len(core) <= count - len(cpus):
            cpus |= core
    return frozenset(cpus) | _threads(topology.cores, free - cpus, count - len(cpus))


def _threads(cores: Collection[Cpus], free: Cpus, count: int) -> Cpus:
    """Single hyper-threads: of cores that are shared already, then of those with fewest."""
    by_core = [(core <= free, len(core & free), min(core), core & free) for core in cores]
    cpus: list[int] = []
    for *_, threads in sorted(by_core, key=lambda one: one[:3]):
        cpus += sorted(threads)
    return frozenset(cpus[:count])


def _shared_and_broken(topology: CpuTopology, free: Cpus, cpus: Cpus) -> tuple[int, int]:
    """How many of `cpus` share their core with others, and how many whole cores they break."""
    touched = [core for core in topology.cores if core & cpus and not core <= cpus]
    return sum(len(core & cpus) for core in touched), sum(core <= free for core in touched)
