"""The plan: what is to be done for one job. As a document (ledge/plan/document.py):

    {
      "version": 1,
      "namespaces": ["pid", "mount", "ipc", "cgroup", "uts"],
      "mounts": [
        {"kind": "private", "target": "/tmp"},
        {"kind": "tmpfs", "target": "/dev/shm"},
        {"kind": "devpts", "target": "/dev/pts"},
        {"kind": "bind", "source": "/data", "target": "/mnt", "read_only": true, "nosuid": false},
        {"kind": "tmpfs", "target": "/scratch", "size_bytes": 1073741824, "inodes": 100000},
        {"kind": "overlay", "source": "/software", "target": "/opt/site"}
      ],
      "cgroup": "leaf",
      "network": "host",
      "on_failure": "refuse",
      "hide": ["execute", "/data/secret"],
      "abstract_sockets": "own",
      "loopback": "own",
      "keyring": "own",
      "no_new_privs": false,
      "limits": {"pids_max": 1000, "cpu_max_cores": 1.5}
    }

`namespaces`  any of pid, mount, ipc, cgroup, uts; a user namespace is no wish of a plan but the
              means of whoever carries it out without being root, and is made only then.
`mounts`      private: an empty directory of the job's own, kept under its scratch directory;
              tmpfs: an empty tmpfs, of a size; devpts: fresh pseudo-terminals; bind: `source` seen
              at `target`, with the mounts below it; overlay: the same, but what the job changes is
              kept in its scratch directory. All need namespace "mount". `nosuid`: set-uid programs
              give no rights there, as in any tmpfs and overlay.
`cgroup`      leaf: a control group of the job's own below its slice, if the node has one for
              jobs; none: leave the job where HTCondor put it.
`network`     host: the node's; none: a network namespace with a loopback and nothing else; private:
              one of its own with a way out (ledge/private_network), in which `network_ports` are
              the ports that can be reached from outside.
`on_failure`  refuse: a job that cannot have all this does not run; run: it runs without, and
              its ad says so.
`hide`        paths where the job finds nothing; "execute": in HTCondor's directory of all jobs'
              directories it finds its own alone. Nothing is hidden without namespace "mount".
`abstract_sockets`, `loopback`    own: no other job reaches the job's abstract Unix sockets, or its
              TCP and UDP at loopback addresses; own_if_possible: where this node can do it;
              shared. Loopback is for root to keep apart.
`keyring`     own: a session keyring of the job's own; shared: that of whoever starts the job.
`no_new_privs`  true: set-uid programs give no rights.
`limits`      what the job may use at most, under the names of ledge/plan/limits.py; one that is
              left out is no limit of ours. Whoever carries the plan out without being root
              cannot set them.

A key that is left out has the value of the built-in plan. The plan knows nothing of the kernel,
and nothing here does I/O.
"""

from __future__ import annotations

from ledge.plan.limits import Limits

NAMESPACES = ("pid", "mount", "ipc", "cgroup", "uts")
NETWORKS = ("host", "none", "private")
APART = ("own", "own_if_possible", "shared")
EXECUTE = "execute"


class Mount:
    """One mount of a plan; what its kind does not have is None or False."""

    __slots__ = ("kind", "target", "source", "read_only", "nosuid", "size_bytes", "inodes")

    def __init__(
        self,
        kind: str,
        target: str,
        source: str | None = None,
        read_only: bool = False,
        nosuid: bool = False,
        size_bytes: int | None = None,
        inodes: int | None = None,
    ) -> None:
        self.kind = kind
        self.target = target
        self.source = source
        self.read_only = read_only
        self.nosuid = nosuid
        self.size_bytes = size_bytes
        self.inodes = inodes


class Plan:
    """What is to be done for one job; the defaults are the built-in plan."""

    __slots__ = (
        "namespaces",
        "mounts",
        "cgroup",
        "network",
        "network_ports",
        "on_failure",
        "hide",
        "abstract_sockets",
        "loopback",
        "keyring",
        "no_new_privs",
        "limits",
    )

    def __init__(self) -> None:
        self.namespaces: tuple[str, ...] = ("pid", "mount", "ipc", "cgroup", "uts")
        self.mounts: tuple[Mount, ...] = (
            Mount("private", "/tmp"),
            Mount("private", "/var/tmp"),
            Mount("tmpfs", "/dev/shm"),
            Mount("devpts", "/dev/pts"),
        )
        self.cgroup = "leaf"
        self.network = "host"
        self.network_ports: tuple[int, ...] = ()
        self.on_failure = "refuse"
        self.hide: tuple[str, ...] = (EXECUTE,)
        self.abstract_sockets = "own_if_possible"
        self.loopback = "own_if_possible"
        self.keyring = "own"
        self.no_new_privs = False
        self.limits = Limits()
