"""Networks of jobs' own, by the real daemon: who reaches whom, and what is left in the end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.networks import REMOTE_4, ip
from tests.kernel.private_node import (
    FORWARDING,
    GATEWAY,
    NODE,
    OUTSIDE,
    POLICY,
    ChirpServer,
    PrivateNode,
    reach,
    route_to_jobs,
)
from tests.kernel.starter import Process

pytestmark = pytest.mark.requires("root", "cgroup2", "ip", "nft")

CROWD = 100
TWO_PORTS = POLICY + "  network_ports: 8080\n"


@pytest.fixture
def node(installed: Path, execute: Path, tmp_path: Path) -> Iterator[PrivateNode]:
    node = PrivateNode(installed, execute, tmp_path)
    yield node
    node.close()


def job_address(number: int) -> str:
    return f"100.127.0.{number + 2}"


def test_two_jobs_on_one_port_and_who_reaches_whom(node: PrivateNode) -> None:
    port, seen = node.peer_serves(b"hello", connections=2)
    route_to_jobs(node.networks)
    jobs = []
    for number in (0, 1):
        other = job_address(1 - number)
        jobs.append(
            node.job(
                f"""
import threading
listener = listening(8080)
def whoever_comes():
    while True:
        serve(listener, "inside")
threading.Thread(target=whoever_comes, daemon=True).start()
assert reach("127.0.0.1", 8080) == "inside"
touch("ready")
wait_for("go")
print(reach({OUTSIDE!r}, {port}), reach({other!r}, 8080), reach("127.0.0.1", 22))
touch("tried")
wait_for("end")
"""
            )
        )
        jobs[-1].wait_for("ready")
    assert node.devices() == ["ledge0", "ledge1"]
    for job in jobs:
        node.go(job)
    for job in jobs:
        job.wait_for("tried")
    # Neither the peer, who knows the way, nor whoever is on the node reaches what listens there.
    for number in (0, 1):
        assert node.peer_reaches(job_address(number), 8080) == "TimeoutError"
        assert reach(job_address(number), 8080) == "TimeoutError"
    for job in jobs:
        node.go(job, "end")
        assert job.check() == b"hello TimeoutError ConnectionRefusedError\n"
    assert seen == [NODE, NODE]
    node.assert_nothing_left()


def test_what_a_job_sees(node: PrivateNode) -> None:
    job = node.job(
        """
import subprocess
for command in (["ip", "-o", "address"], ["ip", "route"], ["ip", "link", "set", "eth0", "down"]):
    done = subprocess.run(["/usr/sbin/" + command[0], *command[1:]], capture_output=True, text=True)
    print(done.stdout, done.stderr)
print(socket.socket(socket.AF_INET).connect_ex(("127.0.0.1", 1)))
"""
    )
    output = job.check().decode()
    assert re.findall(r"^\d+: (\S+) +inet6? (\S+)", output, re.MULTILINE) == [
        ("lo", "127.0.0.1/8"),
        ("lo", "::1/128"),
        ("eth0", "100.127.0.2"),
    ]
    assert f"default via {GATEWAY} dev eth0" in output
    assert "Operation not permitted" in output
    assert output.splitlines()[-1] == "111"  # ECONNREFUSED: the loopback is up


def test_ports_that_are_opened(node: PrivateNode) -> None:
    node.restart(TWO_PORTS)
    code = """
listener = listening(8080)
touch("ready")
for _ in range(3):
    serve(listener, "%s")
"""
    jobs = [node.job(code % name) for name in ("first", "second")]
    for job in jobs:
        job.wait_for("ready")
    opened = {node.peer_reaches(NODE, port): port for port in (61000, 61001)}
    assert sorted(opened) == ["first", "second"]
    assert reach(NODE, opened["first"]) == "first"
    assert node.peer_reaches(NODE, 8080) == "ConnectionRefusedError"
    first, second = opened["first"], opened["second"]
    third = node.job(f"print(reach({NODE!r}, {second}), reach({GATEWAY!r}, {first}))")
    assert third.check() == b"second first\n"
    assert reach(NODE, opened["second"]) == "second"
    for job in jobs:
        job.check()
    node.assert_nothing_left()
    time.sleep(1)  # ports are closed a moment later, those of several jobs at once
    assert node.peer_reaches(NODE, opened["first"]) == "ConnectionRefusedError"


def test_no_more_ports_than_there_are(node: PrivateNode) -> None:
    node.options[-1] = "61000-61001"
    node.restart(POLICY + "  network_ports: 8000-8001\n")
    first = node.job('touch("ready"); wait_for("go")')
    first.wait_for("ready")
    second = node.job("print(1)")
    second.wait()
    assert b"fewer than 2 ports are left of LEDGE_NETWORK_PORTS" in second.wrapper_error
    node.go(first)
    first.check()


def test_none_is_a_loopback_alone(node: PrivateNode) -> None:
    node.restart("version: 1\ndefaults: {network: none}\n")
    job = node.job(
        f"""
