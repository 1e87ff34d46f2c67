"""Jobs with networks of their own: each its own port 8080, NAT, chirp, and nothing left."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from tests.pool.condor import CONFIG_DIRECTORY, Pool
from tests.pool.job import Job, Submission
from tests.pool.test_ledged import await_ledged
from tests.pool.test_limits import HELD_BY_HOOK, policy
from tests.pool.test_pool import shell
from tests.pool.test_recording import restart_ledged

CONFIG_FILE = f"{CONFIG_DIRECTORY}/99-test-private-network.conf"
NODE = "10.0.2.15"
# RFC 5737, "TEST-NET-1"
NEARBY, OUTSIDE = "192.0.2.1", "192.0.2.2"
PAGE_BYTES = 200_000
PATIENCE_SECONDS = 240.0
POLICY = """
version: 1
defaults:
  network_ports: 8080
  requests:
    network: {one_of: [host, private, none]}
"""

# Arguments: a name, and where the page is.
JOB = """#!/usr/bin/python3
import os, socket, subprocess, sys, time, urllib.request
name, page = sys.argv[1:]
print([name for _, name in socket.if_nameindex()])
chirp = ["/usr/libexec/condor/condor_chirp", "set_job_attr_delayed", "ChirpMine", "1"]
print(subprocess.run(chirp).returncode)
if page == "none":
    sys.exit(0)
listener = socket.create_server(("", 8080))
print(len(urllib.request.urlopen(page).read()))
print(open("/etc/resolv.conf").read() if os.path.exists("/etc/resolv.conf") else "", end="")
open("ready", "w").close()
connection, _ = listener.accept()
connection.sendall(name.encode())
connection.close()
while not os.path.exists("go"):
    time.sleep(0.2)
"""
# On the node: what is said at an address.
ASK = """
import socket, sys
for port in sys.argv[2:]:
    try:
        with socket.create_connection((sys.argv[1], int(port)), 10) as connection:
            print(connection.recv(100).decode())
    except OSError as error:
        print(type(error).__name__)
"""
DEVICES = "ip -o link | grep -o 'ledge[0-9]*@' || true"


# An outside that knows the way to the node alone, and not to the addresses of jobs.
BUILD_OUTSIDE = f"""
ip netns add outside
ip link add outside0 type veth peer name eth0 netns outside
ip address add {NEARBY}/24 dev outside0
ip link set outside0 up
ip -n outside address add {OUTSIDE}/24 dev eth0
ip -n outside link set eth0 up
mkdir /tmp/outside && truncate -s {PAGE_BYTES} /tmp/outside/page && cd /tmp/outside
setsid ip netns exec outside python3 -m http.server 80 >/dev/null 2>&1 </dev/null &
until ip netns exec outside ss -Hltn | grep -q :80; do sleep 0.2; done
"""
REMOVE_OUTSIDE = """
ip netns pids outside | xargs -r kill
ip netns delete outside; rm -rf /tmp/outside
"""


@contextmanager
def private_networks(pool: Pool) -> Iterator[None]:
    """The pool's jobs can have networks of their own within the block."""
    await_ledged(pool)
    pool.put("LEDGE_NETWORK_ADDRESSES = 100.127.0.0/24\n", CONFIG_FILE)
    pool.root("sysctl -qw net.ipv4.ip_forward=1")
    pool.reconfigure()
    restart_ledged(pool)
    try:
        yield
    finally:
        pool.root(f"rm -f {CONFIG_FILE}; sysctl -qw net.ipv4.ip_forward=0")
        pool.reconfigure()
        restart_ledged(pool)


@pytest.fixture(scope="module")
def page(pool: Pool) -> Iterator[str]:
    """Where there is something to be had outside of the node."""
    pool.root(BUILD_OUTSIDE)
    yield f"http://{OUTSIDE}/page"
    pool.root(REMOVE_OUTSIDE)


@pytest.fixture(scope="module")
def node(pool: Pool, _installed: None) -> Iterator[Pool]:
    """The pool with private networks, and name servers on the node's loopback."""
    pool.put("nameserver 127.0.0.53\nsearch pool\n", "/etc/resolv.conf")
    pool.put("nameserver 10.0.2.3\n", "/run/systemd/resolve/resolv.conf")
    try:
        with private_networks(pool), policy(pool, POLICY):
            yield pool
            pool.remove_all_jobs()
    finally:
        pool.root("rm -f /etc/resolv.conf")


class Seen(NamedTuple):
    """What became of the jobs, and what root saw while they ran."""

    jobs: dict[str, Job]
    ads: dict[str, dict[str, Any]]
    devices: list[str]
    answers: list[str]
    devices_after: list[str]
    rules_after: str


