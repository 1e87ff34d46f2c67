#!/usr/bin/python3
"""The victim: offers all that another job could touch, and notes what it sees happen to it.

What an attacker would have to find out first stands in facts.json; a child that is dead from the
file "go" on, in "gone"; what was seen, when there is a file "stop", in seen.json.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import pty
import pwd
import resource
import select
import signal
import socket
import struct
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from fcntl import ioctl
from hashlib import sha256
from pathlib import Path

TICK_SECONDS = 0.1
FILES = 1000  # the attacker makes three times as many
PROCESSES, MOST_PROCESSES = 60, 1 << 16
SIGNALS = {
    signal.SIGUSR1: "signal by PID",
    signal.SIGUSR2: "signal by process group",
    signal.SIGWINCH: "signal to all, kill(-1)",
}
SYS_IOPRIO_GET, SYS_ADD_KEY = 252, 248  # x86_64
SESSION_KEYRING, USER_KEYRING = -3, -4
GETVAL, SETVAL = 12, 16
SIOCGIFADDR = 0x8915

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p


class Victim:
    """`facts` are for the attacker; `watches` are looked at again and again; `seen` by way."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.name = f"ledge-victim-{token[:8]}"
        self.facts: dict[str, object] = {"pid": os.getpid(), "pgid": os.getpgid(0)}
        self.seen: dict[str, str] = {}
        self.watches: list[Callable[[], None]] = []
        self.readers: dict[int, Callable[[], None]] = {}
        self.scratch = os.environ.get("_CONDOR_SCRATCH_DIR", os.getcwd())
        self.kept: list[object] = []

    def note(self, way: str, what: str) -> None:
        self.seen.setdefault(way, what)

    def watch(self, way: str, look: Callable[[], object]) -> None:
        """Whatever `look` finds is to stay as it is."""
        before = look()

        def compare() -> None:
            found = look()
            if found != before:
                self.note(way, f"{before} became {found}")

        self.watches.append(compare)

    def fork(self, run: Callable[[], object]) -> int:
        pid = os.fork()
        if pid == 0:
            try:
                run()
            finally:
                os._exit(0)
        return pid

    # ---- what is offered

    def processes(self) -> None:
        for number, way in SIGNALS.items():
            signal.signal(number, lambda *_, way=way: self.note(way, "the victim had the signal"))
        self.watch("renice", lambda: os.getpriority(os.PRIO_PROCESS, 0))
        self.watch("sched_setaffinity", lambda: sorted(os.sched_getaffinity(0)))
        self.watch("ioprio_set", lambda: libc.syscall(SYS_IOPRIO_GET, 1, 0))
        self.watch("prlimit", lambda: resource.getrlimit(resource.RLIMIT_FSIZE))
        self.watch("oom_score_adj", lambda: Path("/proc/self/oom_score_adj").read_text().strip())
        self.watch("moved to the attacker's control group", own_group)
        memory = ctypes.create_string_buffer(self.token.encode())
        self.kept.append(memory)
        self.facts["address"] = ctypes.addressof(memory)
        self.facts["child"] = self.child = self.fork(lambda: time.sleep(600))
        self.facts["cpus"] = len(os.sched_getaffinity(0))

    def files(self) -> None:
        home = pwd.getpwuid(os.getuid()).pw_dir
        places = {"/tmp": "/tmp", "/var/tmp": "/var/tmp", "/dev/shm": "/dev/shm"}
        places.update(home=home, scratch=self.scratch, cwd=os.getcwd())
        for name, directory in places.items():
            path = Path(directory, self.name)
            with suppress(OSError):
                path.touch(0o600)
                path.write_text(self.token)
                self.facts[f"file in {name}"] = str(path)
        unlinked = tempfile.TemporaryFile(dir=self.scratch)  # noqa: SIM115  # it stays open
        unlinked.write(self.token.encode())
        unlinked.flush()
        mapped = Path(self.scratch, f"mapped-{self.token}")
        mapped.write_bytes(bytes(4096))
        with mapped.open("r+b") as file:
            self.kept += [unlinked, mmap.mmap(file.fileno(), 4096)]
        self.facts["fd"] = unlinked.fileno()
        self.facts["scratch"] = self.scratch
        self.watch("scratch directory, written", lambda: sorted(marks(self.scratch)))
        config = os.environ.get("_CONDOR_CHIRP_CONFIG")
        if config and os.path.exists(config):
            self.facts["chirp"] = config
            self.facts["cookie"] = sha256(Path(config).read_bytes()).hexdigest()

    def ipc(self) -> None:
        key = int(self.token[:7], 16) | 1
        shm = libc.shmget(key, 4096, 0o1600)
        semaphore = libc.semget(key, 1, 0o1600)
        queue = libc.msgget(key, 0o1600)
        ctypes.memmove(libc.shmat(shm, None, 0), self.token.encode(), len(self.token))
        libc.semctl(semaphore, 0, SETVAL, 1)
        message = (1).to_bytes(8, sys.byteorder) + self.token.encode()
        libc.msgsnd(queue, message, len(message) - 8, 0)
        self.watch("System V semaphore", lambda: libc.semctl(semaphore, 0, GETVAL))
        self.facts.update(key=key, shm=shm, semaphore=semaphore, queue=queue)
        name = f"/{self.name}"
        descriptor = libc.mq_open(name.encode(), os.O_CREAT | os.O_RDWR, 0o600, None)
        if descriptor >= 0:
            libc.mq_send(descriptor, self.token.encode(), len(self.token), 1)
            self.facts["mqueue"] = name

    def sockets(self) -> None:
        unix = socket.AF_UNIX
        self.listen("abstract Unix socket, stream", unix, f"\0{self.name}")
        self.receive("abstract Unix socket, datagram", unix, f"\0{self.name}-datagram")
        self.listen("named Unix socket in /tmp", unix, f"/tmp/{self.name}.socket")
        home = pwd.getpwuid(os.getuid()).pw_dir
        for name, directory in (("home", home), ("scratch", self.scratch)):
            with suppress(OSError):
                here = os.open(directory, os.O_PATH)
                short = f"/proc/self/fd/{here}/{self.name}.socket"  # a path has 107 bytes
                self.listen(f"named Unix socket in {name}", unix, short)
                self.facts[f"named Unix socket in {name}"] = f"{directory}/{self.name}.socket"
        for name, family, address in (
            ("127.0.0.1", socket.AF_INET, "127.0.0.1"),
            ("127.9.9.9", socket.AF_INET, "127.9.9.9"),
            ("::1", socket.AF_INET6, "::1"),
        ):
            with suppress(OSError):
                self.listen(f"TCP {name}", family, (address, 0))
                self.receive(f"UDP {name}", family, (address, 0))
        self.listen("TCP to all addresses, by 127.0.0.1", socket.AF_INET, ("0.0.0.0", 0))
        own = own_address()
        if own is not None:
            self.listen("TCP by the node's own address", socket.AF_INET, (own, 0))

    def listen(self, way: str, family: int, address: object) -> None:
        server = socket.socket(family)
        server.bind(address)  # type: ignore[arg-type]  # of the family
        server.listen()
        self.kept.append(server)
        self.facts[way] = told(server.getsockname())

        def serve() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.sendall(self.token.encode())

        self.readers[server.fileno()] = serve

    def receive(self, way: str, family: int, address: object) -> None:
        server = socket.socket(family, socket.SOCK_DGRAM)
        server.bind(address)  # type: ignore[arg-type]  # of the family
        self.kept.append(server)
        self.facts[way] = told(server.getsockname())
        self.readers[server.fileno()] = lambda: self.note(way, f"received {server.recv(64)!r}")

    def terminal(self) -> None:
        master, slave = pty.openpty()
        self.kept.append(slave)
        self.facts["terminal"] = os.ttyname(slave)
        self.readers[master] = lambda: self.note("terminal", f"it shows {os.read(master, 64)!r}")

    def keys(self) -> None:
        for way, ring in (("session keyring", SESSION_KEYRING), ("user keyring", USER_KEYRING)):
            name = f"{self.name}-{way.split()[0]}".encode()
            arguments = (b"user", name, self.token.encode(), ctypes.c_size_t(len(self.token)))
            serial = libc.syscall(SYS_ADD_KEY, *arguments, ring)
            if serial > 0:
                self.facts[way] = [name.decode(), serial]

    def core(self) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_CORE)
        if most == 0:
            return

        def crash() -> None:
            os.chdir(self.scratch)
            resource.setrlimit(resource.RLIMIT_CORE, (most, most))
            signal.signal(signal.SIGABRT, signal.SIG_DFL)
            os.abort()

        os.waitpid(self.fork(crash), 0)
        cores = [name for name in os.listdir(self.scratch) if name.startswith("core")]
        if cores:
            self.facts["core"] = f"{self.scratch}/{cores[0]}"

    def shares(self) -> None:
        """What is counted for a user, and what a file system or the network has once."""
        with socket.socket() as probe:
            probe.bind(("0.0.0.0", 0))
            port = probe.getsockname()[1]
        self.facts["port"] = port
        self.watch("port numbers", lambda: outcome(lambda: bind(port)))
        self.watch("inotify instances of the user", lambda: outcome(inotify))
        most = 0

        def filled() -> None:
            nonlocal most
            free = free_files(self.scratch)
            most = max(most, free)
            if most - free > FILES:
                self.note("inodes of the scratch file system", f"{most - free} fewer are free")

        self.watches.append(filled)

    def limit_processes(self) -> None:
        """Last: from here on the user has room for few more processes."""
        _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
        limit = hard if 0 < hard < MOST_PROCESSES else MOST_PROCESSES
        least, most = 1, limit
        while least < most:
            middle = (least + most) // 2
            resource.setrlimit(resource.RLIMIT_NPROC, (middle, hard))
            if outcome(self.live) == "can":
                most = middle
            else:
                least = middle + 1
        resource.setrlimit(resource.RLIMIT_NPROC, (min(least + PROCESSES, limit), hard))
        self.watch("process limit of the user", lambda: outcome(self.live))

    def live(self) -> None:
        os.waitpid(self.fork(lambda: None), 0)

    # ---- the time between

    def forget_child(self) -> None:
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)
        self.watch("PID used again", lambda: outcome(lambda: os.kill(self.child, 0)))
        Path("gone").touch()

    def run(self) -> None:
        """Offer all, and look until there is a file "stop"."""
        for offer in (self.core, self.processes, self.files, self.ipc, self.sockets):
            offer()
        for offer in (self.terminal, self.keys, self.shares, self.limit_processes):
            offer()
        write("facts.json", self.facts)
        while not os.path.exists("stop"):
            if os.path.exists("go") and not os.path.exists("gone"):
                self.forget_child()
            for fd in select.select(list(self.readers), [], [], TICK_SECONDS)[0]:
                self.readers[fd]()
            for look in self.watches:
                look()
        write("seen.json", self.seen)


