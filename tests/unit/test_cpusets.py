"""Which CPUs a job gets for itself: by example, and as properties of any machine."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledge.kernel.cpu_topology import CpuTopology
from ledge.limits.cpusets import Allocation, Cpus, NoCpusError, allocate, choose, memory_nodes

GIB = 1 << 30


def machine(nodes: int, cores: int, threads: int) -> CpuTopology:
    """CPUs numbered as Linux does: the first hyper-threads of all cores before the second ones."""
    total = nodes * cores
    all_cores = tuple(frozenset(range(core, total * threads, total)) for core in range(total))
    by_node = {
        node: frozenset[int]().union(*all_cores[node * cores : (node + 1) * cores])
        for node in range(nodes)
    }
    return CpuTopology(all_cores, by_node, dict.fromkeys(by_node, 64 * GIB))


NONE: Cpus = frozenset()
BOARD = machine(nodes=2, cores=4, threads=2)  # cores 0,8 1,9 2,10 3,11 | 4,12 5,13 6,14 7,15

machines = st.builds(machine, st.integers(1, 4), st.integers(1, 6), st.integers(1, 4))


def cpus(*numbers: int) -> Cpus:
    return frozenset(numbers)


@pytest.mark.parametrize(
    ("count", "taken", "expected"),
    [
        pytest.param(2, cpus(), cpus(0, 8), id="a core, not two hyper-threads of two"),
        pytest.param(3, cpus(), cpus(0, 1, 8), id="a core and one hyper-thread"),
        pytest.param(1, cpus(0), cpus(8), id="what is left of a broken core breaks no other"),
        pytest.param(1, cpus(12), cpus(4), id="so on the other node too"),
        pytest.param(3, cpus(0), cpus(1, 8, 9), id="a core and what is left of a broken one"),
        pytest.param(2, cpus(0, 1), cpus(2, 10), id="whole cores before what is left of two"),
        pytest.param(8, cpus(0), cpus(4, 5, 6, 7, 12, 13, 14, 15), id="one node where it fits"),
        pytest.param(2, cpus(4, 12), cpus(5, 13), id="the node in which it fits more closely"),
        pytest.param(10, cpus(), cpus(0, 1, 2, 3, 4, 8, 9, 10, 11, 12), id="two where it does not"),
        pytest.param(2, cpus(*range(16)) - cpus(3, 7), cpus(3, 7), id="the very last"),
    ],
)
def test_examples(count: int, taken: Cpus, expected: Cpus) -> None:
    assert allocate(BOARD, taken, BOARD.cpus, count).cpus == expected


@pytest.mark.parametrize(
    ("count", "taken", "allowed"),
    [
        pytest.param(0, NONE, BOARD.cpus, id="none"),
        pytest.param(-1, NONE, BOARD.cpus, id="less than none"),
        pytest.param(17, NONE, BOARD.cpus, id="more than there are"),
        pytest.param(2, BOARD.cpus - cpus(5), BOARD.cpus, id="more than are free"),
        pytest.param(2, NONE, cpus(5), id="more than are allowed"),
        pytest.param(1, NONE, cpus(99), id="allowed, but not on this machine"),
    ],
)
def test_refusals_say_how_many_and_what_to_do(count: int, taken: Cpus, allowed: Cpus) -> None:
    with pytest.raises(NoCpusError, match=f"{count}") as refused:
        allocate(BOARD, taken, allowed, count)
    assert refused.value.remedy


def test_memory_comes_from_the_nodes_of_the_cpus() -> None:
    assert allocate(BOARD, cpus(), cpus(4, 12), 2).mems == {1}
    assert allocate(BOARD, cpus(), BOARD.cpus, 10).mems == {0, 1}


def test_memory_of_a_node_without_any_comes_from_all_others() -> None:
    board = CpuTopology(BOARD.cores, BOARD.nodes, {0: 64 * GIB})
    assert allocate(board, cpus(), cpus(4, 12), 2).mems == {0}


@pytest.mark.parametrize(
    ("memory_max", "expected"),
    [(None, {0}), (64 * GIB, {0}), (64 * GIB + 1, {0, 1})],
    ids=["no limit", "fits", "does not fit"],
)
def test_a_job_that_does_not_fit_into_the_near_memory_gets_all(
    memory_max: int | None, expected: set[int]
) -> None:
    assert memory_nodes(BOARD, cpus(0), memory_max) == expected


class TestChoose:
    def test_keeps_what_it_has(self) -> None:
        own = cpus(3, 7)  # not what would be chosen now
        assert choose(BOARD, cpus(0), own, BOARD.cpus, 2, others=3).cpus == own

    def test_chooses_anew_for_another_number(self) -> None:
        assert choose(BOARD, cpus(0, 8), cpus(1, 9), BOARD.cpus, 4, others=0).cpus == cpus(
            1, 2, 9, 10
        )

    def test_chooses_anew_when_a_cpu_of_its_own_is_offline(self) -> None:
        assert choose(BOARD, NONE, cpus(1, 99), BOARD.cpus, 2, others=0).cpus == cpus(0, 8)

    def test_leaves_something_for_the_others(self) -> None:
        with pytest.raises(NoCpusError, match="none for 2 other jobs"):
            choose(BOARD, cpus(0, 8), NONE, BOARD.cpus, 14, others=2)

    def test_takes_all_where_there_are_no_others(self) -> None:
        assert choose(BOARD, cpus(0, 8), NONE, BOARD.cpus, 14, others=0).cpus == BOARD.cpus - {0, 8}


Question = tuple[CpuTopology, Cpus, Cpus, int]


@st.composite
def questions(draw: st.DrawFn, fits: bool = False, in_one_node: bool = False) -> Question:
    """A machine, CPUs that are taken and that are allowed, and how many are wanted."""
    topology = draw(machines)
    some = st.frozensets(st.sampled_from(sorted(topology.cpus)))
    spare = draw(st.sampled_from(sorted(topology.cpus)))
    taken, allowed = draw(some) - {spare}, draw(some | st.just(topology.cpus)) | {spare}
    room = [len(own & allowed - taken) for own in topology.nodes.values()]
    most = max(room) if in_one_node else sum(room) if fits else 99
    return topology, taken, allowed, draw(st.integers(1, most))


@given(questions())
def test_as_many_as_wanted_or_a_refusal_when_there_are_not(question: Question) -> None:
    topology, taken, allowed, count = question
    try:
        got = allocate(topology, taken, allowed, count)
    except NoCpusError:
        assert count > len(allowed - taken)
    else:
        assert len(got.cpus) == count
        assert got.cpus <= allowed - taken
        assert got.mems == {node for node, own in topology.nodes.items() if own & got.cpus}


@given(questions(fits=True))
def test_the_same_question_has_the_same_answer(question: Question) -> None:
    topology, taken, allowed, count = question
    shuffled = CpuTopology(
        topology.cores[::-1], dict(reversed(topology.nodes.items())), topology.memory_bytes
    )
    first, again = (allocate(one, taken, allowed, count) for one in (topology, shuffled))
    assert (first.cpus, first.mems) == (again.cpus, again.mems)


@given(questions(fits=True))
def test_one_node_where_it_fits_and_as_few_as_possible_where_not(question: Question) -> None:
    topology, taken, allowed, count = question
    room = sorted((len(own & allowed - taken) for own in topology.nodes.values()), reverse=True)
    fewest = next(number for number in range(1, 9) if sum(room[:number]) >= count)
    assert len(allocate(topology, taken, allowed, count).mems) == fewest


@given(questions(in_one_node=True))
def test_whole_cores_first(question: Question) -> None:
    """In its node a job has as many whole cores as it could have had in any single one."""
    topology, taken, allowed, count = question
    free = allowed - taken
    fitting = [own & free for own in topology.nodes.values() if len(own & free) >= count]
    possible = [sum(core <= here for core in topology.cores) for here in fitting]
    got = allocate(topology, taken, allowed, count).cpus
    whole = sum(core <= got for core in topology.cores)
    assert whole == min(count // len(topology.cores[0]), max(possible))


@given(machines, st.lists(st.integers(1, 8) | st.just(0), max_size=30), st.randoms())
def test_jobs_that_come_and_go_never_overlap_and_everything_is_given_back(
    topology: CpuTopology, counts: list[int], random: Random
) -> None:
    held: list[Allocation] = []
    for count in counts:
        taken = frozenset[int]().union(*(one.cpus for one in held))
        if count == 0 and held:
            held.pop(random.randrange(len(held)))
        elif 0 < count <= len(topology.cpus - taken):
            held.append(allocate(topology, taken, topology.cpus, count))
        assert sum(len(one.cpus) for one in held) == len(
            frozenset[int]().union(*(one.cpus for one in held))
        )
    assert allocate(topology, NONE, topology.cpus, len(topology.cpus)).cpus == topology.cpus
