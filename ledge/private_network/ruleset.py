"""What ip(8) and nft(8) are told: text, and no more.

The table's chains end early for what is not ours, and other tables have their say besides: what
we accept, a firewall of the node's may still drop.
"""

from __future__ import annotations

from collections.abc import Mapping

from ledge.private_network.addresses import PREFIX, Addresses

TABLE = "condor_ledge"
INSIDE = "eth0"
# The devices have no address of IPv6, not even a local one; where the node has none, ip(8) refuses.
_WITHOUT_IPV6 = {False: "", True: " addrgenmode none"}

# job -> outside        with the node's address
# outside -> job        an answer, or a port that was opened
# job <-> job           a port that was opened
# node -> job           the same; whoever is on the node is no nearer to a job than who is not
# job -> node           like anybody from outside; never what listens on the node's loopback
# A source address that does not belong to the device is dropped.
_TABLE = """
table inet {table}
delete table inet {table}
table inet {table} {{
    map opened {{
        type inet_service : ipv4_addr . inet_service
        {elements}
    }}
    chain spoofed {{
        type filter hook prerouting priority raw; policy accept
        iifname "{prefix}*" fib saddr . iif oif missing drop
        iifname "{prefix}*" ip daddr 127.0.0.0/8 drop
    }}
    chain from_outside {{
        type nat hook prerouting priority dstnat; policy accept
        fib daddr type local dnat ip to tcp dport map @opened
    }}
    chain from_node {{
        type nat hook output priority -100; policy accept
        ip daddr 127.0.0.0/8 accept
        fib daddr type local dnat ip to tcp dport map @opened
    }}
    chain to_outside {{
        type nat hook postrouting priority srcnat; policy accept
        ip saddr {network} oifname != "{prefix}*" masquerade
    }}
    chain to_job {{
        ct state established,related accept
        ct status dnat accept
        drop
    }}
    chain forwarded {{
        type filter hook forward priority filter; policy accept
        oifname "{prefix}*" jump to_job
    }}
    chain sent {{
        type filter hook output priority filter; policy accept
        oifname "{prefix}*" jump to_job
    }}
}}
"""


def table(addresses: Addresses, opened: Mapping[int, tuple[str, int]]) -> str:
    """The whole table, put in the place of an earlier one in one step.

    `opened` has the address and port of a job by the node's port.
    """
    elements = f"elements = {{ {_elements(opened)} }}" if opened else ""
    return _TABLE.format(
        table=TABLE, prefix=PREFIX, network=addresses.network, elements=elements
    )


def opening(opened: Mapping[int, tuple[str, int]]) -> str:
    """Open ports."""
    return f"add element inet {TABLE} opened {{ {_elements(opened)} }}\n"


def closing(ports: list[int]) -> str:
    """Close ports."""
    return f"delete element inet {TABLE} opened {{ {', '.join(map(str, ports))} }}\n"


def _elements(opened: Mapping[int, tuple[str, int]]) -> str:
    pairs = [f"{port} : {address} . {inner}" for port, (address, inner) in opened.items()]
    return ", ".join(pairs)


def inside(name: str, node: int, address: str, gateway: str, mtu: int, ipv6: bool) -> str:
    """For ip(8) in the job's namespace; `node` is a process in the node's."""
    return (
        f"link add {INSIDE} mtu {mtu} type veth peer name {name} mtu {mtu} netns {node}\n"
        f"link set lo up\n"
        f"address add {address} peer {gateway} dev {INSIDE}\n"
        f"link set {INSIDE}{_WITHOUT_IPV6[ipv6]} up\n"
        f"route add default via {gateway}\n"
    )


def outside(name: str, alias: str, address: str, gateway: str, ipv6: bool) -> str:
    """For ip(8) on the node."""
    return (
        f'link set {name} alias "{alias}"\n'
        f"address add {gateway} peer {address} dev {name}\n"
        f"link set {name}{_WITHOUT_IPV6[ipv6]} up\n"
    )


def removal(name: str) -> str:
    """For ip(8) on the node."""
    return f"link delete {name}\n"
