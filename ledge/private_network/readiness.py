"""What the node lacks for private networks, in words with a remedy; looked up when it matters."""

from __future__ import annotations

from ledge.private_network.programs import find

_FORWARDING = "/proc/sys/net/ipv4/ip_forward"


def lacking() -> str:
    """Empty if nothing is."""
    missing = [name for name in ("ip", "nft") if find(name) is None]
    if missing:
        packages = " and ".join([{"ip": "iproute2", "nft": "nftables"}[name] for name in missing])
        return f"there is no {' and no '.join(missing)} on this node; install {packages}"
    try:
        with open(_FORWARDING, encoding="ascii") as file:
            forwards = file.read().strip() != "0"
    except OSError as error:
        return f"{_FORWARDING}: {error.strerror}"
    if not forwards:
        return "this node forwards no packets; sysctl net.ipv4.ip_forward=1 (docs/network.md)"
    return ""
