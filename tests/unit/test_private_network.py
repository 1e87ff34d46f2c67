"""Networks of jobs' own, where they are decisions: addresses, ports, names, keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledge.errors import PlanError
from ledge.plan.document import read_plan
from ledge.policy.errors import PolicyError
from ledge.private_network import resolver, ruleset
from ledge.private_network.addresses import (
    Addresses,
    NoneLeft,
    Ports,
    RangeError,
    device,
    number_of,
)
from tests.unit.test_policy_decision import plan, refused

ASKING = """
defaults:
  requests:
    network: {one_of: [host, private]}
    network_ports: {at_most: "1024-2000, 8080"}
"""


def test_addresses() -> None:
    addresses = Addresses("100.127.0.0/29")
    assert addresses.gateway == "100.127.0.1"
    assert [addresses.of(number) for number in range(addresses.count())] == [
        f"100.127.0.{last}" for last in range(2, 7)
    ]


@given(st.sets(st.integers(0, 4)), st.integers(-1, 4))
def test_numbers_are_given_out_in_turn(taken: set[int], last: int) -> None:
    addresses = Addresses("100.127.0.0/29")
    if len(taken) == 5:
        with pytest.raises(NoneLeft, match="all 5 addresses"):
            addresses.free(taken, last)
        return
    turn = [number % 5 for number in range(last + 1, last + 6)]
    assert addresses.free(taken, last) == next(n for n in turn if n not in taken)


@pytest.mark.parametrize(
    "text", ["100.127.0.1/24", "100.127.0.0/30", "fd00::/64", "everything", "10.0.0.0/33"]
)
def test_what_is_no_range_of_addresses(text: str) -> None:
    with pytest.raises(RangeError, match="LEDGE_NETWORK_ADDRESSES"):
        Addresses(text)


def test_ports_are_given_out_in_turn() -> None:
    ports = Ports("61000-61003")
    assert ports.free(set(), -1, 2) == [61000, 61001]
    assert ports.free({61001}, 61001, 2) == [61002, 61003]
    assert ports.free({61001}, 61002, 3) == [61003, 61000, 61002]
    with pytest.raises(NoneLeft, match="fewer than 4 ports"):
        ports.free({61001}, 61002, 4)
    with pytest.raises(NoneLeft):
        Ports("").free(set(), -1, 1)


@pytest.mark.parametrize("text", ["0-5", "5-4", "60000-65536", "many", "-5", "1-2-3", "1 000-2000"])
def test_what_is_no_range_of_ports(text: str) -> None:
    with pytest.raises(RangeError, match="LEDGE_NETWORK_PORTS"):
        Ports(text)


@given(st.integers(0, 1 << 22))
def test_a_device_has_its_number_in_its_name(number: int) -> None:
    assert number_of(device(number)) == number
    assert len(device(number)) <= 15  # IFNAMSIZ


@pytest.mark.parametrize("name", ["eth0", "ledge", "ledge07", "ledge1a", "ledge-1", "ledge²", "lo"])
def test_others_devices_are_not_ours(name: str) -> None:
    assert number_of(name) is None


@pytest.mark.parametrize(
    ("node", "uplink", "configured", "expected"),
    [
        ("nameserver 10.1.1.1\nsearch a.b\n", "", [], None),
        ("", "", [], None),
        (
            "# by hand\nnameserver 127.0.0.53\noptions edns0\nsearch a.b\n",
            "nameserver 10.1.1.1\nnameserver fe80::1%eth0\nsearch other\n",
            [],
            "nameserver 10.1.1.1\nnameserver fe80::1%eth0\noptions edns0\nsearch a.b\n",
        ),
        ("nameserver ::1\nnameserver 10.2.2.2\n", "", [], "nameserver 10.2.2.2\n"),
        ("nameserver 127.0.0.1\n", "nameserver 127.0.0.1\n", [], ""),
        ("nameserver 127.0.0.1\n", "", ["10.3.3.3"], "nameserver 10.3.3.3\n"),
        ("nameserver 10.1.1.1\nsearch a\n", "", ["10.3.3.3"], "nameserver 10.3.3.3\nsearch a\n"),
    ],
)
def test_name_servers(node: str, uplink: str, configured: list[str], expected: str | None) -> None:
    assert resolver.for_jobs(node, uplink, configured) == expected


def test_rules_name_devices_and_the_range() -> None:
    text = ruleset.table(Addresses("100.127.0.0/24"), {61000: ("100.127.0.2", 8080)})
    assert "elements = { 61000 : 100.127.0.2 . 8080 }" in text
    assert 'ip saddr 100.127.0.0/24 oifname != "ledge*" masquerade' in text
    assert "elements" not in ruleset.table(Addresses("100.127.0.0/24"), {})


def test_a_policy_wants_a_network() -> None:
    wanted = plan("defaults: {network: private, network_ports: '8080, 9000-9002'}")
    assert wanted.network == "private"
    assert wanted.network_ports == (8080, 9000, 9001, 9002)
    assert plan("").network == "host"
    assert plan("defaults: {network: none}").network == "none"
    assert plan('defaults: {network_ports: "8000 + TARGET.RequestCpus"}').network_ports == (8002,)
    assert plan("defaults: {network_ports: none}").network_ports == ()


def test_a_job_asks_for_a_network() -> None:
    job = b'LedgeNetwork = "private"\nLedgeNetworkPorts = "8080,1024"\n'
    granted = plan(ASKING, job)
    assert (granted.network, granted.network_ports) == ("private", (8080, 1024))
    assert plan(ASKING, b"LedgeNetworkPorts = 1500\n").network_ports == (1500,)
    assert "allows one of host, private" in refused(ASKING, b'LedgeNetwork = "none"\n')
    assert "allows at most 1024-2000, 8080" in refused(ASKING, b"LedgeNetworkPorts = 22\n")
    assert "expected ports such as" in refused(ASKING, b'LedgeNetworkPorts = "ssh"\n')
    assert "expected ports such as" in refused(ASKING, b"LedgeNetworkPorts = true\n")
    assert "at most 16 ports" in refused(ASKING, b'LedgeNetworkPorts = "1024-1040"\n')


@pytest.mark.parametrize("ports", ["0", "70000", "9000-8000", "nonee", '"true"'])
def test_what_are_no_ports(ports: str) -> None:
    with pytest.raises(PolicyError, match="network_ports"):
        plan(f"defaults: {{network_ports: {ports}}}")


@pytest.mark.parametrize(
    "ports", ["[0]", "[65536]", "[true]", '["80"]', "80", f"{[*range(1, 18)]}"]
)
def test_a_plan_s_ports_are_checked(ports: str) -> None:
    with pytest.raises(PlanError, match="network_ports"):
        read_plan(f'{{"version": 1, "network_ports": {ports}}}'.encode(), "plan")


def test_a_plan_s_network_is_checked() -> None:
    with pytest.raises(PlanError, match="expected one of host, none, private"):
        read_plan(b'{"version": 1, "network": "bridge"}', "plan")
