"""The eBPF program that counts the packets of a control group, for one direction.

It runs for every packet of a socket that was made in the group or below it: of what comes, when
the socket gets it; of what goes, when IP hands it to the device.

    if the device is the loopback device:                                  class = loopback
    else if the peer's address (of what comes the source, of what goes
            the destination) is in one of the local prefixes:              class = local
    else:                                                                  class = remote
    packets = segments of the packet, or 1 if it is not made of segments
    counters = those of the group that the program is attached to, for this direction
    if class = loopback, and the group has an identity, which a job has whose loopback is its own:
        of what goes:  if source or destination is in 127.0.0.0/8 or ::1, and the packet has no
                       mark: mark = the group's identity
        of what comes: if the mark is another group's identity: refuse the packet
    counters[class].bytes   += length of the packet     (both in one step for all CPUs)
    counters[class].packets += packets
    allow the packet

Bytes are those that IP has: IP header, TCP or UDP header and data, without Ethernet's header. The
kernel carries TCP in pieces of up to 64 KB (GSO and GRO), cut or joined next to the device, and
such a piece has its headers once; so bytes are what IpExt:InOctets and OutOctets of nstat(8) count,
and systemd's IPIngressBytes: near to what a program sent, where a network card counts headers for
each 1,448 bytes of data, 4 % more. Packets are counted as they are on the wire, a piece as what
it is cut into; a UDP datagram that IP fragments is one. Counted as sent is also what another
program on the group refuses, or what the device's queue drops, and what TCP sends again.

A mark is what skb->mark is to netfilter and routing: from the sender's last step (behind all of
netfilter's) to the receiver's, on the loopback device alone, where no route depends on it. An
identity is a mark whose upper byte is 0x4C. So what comes without a mark, from processes of no job,
or with an admin's, is let through, and the node's services work as before.

Sources: linux/bpf.h (struct __sk_buff), net/core/filter.c (cg_skb_is_valid_access),
kernel/bpf/cgroup.c (__cgroup_bpf_run_filter_skb).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Union

from ledge.kernel.bpf import FUNC_GET_LOCAL_STORAGE
from ledge.kernel.bpf_assembler import (
    ABOVE,
    BELOW_OR_EQUAL,
    DOUBLE_WORD,
    EQUAL,
    NOT_EQUAL,
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    WORD,
    ByteOrder,
    Instruction,
    Label,
    add,
    and32,
    assemble,
    atomic_add,
    call,
    divide,
    jump,
    jump_if,
    jump_if32,
    leave,
    load,
    load_map,
    move,
    move32,
    store,
    subtract,
)

Prefix = Union[IPv4Network, IPv6Network]

# The counters of one direction: bytes and packets of each class, 64 bits each.
CLASSES = ("loopback", "local", "remote")
BYTES_AT, PACKETS_AT, CLASS_BYTES = 0, 8, 16
# Behind them the group's identity, 0 for none.
IDENTITY_AT = CLASS_BYTES * len(CLASSES)
VALUE_BYTES = IDENTITY_AT + 8
_IDENTITY, _IDENTITY_MASK = 0x4C000000, 0xFF000000

# What each prefix costs every packet is small, but not nothing.
MOST_PREFIXES = 256

# struct __sk_buff
_LEN, _MARK, _PROTOCOL, _IFINDEX, _DATA, _DATA_END = 0, 8, 16, 40, 76, 80
_GSO_SEGS, _GSO_SIZE = 164, 176
_LOOPBACK_IFINDEX = 1  # net/core/dev.c: of every network namespace
_ETH_P_IP, _ETH_P_IPV6 = 0x0800, 0x86DD
_HEADER_4, _HEADER_6 = 20, 40
_TCP_WITH_TIMESTAMPS = 32
# Where IP headers have source and destination.
_SOURCE_4, _DESTINATION_4, _SOURCE_6, _DESTINATION_6 = 12, 16, 8, 24
_REFUSE, _ALLOW = 0, 1
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def identity_of(number: int) -> int:
    """The identity that a number gives, such as the inode of a group's directory."""
    return _IDENTITY | number & ~_IDENTITY_MASK & 0xFFFFFFFF


