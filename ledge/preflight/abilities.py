"""What this node can do for jobs, and the machine attributes by which jobs can require it.

    HasLedge            whether jobs are kept apart and accounted for here
    LedgeVersion        of condor-ledge
    LedgeIsolation      the namespaces that a job can have, "pid,mount,ipc,cgroup,uts"
    LedgeAccounting     what is counted: "cpu,memory,memory_peak,swap,block,processes,pressure,
                        network"
    LedgeLimits         what a policy can limit, by the names of its keys
    LedgeMissing        what of all this cannot be had, and why; not there if nothing is missing
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from ledge import __version__
from ledge.errors import LedgeError
from ledge.kernel.block_devices import FileSystem, file_system
from ledge.plan.plan import NAMESPACES
from ledge.preflight.groups import figures_of, jobs_group, limits_of
from ledge.preflight.namespaces import isolation
from ledge.preflight.network import attempt_counting

NETWORK = "network"
GROUPS = "control groups"
ISOLATION = "namespaces"


class Abilities(NamedTuple):
    """Names of what can be had, and by name why something cannot, with a remedy."""

    isolation: tuple[str, ...]
    accounting: tuple[str, ...]
    limits: tuple[str, ...]
    missing: Mapping[str, str]


def find_abilities(base_cgroup: str, scratch: str) -> Abilities:
    """Try all that ledged does for a job; for root. `scratch` is the directory EXECUTE.

    Raises OSError if there is no room for a process to try it in.
    """
    missing: dict[str, str] = {}
    namespaces, failure = isolation(os.geteuid())
    if failure is not None:
        missing[ISOLATION] = str(failure)
    figures: list[str] = []
    limits: list[str] = []
    try:
        with jobs_group(base_cgroup) as group:
            figures, lacking = figures_of(group)
            missing.update(lacking)
            limits, lacking = limits_of(group, file_system_of(scratch))
            missing.update(lacking)
            failure = attempt_counting(group)
            if failure is None:
                figures.append(NETWORK)
            else:
                missing[NETWORK] = str(failure)
    except (LedgeError, OSError) as error:
        missing[GROUPS] = str(error)
    return Abilities(namespaces, tuple(figures), tuple(limits), missing)


def find_abilities_of_users() -> Abilities:
    """What the wrapper can do alone, without ledged, with the rights of this user."""
    namespaces, failure = isolation(os.geteuid())
    missing = {} if failure is None else {ISOLATION: str(failure)}
    if namespaces == NAMESPACES:
        namespaces = ("user", *namespaces)
    return Abilities(namespaces, ("cpu",), (), missing)


def machine_attributes(abilities: Abilities, refusal: str = "") -> dict[str, str | bool]:
    """The attributes of a node; `refusal` is why no job is started on it, if none is."""
    if not abilities.isolation:
        refusal = refusal or "no namespace can be made"
    missing = [f"{name}: {reason}" for name, reason in abilities.missing.items()]
    if refusal:
        attributes: dict[str, str | bool] = {"HasLedge": False, "LedgeVersion": __version__}
        missing = [refusal, *missing]
    else:
        attributes = {
            "HasLedge": True,
            "LedgeVersion": __version__,
            "LedgeIsolation": ",".join(abilities.isolation),
            "LedgeAccounting": ",".join(abilities.accounting),
            "LedgeLimits": ",".join(abilities.limits),
        }
    if missing:
        # The old format of ads has no other escapes in strings.
        attributes["LedgeMissing"] = " | ".join(missing).replace('"', "'").replace("\\", "/")
    return attributes


def file_system_of(directory: str) -> FileSystem | None:
    """The file system that a directory lies on; None if there is no such directory."""
    try:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return file_system(fd)
    finally:
        os.close(fd)
