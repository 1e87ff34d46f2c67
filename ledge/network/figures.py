"""A job's network traffic as figures with names and units. No I/O.

Without a class in its name a figure is of all but loopback; what is neither local nor loopback is
the difference of two.
"""

from __future__ import annotations

from ledge.network.counters import Counted, NetworkFigures, Traffic
from ledge.usage.usage import Usage

_ALL = "Network*"  # for short


def add_network(usage: Usage, figures: NetworkFigures | None, reason: str) -> None:
    """Add what was counted; `reason` says why it was not, where it was not."""
    if figures is None:
        usage.miss(_ALL, reason)
        return
    for direction, traffic in (("Received", figures.received), ("Sent", figures.sent)):
        if traffic is None:
            usage.miss(f"Network*{direction}*", reason)
        else:
            usage.figures.update(_figures(direction, traffic))


def _figures(direction: str, traffic: Traffic) -> dict[str, int | float | None]:
    local, remote = traffic.local, traffic.remote
    together = Counted(local.bytes + remote.bytes, local.packets + remote.packets)
    counted = {"": together, "Local": local, "Loopback": traffic.loopback}
    figures: dict[str, int | float | None] = {}
    for class_, (bytes_, packets) in counted.items():
        figures[f"Network{class_}{direction}Bytes"] = bytes_
        figures[f"Network{class_}{direction}PacketsCount"] = packets
    return figures
