"""Root's look at the slices of jobs that hold still: slices.py DIRECTORY..., one for each job.

A job is known by its working directory, and holds still when the file "ready" is there. Prints a
JSON document: for each directory the files of the slice, and under "strays" the processes of the
job's user that are outside of all slices. Then the jobs are let go.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

PATIENCE_SECONDS = 240
SECRETS = ("cgroup.kill", "memory.reclaim")
Facts = dict[str, str]


def pids() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdigit()]


def group_of(pid: str) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text().strip().rpartition("::")[2]


def real_uid(pid: str) -> int:
    """Not the effective one: HTCondor's shadows are root's, and mostly act as their user."""
    _, _, ids = Path(f"/proc/{pid}/status").read_text().partition("\nUid:")
    return int(ids.split()[0])


def slices_by_directory() -> dict[str, Path]:
    """The slice of each job by its working directory."""
    found = {}
    for pid in pids():
        try:
            directory, group = os.readlink(f"/proc/{pid}/cwd"), group_of(pid)
        except OSError:
            continue
        path, leaf, _ = group.partition("/ledge-")
        if leaf:
            found[directory] = Path(f"/sys/fs/cgroup{path}")
    return found


def strays() -> list[str]:
    """The processes of users that are in no slice of HTCondor's."""
    found = []
    for pid in pids():
        try:
            uid, group = real_uid(pid), group_of(pid)
        except OSError:
            continue
        if 1000 < uid < 2000 and "/htcondor/" not in group:
            found.append(f"{pid} of {uid} in {group}")
    return found


def files(slice_: Path) -> Facts:
    facts = {}
    for path in slice_.iterdir():
        if path.is_file() and path.name not in SECRETS:
            with suppress(OSError):  # some can be written only
                facts[path.name] = path.read_text().strip()
    return facts


def main(directories: list[str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all(os.path.exists(f"{directory}/ready") for directory in directories):
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    slices = slices_by_directory()
    known = {name: files(slices[name]) for name in directories if name in slices}
    print(json.dumps({"jobs": known, "strays": strays()}))
    for directory in directories:
        Path(directory, "go").write_text("")


main(sys.argv[1:])
