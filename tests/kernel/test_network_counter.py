"""The network counters on the real kernel: exact, by class, through crashes, for many jobs.

The figures are compared with what the programs sent and with the kernel's own counters. IPv4 and
UDP have headers of 28 bytes together, IPv6 and UDP of 48.
"""

from __future__ import annotations

import os
import pwd
import signal
import socket
import struct
import time
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Callable

import pytest

from ledge.daemon.hardening import harden
from ledge.kernel import bpf, syscalls
from ledge.kernel.bpf_assembler import R0, assemble, leave, move
from ledge.network.counters import (
    Counted,
    NetworkCounters,
    NetworkError,
    NetworkFigures,
    Traffic,
    remove,
)
from ledge.network.program import MOST_PREFIXES, Prefix
from tests.kernel import card, networks
from tests.kernel.cgroups import Slice
from tests.kernel.networks import (
    ADDRESSES,
    JOB,
    LOCAL_4,
    LOCAL_6,
    PEER,
    REMOTE_4,
    REMOTE_6,
    Networks,
    Process,
)

pytestmark = pytest.mark.requires("root", "cgroup2", "bpf", "ip")

PREFIXES: list[Prefix] = [ip_network("10.200.0.0/16"), ip_network("fd00::/8")]
NONE = Counted(0, 0)
NOTHING = Traffic(NONE, NONE, NONE)
STREAM_BYTES = 100_000_000
_BPF_PROG_ATTACH, _BPF_PROG_DETACH = 8, 9
_BPF_F_REPLACE = 4
_CAP_NET_ADMIN, _CAP_BPF = 12, 39


@pytest.fixture
def job() -> Iterator[Slice]:
    slice_ = Slice(f"ledge-test-{os.getpid()}.slice", os.getuid())
    yield slice_
    slice_.remove()


@pytest.fixture
def counters(pins: str) -> Iterator[NetworkCounters]:
    counters = NetworkCounters.open(PREFIXES, pins)
    yield counters
    counters.close()


def attach(counters: NetworkCounters, group: Path) -> None:
    fd = os.open(group, os.O_RDONLY | os.O_DIRECTORY)
    try:
        counters.attach(fd)
    finally:
        os.close(fd)


def figures(counters: NetworkCounters, group: Path) -> NetworkFigures:
    found = counters.read(group.stat().st_ino)
    assert found is not None
    return found


def of_class(name: str, counted: Counted) -> Traffic:
    """That which was counted in one class, and nothing in the others."""
    return NOTHING._replace(**{name: counted})


def headers(address: str) -> int:
    return 48 if ":" in address else 28


def send_in(job: Slice, network: Networks, packets: int, size: int = 1000) -> None:
    """UDP packets of a job's process to itself, which it does not read."""

    def work() -> None:
        own = networks.bound("127.0.0.1", socket.SOCK_DGRAM)
        networks.send(own.getsockname(), packets, size)

    Process(job.scope, network.job, work).result()


@pytest.mark.parametrize(
    ("address", "name"),
    [(LOCAL_4, "local"), (REMOTE_4, "remote"), (LOCAL_6, "local"), (REMOTE_6, "remote")],
)
def test_udp_to_the_byte(
    network: Networks, job: Slice, counters: NetworkCounters, address: str, name: str
) -> None:
    attach(counters, job.path)
    server = network.peer_socket(address, socket.SOCK_DGRAM)
    process = Process(job.scope, network.job, lambda: networks.ask(server.getsockname(), 100, 1000))
    with server:
        networks.answer(server, 100, 300)
    process.result()
    sent = Counted(100 * (1000 + headers(address)), 100)
    received = Counted(100 * (300 + headers(address)), 100)
    expected = NetworkFigures(of_class(name, received), of_class(name, sent))
    assert figures(counters, job.path) == expected


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.1.2.3", "::1", *[address % JOB for address in ADDRESSES]]
)
def test_what_goes_over_lo_is_loopback_whatever_the_address(
    network: Networks, job: Slice, counters: NetworkCounters, address: str
) -> None:
    def work() -> None:
        own = networks.bound(address, socket.SOCK_DGRAM)
        networks.send(own.getsockname(), 50, 200)

    attach(counters, job.path)
    Process(job.scope, network.job, work).result()
    both = of_class("loopback", Counted(50 * (200 + headers(address)), 50))
    assert figures(counters, job.path) == NetworkFigures(both, both)


