"""The names under which a job's usage and isolation stand in its ClassAd, and their values.

Each name is without the prefix that says how it came there (ledge/publish/).
"""

from __future__ import annotations

from ledge import __version__
from ledge.usage import Usage


def usage_attributes(usage: Usage) -> dict[str, int | float | str]:
    """The figures that were measured, how, and why others were not; no prefix yet."""
    attributes: dict[str, int | float | str] = {
        name: value for name, value in usage.figures.items() if value is not None
    }
    attributes["Tracking"] = usage.tracking
    if usage.unmeasured:
        attributes["Unmeasured"] = "; ".join(
            [f"{', '.join(names)}: {reason}" for reason, names in usage.unmeasured.items()]
        )
    return attributes


def isolation_attributes(namespaces: tuple[str, ...], reason: str = "") -> dict[str, str]:
    """Which namespaces the job had, and why not what the plan wanted; no prefix yet."""
    attributes = {"Version": __version__, "Isolation": ",".join(namespaces) or "none"}
    if reason:
        attributes["IsolationReason"] = reason
    return attributes