def counting_program(
    ingress: bool,
    local_prefixes: Sequence[Prefix],
    map_fd: int,
    byteorder: ByteOrder = sys.byteorder,
) -> bytes:
    """The program with these prefixes for local; the map is of BPF_MAP_TYPE_CGROUP_STORAGE."""
    program: list[Instruction | Label] = [
        *_classification(ingress, local_prefixes, byteorder),
        *_packets(),
        *_counters(map_fd),
        *(_from_its_own() if ingress else _marked(byteorder)),
        Label("add"),
        *_addition(),
        move(R0, _ALLOW),
        leave(),
        Label("refuse"),
        move(R0, _REFUSE),
        leave(),
    ]
    if not ingress:
        del program[-3:]  # no program may have what is never reached
    return assemble(program, byteorder)


# r6: the packet; r7: where its class stands among the counters; r8: its packets; r9: length of
# its headers, if it is made of segments whose number nobody knows.


def _classification(
    ingress: bool, prefixes: Sequence[Prefix], byteorder: ByteOrder
) -> list[Instruction | Label]:
    """Set r6, r7 and r9."""
    at_4 = _SOURCE_4 if ingress else _DESTINATION_4
    at_6 = _SOURCE_6 if ingress else _DESTINATION_6
    return [
        move(R6, R1),
        move(R9, _HEADER_6 + _TCP_WITH_TIMESTAMPS),
        _set_class("loopback"),
        load(WORD, R2, R6, _IFINDEX),
        jump_if(R2, EQUAL, _LOOPBACK_IFINDEX, "count"),
        _set_class("remote"),
        load(WORD, R2, R6, _DATA),
        load(WORD, R3, R6, _DATA_END),
        load(WORD, R4, R6, _PROTOCOL),
        jump_if(R4, EQUAL, _network_order(_ETH_P_IP, byteorder), "version 4"),
        jump_if(R4, NOT_EQUAL, _network_order(_ETH_P_IPV6, byteorder), "count"),
        *_unless_shorter_than(_HEADER_6),
        *_matching([p for p in prefixes if p.version == 6], at_6, byteorder),
        jump("count"),
        Label("version 4"),
        move(R9, _HEADER_4 + _TCP_WITH_TIMESTAMPS),
        *_unless_shorter_than(_HEADER_4),
        *_matching([p for p in prefixes if p.version == 4], at_4, byteorder),
        Label("count"),
    ]


def _set_class(name: str) -> Instruction:
    return move(R7, CLASSES.index(name) * CLASS_BYTES)


def _unless_shorter_than(header: int) -> list[Instruction | Label]:
    """What the verifier wants to see before a header is read, which all packets have."""
    return [move(R4, R2), add(R4, header), jump_if(R4, ABOVE, R3, "count")]


def _matching(
    prefixes: Sequence[Prefix], offset: int, byteorder: ByteOrder
) -> list[Instruction | Label]:
    """Set r7 and go to "count" if the address at r2 + offset is in one of the prefixes."""
    program: list[Instruction | Label] = []
    for prefix in prefixes:
        name = str(prefix)
        program += _words(prefix, offset, f"not in {name}", byteorder)
        program += [_set_class("local"), jump("count"), Label(f"not in {name}")]
    return program


def _words(
    prefix: Prefix, offset: int, otherwise: str, byteorder: ByteOrder
) -> list[Instruction | Label]:
    """Compare those words of an address that the prefix says something about.

    The first one in any case: the verifier wants a way past every jump.
    """
    address, netmask = prefix.network_address.packed, prefix.netmask.packed
    program: list[Instruction | Label] = []
    for at in range(0, len(address), 4):
        mask = int.from_bytes(netmask[at : at + 4], byteorder)
        if at and not mask:
            break
        program += [load(WORD, R4, R2, offset + at)]
        if mask != 0xFFFFFFFF:
            program += [move32(R5, mask), and32(R4, R5)]
        wanted = int.from_bytes(address[at : at + 4], byteorder)
        program += [jump_if32(R4, NOT_EQUAL, wanted, otherwise)]
    return program


