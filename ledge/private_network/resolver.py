"""Name servers for jobs with a network of their own.

What listens on the node's loopback (systemd-resolved, dnsmasq) cannot be reached from there, so
such a job gets a resolv.conf with those servers that can be. No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

# What systemd-resolved asks itself, resolved.conf(5).
UPLINK = "/run/systemd/resolve/resolv.conf"
NODE = "/etc/resolv.conf"


def for_jobs(node: str, uplink: str, configured: Sequence[str] = ()) -> str | None:
    """The text of resolv.conf(5) for jobs; None if the node's own will do, empty if there is none.

    `uplink` is what systemd-resolved forwards to, `configured` what the admin wants instead.
    """
    own = _servers(node)
    if not configured and not any(map(_is_local, own)):
        return None
    reachable = [server for server in own if not _is_local(server)]
    beyond = [server for server in _servers(uplink) if not _is_local(server)]
    servers = list(configured) or reachable or beyond
    if not servers:
        return ""
    rest = [line for line in node.splitlines() if line.split()[:1] != ["nameserver"]]
    kept = [line for line in rest if line.strip() and line[0] not in "#;"]
    return "\n".join([*(f"nameserver {server}" for server in servers), *kept]) + "\n"


def _servers(text: str) -> list[str]:
    words = [line.split() for line in text.splitlines()]
    return [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]


def _is_local(server: str) -> bool:
    try:
        return ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return False
