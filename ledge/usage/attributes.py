"""The names under which a job's usage and isolation stand in its ClassAd, and their values.

Each name is without the prefix that says how it came there (ledge/publish/).
"""

from __future__ import annotations

from ledge import __version__
from ledge.usage.usage import Usage

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from ledge.classads import Value
    from ledge.plan.plan import Mount

# The starter refuses a long expression (ledge/publish/chirp.py): six figures of 20 digits each.
MOST_DEVICES = 4


def usage_attributes(usage: Usage) -> dict[str, Value]:
    """The figures that were measured, how, and why others were not; no prefix yet."""
    attributes: dict[str, Value] = {
        name: value for name, value in usage.figures.items() if value is not None
    }
    attributes["Tracking"] = usage.tracking
    if usage.oom_level is not None:
        attributes["OomLevel"] = usage.oom_level
    if usage.suggested_request_mib is not None:
        attributes["SuggestedRequestMemoryMiB"] = usage.suggested_request_mib
    if len(usage.devices) > 1:  # of a single one all is known from the totals
        attributes["BlockDevices"] = _busiest(usage.devices)
    for name in ("Unmeasured", "Incomplete", "Sampled"):
        told = getattr(usage, name.lower())
        if told:
            attributes[name] = "; ".join(
                [f"{', '.join(names)}: {reason}" for reason, names in told.items()]
            )
    return attributes


def _busiest(devices: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """The figures of as many devices as an attribute can hold, those with the most bytes."""
    names = sorted(devices, key=lambda name: -devices[name]["rbytes"] - devices[name]["wbytes"])
    return {name: devices[name] for name in names[:MOST_DEVICES]}


def isolation_attributes(
    namespaces: tuple[str, ...], reason: str = "", mounts: tuple[Mount, ...] = ()
) -> dict[str, str]:
    """Which namespaces and mounts the job had, and why not what the plan wanted; no prefix yet."""
    attributes = {"Version": __version__, "Isolation": ",".join(namespaces) or "none"}
    attributes["Mounts"] = ", ".join(map(_mount, mounts)) or "none"
    attributes["Network"] = "none" if "network" in namespaces else "host"
    if reason:
        attributes["IsolationReason"] = reason
    return attributes


def _mount(mount: Mount) -> str:
    """As a job would ask for it: tmpfs:/scratch:2G."""
    words = [mount.kind, mount.source, mount.target, "ro" if mount.read_only else None]
    if mount.size_bytes is not None:
        words.append(_size(mount.size_bytes))
    if mount.inodes is not None:
        words += [*([] if mount.size_bytes is not None else ["none"]), str(mount.inodes)]
    return ":".join([word for word in words if word is not None])


def _size(number: int) -> str:
    power = 0
    while power < 4 and number and number % 1024 == 0:
        number, power = number // 1024, power + 1
    return f"{number}{' KMGT'[power].strip()}"


def scratch_attributes(type_: str | None, counts_writes: bool | None) -> dict[str, Value]:
    """What the scratch directory lies on, and whether block I/O has all that is written there."""
    told: dict[str, Value | None] = {
        "ScratchFileSystem": type_,
        "ScratchWritesCounted": counts_writes,
    }
    return {name: value for name, value in told.items() if value is not None}