def _counters(map_fd: int) -> list[Instruction | Label]:
    """Set r0."""
    return [*load_map(R1, map_fd), move(R2, 0), call(FUNC_GET_LOCAL_STORAGE)]


def _unless_loopback() -> list[Instruction | Label]:
    """Set r1 to the group's identity, r2 to the mark of the packet; or go to "add"."""
    return [
        jump_if(R7, NOT_EQUAL, CLASSES.index("loopback") * CLASS_BYTES, "add"),
        load(WORD, R1, R0, IDENTITY_AT),
        jump_if(R1, EQUAL, 0, "add"),
        load(WORD, R2, R6, _MARK),
    ]


def _from_its_own() -> list[Instruction | Label]:
    return [
        *_unless_loopback(),
        jump_if32(R2, EQUAL, R1, "add"),
        move32(R3, _IDENTITY_MASK),
        and32(R2, R3),
        jump_if32(R2, EQUAL, _IDENTITY, "refuse"),
    ]


def _marked(byteorder: ByteOrder) -> list[Instruction | Label]:
    program: list[Instruction | Label] = [
        *_unless_loopback(),
        jump_if(R2, NOT_EQUAL, 0, "add"),
        load(WORD, R2, R6, _DATA),
        load(WORD, R3, R6, _DATA_END),
    ]
    for prefix, protocol, header, places in (
        (_LOOPBACK[0], _ETH_P_IP, _HEADER_4, (_SOURCE_4, _DESTINATION_4)),
        (_LOOPBACK[1], _ETH_P_IPV6, _HEADER_6, (_SOURCE_6, _DESTINATION_6)),
    ):
        other = f"not {protocol}"
        program += [
            load(WORD, R4, R6, _PROTOCOL),
            jump_if(R4, NOT_EQUAL, _network_order(protocol, byteorder), other),
            move(R4, R2),
            add(R4, header),
            jump_if(R4, ABOVE, R3, "add"),
        ]
        for place in places:
            otherwise = f"not {prefix} at {place}"
            program += _words(prefix, place, otherwise, byteorder)
            program += [jump("mark"), Label(otherwise)]
        program += [jump("add"), Label(other)]
    return [*program, jump("add"), Label("mark"), store(WORD, R6, _MARK, R1)]


def _addition() -> list[Instruction | Label]:
    return [
        add(R0, R7),
        load(WORD, R1, R6, _LEN),
        atomic_add(DOUBLE_WORD, R0, BYTES_AT, R1),
        atomic_add(DOUBLE_WORD, R0, PACKETS_AT, R8),
    ]


def _packets() -> list[Instruction | Label]:
    """Set r8.

    A virtual machine's network card may deliver pieces that the host put together, with the size
    of a segment (gso_size) but not their number: then that follows from the length, exactly for
    TCP with timestamps, and at most one less for others. The comparison also keeps a peer's odd
    sizes from making it a number below zero.
    """
    return [
        load(WORD, R8, R6, _GSO_SEGS),
        jump_if(R8, NOT_EQUAL, 0, "segments are known"),
        move(R8, 1),
        load(WORD, R2, R6, _GSO_SIZE),
        jump_if(R2, EQUAL, 0, "segments are known"),
        load(WORD, R3, R6, _LEN),
        jump_if(R3, BELOW_OR_EQUAL, R9, "segments are known"),
        # Divide and round up.
        subtract(R3, R9),
        add(R3, R2),
        subtract(R3, 1),
        divide(R3, R2),
        move(R8, R3),
        Label("segments are known"),
    ]


def _network_order(value: int, byteorder: ByteOrder) -> int:
    """htons(3)."""
    return int.from_bytes(value.to_bytes(2, "big"), byteorder)
