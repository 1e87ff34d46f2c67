"""The loopback device of a network namespace, which is down when the namespace is new."""

from __future__ import annotations

import _socket
from fcntl import ioctl
from sys import byteorder

# linux/sockios.h, linux/if.h, netdevice(7): struct ifreq is a name and a union of 24 bytes.
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_NAME_BYTES = 16
_UNION_BYTES = 24


def raise_loopback() -> None:
    """Bring lo up in the namespace that we are in. Needs CAP_NET_ADMIN there; raises OSError."""
    flags = _IFF_UP.to_bytes(2, byteorder).ljust(_UNION_BYTES, b"\0")
    socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        ioctl(socket.fileno(), _SIOCSIFFLAGS, b"lo".ljust(_NAME_BYTES, b"\0") + flags)
    finally:
        socket.close()
