"""The plan: what is to be done for one job, as a small JSON document.

    {
      "version": 1,
      "namespaces": ["pid", "mount", "ipc", "cgroup"],
      "mounts": [
        {"kind": "private", "target": "/tmp"},
        {"kind": "tmpfs", "target": "/dev/shm"},
        {"kind": "bind", "source": "/data", "target": "/mnt", "read_only": true}
      ],
      "cgroup": "leaf",
      "on_failure": "refuse"
    }

`namespaces`  any of pid, mount, ipc, cgroup, uts; a user namespace is no wish of a plan but the
              means of whoever carries it out without being root, and is made only then.
`mounts`      private: an empty directory of the job's own, kept under its scratch directory;
              tmpfs: an empty tmpfs; bind: `source` seen at `target`. All need namespace "mount".
`cgroup`      leaf: a control group of the job's own below its slice, if the node has one for
              jobs; none: leave the job where HTCondor put it.
`on_failure`  refuse: a job that cannot have all this does not run; run: it runs without, and
              its ad says so.

A key that is left out has the value of the built-in plan. The plan knows nothing of the kernel,
and nothing here does I/O.
"""

from __future__ import annotations

from ledge.errors import PlanError

VERSION = 1
MAXIMUM_BYTES = 65536
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

    __slots__ = ("namespaces", "mounts", "cgroup", "on_failure")

    def __init__(self) -> None:
        self.namespaces: tuple[str, ...] = ("pid", "mount", "ipc", "cgroup")
        self.mounts: tuple[Mount, ...] = (
            Mount("private", "/tmp"),
            Mount("private", "/var/tmp"),
            Mount("tmpfs", "/dev/shm"),
        )
        self.cgroup = "leaf"
        self.on_failure = "refuse"


def read_plan(document: bytes, origin: str) -> Plan:
    """Parse and check a plan; `origin` names it in errors. Raises PlanError."""
    if len(document) > MAXIMUM_BYTES:
        raise PlanError(f"{origin}: a plan has at most {MAXIMUM_BYTES} bytes")
    import json  # 5 ms that only a plan from a file has to pay

    try:
        value = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{origin}: not a JSON document: {error}") from None
    return _plan(value, origin)


def _plan(value: object, origin: str) -> Plan:
    entries = _object(value, origin, ("version", "namespaces", "mounts", "cgroup", "on_failure"))
    if entries.get("version") != VERSION or isinstance(entries["version"], bool):
        raise PlanError(f"{origin}: version: expected {VERSION}")
    plan = Plan()
    if "namespaces" in entries:
        plan.namespaces = tuple(
            _choice(name, f"{origin}: namespaces", NAMESPACES)
            for name in _array(entries["namespaces"], f"{origin}: namespaces")
        )
    if "mounts" in entries:
        plan.mounts = tuple(
            _mount(mount, f"{origin}: mounts[{index}]")
            for index, mount in enumerate(_array(entries["mounts"], f"{origin}: mounts"))
        )
    if "cgroup" in entries:
        plan.cgroup = _choice(entries["cgroup"], f"{origin}: cgroup", ("leaf", "none"))
    if "on_failure" in entries:
        plan.on_failure = _choice(
            entries["on_failure"], f"{origin}: on_failure", ("refuse", "run")
        )
    _check_dependencies(plan, origin)
    return plan


def _check_dependencies(plan: Plan, origin: str) -> None:
    if plan.mounts and "mount" not in plan.namespaces:
        raise PlanError(f'{origin}: mounts: they need "mount" among the namespaces')
    if "pid" in plan.namespaces and "mount" not in plan.namespaces:
        raise PlanError(f'{origin}: namespaces: "pid" needs "mount" for its own /proc')
    if "cgroup" in plan.namespaces and plan.cgroup == "none":
        raise PlanError(f'{origin}: namespaces: "cgroup" needs a leaf as its root')


def _mount(value: object, where: str) -> Mount:
    entries = _object(value, where, ("kind", "target", "source", "read_only"))
    kind = _choice(entries.get("kind"), f"{where}: kind", ("private", "tmpfs", "bind"))
    target = _path(entries.get("target"), f"{where}: target")
    if kind != "bind":
        for key in ("source", "read_only"):
            if key in entries:
                raise PlanError(f'{where}: {key}: only a mount of kind "bind" has it')
        return Mount(kind, target)
    read_only = entries.get("read_only", False)
    if not isinstance(read_only, bool):
        raise PlanError(f"{where}: read_only: expected true or false")
    return Mount(kind, target, _path(entries.get("source"), f"{where}: source"), read_only)


def _object(value: object, where: str, known: tuple[str, ...]) -> dict[str, object]:
    if not isinstance(value, dict):
        raise PlanError(f"{where}: expected an object")
    for key in value:
        if key not in known:
            raise PlanError(f"{where}: unknown key {key!r}", f"known are {', '.join(known)}")
    return value


def _array(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise PlanError(f"{where}: expected an array")
    return value


def _choice(value: object, where: str, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise PlanError(f"{where}: expected one of {', '.join(choices)}, not {value!r:.80}")
    return value


def _path(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise PlanError(f"{where}: expected an absolute path, not {value!r:.80}")
    if ".." in value.split("/"):
        raise PlanError(f"{where}: '..' has no place in the path of a mount")
    return value
