"""Whether there is space where jobs, HTCondor and ledged write."""

from __future__ import annotations

import os
import tempfile

from ledge.doctor.node import Node
from ledge.doctor.report import Subject

_LEAST_BYTES = 1 << 20
_ATTEMPT = bytes(1 << 16)


def disks(node: Node, subject: Subject) -> None:
    """Write a file without a name in each directory, as root; look at what is free, as a user."""
    places = [
        (node.starter.get("EXECUTE"), "jobs cannot write their files, and fail"),
        (node.starter.get("LOG"), "HTCondor's daemons end, and LedgeLog has gaps"),
        (node.directory, "what ledged leaves there for jobs and the machine ad is not renewed"),
    ]
    if node.starter.holds("LEDGE_RECORD"):
        places.append((node.starter.get("LEDGE_SPOOL"), "jobs' last figures are dropped"))
    for directory, cost in places:
        problem = _problem(directory, node.is_root) if directory else ""
        if problem:
            remedy = f"du -xah {directory} | sort -h | tail shows what fills it"
            subject.fault(problem, cost, remedy)
    subject.summary = "space in " + ", ".join(directory for directory, _ in places if directory)


def _problem(directory: str, is_root: bool) -> str:
    try:
        status = os.statvfs(directory)
        if is_root:
            _write(directory)
    except OSError as error:
        return "" if error.filename == directory else f"{directory}: {error.strerror}"
    if status.f_bavail * status.f_frsize < _LEAST_BYTES:
        return f"{directory}: full but for {status.f_bavail * status.f_frsize >> 10} KiB"
    if status.f_files and not status.f_favail:
        return f"{directory}: no inodes are left"
    return ""


def _write(directory: str) -> None:
    """Raises OSError."""
    with tempfile.TemporaryFile(dir=directory, prefix="condor_ledge-") as file:
        file.write(_ATTEMPT)
        file.flush()
        os.fsync(file.fileno())
