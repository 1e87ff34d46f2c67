"""Work of a known amount, resource by resource: known, the kernel, condor-ledge, HTCondor alone.

Each job does its work, notes what it knows of it, and holds still; root then reads the kernel's own
counters of its control group and lets it end, looking on at that of CPU time until the group has
gone.

Every day each work is done once, in a size that takes seconds, and what stands in the table for
HTCondor are its own attributes in the same ad. CONDOR_LEDGE_TRUTH_RUNS=10 does each ten times in
full size, and ten times (or CONDOR_LEDGE_TRUTH_ALONE times) with condor-ledge switched off, for
HTCondor's column; that takes an hour. CONDOR_LEDGE_TRUTH_TABLE=FILE appends every line to a file as
JSON, of which tests/pool/truth/table.py makes the table in docs/accuracy.md.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.pool.condor import Pool
from tests.pool.job import Job
from tests.pool.test_ledged import await_ledged
from tests.pool.test_network import CABLE, TCP_PORT, UDP_PORT, UNPLUG
from tests.pool.works import MIB, WORKS, Figure, Work

RUNS = int(os.environ.get("CONDOR_LEDGE_TRUTH_RUNS", "0"))
ALONE = int(os.environ.get("CONDOR_LEDGE_TRUTH_ALONE", RUNS))
TABLE = os.environ.get("CONDOR_LEDGE_TRUTH_TABLE")
PATIENCE_SECONDS = 3600.0 if RUNS else 600.0
TRUTH = Path(__file__).with_name("truth")
FILES = {name: (TRUTH / name).read_text() for name in ("hold", "work.py")}
READ = (TRUTH / "read.py").read_text()
PEER = (TRUTH / "peer.py").read_text()
# What a Python that has done nothing has: the job's group has its memory, too.
INTERPRETER_BYTES = 24 * MIB
# Of small amounts on a busy machine, TCP's come to more: over loopback both ends' are the job's.
HEADERS_SHARE = 0.01 if RUNS else 0.05
# Slots are of four times the memory that the machine has: who asks for so much more has it.
MEMORY_FACTOR = 4.5
SMALLEST_MIB = 200
SWAP_MIB = 1024
SWAP_ON = f"""
fallocate -l {SWAP_MIB}M /swapfile && chmod 600 /swapfile
mkswap -q /swapfile && swapon /swapfile
"""
SWAP_OFF = "swapoff /swapfile; rm -f /swapfile"
CASES = [
    pytest.param(group, work, figure, id=f"{title}-{figure.attributes[0]}")
    for group, works in WORKS.items()
    for work in works
    for title in [work.title % (work.full if RUNS else work.everyday)]
    for figure in work.figures
]


class Truth(NamedTuple):
    """What is known of one job's work: by itself, by the kernel, and by the ad of the job."""

    known: Mapping[str, float]
    files: Mapping[str, str]
    ad: Mapping[str, Any]


class Row(NamedTuple):
    """One work once: known, kernel, condor-ledge, HTCondor; None is what nobody says."""

    known: float | None
    kernel: float | None
    ledge: float | None
    condor: float | None


