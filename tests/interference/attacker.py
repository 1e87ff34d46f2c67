#!/usr/bin/python3
"""The attacker: tries each way to a victim that it knows all about, and prints what came of it.

target.json has what the victim has said of itself (`facts`, but for the token) and what root sees
of it on the node (`host`). For each way stands in tried.json what was read, or the error; an answer
that begins with "reached" has shown the effect itself. What an attack does to the victim, the
victim sees.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from fcntl import ioctl
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 20
HOLD_SECONDS = 1.5
ATTEMPTS = 2500
TIOCSTI = 0x5412
PTRACE_PEEKDATA, PTRACE_SEIZE, PTRACE_INTERRUPT = 2, 0x4206, 0x4207
# x86_64
SYS_KEYCTL, SYS_IOPRIO_SET, SYS_PROCESS_VM_READV = 250, 251, 310
KEYCTL_DESCRIBE, KEYCTL_LINK, KEYCTL_SEARCH, KEYCTL_READ = 6, 8, 10, 11
SESSION_KEYRING, USER_KEYRING = -3, -4
SETVAL = 16
CLOCK_REALTIME = 0
IPC_NOWAIT = 0o4000

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

Way = Callable[[], str]


class NothingToTry(Exception):
    """The victim could not offer what this way attacks."""


def checked(result: int | None) -> int:
    if result is None or result in (-1, 0xFFFFFFFFFFFFFFFF):
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    return result


class Attacker:
    """The ways, each as a function that returns what it got."""

    def __init__(self, target: dict[str, Any]) -> None:
        self.facts: dict[str, Any] = target["facts"]
        self.host: dict[str, Any] = target["host"]
        self.pid: int = self.host["pid"]
        self.proc = f"/proc/{self.pid}"

    def fact(self, name: str) -> Any:
        if name not in self.facts:
            raise NothingToTry
        return self.facts[name]

    def ways(self) -> dict[str, Way]:
        """All of them; first those for which time counts."""
        return {
            "PID used again": self.use_pid_again,
            **self.ways_to_processes(),
            **self.ways_to_files(),
            **self.ways_to_ipc(),
            **self.ways_to_sockets(),
            **self.ways_to_groups(),
            "terminal": self.write_to_terminal,
            "session keyring": lambda: self.read_key("session keyring", SESSION_KEYRING),
            "user keyring": lambda: self.read_key("user keyring", USER_KEYRING),
            "port numbers": self.take_port,
            "inotify instances of the user": self.take_inotify,
            "process limit of the user": self.take_processes,
            "inodes of the scratch file system": self.take_inodes,
        }

    # ---- processes

    def ways_to_processes(self) -> dict[str, Way]:
        pid, proc = self.pid, self.proc
        return {
            "signal by PID": lambda: done(os.kill, pid, signal.SIGUSR1),
            "signal by process group": lambda: done(os.killpg, self.host["pgid"], signal.SIGUSR2),
            "signal to all, kill(-1)": lambda: done(os.kill, -1, signal.SIGWINCH),
            "ptrace": self.trace,
            "process_vm_readv": self.read_memory,
            "/proc/PID/environ": lambda: read(f"{proc}/environ"),
            "/proc/PID/cmdline": lambda: read(f"{proc}/cmdline"),
            "/proc/PID/maps": lambda: read(f"{proc}/maps"),
            "/proc/PID/fd": lambda: read(f"{proc}/fd/{self.fact('fd')}"),
            "/proc/PID/root": lambda: read(f"{proc}/root{self.fact('file in /tmp')}"),
            "/proc/PID/cwd": lambda: read(f"{proc}/cwd/{Path(self.fact('file in cwd')).name}"),
            "/proc/PID/mountinfo": lambda: reached(read(f"{proc}/mountinfo")[:40]),
            "process list": list_processes,
            "renice": lambda: done(os.setpriority, os.PRIO_PROCESS, pid, 7),
            "sched_setaffinity": lambda: done(os.sched_setaffinity, pid, {0}),
            "ioprio_set": lambda: done(checked, libc.syscall(SYS_IOPRIO_SET, 1, pid, 0x6007)),
            "prlimit": self.limit,
            "oom_score_adj": lambda: write(f"{proc}/oom_score_adj", "999"),
        }

    def limit(self) -> str:
        return done(resource.prlimit, self.pid, resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))

    def trace(self) -> str:
        checked(libc.ptrace(PTRACE_SEIZE, self.pid, None, None))
        libc.ptrace(PTRACE_INTERRUPT, self.pid, None, None)
        os.waitpid(self.pid, 0)
        return reached("it is traced")

    def read_memory(self) -> str:
        buffer = ctypes.create_string_buffer(32)
        ours = struct.pack("QQ", ctypes.addressof(buffer), 32)
        theirs = struct.pack("QQ", self.fact("address"), 32)
        checked(libc.syscall(SYS_PROCESS_VM_READV, self.pid, ours, 1, theirs, 1, 0))
        return buffer.raw.decode("ascii", "replace")

    def use_pid_again(self) -> str:
        wanted = self.host["child"]
        for _ in range(ATTEMPTS):
            pid = fork(lambda: time.sleep(HOLD_SECONDS if os.getpid() == wanted else 0))
            os.waitpid(pid, 0)
            if pid == wanted:
                return "had the PID of the victim's child that is dead"
        return f"did not get {wanted} in {ATTEMPTS} forks, but {pid}"

    # ---- files

    def ways_to_files(self) -> dict[str, Way]:
        def file(name: str) -> Way:
            return lambda: read(self.fact(f"file in {name}"))

        return {
            "/tmp": file("/tmp"),
            "/var/tmp": file("/var/tmp"),
            "/dev/shm": file("/dev/shm"),
            "scratch directory, read": file("scratch"),
            "scratch directory, written": self.write_scratch,
            "/tmp of the victim, by its scratch directory": self.read_their_tmp,
            "chirp cookie": self.read_cookie,
            "names of other jobs' directories": self.list_directories,
            "core file": self.read_core,
            "file in the home directory": file("home"),
        }

    def write_scratch(self) -> str:
        return write(f"{self.fact('scratch')}/from-attacker-{os.getpid()}", "")

    def read_their_tmp(self) -> str:
        scratch, name = self.fact("scratch"), Path(self.fact("file in /tmp")).name
        for place in (f"{scratch}/tmp", f"{scratch}/.ledge/tmp"):
            if os.path.exists(f"{place}/{name}"):
                return read(f"{place}/{name}")
        os.listdir(scratch)
        raise NothingToTry

    def read_cookie(self) -> str:
        digest = sha256(Path(self.fact("chirp")).read_bytes()).hexdigest()
        return reached("the cookie") if digest == self.fact("cookie") else "another file"

    def list_directories(self) -> str:
        theirs, path = Path(self.fact("scratch")), Path(self.fact("scratch"))
        while not path.name.startswith("dir_") and path != path.parent:
            path = path.parent
        found = os.listdir(path.parent)
        shown = f"{len(found)} in {path.parent}"
        return reached(shown) if path.name in found and path in theirs.parents else shown

    def read_core(self) -> str:
        with open(self.fact("core"), "rb") as file:
            text = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            at = text.find(b"LEDGE_VICTIM=")
            return text[at : at + 60].decode("ascii", "replace") if at >= 0 else "no environment"

    # ---- interprocess communication

    def ways_to_ipc(self) -> dict[str, Way]:
        return {
            "System V shared memory": self.attach,
            "System V semaphore": self.set_semaphore,
            "System V message queue": self.take_message,
            "POSIX message queue": self.take_posix_message,
        }

    def attach(self) -> str:
        identifiers = [self.fact("shm"), libc.shmget(self.fact("key"), 4096, 0)]
        address = checked(libc.shmat(max(identifiers), None, 0))
        return ctypes.string_at(address, 32).decode("ascii", "replace")

    def set_semaphore(self) -> str:
        identifiers = [self.fact("semaphore"), libc.semget(self.fact("key"), 1, 0)]
        return done(checked, libc.semctl(max(identifiers), 0, SETVAL, 77))

    def take_message(self) -> str:
        identifiers = [self.fact("queue"), libc.msgget(self.fact("key"), 0)]
        buffer = ctypes.create_string_buffer(80)
        checked(libc.msgrcv(max(identifiers), buffer, 64, ctypes.c_long(0), IPC_NOWAIT))
        return buffer.raw[8:40].decode("ascii", "replace")

    def take_posix_message(self) -> str:
        queue = checked(libc.mq_open(self.fact("mqueue").encode(), os.O_RDONLY | os.O_NONBLOCK))
        buffer = ctypes.create_string_buffer(8192)
        checked(libc.mq_receive(queue, buffer, 8192, None))
        return buffer.value.decode("ascii", "replace")

    # ---- sockets

    def ways_to_sockets(self) -> dict[str, Way]:
        ways: dict[str, Callable[[str], str]] = {}
        unix, stream, datagram = socket.AF_UNIX, socket.SOCK_STREAM, socket.SOCK_DGRAM
        ways["abstract Unix socket, stream"] = self.talk(unix, stream)
        ways["abstract Unix socket, datagram"] = self.talk(unix, datagram)
        for place in ("/tmp", "scratch", "home"):
            ways[f"named Unix socket in {place}"] = self.talk(unix, stream)
        for name in ("127.0.0.1", "127.9.9.9", "::1"):
            family = socket.AF_INET6 if ":" in name else socket.AF_INET
            ways[f"TCP {name}"] = self.talk(family, stream)
            ways[f"UDP {name}"] = self.talk(family, datagram)
        ways["TCP to all addresses, by 127.0.0.1"] = self.talk(socket.AF_INET, stream, "127.0.0.1")
        ways["TCP by the node's own address"] = self.talk(socket.AF_INET, stream)
        return {way: partial(talk, way) for way, talk in ways.items()}

    def talk(self, family: int, kind: int, instead: str = "") -> Callable[[str], str]:
        """What whoever listens there says; a datagram is for the victim to see."""

        def talk(way: str) -> str:
            with socket.socket(family, kind) as connection:
                connection.settimeout(2)
                connection.connect(self.address(way, family, instead))
                if kind == socket.SOCK_DGRAM:
                    return f"sent {connection.send(way.encode())} bytes"
                return connection.recv(64).decode()

        return talk

    def address(self, way: str, family: int, instead: str) -> Any:
        fact = self.fact(way)
        if family != socket.AF_UNIX:
            return (instead or fact[0], fact[1])
        if not isinstance(fact, str):
            return f"\0{fact[1]}"
        # A path has 107 bytes at most.
        directory = os.open(os.path.dirname(fact), os.O_PATH)
        return f"/proc/self/fd/{directory}/{os.path.basename(fact)}"

    # ---- control groups

    def ways_to_groups(self) -> dict[str, Way]:
        theirs = [f"{root}{self.host['cgroup']}" for root in roots()]
        slices = [os.path.dirname(path) for path in theirs] + [self.host["slice"]]
        return {
            "moved to the attacker's control group": lambda: first(self.take_process, own_groups()),
            "attacker goes to the victim's control group": lambda: first(
                go_to, [*theirs, *slices]
            ),
            "directory in the victim's control group": lambda: first(
                make_directory, [*theirs, *slices]
            ),
            "freezing the victim's control group": lambda: first(freeze, [*theirs, *slices]),
            "killing the victim's control group": lambda: first(may_kill, [*theirs, *slices]),
        }

    def take_process(self, group: str) -> str:
        return write(f"{group}/cgroup.procs", str(self.pid))

    # ---- the rest

    def write_to_terminal(self) -> str:
        fd = os.open(self.fact("terminal"), os.O_RDWR | os.O_NOCTTY)
        os.write(fd, b"from the attacker\n")
        ioctl(fd, TIOCSTI, b"x")
        return reached("TIOCSTI")

    def read_key(self, way: str, ring: int) -> str:
        """By searching the keyring, else by making any keyring that is listed one's own."""
        name, serial = self.fact(way)
        found = libc.syscall(SYS_KEYCTL, KEYCTL_SEARCH, ring, b"user", name.encode(), 0)
        errors = [] if found > 0 else [os.strerror(ctypes.get_errno())]
        for keyring in listed_keyrings():
            libc.syscall(SYS_KEYCTL, KEYCTL_LINK, keyring, SESSION_KEYRING)
        buffer = ctypes.create_string_buffer(64)
        for key in (found, serial):
            if libc.syscall(SYS_KEYCTL, KEYCTL_READ, key, buffer, ctypes.c_size_t(64)) > 0:
                return buffer.value.decode("ascii", "replace")
            errors.append(os.strerror(ctypes.get_errno()))
        return ", ".join(dict.fromkeys(errors))

    def take_port(self) -> str:
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("0.0.0.0", self.fact("port")))
            server.listen()
            time.sleep(HOLD_SECONDS)
        return "listened at the port that the victim wanted"

    def take_inotify(self) -> str:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        count = 0
        while count < 20000 and libc.inotify_init() >= 0:
            count += 1
        error = os.strerror(ctypes.get_errno())
        time.sleep(HOLD_SECONDS)
        return f"made {count}: {error}"

    def take_processes(self) -> str:
        children: list[int] = []
        try:
            for _ in range(100):
                children.append(fork(lambda: time.sleep(60)))
            time.sleep(HOLD_SECONDS)
        finally:
            for pid in children:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        return f"had {len(children)} processes"

    def take_inodes(self) -> str:
        directory = os.environ.get("_CONDOR_SCRATCH_DIR", ".")
        names = [f"{directory}/inode-{number}" for number in range(3000)]
        for name in names:
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
        time.sleep(HOLD_SECONDS / 2)
        for name in names:
            os.unlink(name)
        return f"made {len(names)} files"