listener = socket.create_server(("127.0.0.1", 8080))
socket.create_connection(listener.getsockname()).close()
print([name for _, name in socket.if_nameindex()], reach({OUTSIDE!r}, 1))
"""
    )
    assert job.check() == b"['lo'] OSError\n"  # ENETUNREACH


def test_a_job_sends_with_its_own_address_alone(node: PrivateNode) -> None:
    """Should it ever get at its devices: here root does, in the job's namespace."""
    job = node.job('touch("ready"); wait_for("go")')
    job.wait_for("ready")
    receiver = node.networks.peer_socket(REMOTE_4, socket.SOCK_DGRAM)
    receiver.settimeout(1)
    with node.within_job(0):
        ip("address", "add", "100.127.0.77", "dev", "eth0")
        for own in ("100.127.0.77", job_address(0)):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.bind((own, 0))
                sender.sendto(own.encode(), receiver.getsockname())
    assert receiver.recvfrom(100)[0] == job_address(0).encode()
    with pytest.raises(TimeoutError):
        receiver.recvfrom(100)
    receiver.close()
    node.go(job)
    job.check()


def test_chirp_reaches_the_starter_and_the_ad_says_what_there_was(
    node: PrivateNode,
) -> None:
    chirp = ChirpServer(node.execute)
    node.restart(TWO_PORTS)
    size = 3_000_000  # more than a socket's buffers hold
    job = node.job(
        f"""
host, port, cookie = open(os.environ["_CONDOR_CHIRP_CONFIG"]).read().split()
with socket.create_connection((host, int(port))) as connection:
    connection.sendall(b"echo " + b"x" * {size} + b"\\n")
    connection.shutdown(socket.SHUT_WR)
    got = sum(map(len, iter(lambda: connection.recv(1 << 16), b"")))
many = [socket.create_connection((host, int(port))) for _ in range(100)]
answers = []
for connection in many:
    connection.sendall(b"echo me\\n")
for connection in many:
    answers.append(connection.recv(4))
    connection.close()
assert answers == [b"me0\\n"] * 100, answers
print(got, os.environ["_LEDGE_NETWORK_PORTS"])
wait_for("go")
""",
        chirp.environ(),
    )
    deadline = time.monotonic() + 10
    while "ChirpLedgeNetworkPorts" not in chirp.attributes:  # while it runs
        assert time.monotonic() < deadline
        time.sleep(0.01)
    node.go(job)
    assert job.check() == b"%d 61000:8080\n" % (size + 2)
    assert chirp.greetings == [b"x" * 20] + [b"me"] * 100
    ad = {name.replace("ChirpLedge", ""): value for name, value in chirp.attributes.items()}
    assert ad["Network"] == "private"
    assert ad["NetworkAddress"] == job_address(0)
    assert ad["NetworkPorts"] == "61000:8080"
    assert ad["Isolation"].endswith(",network")
    chirp.close()


def test_name_servers_that_can_be_reached(node: PrivateNode) -> None:
    node.options += ["--network-name-servers", "10.9.9.9,", "10.9.9.8"]
    node.restart()
    job = node.job('print(open("/etc/resolv.conf").read())')
    lines = job.check().decode().splitlines()
    assert lines[:2] == ["nameserver 10.9.9.9", "nameserver 10.9.9.8"]
    node.restart("version: 1\n")
    job = node.job('print(open("/etc/resolv.conf").read(), end="")')
    assert job.check() == Path("/etc/resolv.conf").read_bytes()


def test_a_connection_left_half_open_keeps_nothing(node: PrivateNode) -> None:
    """The kernel would keep the namespace for minutes, for what was not sent."""
    port, _ = node.peer_serves(b"")
    job = node.job(
        f"""
connection = socket.create_connection(({OUTSIDE!r}, {port}))
touch("ready")
wait_for("go")
connection.setblocking(False)
connection.send(bytes(100000))
"""
    )
    job.wait_for("ready")
    ip("-n", node.networks.peer, "address", "flush", "dev", "cable")
    node.go(job)
    assert job.check() == b""
    began = time.monotonic()
    node.assert_nothing_left()
    assert time.monotonic() - began < 2


def test_whoever_flushes_the_rules_sees_them_again(node: PrivateNode) -> None:
    node.restart(TWO_PORTS)
    job = node.job('listener = listening(8080); touch("ready"); serve(listener, "served")')
    job.wait_for("ready")
    before = node.count()["rules"]
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    deadline = time.monotonic() + 5
    while node.count()["rules"] != before:
        assert time.monotonic() < deadline, node.count()
        time.sleep(0.01)
    assert node.peer_reaches(NODE, 61000) == "served"
    job.check()