def networked(name: str, network: str, page: str) -> Submission:
    description = f"executable = job\narguments = {name} {page}\nMy.LedgeNetwork = {network!r}\n"
    return Submission(description.replace("'", '"'), name=name, files={"job": JOB})


def ask(pool: Pool, address: str, *ports: str) -> list[str]:
    return pool.root(f"python3 -c {shlex.quote(ASK)} {address} {' '.join(ports)}").stdout.split()


@pytest.fixture(scope="module")
def seen(node: Pool, page: str) -> Seen:
    """Two jobs with a private network, and one with none, at once."""
    submissions = [
        networked("first", "private", page),
        networked("second", "private", page),
        networked("alone", "none", "none"),
    ]
    jobs = dict(zip(("first", "second", "alone"), node.submit_all(submissions)))
    for name in ("first", "second"):
        path = jobs[name].path("ready")
        node.root(f"until [ -e {path} ]; do sleep 0.2; done", timeout=PATIENCE_SECONDS)
    devices = node.root(DEVICES).stdout.split()
    answers = ask(node, NODE, "8080", "61000", "61001")
    for name in ("first", "second"):
        node.root(f"touch {jobs[name].path('go')}")
    for job in jobs.values():
        job.wait("terminated", PATIENCE_SECONDS)
    after = node.root(DEVICES).stdout.split()
    rules = node.root("nft list map inet condor_ledge opened").stdout
    ads = {name: job.ad() for name, job in jobs.items()}
    return Seen(jobs, ads, devices, answers, after, rules)


def test_each_has_its_own_port_and_a_way_out(seen: Seen) -> None:
    assert len(seen.devices) == 2
    assert seen.answers[0] == "ConnectionRefusedError"  # nobody on the node listens there
    assert sorted(seen.answers[1:]) == ["first", "second"]
    for name in ("first", "second"):
        assert seen.jobs[name].error() == b""
        lines = seen.jobs[name].output().decode().splitlines()
        assert lines == [
            "['lo', 'eth0']", "0", str(PAGE_BYTES), "nameserver 10.0.2.3", "search pool",
        ]  # fmt: skip


def test_none_has_a_loopback_and_chirp(seen: Seen) -> None:
    assert seen.jobs["alone"].output() == b"['lo']\n0\n"
    ad = seen.ads["alone"]
    assert ad["ChirpLedgeNetwork"] == "none"
    assert "ChirpLedgeNetworkAddress" not in ad
    assert ad["ChirpLedgeNetworkSentBytes"] == 0


def test_the_ads_tell_and_count(seen: Seen) -> None:
    for ad in seen.ads.values():
        assert (ad["ExitCode"], ad["ChirpMine"]) == (0, 1)
        assert ad["ChirpLedgeIsolation"].endswith(",network")
        assert ad["ChirpLedgeNetworkLoopbackSentBytes"] > 0  # chirp
    opened = {}
    for name in ("first", "second"):
        ad = seen.ads[name]
        assert ad["ChirpLedgeNetwork"] == "private"
        port, _, inner = ad["ChirpLedgeNetworkPorts"].partition(":")
        assert inner == "8080"
        opened[name] = seen.answers[1 + int(port) - 61000]
        received = ad["ChirpLedgeNetworkReceivedBytes"]
        assert PAGE_BYTES < received < 1.1 * PAGE_BYTES + 2000
    assert opened == {"first": "first", "second": "second"}
    addresses = {seen.ads[name]["ChirpLedgeNetworkAddress"] for name in opened}
    assert addresses == {"100.127.0.2", "100.127.0.3"}


def test_nothing_is_left_of_them(seen: Seen) -> None:
    assert seen.devices_after == []
    assert "elements" not in seen.rules_after


@pytest.mark.since_htcondor(24, 8)
def test_who_cannot_have_one_is_held_and_told_why(node: Pool) -> None:
    node.root("sysctl -qw net.ipv4.ip_forward=0")
    try:
        job = node.submit(shell("echo ran", 'My.LedgeNetwork = "private"\n'))
        job.wait("held", PATIENCE_SECONDS)
        assert "forwards no packets" in node.root("condor_ledge status").stdout
    finally:
        node.root("sysctl -qw net.ipv4.ip_forward=1")
    ad = job.ad()
    assert ad["HoldReasonCode"] == HELD_BY_HOOK
    assert "the job cannot have a network of its own" in ad["HoldReason"]
    assert "sysctl net.ipv4.ip_forward=1" in ad["HoldReason"]
