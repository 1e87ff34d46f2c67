"""The names under which a job's usage and isolation stand in its ClassAd, and their values.

Each name is without the prefix that says how it came there (ledge/publish/).
"""

from __future__ import annotations

from ledge import __version__
from ledge.usage import Usage

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from ledge.classads import Value

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


def isolation_attributes(namespaces: tuple[str, ...], reason: str = "") -> dict[str, str]:
    """Which namespaces the job had, and why not what the plan wanted; no prefix yet."""
    attributes = {"Version": __version__, "Isolation": ",".join(namespaces) or "none"}
    if reason:
        attributes["IsolationReason"] = reason
    return attributes