def test_a_crash_takes_no_network_from_a_job_and_leaves_none_of_one_that_ended(
    node: PrivateNode,
) -> None:
    node.restart(TWO_PORTS)
    port, _ = node.peer_serves(b"hello")
    stays, ends = [
        node.job(
            f"""
listener = listening(8080)
touch("ready")
wait_for("go")
print(reach({OUTSIDE!r}, {port}))
serve(listener, "served")
"""
        )
        for _ in range(2)
    ]
    for job in (stays, ends):
        job.wait_for("ready")
    address = {61000: 0, 61001: 1}
    node.kill()
    os.kill(ends.pid, signal.SIGKILL)
    ends.wait()
    node.go(stays)
    node.start()
    deadline = time.monotonic() + 10
    while len(node.devices()) != 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (device,) = node.devices()
    (open_port,) = [p for p, number in address.items() if device == f"ledge{number}"]
    fresh = node.job('listener = listening(8080); touch("ready"); serve(listener, "fresh")')
    fresh.wait_for("ready")  # with an address and a port that nobody has
    assert node.peer_reaches(NODE, open_port) == "served"
    assert stays.check() == b"hello\n"
    answers = {node.peer_reaches(NODE, p) for p in (61000, 61001, 61002)}
    assert "fresh" in answers
    fresh.check()


def test_everything_is_killed_and_nothing_is_left(node: PrivateNode) -> None:
    jobs = [node.job('touch("ready"); time.sleep(60)') for _ in range(3)]
    for job in jobs:
        job.wait_for("ready")
    node.kill()
    for job in jobs:
        os.kill(job.pid, signal.SIGKILL)
        job.wait()
    node.assert_nothing_left()  # by the kernel alone
    node.start()


def test_the_one_that_makes_networks_dies_and_ledged_ends_with_it(node: PrivateNode) -> None:
    os.kill(node.maker(), signal.SIGKILL)
    assert node.ledged.process.wait(20) == 1  # and condor_master starts it anew
    assert "the process for networks has died" in node.ledged.log.read_text()
    node.ledged.log.unlink()
    node.start()
    assert node.job("print(1)").check() == b"1\n"


def test_a_job_that_cannot_have_one_does_not_run(node: PrivateNode) -> None:
    assert node.job("print(1)").check() == b"1\n"
    FORWARDING.write_text("0")
    for restarted in (False, True):  # at the launch, and when the policy has just decided
        if restarted:
            node.restart()
        job = node.job("print(1)")
        job.wait()
        assert b"the job cannot have a network of its own" in job.wrapper_error
        assert b"sysctl net.ipv4.ip_forward=1" in job.wrapper_error
        assert job.output == b""


def test_what_is_no_range_is_told_and_stops_nothing_else(node: PrivateNode) -> None:
    node.options[1] = "100.127.0.1/24"
    node.restart()
    assert "private networks: LEDGE_NETWORK_ADDRESSES" in node.ledged.log.read_text()
    job = node.job("print(1)")
    job.wait()
    assert b"LEDGE_NETWORK_ADDRESSES: 100.127.0.1/24 has host bits set" in job.wrapper_error
    node.restart("version: 1\n")
    assert node.job("print(1)").check() == b"1\n"


def test_a_smaller_range_while_a_job_runs_beyond_it(node: PrivateNode) -> None:
    """Its port is closed; new jobs begin all the same."""
    node.restart(TWO_PORTS)
    for _ in range(6):
        node.job("pass").check()
    job = node.job('touch("ready"); wait_for("go"); print(1)')
    job.wait_for("ready")
    assert node.devices() == ["ledge6"]
    node.options[1] = "100.127.0.0/29"
    node.restart(TWO_PORTS)
    assert node.job("print(2)").check() == b"2\n"
    node.go(job)
    assert job.check() == b"1\n"


def test_addresses_run_out_and_come_back(node: PrivateNode) -> None:
    node.options[1] = "100.127.0.0/29"
    node.restart()
    jobs = [node.job('touch("ready"); wait_for("go")') for _ in range(5)]
    for job in jobs:
        job.wait_for("ready")
    refused = node.job("print(1)")
    refused.wait()
    assert b"all 5 addresses of 100.127.0.0/29 are in use" in refused.wrapper_error
    for job in jobs:
        node.go(job)
        job.check()
    assert node.job("print(1)").check() == b"1\n"


def test_a_crowd(node: PrivateNode) -> None:
    port, seen = node.peer_serves(b"hello", connections=CROWD)
    code = f'listener = listening(8080); print(reach({OUTSIDE!r}, {port}, 20))'
    assert node.job("print(1)").check() == b"1\n"
    time.sleep(1)  # what belongs to that job is closed in the next moments
    before = node.descriptors()
    began = time.monotonic()
    jobs: list[Process] = [node.job(code) for _ in range(CROWD)]
    for job in jobs:
        assert (job.wait(120), job.wrapper_error, job.output) == (0, b"", b"hello\n")
    print(f"{CROWD} jobs in {time.monotonic() - began:.1f} s")
    assert seen == [NODE] * CROWD
    node.assert_nothing_left()
    deadline = time.monotonic() + 10
    while any(now > then for now, then in zip(node.descriptors(), before)):
        assert time.monotonic() < deadline, (node.descriptors(), before)
        time.sleep(0.1)