class Truths:
    """The works that were done, each group of them when it is first asked for."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.done: dict[tuple[str, bool], dict[str, list[Truth]]] = {}

    def of(self, group: str, title: str, plugin: bool = True) -> list[Truth]:
        works = list(WORKS[group])
        if not RUNS:  # all together: what takes time every day is waiting for the pool
            group, works = "all", [work for works in WORKS.values() for work in works]
        if (group, plugin) not in self.done:
            self.done[group, plugin] = do(self.pool, works, plugin)
        return self.done[group, plugin][title]


def amount(work: Work) -> float:
    return work.full if RUNS else work.everyday


def title(work: Work) -> str:
    return work.title % amount(work)


def do(pool: Pool, works: list[Work], plugin: bool) -> dict[str, list[Truth]]:
    """Each work as often as is wished, submitted together as one cluster."""
    if plugin:
        pool.plugin_on()
        await_ledged(pool)
    else:
        pool.plugin_off()
    works = works * ((RUNS if plugin else ALONE) or 1)
    jobs = pool.submit(description(works), files=FILES).siblings
    places = {f"{job.directory}/{job.proc}": job.proc for job in jobs}
    command = f"python3 -c {shlex.quote(READ)} {shlex.join(places)}"
    lines = pool.root(command, timeout=PATIENCE_SECONDS).stdout.splitlines()
    ads = final_ads(pool, jobs)
    found: dict[str, list[Truth]] = {title(work): [] for work in works}
    for read in map(json.loads, lines):
        proc = places[read.pop("place")]
        found[title(works[proc])].append(Truth(read.pop("known"), read, ads[proc]))
    return found


def description(works: list[Work]) -> str:
    def line(work: Work) -> str:
        memory = max(SMALLEST_MIB, int(work.memory * amount(work) * MEMORY_FACTOR))
        return f"{work.kind}, {amount(work):g}, {memory}"

    return "\n".join([
        "executable = hold",
        "arguments = $(Process) $(kind) $(amount)",
        "request_memory = $(mebibytes)M",
        "request_disk = 100M",
        "queue kind, amount, mebibytes from (",
        *[line(work) for work in works],
        ")",
    ]) + "\n"  # fmt: skip


def final_ads(pool: Pool, jobs: list[Job]) -> dict[int, dict[str, Any]]:
    """By the number of the process, once all have left the queue."""
    cluster, directory = jobs[0].cluster, jobs[0].directory
    deadline = time.monotonic() + PATIENCE_SECONDS
    ads: list[dict[str, Any]] = []
    while len(ads) < len(jobs):
        assert time.monotonic() < deadline
        time.sleep(2)
        text = pool.root(f"condor_history -json {cluster} -limit {len(jobs)}").stdout
        ads = json.loads(text) if text.strip() else []
    assert pool.root(f"cat {directory}/error.*").stdout == ""
    assert {ad["ExitCode"] for ad in ads} == {0}
    return {ad["ProcId"]: ad for ad in ads}


@contextmanager
def peer(pool: Pool) -> Iterator[None]:
    """A cable to another network, and somebody there who answers."""
    pool.put(PEER, "/root/peer.py")
    pool.root(f"sh -ec {shlex.quote(CABLE.replace('peer.py', f'peer.py {TCP_PORT} {UDP_PORT}'))}")
    try:
        yield
    finally:
        pool.root(UNPLUG)


@contextmanager
def swap(pool: Pool) -> Iterator[None]:
    """A file to swap to, and jobs that may."""
    pool.root(SWAP_ON)
    try:
        with pool.configured("DISABLE_SWAP_FOR_JOB = False"):
            yield
    finally:
        pool.root(SWAP_OFF)


@pytest.fixture(scope="module")
def truths(pool: Pool, _package: None) -> Iterator[Truths]:
    with peer(pool), swap(pool):
        yield Truths(pool)
        pool.plugin_on()


def rows(truths: Truths, group: str, work: Work, figure: Figure) -> list[Row]:
    """What is to be compared; all is printed, and written down if that is wished."""
    name = title(work)
    found = [row(one, figure, True) for one in truths.of(group, name)]
    alone = [row(one, figure, False) for one in truths.of(group, name, False)] if ALONE else []
    print(f"{name}, {figure.attributes[0]}; HTCondor: {'alone' if ALONE else 'in the same ad'}")
    print("".join([f"{column:>18}" for column in Row._fields]))
    for one in found + alone:
        print("".join([f"{value!s:>18.18}" for value in one]))
    if TABLE:
        with open(TABLE, "a") as table:
            for kind, several in (("with", found), ("alone", alone)):
                line = [group, name, figure.attributes[0], kind, several]
                table.write(json.dumps(line) + "\n")
    return found


def row(one: Truth, figure: Figure, plugin: bool) -> Row:
    known = one.known[figure.known] if figure.known else None
    kernel = figure.kernel(one.files) if figure.kernel else None
    return Row(known, kernel, figure.ledge(one.ad) if plugin else None, figure.condor(one.ad))


@pytest.mark.parametrize(("group", "work", "figure"), CASES)
def test_truth(group: str, work: Work, figure: Figure, truths: Truths) -> None:
    for known, kernel, ledge, _ in rows(truths, group, work, figure):
        assert ledge is not None
        if kernel is not None:
            # To the microsecond: user's and system's time are rounded each.
            assert kernel - 2e-6 <= ledge <= kernel * (1 + figure.later_share) + figure.later
        if known is not None:
            assert known <= ledge
        if known is not None and kernel is None:
            assert ledge <= known * (1 + HEADERS_SHARE)
        if known is not None and figure.known == "memory":
            assert ledge < known + INTERPRETER_BYTES