@pytest.mark.parametrize(("address", "name"), [(LOCAL_4, "local"), (REMOTE_6, "remote")])
@pytest.mark.parametrize("way", ["sent", "received"])
def test_tcp_beside_the_kernel_s_own_counters(
    network: Networks, job: Slice, counters: NetworkCounters, address: str, name: str, way: str
) -> None:
    attach(counters, job.path)
    server = network.peer_socket(address, socket.SOCK_STREAM)
    process = Process(
        job.scope, network.job, lambda: _stream(server.getsockname()[:2], pours=way == "sent")
    )
    with server, server.accept()[0] as stream:
        if way == "received":
            networks.pour(stream, STREAM_BYTES)
        assert networks.drain(stream) == (STREAM_BYTES if way == "sent" else 0)
    kernel = process.result()
    counted = figures(counters, job.path)
    assert counted.sent is not None and counted.received is not None
    sent, received = getattr(counted.sent, name), getattr(counted.received, name)
    assert counted == NetworkFigures(of_class(name, received), of_class(name, sent))
    assert sent.packets == kernel["Tcp.OutSegs"] + kernel["Tcp.RetransSegs"]
    if address == LOCAL_4:
        assert sent.bytes == kernel["IpExt.OutOctets"]
        # Segments are counted with congestion marks alone. What comes late meets no socket.
        late = kernel["IpExt.InNoECTPkts"] - received.packets
        assert 0 <= late <= 5
        assert 0 <= kernel["IpExt.InOctets"] - received.bytes <= late * 1500
    data = sent if way == "sent" else received
    device = kernel["cable.tx_bytes" if way == "sent" else "cable.rx_bytes"]
    assert STREAM_BYTES < data.bytes < device < data.bytes * 1.01


def _stream(address: tuple[str, int], pours: bool) -> dict[str, int]:
    """Send or receive a stream; how much the kernel counted more afterwards."""
    before = networks.kernel_counters()
    with socket.create_connection(address) as stream:
        networks.pour(stream, STREAM_BYTES if pours else 0)
        networks.drain(stream)
    return {name: value - before[name] for name, value in networks.kernel_counters().items()}


@pytest.fixture(params=[pytest.param(4, id="IPv4"), pytest.param(6, id="IPv6")])
def beyond(network: Networks, request: pytest.FixtureRequest) -> Iterator[card.Card]:
    beyond = card.Card(network.job, request.param)
    yield beyond
    beyond.close()


@pytest.mark.requires("tun")
@pytest.mark.parametrize(
    ("size", "segment", "packets"),
    [(10000, 1000, 10), (9001, 1000, 10), (9000, 1000, 9), (1449, 1448, 2), (60000, 1, 60000)],
)
def test_pieces_whose_number_of_segments_nobody_knows(
    network: Networks,
    job: Slice,
    counters: NetworkCounters,
    beyond: card.Card,
    size: int,
    segment: int,
    packets: int,
) -> None:
    def work() -> int:
        with socket.create_server(own, family=networks.family(own[0])) as server:
            stream, _ = server.accept()
        with stream:
            return len(stream.recv(size, socket.MSG_WAITALL))

    own = (card.OWN_4 if beyond.version == 4 else card.OWN_6, card.PORT)
    attach(counters, job.path)
    process = Process(job.scope, network.job, work)
    before = beyond.connect()
    beyond.deliver(size, segment)
    assert process.result() == size
    header = (card.HEADER_4 if beyond.version == 4 else card.HEADER_6) + card.TCP_HEADER
    total = Counted((before + 1) * header + size, before + packets)
    name = "remote" if beyond.version == 4 else "local"
    assert figures(counters, job.path).received == of_class(name, total)


