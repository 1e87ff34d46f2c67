"""A plan from its JSON document, checked key by key; ledge/plan.py says what each means."""

from __future__ import annotations

import json

from ledge.errors import PlanError
from ledge.plan import NAMESPACES, Mount, Plan

VERSION = 1
MAXIMUM_BYTES = 65536


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
        plan.on_failure = _choice(entries["on_failure"], f"{origin}: on_failure", ("refuse", "run"))
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
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PlanError(f"{where}: {value!r:.80} is the path of no file") from None
    if ".." in value.split("/"):
        raise PlanError(f"{where}: '..' has no place in the path of a mount")
    return value
