"""A network card as a virtual machine has it: this process is what is beyond (tun.rst, vnet_hdr).

Like a machine's host it can deliver TCP in pieces of many segments, and says how large a segment
was, but not how many there are (struct virtio_net_hdr has no such field).
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import time

from tests.kernel.networks import PATIENCE_SECONDS, ip, within

NAME = "card"
OWN_4, OWN_6 = "10.9.0.1", "fd09::1"
BEYOND_4, BEYOND_6 = "10.9.0.2", "fd09::2"
PORT, PORT_BEYOND = 7000, 7001
_PORT_OF_NOBODY = 7002
HEADER_4, HEADER_6, TCP_HEADER = 20, 40, 32  # bytes; TCP's with timestamps
_MAC, _MAC_BEYOND = "02:00:00:00:00:01", "02:00:00:00:00:02"
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_NEEDS_CSUM = 1
_GSO_NONE, _GSO_TCPV4, _GSO_TCPV6 = 0, 1, 4
_VNET_HDR = struct.Struct("=BBHHHH")
_FIN, _SYN, _RST, _PSH, _ACK = 0x01, 0x02, 0x04, 0x08, 0x10


class Card:
    """The card in a network namespace, and the one TCP connection that comes in through it."""

    def __init__(self, netns: str, version: int) -> None:
        self.version = version
        with within(netns):
            self._fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
            fcntl.ioctl(self._fd, _TUNSETIFF, struct.pack("16sH22x", NAME.encode(), flags))
        for command in (
            f"link set {NAME} address {_MAC} up",
            f"address add {OWN_4}/24 dev {NAME}",
            f"address add {OWN_6}/64 dev {NAME} nodad",
            f"neigh add {BEYOND_4} lladdr {_MAC_BEYOND} dev {NAME}",
            f"neigh add {BEYOND_6} lladdr {_MAC_BEYOND} dev {NAME}",
        ):
            ip("-n", netns, *command.split())
        self._next, self._expected = 1000, 0

    def connect(self) -> int:
        """Connect to PORT as soon as somebody listens; how many packets that took."""
        self._wait_until_up()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            assert time.monotonic() < deadline
            self._send(_SYN)
            flags, number = self._answer()
            if flags & _SYN:
                break
            time.sleep(0.02)  # RST: no socket got the packet
        self._next += 1
        self._expected = number + 1
        self._send(_ACK)
        return 2

    def deliver(self, size: int, segment: int) -> None:
        """So many bytes of data as one piece, which says that it is made of segments."""
        self._send(_PSH | _ACK, bytes(size), segment)
        self._next += size

    def close(self) -> None:
        """End the connection, and take the card away."""
        self._send(_RST | _ACK)
        os.close(self._fd)

    def _wait_until_up(self) -> None:
        """Knock where nobody listens, for what comes before there are routes is lost."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            assert time.monotonic() < deadline
            self._send(_SYN, port=_PORT_OF_NOBODY)
            if self._is_answered(_PORT_OF_NOBODY, 0.1):
                return

    def _send(self, flags: int, data: bytes = b"", segment: int = 0, port: int = PORT) -> None:
        numbers = (self._next, self._expected)
        tcp = struct.pack("!HHIIBBHHH", PORT_BEYOND, port, *numbers, 0x80, flags, 65535, 0, 0)
        tcp += struct.pack("!BBBBII", 1, 1, 8, 10, 1, 0)  # two NOPs, timestamps
        frame = self._headers(len(tcp) + len(data)) + tcp + data
        before_tcp = len(frame) - len(tcp) - len(data)
        kind = _GSO_NONE
        if segment:
            kind = _GSO_TCPV4 if self.version == 4 else _GSO_TCPV6
        # The checksum is for the card to compute, so nobody looks at it.
        header = (before_tcp + len(tcp), segment, before_tcp, 16)
        os.write(self._fd, _VNET_HDR.pack(_NEEDS_CSUM, kind, *header) + frame)

    def _headers(self, size: int) -> bytes:
        """Those of Ethernet and IP."""
        macs = bytes.fromhex((_MAC + _MAC_BEYOND).replace(":", ""))
        if self.version == 6:
            addresses = [socket.inet_pton(socket.AF_INET6, name) for name in (BEYOND_6, OWN_6)]
            fixed = struct.pack("!IHBB", 6 << 28, size, socket.IPPROTO_TCP, 64)
            return macs + b"\x86\xdd" + fixed + b"".join(addresses)
        addresses = [socket.inet_aton(name) for name in (BEYOND_4, OWN_4)]
        fixed = struct.pack("!BBHHHBBH", 0x45, 0, HEADER_4 + size, 0, 0, 64, socket.IPPROTO_TCP, 0)
        without = fixed + b"".join(addresses)
        return macs + b"\x08\x00" + without[:10] + _checksum(without) + without[12:]

    def _is_answered(self, port: int, seconds: float) -> bool:
        """Whether a TCP packet from the port comes out in that time."""
        deadline = time.monotonic() + seconds
        while select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            packet = self._receive()
            if packet is not None and packet[0] == port:
                return True
        return False

    def _answer(self) -> tuple[int, int]:
        """Flags and sequence number of the next TCP packet that comes out of PORT."""
        while True:
            assert select.select([self._fd], [], [], PATIENCE_SECONDS)[0]
            packet = self._receive()
            if packet is not None and packet[0] == PORT:
                return packet[1:]

    def _receive(self) -> tuple[int, int, int] | None:
        """Port, flags and sequence number of the next packet; None if it is none of TCP's."""
        type_, at, header = (0x0800, 9, HEADER_4) if self.version == 4 else (0x86DD, 6, HEADER_6)
        frame = os.read(self._fd, 65536)[_VNET_HDR.size :]
        packet = frame[14:]
        if frame[12:14] != struct.pack("!H", type_) or packet[at] != socket.IPPROTO_TCP:
            return None
        port, _, number, _, _, flags = struct.unpack_from("!HHIIBB", packet, header)
        return port, flags, number


def _checksum(header: bytes) -> bytes:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)
