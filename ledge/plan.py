"""The plan: what is to be done for one job. As a document (ledge/plan_file.py):

    {
      "version": 1,
      "namespaces": ["pid", "mount", "ipc", "cgroup", "uts"],
      "mounts": [
        {"kind": "private", "target": "/tmp"},
        {"kind": "tmpfs", "target": "/dev/shm"},
        {"kind": "bind", "source": "/data", "target": "/mnt", "read_only": true}
      ],
      "cgroup": "leaf",
      "on_failure": "refuse",
      "limits": {"pids_max": 1000, "cpu_max_cores": 1.5}
    }

`namespaces`  any of pid, mount, ipc, cgroup, uts; a user namespace is no wish of a plan but the
              means of whoever carries it out without being root, and is made only then.
`mounts`      private: an empty directory of the job's own, kept under its scratch directory;
              tmpfs: an empty tmpfs; bind: `source` seen at `target`. All need namespace "mount".
`cgroup`      leaf: a control group of the job's own below its slice, if the node has one for
              jobs; none: leave the job where HTCondor put it.
`on_failure`  refuse: a job that cannot have all this does not run; run: it runs without, and
              its ad says so.
`limits`      what the job may use at most, under the names of ledge/limits.py; one that is left
              out is no limit of ours. Whoever carries the plan out without being root cannot
              set them.

A key that is left out has the value of the built-in plan. The plan knows nothing of the kernel,
and nothing here does I/O.
"""

from __future__ import annotations

from ledge.limits import Limits

NAMESPACES = ("pid", "mount", "ipc", "cgroup", "uts")


class Mount:
    """One mount of a plan; `source` is None unless `kind` is "bind"."""

    __slots__ = ("kind", "target", "source", "read_only")

    def __init__(
        self, kind: str, target: str, source: str | None = None, read_only: bool = False
    ) -> None:
        self.kind = kind
        self.target = target
        self.source = source
        self.read_only = read_only


class Plan:
    """What is to be done for one job; the defaults are the built-in plan."""

    __slots__ = ("namespaces", "mounts", "cgroup", "on_failure", "limits")

    def __init__(self) -> None:
        self.namespaces: tuple[str, ...] = ("pid", "mount", "ipc", "cgroup", "uts")
        self.mounts: tuple[Mount, ...] = (
            Mount("private", "/tmp"),
            Mount("private", "/var/tmp"),
            Mount("tmpfs", "/dev/shm"),
        )
        self.cgroup = "leaf"
        self.on_failure = "refuse"
        self.limits = Limits()