def done(action: Callable[..., object], *arguments: object) -> str:
    """For what the victim has to see."""
    action(*arguments)
    return "no error"


def reached(what: str) -> str:
    return f"reached: {what}"


def fork(run: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(0)
    return pid


def read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    text = b""
    while len(text) < 1 << 20:
        chunk = os.pread(fd, 65536, len(text)) if "/fd/" in path else os.read(fd, 65536)
        if not chunk:
            break
        text += chunk
    os.close(fd)
    return text.decode("ascii", "replace")


def write(path: str, text: str) -> str:
    fd = os.open(path, os.O_WRONLY | (os.O_CREAT if not text else 0), 0o600)
    os.write(fd, text.encode())
    os.close(fd)
    return "written"


def list_processes() -> str:
    """All command lines, as ps shows them."""
    lines = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                lines.append(Path(f"/proc/{name}/cmdline").read_text().replace("\0", " "))
            except OSError:
                lines.append("?")
    return f"{len(lines)} processes: {' '.join(lines)}"


def roots() -> list[str]:
    """Where a tree of cgroup2 can be seen."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if " - cgroup2 " in line]


def own_groups() -> list[str]:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    path = next(line[3:] for line in lines if line.startswith("0::"))
    return [f"{root}{path}" for root in roots()]


def first(action: Callable[[str], str], places: list[str]) -> str:
    """What the first place gives that gives something; else all errors."""
    errors: dict[str, None] = {}
    for place in dict.fromkeys(places):
        try:
            return action(place)
        except OSError as error:
            errors[error.strerror or "error"] = None
    return ", ".join(errors)


def go_to(group: str) -> str:
    before = own_groups()
    write(f"{group}/cgroup.procs", str(os.getpid()))
    return reached(f"in {own_groups()[0]}") if own_groups() != before else "still where it was"


def make_directory(group: str) -> str:
    path = f"{group}/from-attacker-{os.getpid()}"
    os.mkdir(path)
    os.rmdir(path)
    return reached(f"made and removed in {group}")


def freeze(group: str) -> str:
    write(f"{group}/cgroup.freeze", "1")
    time.sleep(0.2)
    frozen = "frozen 1" in read(f"{group}/cgroup.events")
    write(f"{group}/cgroup.freeze", "0")
    return reached("frozen") if frozen else "written, and not frozen"


def may_kill(group: str) -> str:
    os.close(os.open(f"{group}/cgroup.kill", os.O_WRONLY))
    return reached("cgroup.kill can be opened for writing")


def listed_keyrings() -> list[int]:
    """The serial numbers of all keyrings that /proc/keys shows."""
    try:
        lines = Path("/proc/keys").read_text().splitlines()
    except OSError:
        return []
    return [int(line.split()[0], 16) for line in lines if " keyring " in line]


# ---- the node


def ways_to_node(host: dict[str, Any]) -> dict[str, Way]:
    """A job against what is not its user's; `host` has the PID of ledged, if there is one."""
    places = [host["slices"], "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/user.slice", *above()]
    # Where a tree is mounted, a job may have the root of what is its own.
    elsewhere = [place for place in places if place not in roots()]
    return {
        **ways_to_daemons("HTCondor's starter", host["starter"]),
        **ways_to_daemons("ledged", host["ledged"]),
        "list of the node's processes": lambda: seen_processes(host["starter"]),
        "list of the node's mounts": seen_mounts,
        "/proc/1/environ": lambda: reached(read("/proc/1/environ")[:20]),
        "another user's file": lambda: reached(read(host["foreign_file"])),
        "another user's process, signal": lambda: signalled(host["foreign_process"]),
        "/etc/shadow": lambda: reached(read("/etc/shadow")[:4]),
        "limits of its slice": lambda: lift(host["slice"]),
        "leaving its slice": lambda: first(go_to, elsewhere),
        "mount on the node": mount,
        "name of the node": lambda: changed(libc.sethostname(b"attacked", 8)),
        "clock of the node": lambda: changed(libc.clock_settime(CLOCK_REALTIME, bytes(16))),
        "sysctl": lambda: reached(write("/proc/sys/kernel/core_pattern", "core")),
        "block device": lambda: first(lambda path: reached(read(path)[:4]), block_devices()),
        "/dev/mem, /dev/kmsg": lambda: first(opened, ["/dev/mem", "/dev/kmsg"]),
        "ledged's socket: launch": lambda: asked(b"launch"),
        "ledged's socket: status": lambda: asked(b"status"),
        "ledged's files": lambda: first(opened, ledged_files()),
        "eBPF counters": lambda: reached(str(os.listdir("/sys/fs/bpf/condor-ledge"))),
    }


def ways_to_daemons(name: str, pid: int | None) -> dict[str, Way]:
    if pid is None:
        return {}
    return {
        f"{name}, signal": lambda: signalled(pid),
        f"{name}, memory": lambda: opened(f"/proc/{pid}/mem"),
        f"{name}, environment": lambda: reached(read(f"/proc/{pid}/environ")[:20]),
    }


def signalled(pid: int) -> str:
    os.kill(pid, signal.SIGCONT)
    return reached("no error")


def changed(result: int) -> str:
    return reached(done(checked, result))


def opened(path: str) -> str:
    os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    return reached(f"{path} can be opened for writing")


def seen_processes(starter: int) -> str:
    shown = f"{list_processes().split()[0]} processes"
    return reached(shown) if os.path.exists(f"/proc/{starter}") else shown


def seen_mounts() -> str:
    found = Path("/proc/self/mountinfo").read_text().splitlines()
    return reached(f"{len(found)} mounts, with those of the node")


def lift(group: str) -> str:
    for name in ("memory.max", "pids.max", "cpu.max"):
        write(f"{group}/{name}", "max")
    return reached(f"written in {group}")


def above() -> list[str]:
    return [f"{root}/.." for root in roots()]


def mount() -> str:
    return changed(libc.mount(b"none", b"/mnt", b"tmpfs", ctypes.c_ulong(0), None))


def block_devices() -> list[str]:
    return [f"/dev/{name}" for name in os.listdir("/sys/block")]


def ledged_files() -> list[str]:
    found = [str(path) for path in Path("/run/condor-ledge").glob("*") if path.name != "socket"]
    return [*found, "/var/log/condor/LedgeLog", "/etc/condor-ledge/policy.yaml"]


def asked(verb: bytes) -> str:
    """What ledged answers to a process of the job."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect("/run/condor-ledge/socket")
        nonce = connection.recv(256).split()[2]
        connection.sendall(b"%s 1 %s 0\n" % (verb, nonce))
        answer = connection.recv(4096).decode("ascii", "replace")
    return answer if answer.startswith(("refused", "error")) else reached(answer)


def attempt(way: Way) -> str:
    """What a way gives, tried in a process of its own that may not take for ever."""
    hear, tell = os.pipe()

    def run() -> None:
        os.close(hear)
        signal.alarm(PATIENCE_SECONDS)
        try:
            answer = way()
        except NothingToTry:
            answer = "-"
        except OSError as error:
            answer = f"{error.strerror or error}"
        except Exception as error:  # noqa: BLE001  # a fault of ours, for the test to see
            answer = f"FAULT {type(error).__name__}: {error}"
        os.write(tell, answer.encode("ascii", "replace")[:60000])

    pid = fork(run)
    os.close(tell)
    answer = b""
    while select.select([hear], [], [], PATIENCE_SECONDS + 5)[0]:
        chunk = os.read(hear, 65536)
        if not chunk:
            break
        answer += chunk
    os.close(hear)
    _, status = os.waitpid(pid, 0)
    return answer.decode() or f"nothing; wait status {status}"


def main() -> None:
    while not os.path.exists("target.json"):
        time.sleep(0.1)
    target = json.loads(Path("target.json").read_text())
    ways = ways_to_node(target["host"]) if "--node" in sys.argv else Attacker(target).ways()
    signal.signal(signal.SIGWINCH, signal.SIG_IGN)
    tried = {name: attempt(way) for name, way in ways.items()}
    Path("tried.json.new").write_text(json.dumps(tried))
    os.rename("tried.json.new", "tried.json")


if __name__ == "__main__":
    main()
