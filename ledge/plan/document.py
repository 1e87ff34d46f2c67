"""A plan from its JSON document, checked key by key, and the document of a plan.

ledge/plan/plan.py says what each key means.
"""

from __future__ import annotations

import json

from ledge.errors import PlanError
from ledge.plan.limits import Limits
from ledge.plan.plan import APART, EXECUTE, NAMESPACES, NETWORKS, Mount, Plan

VERSION = 1
MAXIMUM_BYTES = 65536

_WORDS = {
    "cgroup": ("leaf", "none"),
    "network": NETWORKS,
    "on_failure": ("refuse", "run"),
    "abstract_sockets": APART,
    "loopback": APART,
    "keyring": ("own", "shared"),
}
_KEYS = (
    "version", "namespaces", "mounts", "network_ports", "hide", "no_new_privs", "limits", *_WORDS,
)  # fmt: skip
# What each port costs is small, but the name of a device says them all (ledge/private_network).
MOST_PORTS = 16
_LARGEST_BYTES = (1 << 63) - 1
MOST_MOUNTS = 64

# kind of a mount: what it may have beside its target
_OF_MOUNTS: dict[str, tuple[str, ...]] = {
    "private": (),
    "tmpfs": ("size_bytes", "inodes"),
    "devpts": (),
    "bind": ("source", "read_only", "nosuid"),
    "overlay": ("source",),
}

# amount of a mount: the smallest and the largest value that makes sense
MOUNT_BOUNDS: dict[str, tuple[float, float]] = {
    "size_bytes": (4096, _LARGEST_BYTES),  # a page; 0 is no limit to tmpfs
    "inodes": (1, (1 << 31) - 1),  # that of the root included
}

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
    for name, words in _WORDS.items():
        if name in entries:
            setattr(plan, name, _choice(entries[name], f"{origin}: {name}", words))
    if "network_ports" in entries:
        plan.network_ports = _ports(entries["network_ports"], f"{origin}: network_ports")
    if "hide" in entries:
        plan.hide = tuple(
            EXECUTE if path == EXECUTE else _path(path, f"{origin}: hide")
            for path in _array(entries["hide"], f"{origin}: hide")
        )
    if "no_new_privs" in entries:
        plan.no_new_privs = _flag(entries["no_new_privs"], f"{origin}: no_new_privs")
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
        **{name: getattr(plan, name) for name in _WORDS},
        "network_ports": list(plan.network_ports),
        "hide": list(plan.hide),
        "no_new_privs": plan.no_new_privs,
        "limits": limits,
    }


def _mount_document(mount: Mount) -> dict[str, object]:
    document: dict[str, object] = {"kind": mount.kind, "target": mount.target}
    for key in _OF_MOUNTS[mount.kind]:
        if getattr(mount, key) is not None:
            document[key] = getattr(mount, key)
    return document


def _check_dependencies(plan: Plan, origin: str) -> None:
    if len(plan.mounts) > MOST_MOUNTS:
        raise PlanError(f"{origin}: mounts: at most {MOST_MOUNTS}")
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
    entries = _object(value, where, ("kind", "target", *Mount.__slots__[2:]))
    kind = _choice(entries.get("kind"), f"{where}: kind", tuple(_OF_MOUNTS))
    mount = Mount(kind, _path(entries.get("target"), f"{where}: target"))
    check_keys_of_mount(kind, {*entries} - {"kind", "target"}, where)
    if "source" in _OF_MOUNTS[kind]:
        mount.source = _path(entries.get("source"), f"{where}: source")
    for key in ("read_only", "nosuid"):
        setattr(mount, key, _flag(entries.get(key, False), f"{where}: {key}"))
    for key, (smallest, largest) in MOUNT_BOUNDS.items():
        if key in entries:
            amount = _amount(entries[key], f"{where}: {key}", smallest, largest)
            setattr(mount, key, amount)
    return mount


def check_keys_of_mount(kind: str, keys: set[str], where: str) -> None:
    """Raises PlanError if a mount of that kind does not have one of the keys."""
    for key in sorted(keys - {*_OF_MOUNTS[kind]}):
        kinds = " or ".join([repr(name) for name, own in _OF_MOUNTS.items() if key in own])
        sized = kind == "private" and key in MOUNT_BOUNDS
        remedy = "a directory on disk has no size of its own; a tmpfs has" if sized else ""
        raise PlanError(f"{where}: {key}: only a mount of kind {kinds} has it", remedy)


def _limits(value: object, where: str) -> Limits:
    limits = Limits()
    for name, limit in _object(value, where, Limits.__slots__).items():
        kinds = (int, float) if name == "cpu_max_cores" else (int,)
        setattr(limits, name, _amount(limit, f"{where}: {name}", *LIMIT_BOUNDS[name], kinds))
    return limits


def _amount(
    value: object, where: str, smallest: float, largest: float, kinds: tuple[type, ...] = (int,)
) -> object:
    # A NaN is outside of any bounds; true and false are whole numbers to Python.
    if type(value) not in kinds or not smallest <= value <= largest:  # type: ignore[operator]
        number = "number" if float in kinds else "whole number"
        expected = f"a {number} from {smallest} to {largest}"
        raise PlanError(f"{where}: expected {expected}, not {value!r:.80}")
    return value


def _ports(value: object, where: str) -> tuple[int, ...]:
    ports = _array(value, where)
    if len(ports) > MOST_PORTS:
        raise PlanError(f"{where}: at most {MOST_PORTS} ports")
    for port in ports:
        if type(port) is not int or not 0 < port < 65536:
            raise PlanError(f"{where}: expected ports from 1 to 65535, not {port!r:.80}")
    return tuple(dict.fromkeys(ports))  # type: ignore[arg-type]  # each was looked at


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


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise PlanError(f"{where}: expected true or false")
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