def own_group() -> str:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return next((line for line in lines if line.startswith("0::")), "")


def marks(directory: str) -> list[str]:
    return [name for name in os.listdir(directory) if name.startswith("from-attacker")]


def told(address: object) -> object:
    """An address as JSON can have it."""
    if isinstance(address, bytes):
        return ["abstract", address[1:].decode()]
    return address if isinstance(address, str) else list(address)[:2]  # type: ignore[call-overload]


def own_address() -> str | None:
    """The node's address at the first interface, but for loopback, that has one (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                answer = ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()))
                if name != "lo":
                    return socket.inet_ntoa(answer[20:24])
    return None


def outcome(action: Callable[[], object]) -> str:
    try:
        action()
    except OSError as error:
        return error.strerror or "error"
    return "can"


def bind(port: int) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("0.0.0.0", port))
        server.listen()


def inotify() -> None:
    fd = libc.inotify_init()
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.close(fd)


def free_files(directory: str) -> int:
    return os.statvfs(directory).f_ffree


def write(name: str, content: object) -> None:
    Path(name + ".new").write_text(json.dumps(content))
    os.rename(name + ".new", name)


def main() -> None:
    if "LEDGE_VICTIM" not in os.environ:
        token = uuid.uuid4().hex
        os.environ["LEDGE_VICTIM"] = token
        os.execv(sys.executable, [sys.executable, __file__, token])
    Victim(sys.argv[1]).run()


if __name__ == "__main__":
    main()
