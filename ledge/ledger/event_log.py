"""The jobs that a job event log names (`log = FILE` in the submit description). No I/O.

Source: HTCondor manual, "Job Event Log Codes": each event begins "NNN (CLUSTER.PROC.SUBPROC) ". An
event of a whole cluster has no process number, and is none of a job's.
"""

from __future__ import annotations

import re

_EVENT = re.compile(rb"^\d{3} \((\d+)\.(\d+)\.-?\d+\) \S", re.MULTILINE)
_ANY_EVENT = re.compile(rb"\d{3} \(\d+\.-?\d+\.-?\d+\) \S")


def is_event_log(text: bytes) -> bool:
    """Whether a file is a job event log; the first line says it."""
    return _ANY_EVENT.match(text.lstrip()) is not None


def jobs_of(text: bytes) -> list[str]:
    """The ids of the jobs, in order."""
    found = {(int(cluster), int(proc)) for cluster, proc in _EVENT.findall(text)}
    return [f"{cluster}.{proc}" for cluster, proc in sorted(found)]


def terms(jobs: list[str]) -> list[str]:
    """What to ask HTCondor for: a job by its id, several of a cluster by that."""
    clusters: dict[str, list[str]] = {}
    for job in jobs:
        clusters.setdefault(job.partition(".")[0], []).append(job)
    return [several[0] if len(several) == 1 else name for name, several in clusters.items()]