@pytest.mark.parametrize(
    ("prefix", "local"),
    [
        ("0.0.0.0/0", {LOCAL_4, REMOTE_4}),
        ("::/0", {LOCAL_6, REMOTE_6}),
        ("10.200.0.2/32", {LOCAL_4}),
        ("10.200.0.3/32", set()),
        ("203.0.112.0/23", {REMOTE_4}),
        ("203.0.112.0/24", set()),
        ("8.0.0.0/5", {LOCAL_4}),
        ("128.0.0.0/1", {REMOTE_4}),
        ("2001:db8::2/128", {REMOTE_6}),
        ("2001:db8::3/128", set()),
        ("2001:db8::/33", {REMOTE_6}),
        ("2001:db8:8000::/33", set()),
        ("fc00::/7", {LOCAL_6}),
        ("fd00:200::/95", {LOCAL_6}),
        ("fd00:200:0:0:0:2::/95", set()),
    ],
)
def test_which_addresses_are_local(
    network: Networks, job: Slice, pins: str, prefix: str, local: set[str]
) -> None:
    def work() -> None:
        for size, address in enumerate(ADDRESSES):
            networks.send((address % PEER, 9), 1, 10**size)

    counters = NetworkCounters.open([ip_network("198.51.100.0/24"), ip_network(prefix)], pins)
    attach(counters, job.path)
    Process(job.scope, network.job, work).result()
    counted = figures(counters, job.path).sent
    counters.close()
    assert counted is not None
    sizes = {address: 10**n + headers(address) for n, address in enumerate(ADDRESSES)}
    assert counted.local == (sum(sizes[address] for address in local), len(local))
    assert counted.remote.packets == len(ADDRESSES) - len(local)


def test_groups_below_the_slice_count_and_those_beside_do_not(
    network: Networks, job: Slice, counters: NetworkCounters
) -> None:
    deep = job.scope.parent / "leaf/made/by/the/job"
    deep.mkdir(parents=True)
    beside = Slice(f"ledge-test-{os.getpid()}-beside.slice", os.getuid())
    try:
        attach(counters, job.path)
        for group in (deep, beside.scope):
            Process(group, network.job, _sender(10)).result()
        late = job.path / "late"
        late.mkdir()
        Process(late, network.job, _sender(5)).result()
        assert counters.read(beside.path.stat().st_ino) is None
        assert counters.read(deep.stat().st_ino) is None
    finally:
        beside.remove()
    sent = figures(counters, job.path).sent
    assert sent == of_class("loopback", Counted(10 * 38 + 5 * 33, 15))


def test_a_job_that_is_not_counted_has_no_figures(job: Slice, counters: NetworkCounters) -> None:
    assert counters.read(job.path.stat().st_ino) is None
    attach(counters, job.path)
    assert counters.read(job.path.stat().st_ino) == NetworkFigures(NOTHING, NOTHING)


def test_packets_of_several_processes_at_a_time_are_counted_exactly(
    network: Networks, job: Slice, counters: NetworkCounters
) -> None:
    attach(counters, job.path)
    address = REMOTE_4 % PEER
    work = partial(networks.send, (address, 9), 30_000, 10)
    for process in [Process(job.scope, network.job, work) for _ in range(4)]:
        process.result()
    sent = figures(counters, job.path).sent
    assert sent == of_class("remote", Counted(120_000 * 38, 120_000))


def test_many_jobs_at_a_time(network: Networks, counters: NetworkCounters) -> None:
    jobs = [Slice(f"ledge-test-{os.getpid()}-{n}.slice", os.getuid()) for n in range(64)]
    try:
        for job in jobs:
            attach(counters, job.path)
        processes = [Process(job.scope, network.job, _sender(n)) for n, job in enumerate(jobs)]
        for process in processes:
            process.result()
        sent = [figures(counters, job.path).sent for job in jobs]
    finally:
        for job in jobs:
            job.remove()
    assert sent == [of_class("loopback", Counted(n * (n + 28), n)) for n in range(64)]


