"""What there is on a node, to be counted before and after; a program of its own, which prints JSON.

    python3 inventory.py CGROUP [DIRECTORY …]

The control groups below CGROUP, and files in the directories, are counted, and of the whole node,
as this process sees it: mounts of all mount namespaces, namespaces, processes, network devices,
rules of nftables, eBPF programs and maps, what is pinned, IPC, keys, sockets with names, and the
descriptors of condor-ledge's own processes. Needs root, ip(8) and nft(8).
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
IPC = ("msg", "sem", "shm")
PINS = "/sys/fs/bpf"
OURS = ("ledged", "ledge_launcher", "ledge_network")
# bpf(2) has no number that is the same everywhere; commands of enum bpf_cmd.
_SYS_BPF = {"x86_64": 321, "aarch64": 280}
_PROG_GET_NEXT_ID, _MAP_GET_NEXT_ID = 11, 12
_PROG_GET_FD_BY_ID, _MAP_GET_FD_BY_ID = 13, 14
_OBJ_GET_INFO_BY_FD = 15
# Where struct bpf_prog_info and struct bpf_map_info have the name (linux/bpf.h).
_PROG_NAME_AT, _MAP_NAME_AT = 64, 24
_NAME_BYTES = 16
_KERNEL_THREADS = 2


def inventory(cgroup: str, directories: list[str]) -> Counter[str]:
    """Everything, by kind and name, and how many of it there are."""
    found: Counter[str] = Counter()
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    for kind, names in (
        ("process", _processes(pids)),
        ("namespace", _namespaces(pids)),
        ("mount", _mounts(pids)),
        ("descriptor", _descriptors(pids)),
        ("device", _devices()),
        ("rule", _rules()),
        ("cgroup", _below(cgroup, files=False)),
        ("bpf program", _bpf(_PROG_GET_NEXT_ID, _PROG_GET_FD_BY_ID, _PROG_NAME_AT)),
        ("bpf map", _bpf(_MAP_GET_NEXT_ID, _MAP_GET_FD_BY_ID, _MAP_NAME_AT)),
        ("pin", _below(PINS)),
        ("file", (name for directory in directories for name in _below(directory))),
        ("ipc", _ipc()),
        ("keys", _keys()),
        ("socket", _sockets()),
    ):
        found.update(f"{kind} {name}" for name in names)
    return found


def surplus(before: Counter[str], after: Counter[str]) -> list[str]:
    """What there is too much of afterwards."""
    return sorted((after - before).elements())


def _text(path: str) -> str:
    """Empty for what has gone, or is not there on this kernel."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _processes(pids: list[int]) -> Iterator[str]:
    """By name; without the kernel's threads, this process, and those that it is waited for by."""
    parents = {pid: _parent(pid) for pid in pids}
    own, at = set(), os.getpid()
    while at in parents:
        own.add(at)
        at = parents[at]
    for pid in set(pids) - own:
        if parents[pid] != _KERNEL_THREADS and pid != _KERNEL_THREADS:
            yield _text(f"/proc/{pid}/comm").strip()


def _parent(pid: int) -> int:
    fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[1]) if fields else 0


def _namespaces(pids: list[int]) -> Iterator[str]:
    """Those with a process in them, an open descriptor or a mount."""
    links: set[str] = set()
    for pid in pids:
        paths = [f"/proc/{pid}/ns/{name}" for name in NAMESPACES]
        with suppress(OSError):
            paths += [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
        for path in paths:
            with suppress(OSError):
                links.add(os.readlink(path))
        links.update(re.findall(r"(?m) (\w+:\[\d+\]) .* - nsfs ", _text(f"/proc/{pid}/mountinfo")))
    for link in links:
        name, _, number = link.partition(":[")
        if number and name in NAMESPACES:
            yield name


def _mounts(pids: list[int]) -> Iterator[str]:
    """By mount point and type, of each mount namespace."""
    seen: set[str] = set()
    for pid in pids:
        try:
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
        except OSError:
            continue
        if namespace in seen:
            continue
        seen.add(namespace)
        for line in _text(f"/proc/{pid}/mountinfo").splitlines():
            fields, _, rest = line.partition(" - ")
            yield f"{fields.split()[4]} {rest.split()[0]}"


def _descriptors(pids: list[int]) -> Iterator[str]:
    for pid in pids:
        name = _text(f"/proc/{pid}/comm").strip()
        if name in OURS:
            with suppress(OSError):
                yield from [name] * len(os.listdir(f"/proc/{pid}/fd"))


def _devices() -> Iterator[str]:
    done = subprocess.run(["ip", "-j", "link"], capture_output=True, check=True)
    for device in json.loads(done.stdout):
        yield device["ifname"]


def _rules() -> Iterator[str]:
    """Lines, and of sets and maps the elements, one by one."""
    done = subprocess.run(["nft", "list", "ruleset"], capture_output=True, check=True, text=True)
    yield from filter(None, map(str.strip, re.split("[,\n]", done.stdout)))


def _below(directory: str, files: bool = True) -> Iterator[str]:
    for path, directories, names in os.walk(directory):
        for name in [*directories, *(names if files else [])]:
            yield os.path.join(path, name)


def _bpf(next_id: int, fd_by_id: int, name_at: int) -> Iterator[str]:
    """The names of all programs or maps of the kernel."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = _SYS_BPF[os.uname().machine]
    at = 0
    while True:
        attributes = ctypes.create_string_buffer(struct.pack("=III", at, 0, 0), 12)
        if libc.syscall(number, next_id, attributes, 12) < 0:
            return
        at = struct.unpack_from("=I", attributes, 4)[0]
        wanted = ctypes.create_string_buffer(struct.pack("=III", at, 0, 0), 12)
        fd = libc.syscall(number, fd_by_id, wanted, 12)
        if fd < 0:
            continue  # gone in this moment
        info = ctypes.create_string_buffer(name_at + _NAME_BYTES)
        address = ctypes.addressof(info)
        asked = ctypes.create_string_buffer(struct.pack("=IIQ", fd, len(info), address), 16)
        libc.syscall(number, _OBJ_GET_INFO_BY_FD, asked, 16)
        os.close(fd)
        yield info.raw[name_at:].partition(b"\0")[0].decode()


def _ipc() -> Iterator[str]:
    for kind in IPC:
        yield from [kind] * (len(_text(f"/proc/sysvipc/{kind}").splitlines()) - 1)
    yield from _below("/dev/mqueue")


def _keys() -> Iterator[str]:
    """How many each user has (proc-key-users(5))."""
    for line in _text("/proc/key-users").splitlines():
        user, _, counts = line.partition(":")
        yield from [user.strip()] * int(counts.split()[1].partition("/")[0])


def _sockets() -> Iterator[str]:
    for line in _text("/proc/net/unix").splitlines()[1:]:
        yield from line.split()[7:]


if __name__ == "__main__":
    print(json.dumps(inventory(sys.argv[1], sys.argv[2:])))
