"""Metrics of a node, its slots and, if wanted, its jobs. No I/O.

Names are as Prometheus wants them: base units, counters in _total. What is not known is left out,
and never zero. docs/monitoring.md says which are sums of what.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ledge.monitoring.node import Job, Node

PREFIX = "condor_ledge_"
COUNTER, GAUGE = "counter", "gauge"

Labels = tuple[tuple[str, str], ...]
_NO_LABELS: Labels = ()
_USER, _SYSTEM = (("mode", "user"),), (("mode", "system"),)

# What is counted of the node and of each slot: its name, ledged's figures with their labels, HELP.
_COUNTED: dict[str, tuple[dict[str, Labels], str]] = {
    "cpu_seconds_total": (
        {"CpuUserSeconds": _USER, "CpuSystemSeconds": _SYSTEM},
        "CPU time used by jobs, in seconds.",
    ),
    "block_read_bytes_total": (
        {"BlockReadBytes": _NO_LABELS},
        "Bytes that jobs read from block devices.",
    ),
    "block_written_bytes_total": (
        {"BlockWriteBytes": _NO_LABELS},
        "Bytes that jobs wrote to block devices.",
    ),
    "block_reads_total": (
        {"BlockReadOperations": _NO_LABELS},
        "Read requests of jobs to block devices.",
    ),
    "block_writes_total": (
        {"BlockWriteOperations": _NO_LABELS},
        "Write requests of jobs to block devices.",
    ),
    "network_received_bytes_total": (
        {"NetworkReceivedBytes": _NO_LABELS},
        "Bytes that jobs received, with IP headers, without loopback.",
    ),
    "network_sent_bytes_total": (
        {"NetworkSentBytes": _NO_LABELS},
        "Bytes that jobs sent, with IP headers, without loopback.",
    ),
    "network_received_packets_total": (
        {"NetworkReceivedPacketsCount": _NO_LABELS},
        "Packets that jobs received, without loopback.",
    ),
    "network_sent_packets_total": (
        {"NetworkSentPacketsCount": _NO_LABELS},
        "Packets that jobs sent, without loopback.",
    ),
    "swap_in_bytes_total": (
        {"SwapInBytes": _NO_LABELS},
        "Bytes of jobs' memory read from swap devices.",
    ),
    "swap_out_bytes_total": (
        {"SwapOutBytes": _NO_LABELS},
        "Bytes of jobs' memory written to swap devices.",
    ),
    "major_page_faults_total": (
        {"PageFaultsMajorCount": _NO_LABELS},
        "Page faults of jobs that waited for a device.",
    ),
    "oom_kills_total": (
        {"OomKills": _NO_LABELS},
        "Processes of jobs that the kernel killed for want of memory.",
    ),
}
_COUNTED_OF = {
    "node_": "All jobs since ledged was started, with those that have ended.",
    "slot_": "All jobs of the slot since ledged was started, with those that have ended.",
}
# What the job that runs in a slot has in this moment.
_OF_NOW: dict[str, tuple[dict[str, Labels], str]] = {
    "slot_memory_bytes": (
        {f"Memory{kind}Bytes": (("kind", kind.lower()),)
         for kind in ("Anon", "Shmem", "File", "Kernel", "Sock")},
        "Memory of the slot's job by kind; file is the page cache, which has shmem in it.",
    ),
    "slot_memory_current_bytes": (
        {"MemoryCurrentBytes": _NO_LABELS},
        "All memory that is charged to the slot's job, page cache and kernel memory included.",
    ),
    "slot_memory_peak_bytes": (
        {"MemoryPeakBytes": _NO_LABELS},
        "The highest memory of the slot's job so far, page cache and kernel memory included.",
    ),
    "slot_memory_limit_bytes": (
        {"MemoryLimitBytes": _NO_LABELS},
        "memory.max of the slot's job; missing without a limit.",
    ),
    "slot_swap_bytes": (
        {"SwapCurrentBytes": _NO_LABELS},
        "Memory of the slot's job that is in swap.",
    ),
    "slot_processes": (
        {"ProcessesCount": _NO_LABELS},
        "Processes and threads of the slot's job.",
    ),
}  # fmt: skip
_HELP = {
    "up": "Whether ledged answered: 1 or 0.",
    "build_info": "1, with the version of ledged.",
    "start_time_seconds": "When ledged was started, in seconds since 1970.",
    "jobs": "Jobs that run and that ledged looks after.",
    "jobs_begun_total": "Jobs that ledged has launched since it was started.",
    "jobs_ended_total": "Jobs that ended since ledged was started.",
    "jobs_left_out": "Jobs that run, and of which an answer of ledged's had no room to tell.",
    "problem": "Whether condor_ledge status tells of a problem with the subject: 1 or 0.",
    "killed_jobs_total": "Jobs that ended without settling, by how they were read at last.",
    "last_figures_total": "Last figures of jobs for the schedd, by what became of them.",
    "slot_cpus": "CPUs that the slot's job may use: of its slot, or cpu.max if that is less.",
    "slot_pressure_seconds_total":
        "Time in which some or all processes of the slot's job waited for the resource; begins "
        "anew with each job.",
    "slot_job_start_time_seconds": "When the slot's job was started, in seconds since 1970.",
    "slot_reading_age_seconds": "How old ledged's last reading of the slot's job is.",
    "job_info": "1 for each job that runs, with the slot it runs in.",
}  # fmt: skip
UNKNOWN = "unknown"


class Sample(NamedTuple):
    """One value; `name` is without the prefix."""

    name: str
    labels: Labels
    value: float


class Family(NamedTuple):
    """A metric: `type` is counter or gauge, `samples` its values by their labels."""

    name: str
    type: str
    help: str
    samples: dict[Labels, float]


def names() -> dict[str, tuple[str, str]]:
    """Every metric there can be, without the prefix: its type and its HELP."""
    known = {
        of + name: (COUNTER, f"{help_} {which}")
        for of, which in _COUNTED_OF.items()
        for name, (_, help_) in _COUNTED.items()
    }
    known.update({name: (GAUGE, help_) for name, (_, help_) in _OF_NOW.items()})
    for name, help_ in _HELP.items():
        known[name] = (COUNTER if name.endswith("_total") else GAUGE, help_)
    return known


def families(node: Node | None, with_jobs: bool = False) -> list[Family]:
    """The metrics of a node; of one whose ledged does not answer, that alone.

    What several jobs have under the same labels is added up: of those whose slot is not known.
    """
    known = names()
    found: dict[str, dict[Labels, float]] = {}
    for sample in _samples(node, with_jobs):
        values = found.setdefault(sample.name, {})
        values[sample.labels] = values.get(sample.labels, 0) + sample.value
    return [Family(PREFIX + name, *known[name], found[name]) for name in known if name in found]


def _samples(node: Node | None, with_jobs: bool) -> Iterator[Sample]:
    yield Sample("up", _NO_LABELS, int(node is not None))
    if node is None:
        return
    yield from _of_ledged(node)
    yield from _counted("node_", _NO_LABELS, node.counters)
    for slot, counters in node.slots.items():
        yield from _counted("slot_", (("slot", slot),), counters)
    for job in node.jobs:
        yield from _of_job(job)
        if with_jobs:
            yield Sample("job_info", _who(job), 1)


def _of_ledged(node: Node) -> Iterator[Sample]:
    yield Sample("build_info", (("version", node.version),), 1)
    yield Sample("start_time_seconds", _NO_LABELS, node.started)
    yield Sample("jobs", _NO_LABELS, len(node.jobs) + node.left_out)
    yield Sample("jobs_begun_total", _NO_LABELS, node.begun)
    yield Sample("jobs_ended_total", _NO_LABELS, node.ended)
    yield Sample("jobs_left_out", _NO_LABELS, node.left_out)
    status = node.status
    endings, recording = status["endings"], status["recording"]
    problems = {"policy": status["policy_problem"], "network": status["network_problem"],
                "endings": endings["problem"]}  # fmt: skip
    for subject, problem in problems.items():
        yield Sample("problem", (("subject", subject),), int(bool(problem)))
    for reading in ("exact", "sampled", "not_read"):
        yield Sample("killed_jobs_total", (("reading", reading),), endings[reading])
    for outcome in ("in_time", "too_late", "not_written"):
        yield Sample("last_figures_total", (("outcome", outcome),), recording[outcome])


def _counted(of: str, labels: Labels, counters: dict[str, float]) -> Iterator[Sample]:
    for name, (figures, _) in _COUNTED.items():
        for figure, more in figures.items():
            if figure in counters:
                yield Sample(of + name, labels + more, counters[figure])


def _of_job(job: Job) -> Iterator[Sample]:
    slot: Labels = (("slot", job.slot or UNKNOWN),)
    for name, (figures, _) in _OF_NOW.items():
        for figure, more in figures.items():
            value = job.figures.get(figure)
            if value is not None:
                yield Sample(name, slot + more, value)
    for (resource, kind), seconds in job.stalled.items():
        labels = (*slot, ("resource", resource), ("kind", kind))
        yield Sample("slot_pressure_seconds_total", labels, seconds)
    for name, value in (
        ("slot_cpus", job.cores),
        ("slot_job_start_time_seconds", job.start if job.slot else None),
        ("slot_reading_age_seconds", job.age if job.slot else None),
    ):
        if value is not None:
            yield Sample(name, slot, value)


def _who(job: Job) -> Labels:
    labels = {"slot": job.slot, "job": job.job, "owner": job.owner, "user": job.user}
    return tuple([(name, value or UNKNOWN) for name, value in labels.items()])