def _sender(number: int) -> Callable[[], None]:
    """Sends so many packets of so many bytes of data over loopback."""
    return partial(networks.send, ("127.0.0.1", 9), number, number)


def test_the_daemon_is_killed_and_another_one_goes_on(
    network: Networks, job: Slice, pins: str
) -> None:
    crashed = os.fork()
    if crashed == 0:
        attach(NetworkCounters.open(PREFIXES, pins), job.path)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(crashed, 0)[1] == signal.SIGKILL
    send_in(job, network, 10)  # nobody is there
    counters = NetworkCounters.open([], pins)
    both = of_class("loopback", Counted(10 * 1028, 10))
    assert figures(counters, job.path) == NetworkFigures(both, both)
    attach(counters, job.path)  # and counts nothing twice
    send_in(job, network, 5)
    counters.close()
    counters = NetworkCounters.open(PREFIXES, pins)
    both = of_class("loopback", Counted(15 * 1028, 15))
    assert figures(counters, job.path) == NetworkFigures(both, both)
    counters.close()


def test_a_group_is_counted_no_more(network: Networks, job: Slice, pins: str) -> None:
    """By the programs of this ledged, and of one before; somebody else's stay."""
    earlier = NetworkCounters.open(PREFIXES, pins)
    other = bpf.prog_load(
        bpf.PROG_TYPE_CGROUP_SKB, assemble([move(R0, 1), leave()]), bpf.CGROUP_INET_EGRESS, "other"
    )
    fd = os.open(job.path, os.O_RDONLY | os.O_DIRECTORY)
    for counters in (earlier, NetworkCounters.open(PREFIXES, pins)):
        earlier.attach(fd)
        send_in(job, network, 3)
        both = of_class("loopback", Counted(3 * 1028, 3))
        assert figures(earlier, job.path) == NetworkFigures(both, both)
        counters.detach(fd)
        assert figures(counters, job.path) == NetworkFigures(NOTHING, NOTHING)
        for direction in (bpf.CGROUP_INET_INGRESS, bpf.CGROUP_INET_EGRESS):
            assert bpf.progs_attached(fd, direction) == []
    bpf.prog_attach(fd, other, bpf.CGROUP_INET_EGRESS)
    counters.detach(fd)
    assert len(bpf.progs_attached(fd, bpf.CGROUP_INET_EGRESS)) == 1
    counters.close()
    earlier.close()
    os.close(other)
    os.close(fd)


def test_nothing_is_left_of_a_job(network: Networks, pins: str) -> None:
    counters = NetworkCounters.open(PREFIXES, pins)
    ended = [Slice(f"ledge-test-{os.getpid()}-{n}.slice", os.getuid()) for n in range(3)]
    inodes = [job.path.stat().st_ino for job in ended]
    for job in ended[:2]:
        attach(counters, job.path)
        send_in(job, network, 1)
    assert os.listdir(pins) == ["network"]
    ended[0].remove()
    counters.close()  # a crash, at whose end a job ends
    ended[1].remove()
    ended[2].remove()
    counters = NetworkCounters.open(PREFIXES, pins)
    _until(lambda: all(counters.read(inode) is None for inode in inodes))
    counters.close()
    remove(pins)
    remove(pins)  # there is nothing to remove
    assert not os.path.exists(pins)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + networks.PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("verdict", "sent"), [(0, 0), (1, 7)])
def test_another_program_keeps_its_say(
    network: Networks, job: Slice, counters: NetworkCounters, verdict: int, sent: int
) -> None:
    program = bpf.prog_load(
        bpf.PROG_TYPE_CGROUP_SKB,
        assemble([move(R0, verdict), leave()]),
        bpf.CGROUP_INET_EGRESS,
        "another",
    )
    server = network.peer_socket(LOCAL_4, socket.SOCK_DGRAM)
    fd = os.open(job.path, os.O_RDONLY)
    bpf.prog_attach(fd, program, bpf.CGROUP_INET_EGRESS)
    counters.attach(fd)
    os.close(fd)
    os.close(program)
    Process(job.scope, network.job, lambda: _try_to_send(server.getsockname(), 7)).result()
    with server:
        server.setblocking(False)
        assert len(list(_received(server))) == sent
    # All programs run, whatever one of them says.
    assert figures(counters, job.path).sent == of_class("local", Counted(7 * 29, 7))


