"""A plan from its JSON document, checked key by key, and the document of a plan.

ledge/plan.py says what each key means.
"""

from __future__ import annotations

import json

from ledge.errors import PlanError
from ledge.limits import Limits
from ledge.plan import NAMESPACES, Mount, Plan

VERSION = 1
MAXIMUM_BYTES = 65536

_KEYS = ("version", "namespaces", "mounts", "cgroup", "on_failure", "limits")
_LARGEST_BYTES = (1 << 63) - 1

# name of a limit: the smallest and the largest value that makes sense
LIMIT_BOUNDS: dict[str, tuple[float, float]] = {
    "pids_max": (1, 1 << 22),  # PID_MAX_LIMIT of linux/threads.h; more is EINVAL
    "memory_high_bytes": (1 << 20, _LARGEST_BYTES),  # below it nothing starts within a day
    "memory_swap_max_bytes": (0, _LARGEST_BYTES),
    "cpu_max_cores": (0.01, 8192),  # the kernel's least quota is 1 ms, in a period of 100 ms
    "exclusive_cpus": (1, 8192),  # the largest NR_CPUS of a distribution's kernel
    "io_read_bytes_per_second": (4096, _LARGEST_BYTES),  # a page a second
    "io_write_bytes_per_second": (4096, _LARGEST_BYTES),
    "io_read_operations_per_second": (1, (1 << 32) - 1),  # block/blk-throttle.c caps at UINT_MAX
    "io_write_operations_per_second": (1, (1 << 32) - 1),
    "io_weight": (1, 10000),
}


def load_plan(path: str) -> Plan:
    """Read a plan from a file. Raises PlanError, FileNotFoundError if there is none."""
    try:
        with open(path, "rb") as file:
            return read_plan(file.read(MAXIMUM_BYTES + 1), path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PlanError(f"{path}: cannot read it: {error.strerror}") from None


def read_plan(document: bytes, origin: str) -> Plan:
    """Parse and check a plan; `origin` names it in errors. Raises PlanError."""
    if len(document) > MAXIMUM_BYTES:
        raise PlanError(f"{origin}: a plan has at most {MAXIMUM_BYTES} bytes")
    try:
        value = json.loads(document, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{origin}: not a JSON document: {error}") from None
    return _plan(value, origin)


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice")
    return entries


def _plan(value: object, origin: str) -> Plan:
    entries = _object(value, origin, _KEYS)
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
            read_mount(mount, f"{origin}: mounts[{index}]")
            for index, mount in enumerate(_array(entries["mounts"], f"{origin}: mounts"))
        )
    if "cgroup" in entries:
        plan.cgroup = _choice(entries["cgroup"], f"{origin}: cgroup", ("leaf", "none"))
    if "on_failure" in entries:
        plan.on_failure = _choice(entries["on_failure"], f"{origin}: on_failure", ("refuse", "run"))
    if "limits" in entries:
        plan.limits = _limits(entries["limits"], f"{origin}: limits")
    _check_dependencies(plan, origin)
    return plan


def plan_document(plan: Plan) -> dict[str, object]:
    """The document of a plan: read_plan() of its JSON gives the same plan again."""
    limits = {name: getattr(plan.limits, name) for name in plan.limits.wanted()}
    return {
        "version": VERSION,
        "namespaces": list(plan.namespaces),
        "mounts": [_mount_document(mount) for mount in plan.mounts],
        "cgroup": plan.cgroup,
        "on_failure": plan.on_failure,
        "limits": limits,
    }


def _mount_document(mount: Mount) -> dict[str, object]:
    document: dict[str, object] = {"kind": mount.kind, "target": mount.target}
    if mount.kind == "bind":
        document.update(source=mount.source, read_only=mount.read_only)
    return document


def _check_dependencies(plan: Plan, origin: str) -> None:
    if plan.mounts and "mount" not in plan.namespaces:
        raise PlanError(f'{origin}: mounts: they need "mount" among the namespaces')
    if "pid" in plan.namespaces and "mount" not in plan.namespaces:
        raise PlanError(f'{origin}: namespaces: "pid" needs "mount" for its own /proc')
    if "cgroup" in plan.namespaces and "mount" not in plan.namespaces:
        raise PlanError(f'{origin}: namespaces: "cgroup" needs "mount" for its own /sys/fs/cgroup')
    if "cgroup" in plan.namespaces and plan.cgroup == "none":
        raise PlanError(f'{origin}: namespaces: "cgroup" needs a leaf as its root')


def read_mount(value: object, where: str) -> Mount:
    """Parse and check one mount; `where` names it in errors. Raises PlanError."""
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


def _limits(value: object, where: str) -> Limits:
    limits = Limits()
    for name, limit in _object(value, where, Limits.__slots__).items():
        smallest, largest = LIMIT_BOUNDS[name]
        kinds = (int, float) if name == "cpu_max_cores" else (int,)
        # A NaN is outside of any bounds; true and false are whole numbers to Python.
        if type(limit) not in kinds or not smallest <= limit <= largest:  # type: ignore[operator]
            number = "number" if float in kinds else "whole number"
            expected = f"a {number} from {smallest} to {largest}"
            raise PlanError(f"{where}: {name}: expected {expected}, not {limit!r:.80}")
        setattr(limits, name, limit)
    return limits


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
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PlanError(f"{where}: {value!r:.80} is the path of no file") from None
    if ".." in value.split("/"):
        raise PlanError(f"{where}: '..' has no place in the path of a mount")
    return value