def _try_to_send(address: tuple[str, int], packets: int) -> None:
    for _ in range(packets):
        try:
            networks.send(address, 1, 1)
        except PermissionError:
            continue


def _received(server: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            yield server.recv(100)
        except BlockingIOError:
            return


def test_a_program_that_admits_no_other(job: Slice, counters: NetworkCounters) -> None:
    program = bpf.prog_load(
        bpf.PROG_TYPE_CGROUP_SKB, assemble([move(R0, 1), leave()]), bpf.CGROUP_INET_EGRESS, "sole"
    )
    fd = os.open(job.path, os.O_RDONLY)
    _bpf(_BPF_PROG_ATTACH, struct.pack("4I", fd, program, bpf.CGROUP_INET_EGRESS, 0))
    os.close(fd)
    with pytest.raises(NetworkError, match="BPF_F_ALLOW_MULTI"):
        attach(counters, job.path)
    # What could be attached counts, and what could not has no figures.
    assert figures(counters, job.path) == NetworkFigures(NOTHING, None)
    os.close(program)


def _bpf(command: int, attributes: bytes) -> int:
    return bpf._bpf(command, attributes)


def test_a_job_cannot_stop_it(
    network: Networks, job: Slice, counters: NetworkCounters, pins: str
) -> None:
    attach(counters, job.path)
    nobody = pwd.getpwnam("nobody")

    def attempts() -> list[str]:
        os.setgroups([])
        os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
        os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)
        outside = _tried_to_stop(job.path, pins)
        syscalls.unshare(syscalls.CLONE_NEWUSER)  # all capabilities, of no use
        return outside + _tried_to_stop(job.path, pins)

    succeeded = Process(job.scope, network.job, attempts).result()
    assert succeeded == []
    send_in(job, network, 3)
    assert figures(counters, job.path).sent == of_class("loopback", Counted(3 * 1028, 3))


def _tried_to_stop(slice_: Path, pins: str) -> list[str]:
    """What a job succeeded with: nothing, it is hoped."""
    group = os.open(slice_, os.O_RDONLY)
    directions = (bpf.CGROUP_INET_INGRESS, bpf.CGROUP_INET_EGRESS)
    allow = assemble([move(R0, 1), leave()])
    attempts: dict[str, Callable[[], object]] = {
        "get": lambda: bpf.obj_get(os.fsencode(f"{pins}/network")),
        "load": lambda: bpf.prog_load(bpf.PROG_TYPE_CGROUP_SKB, allow, directions[0], "mine"),
    }
    for direction in directions:
        for program in (0, group):
            detach = struct.pack("4I", group, program, direction, 0)
            attempts[f"detach {direction} {program}"] = partial(_bpf, _BPF_PROG_DETACH, detach)
        replace = struct.pack("5I", group, group, direction, _BPF_F_REPLACE | 2, 0)
        attempts[f"replace {direction}"] = partial(_bpf, _BPF_PROG_ATTACH, replace)
    succeeded = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except OSError:
            continue
        succeeded.append(name)
    os.close(group)
    return succeeded


@pytest.mark.parametrize(
    ("kept", "attaches"),
    [
        pytest.param({_CAP_NET_ADMIN}, True, id="CAP_NET_ADMIN is enough to attach"),
        pytest.param({_CAP_BPF}, False, id="CAP_BPF is not"),
        pytest.param(set(), False, id="none"),
    ],
)
def test_capabilities_after_the_start(
    network: Networks, job: Slice, pins: str, kept: set[int], attaches: bool
) -> None:
    # A kernel older than 5.19 wants CAP_BPF besides, where unprivileged_bpf_disabled is set.
    def work() -> tuple[bool, str]:
        counters = NetworkCounters.open(PREFIXES, pins)
        late = job.path / "late"
        late.mkdir()
        attach(counters, job.path)
        bits = sum(1 << capability for capability in kept)
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        syscalls.capset(bits, bits, 0)
        read = counters.read(job.path.stat().st_ino) == NetworkFigures(NOTHING, NOTHING)
        try:
            attach(counters, late)
        except NetworkError as error:
            return read, str(error)
        counted = counters.read(late.stat().st_ino) == NetworkFigures(NOTHING, NOTHING)
        return read, "attached" if counted else "not counted"

    read, attached = Process(job.scope, network.job, work).result()
    assert read
    assert attached == "attached" if attaches else "CAP_NET_ADMIN" in attached


def test_a_hardened_daemon_attaches_and_reads(network: Networks, job: Slice, pins: str) -> None:
    def work() -> bool:
        counters = NetworkCounters.open(PREFIXES, pins)
        harden(counts_traffic=True)
        attach(counters, job.path)
        return counters.read(job.path.stat().st_ino) == NetworkFigures(NOTHING, NOTHING)

    assert Process(job.scope, network.job, work).result()


def refusal(*arguments: Any) -> str:
    with pytest.raises(NetworkError) as refused:
        NetworkCounters.open(*arguments)
    return str(refused.value)


def test_no_file_system_of_type_bpf(tmp_path: Path) -> None:
    message = refusal(PREFIXES, str(tmp_path / "condor-ledge"))
    assert f"{tmp_path} is a file system of type" in message
    assert f"mount -t bpf bpf {tmp_path}" in message
    assert "cannot open" in refusal(PREFIXES, str(tmp_path / "no/condor-ledge"))


def test_too_many_local_networks(pins: str) -> None:
    prefixes = [ip_network((n << 16, 16)) for n in range(MOST_PREFIXES + 1)]
    assert "257 local networks are more than 256" in refusal(prefixes, pins)
    NetworkCounters.open(prefixes[1:], pins).close()


def test_a_directory_of_somebody_else_s_is_not_believed(pins: str) -> None:
    os.mkdir(pins)
    os.chown(pins, pwd.getpwnam("nobody").pw_uid, -1)
    assert "not a directory of root's alone" in refusal(PREFIXES, pins)
    os.chown(pins, 0, -1)
    os.chmod(pins, 0o777)
    assert "not a directory of root's alone" in refusal(PREFIXES, pins)
    os.rmdir(pins)
    os.symlink("/", pins)
    assert "not a directory of root's alone" in refusal(PREFIXES, pins)


def test_another_version_s_map_is_replaced(job: Slice, pins: str) -> None:
    os.mkdir(pins, 0o700)
    other = bpf.map_create(bpf.MapInfo(bpf.MAP_TYPE_CGROUP_STORAGE, 16, 8), "other")
    bpf.obj_pin(os.fsencode(f"{pins}/network"), other)
    os.close(other)
    counters = NetworkCounters.open(PREFIXES, pins)
    attach(counters, job.path)
    assert figures(counters, job.path) == NetworkFigures(NOTHING, NOTHING)
    counters.close()


def test_without_the_right_to_it(network: Networks, job: Slice, pins: str) -> None:
    def work() -> str:
        syscalls.capset(0, 0, 0)
        return refusal(PREFIXES, pins)

    message = Process(job.scope, network.job, work).result()
    assert "bpf(2) is not permitted; ledged needs CAP_BPF and CAP_NET_ADMIN" in message


def test_no_control_group_of_version_2(tmp_path: Path, counters: NetworkCounters) -> None:
    with pytest.raises(NetworkError, match="cannot count"):
        attach(counters, tmp_path)


def test_a_program_that_the_verifier_refuses() -> None:
    with pytest.raises(bpf.RejectedProgramError) as refused:
        bpf.prog_load(bpf.PROG_TYPE_CGROUP_SKB, assemble([leave()]), bpf.CGROUP_INET_EGRESS, "bad")
    assert "R0 !read_ok" in refused.value.log
