"""A client that forges: what a hostile process says to ledged and to its launcher, by hand.

Run as the starter's child by python3 -c with the text of this file (threats/attacker.py), which is
therefore one file; the words of its command line name a function below and its arguments.
Nothing of condor-ledge is imported: a client that is wrong on purpose must not be set right.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from functools import partial
from typing import Callable

SOCKET = "/run/condor-ledge/socket"
JOB_AD = b'ClusterId = 1\nProcId = 0\nOwner = "nobody"\nJobUniverse = 5\nRequestCpus = 1\n'
CLONE_NEWNS = 0x20000
CLONE_NEWUSER = 0x10000000
PR_SET_NAME, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 15, 22, 38
MS_BIND_RECURSIVE = 0x1000 | 0x4000
PATIENCE_SECONDS = 10.0
libc = ctypes.CDLL(None, use_errno=True)
held: list[object] = []


class Connection:
    """A connection to ledged; `nonce` is that of the greeting."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_SECONDS)
        self.socket.connect(SOCKET)
        self.nonce = self.socket.recv(256).split()[2]

    def send(self, verb: bytes, body: bytes = b"", version: int = 1) -> None:
        """Send a request."""
        header = b"%s %d %s %d\n" % (verb, version, self.nonce, len(body))
        self.socket.sendall(header + body)

    def receive(self) -> tuple[bytes, int | None]:
        """The answer as it comes, and a descriptor; nothing at the end."""
        try:
            data, fds, _, _ = socket.recv_fds(self.socket, 65536, 1)
        except ConnectionError:
            return b"", None
        return data, fds[0] if fds else None

    def ask(self, verb: bytes, body: bytes = b"", version: int = 1) -> bytes:
        """The answer to a request."""
        # What ledged said before it closed can be read all the same.
        with contextlib.suppress(ConnectionError):
            self.send(verb, body, version)
        return self.receive()[0]


def say(text: bytes | str) -> None:
    """Tell the test."""
    os.write(1, text.encode() if isinstance(text, str) else text)


def checked(result: int) -> None:
    """Raise what a function of libc failed with."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


# ---- the way of an honest wrapper


def reserved() -> Connection:
    """A connection on which the job of this process has been reserved."""
    connection = Connection()
    answer = connection.ask(b"reserve", JOB_AD + b"\0")
    assert answer.startswith(b"done"), answer
    return connection


def launched() -> socket.socket:
    """The socket to the launcher, when a launch has been asked for and granted."""
    connection = reserved()
    connection.send(b"launch")
    answer, fd = connection.receive()
    assert fd is not None, answer
    return handover_socket(fd)


def handover_socket(fd: int) -> socket.socket:
    """The socket of a descriptor."""
    handover = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=fd)
    handover.settimeout(PATIENCE_SECONDS)
    return handover


def init_of(handover: socket.socket) -> int:
    """A pidfd of the job's init, which it sends when it is there."""
    data, fds, _, _ = socket.recv_fds(handover, 4096, 1)
    assert data == b"init", data
    return fds[0]


def memory_file(text: bytes) -> int:
    """A file in memory."""
    fd = os.memfd_create("forged")
    os.write(fd, text)
    return fd


def command(*argv: bytes, header: bytes | None = None) -> int:
    """The file that says what is to be executed."""
    line = b"0 0 18 1 %d\n" % len(argv) if header is None else header
    return memory_file(line + b"\0".join([argv[0], *argv, b"PATH=/usr/bin:/bin"]) + b"\0")


def directory(path: str = ".") -> int:
    """A descriptor as the wrapper hands one over."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY)


def send_fds(handover: socket.socket, data: bytes, fds: list[int]) -> None:
    """One message of the handover."""
    payload = array.array("i", fds)
    handover.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, payload)] if fds else [])


def give(handover: socket.socket, special: list[int], fds: dict[int, int] | None = None) -> None:
    """Hand over: command, working directory and scratch directory, and the job's descriptors."""
    job = {1: 1, 2: 2} if fds is None else fds
    send_fds(handover, b"%d" % len(job), special)
    if job:
        send_fds(handover, b" ".join([b"%d" % number for number in job]), list(job.values()))


def reports(handover: socket.socket) -> bytes:
    """All that the launcher and init tell until they are gone."""
    told = b""
    while True:
        try:
            data = handover.recv(4096)
        except ConnectionError:
            return told
        if not data:
            return told
        told += data


def run(*argv: bytes, fds: dict[int, int] | None = None) -> None:
    """Have a command launched, and say what became of it."""
    handover = launched()
    init_of(handover)
    give(handover, [command(*argv), directory(), directory()], fds)
    say(reports(handover))


def shell(line: str) -> None:
    """Have a line of shell launched."""
    run(b"/bin/sh", b"-c", line.encode())


# ---- who may ask


def ask_all() -> None:
    """Ask for everything that there is, each on a connection of its own."""
    for verb in (b"reserve", b"launch", b"settle", b"enter", b"status", b"jobs"):
        answer = Connection().ask(verb, JOB_AD + b"\0" if verb == b"reserve" else b"")
        say(b"%s: %s\n" % (verb, answer.replace(b"\n", b" ")))


def ask_from_child(name: str = "") -> None:
    """The same from a child of a process that calls itself by a name."""
    if name:
        libc.prctl(PR_SET_NAME, name.encode(), 0, 0, 0)
    if os.fork() == 0:
        ask_all()
        os._exit(0)
    os.wait()


def ask_launch() -> None:
    """Reserve and ask for a launch."""
    say(reserved().ask(b"launch"))


def ask_with_old_nonce() -> None:
    """Ask with the nonce of another connection."""
    one, other = Connection(), Connection()
    one.nonce = other.nonce
    say(one.ask(b"launch"))


def ask_with_version(version: str) -> None:
    """Ask in another version of the protocol."""
    say(Connection().ask(b"launch", version=int(version)))


def ask_on_inherited_connection() -> None:
    """Ask as a child on its parent's connection."""
    connection = Connection()
    if os.fork() == 0:
        say(connection.ask(b"launch"))
        os._exit(0)
    os.wait()


def confine(how: str) -> None:
    """Give rights up, by a system call filter that allows all, by a user namespace, or by a bit."""
    if how == "userns":
        checked(libc.unshare(CLONE_NEWUSER))
        return
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if how == "seccomp":
        allow = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000))
        program = struct.pack("HP", 1, ctypes.addressof(allow))
        checked(libc.prctl(PR_SET_SECCOMP, 2, program, 0, 0))


def ask_confined(how: str, verb: str = "launch") -> None:
    """Ask for a launch, or to be let into a job, with fewer rights than a job has."""
    connection = reserved() if verb == "launch" else Connection()
    confine(how)
    say(connection.ask(verb.encode()))


# ---- sessions


def ask_enter(times: str = "1") -> None:
    """Ask to be let into the job, each time on a connection of its own."""
    for _ in range(int(times)):
        say(Connection().ask(b"enter") + b"\n")


def ask_enter_as_wrapper() -> None:
    """Have a job launched, and ask to be let into it."""
    handover = launched()
    init_of(handover)
    give(handover, [command(b"/bin/sleep", b"600"), directory(), directory()])
    while b"started" not in handover.recv(4096):
        pass
    say(Connection().ask(b"enter"))


def enter(what: str) -> None:
    """Be let into the job, hand over something wrong, and say what is told."""
    connection = Connection()
    connection.send(b"enter")
    answer, fd = connection.receive()
    assert fd is not None, answer
    handover = handover_socket(fd)
    assert handover.recv(4096) == b"ready\n"
    good = [command(b"/bin/true"), directory(), directory()]
    if what == "nothing":
        handover.shutdown(socket.SHUT_WR)
    elif what == "garbage":
        handover.send(b"\xff" * 4096)
    elif what == "a pipe":
        give(handover, [os.pipe()[0], *good[1:]])
    say(reports(handover))


def ask_beside_unknown_job() -> None:
    """Ask for a launch in a slice where a job runs that ledged knows nothing of."""
    group = own_slice() + "/ledge-7"
    os.mkdir(group)
    child = os.fork()
    if child == 0:
        signal.pause()
    write(group + "/cgroup.procs", child)
    say(reserved().ask(b"launch"))
    os.kill(child, signal.SIGKILL)
    os.wait()
    os.rmdir(group)


def ask_beside_many_groups(number: str) -> None:
    """Ask for a launch in a slice with many groups in it."""
    groups = [f"{own_slice()}/ledge-{index}" for index in range(int(number))]
    for group in groups:
        os.mkdir(group)
    say(reserved().ask(b"launch"))
    for group in groups:
        os.rmdir(group)


def own_slice() -> str:
    """The directory of the slice that this process is in."""
    with open("/proc/self/mountinfo", encoding="ascii") as file:
        mounted = next(line.split()[4] for line in file if " - cgroup2 " in line)
    with open("/proc/self/cgroup", encoding="ascii") as file:
        own = next(line.strip()[3:] for line in file if line.startswith("0::"))
    return mounted + own.rpartition("/")[0]


def write(path: str, value: object) -> None:
    """Write a file."""
    with open(path, "w", encoding="ascii") as file:
        file.write(str(value))


def reserve(owner: str) -> None:
    """Reserve for a job ad with that owner."""
    say(Connection().ask(b"reserve", JOB_AD.replace(b"nobody", owner.encode()) + b"\0"))


def settle_while_the_group_goes() -> None:
    """Have a job launched, settle, and remove its group before ledged has read it.

    Says "late" where ledged was faster.
    """
    handover = launched()
    init_of(handover)
    give(handover, [command(b"/bin/sleep", b"600"), directory(), directory()])
    while b"started" not in handover.recv(4096):
        pass
    time.sleep(5.5)  # for a reading
    group = f"{own_slice()}/ledge-{os.getpid()}"
    connection = Connection()
    connection.send(b"settle")
    for path in (group + "/job", group):
        while True:
            try:
                os.rmdir(path)
                break
            except FileNotFoundError:
                say("late")
                return
            except OSError:  # still populated
                pass
    say(connection.receive()[0])


def be_refused(times: str) -> None:
    """Have a job refused again and again; at last it is not, for those that come after us."""
    for _ in range(int(times)):
        say(Connection().ask(b"reserve", b"no ad\0") + b"\n")
    reserved()


def crowd(connections: str, length: str) -> None:
    """Ask for as many decisions as that at once, each with an ad of that length, and wait."""
    list_ = b"1," * (int(length) // 4)  # takes long to read
    ad = JOB_AD + b"A = {" + list_ + b"1}\n"
    body = ad.ljust(int(length), b"\n")[:-1] + b"\0"
    for _ in range(int(connections)):
        with contextlib.suppress(OSError, IndexError):  # ledged had enough of us
            connection = Connection()
            held.append(connection)
            connection.send(b"reserve", body)
    open("sent", "w", encoding="ascii").close()
    signal.pause()


def send_lingering(seconds: str) -> None:
    """Send descriptors that take long to close, and keep none of them."""
    listener = socket.create_server(("127.0.0.1", 0))
    connection = Connection()
    for flags in (0, socket.MSG_OOB):
        sender = socket.create_connection(listener.getsockname())
        receiver, _ = listener.accept()
        sender.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                sender.send(bytes(65536))
        linger = struct.pack("ii", 1, int(seconds))
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        rights = array.array("i", [sender.fileno()])
        message = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
        try:
            connection.socket.sendmsg([b"x"], message, flags)
        except PermissionError:  # Linux 6.16: descriptors are not let through
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
        sender.close()
        held.append(receiver)  # and reads nothing
    open("sent", "w", encoding="ascii").close()
    signal.pause()


# ---- after ledged has looked, before the launcher has acted


def change_after_asking(delay: str, change: str) -> None:
    """Ask for a launch, change oneself some microseconds later, and have sh print what it sees."""
    connection = reserved()
    prepare = {"userns": _prepare_fake_etc, "chroot": _prepare_root}.get(change)
    prepared = prepare() if prepare else lambda: confine(change)
    connection.send(b"launch")
    time.sleep(int(delay) / 1e6)
    prepared()
    answer, fd = connection.receive()
    if fd is None:
        say(answer)
        return
    handover = handover_socket(fd)
    data, _, _, _ = socket.recv_fds(handover, 4096, 1)
    if data == b"init":
        give(handover, [command(b"/bin/cat", b"/etc/forged"), directory(), directory()])
    say(data + b"\n" + reports(handover))


def _prepare_fake_etc() -> Callable[[], None]:
    os.mkdir("etc")
    with open("etc/forged", "w", encoding="ascii") as file:
        file.write("the user's own /etc\n")
    fake = os.path.abspath("etc").encode()

    def change() -> None:
        checked(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
        checked(libc.mount(fake, b"/etc", None, MS_BIND_RECURSIVE, None))

    return change


def _prepare_root() -> Callable[[], None]:
    for name in ("bin", "lib", "lib64", "usr", "proc", "sys", "dev", "etc"):
        os.mkdir(name)
    with open("etc/forged", "w", encoding="ascii") as file:
        file.write("the user's own /etc\n")

    def change() -> None:
        checked(libc.unshare(CLONE_NEWUSER))
        os.chroot(".")

    return change


# ---- what is handed over


def hand_over(what: str, path: str = "") -> None:
    """Hand something wrong over, and say what became of it."""
    handover = launched()
    init_of(handover)
    good = [command(b"/bin/true"), directory(), directory()]
    try:
        WRONG[what](handover, good, path)
    except OSError as error:
        say(f"sending: {error}\n")
    say(reports(handover))


Wrong = Callable[[socket.socket, "list[int]", str], None]


def _command_at(opened: Callable[[socket.socket], int]) -> Wrong:
    return lambda handover, good, _: give(handover, [opened(handover), good[1], good[2]])


def _wrong_text(text: bytes) -> Wrong:
    return lambda handover, good, _: give(handover, [memory_file(text), good[1], good[2]])


def _wrong_numbers(numbers: bytes, count: bytes) -> Wrong:
    def send(handover: socket.socket, good: list[int], _: str) -> None:
        send_fds(handover, count, good)
        send_fds(handover, numbers, [0])

    return send


def _repeat(handover: socket.socket, good: list[int], _: str) -> None:
    send_fds(handover, b"4096", good)
    for _i in range(100_000):
        send_fds(handover, b" ".join([b"7"] * 200), [0] * 200)


def _at(place: int) -> Wrong:
    def send(handover: socket.socket, good: list[int], path: str) -> None:
        good[place] = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        give(handover, good)

    return send


WRONG: dict[str, Wrong] = {
    "nothing": lambda handover, good, _: send_fds(handover, b"0", []),
    "one descriptor": lambda handover, good, _: send_fds(handover, b"0", good[:1]),
    "four descriptors": lambda handover, good, _: send_fds(handover, b"0", [*good, 0]),
    "250 descriptors": lambda handover, good, _: send_fds(handover, b"0", [0] * 250),
    "no number": lambda handover, good, _: send_fds(handover, b"many", good),
    "a huge number": lambda handover, good, _: send_fds(handover, b"9" * 4000, good),
    "a long message": lambda handover, good, _: send_fds(handover, bytes(100_000), good),
    "fewer numbers": _wrong_numbers(b"", b"1"),
    "more numbers": _wrong_numbers(b"3 4", b"1"),
    "a negative number": _wrong_numbers(b"-1", b"1"),
    "a number too high": _wrong_numbers(b"1048576", b"1"),
    "a number of 100 digits": _wrong_numbers(b"1" * 100, b"1"),
    "no digits": _wrong_numbers(b"one", b"1"),
    "one number for ever": _repeat,
    "an empty command": _wrong_text(b""),
    "garbage": _wrong_text(os.urandom(10_000)),
    "one line": _wrong_text(b"0 0 18 1 1\n"),
    "no argv": _wrong_text(b"0 0 18 1 0\n/bin/true\0"),
    "a negative argc": _wrong_text(b"0 0 18 1 -1\n/bin/true\0/bin/true\0"),
    "too large an argc": _wrong_text(b"0 0 18 1 9\n/bin/true\0/bin/true\0"),
    "a number of a megabyte": _wrong_text(b"1" * (1 << 20) + b" 0 18 1 1\n/bin/true\0" * 2),
    "negative masks": _wrong_text(b"-1 -1 -1 -1 1\n/bin/false\0/bin/false\0"),
    "ten megabytes of argv": _wrong_text(b"0 0 18 1 9\n" + b"/bin/true\0" * (1 << 20)),
    "too long an argument": _wrong_text(b"0 0 18 1 2\n/bin/true\0a\0" + b"x" * (7 << 20) + b"\0"),
    "an endless file": _command_at(lambda _: os.open("/dev/zero", os.O_RDONLY)),
    "a pipe": _command_at(lambda _: os.pipe()[0]),
    "a directory": _command_at(lambda _: os.open("/", os.O_RDONLY)),
    "a path": _command_at(lambda _: os.open("/etc/passwd", os.O_PATH)),
    "the connection": _command_at(lambda handover: handover.fileno()),
    "working directory": _at(1),
    "scratch directory": _at(2),
}


def descriptors_of_every_kind() -> None:
    """Have a job list its descriptors, one of each kind and one of the highest number."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, most))
    handover = launched()
    init_of(handover)
    fds = {
        0: 0,
        1: 1,
        2: 2,
        10: os.pipe()[0],
        11: socket.socket(socket.AF_UNIX).fileno(),
        12: select.epoll().fileno(),
        13: memory_file(b"x"),
        14: os.open("/etc/passwd", os.O_PATH),
        15: os.open("/", os.O_RDONLY),
        16: handover.fileno(),
        17: os.pidfd_open(os.getpid()),
        1023: 1,
    }
    sockets = [socket.socket(socket.AF_UNIX)]
    epoll = select.epoll()
    fds[11], fds[12] = sockets[0].fileno(), epoll.fileno()
    line = b"ls /proc/self/fd | sort -n | tr '\\n' ' '"
    give(handover, [command(b"/bin/sh", b"-c", line), directory(), directory()], fds)
    say(reports(handover))


# ---- dying


def die(step: str) -> None:
    """Die when a step has been reached."""
    STEPS[step]()
    os.kill(os.getpid(), signal.SIGKILL)


def _greeted() -> None:
    Connection()


def _asked() -> None:
    reserved().send(b"launch")


def _met_init() -> socket.socket:
    handover = launched()
    init_of(handover)
    return handover


def _half_way() -> None:
    send_fds(_met_init(), b"3", [command(b"/bin/sleep", b"100"), directory(), directory()])


def _given() -> socket.socket:
    handover = _met_init()
    give(handover, [command(b"/bin/sleep", b"100"), directory(), directory()])
    return handover


def _running() -> None:
    handover = _given()
    told = b""
    while b"started" not in told:
        told += handover.recv(4096)


def _holding_on() -> None:
    """The job itself has our end of the socket: nobody notices that we are dead but ledged."""
    handover = _met_init()
    fds = {1: 1, 2: 2, 9: handover.fileno()}
    give(handover, [command(b"/bin/sleep", b"100"), directory(), directory()], fds)
    while b"started" not in handover.recv(4096):
        pass


STEPS: dict[str, Callable[[], object]] = {
    "connected": lambda: socket.socket(socket.AF_UNIX).connect(SOCKET),
    "greeted": _greeted,
    "half a line": lambda: Connection().socket.send(b"laun"),
    "reserved": reserved,
    "asked": _asked,
    "answered": launched,
    "met init": _met_init,
    "half way": _half_way,
    "given": _given,
    "running": _running,
    "running, and the job holds on": _holding_on,
}


# ---- at init


def attack_init(moment: str) -> None:
    """Say how far one gets with init, while it may still mount and when the job runs."""
    handover = launched()
    init = pid_of(init_of(handover))
    if moment == "after":
        give(handover, [command(b"/bin/sleep", b"20"), directory(), directory()])
        while b"started" not in handover.recv(4096):
            pass
        time.sleep(0.3)  # it tells that before it lets go of all
    try_all(init)
    for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGQUIT, signal.SIGTERM):
        os.kill(init, number)
    if moment == "before":
        give(handover, [command(b"/bin/sleep", b"20"), directory(), directory()])
    say(reports(handover))


def try_all(pid: int) -> None:
    """Say how far one gets with a process, and what rights it has."""
    for name in ("mem", "environ", "maps", "auxv", "syscall"):
        _try(name, partial(_read_one, f"/proc/{pid}/{name}"))
    _try("fd", lambda: os.listdir(f"/proc/{pid}/fd"))
    _try("root", lambda: os.stat(f"/proc/{pid}/root"))
    _try("ns", lambda: os.stat(f"/proc/{pid}/ns/mnt"))
    _try("ptrace", lambda: checked(libc.ptrace(16, pid, None, None)))
    _try("pidfd_getfd", lambda: checked(libc.syscall(438, os.pidfd_open(pid), 0, 0)))
    _try("setns", lambda: checked(libc.setns(os.pidfd_open(pid), CLONE_NEWNS)))
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        say("".join(line for line in file if line.startswith(("Uid", "CapEff", "CapPrm"))))


def attack_entering(flag: str) -> None:
    """Stop what enters the job in the moment that it can be, before it executes anything.

    In the job it has the next PID; outside, the newest one is known to all. It is let go when there
    is a file with the name of the flag and ".go".
    """
    begin = newest = _newest_pid()
    open(flag, "w", encoding="ascii").close()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        newest = max(newest, _newest_pid())
        for pid in range(max(begin + 1, newest - 8), newest + 3):
            with contextlib.suppress(OSError):  # there is none, or it is root's still
                os.kill(pid, signal.SIGSTOP)
                caught = _stopped(pid) == "ledge_enter"
                if caught:
                    try_all(pid)
                    while not os.path.exists(flag + ".go"):
                        time.sleep(0.01)
                os.kill(pid, signal.SIGCONT)
                if caught:
                    return
                newest = begin = pid


def _stopped(pid: int) -> str:
    """The name of a process when it stands still; empty if it ends instead."""
    while True:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            name, _, rest = file.read().partition("(")[2].rpartition(")")
        if rest[1] in "TZX":
            return name if rest[1] == "T" else ""


def _newest_pid() -> int:
    with open("/proc/loadavg", encoding="ascii") as file:
        return int(file.read().split()[-1])


def _read_one(path: str) -> None:
    os.read(os.open(path, os.O_RDONLY), 1)


def _try(name: str, action: Callable[[], object]) -> None:
    try:
        action()
        say(f"{name}: done\n")
    except OSError as error:
        say(f"{name}: {error.strerror}\n")


def pid_of(pidfd: int) -> int:
    """The PID of a pidfd."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


def signal_init(number: str) -> None:
    """Send init a signal before it has been given anything; say what comes of it, if it ends."""
    handover = launched()
    init = init_of(handover)
    os.kill(pid_of(init), int(number))
    open("sent", "w", encoding="ascii").close()
    say(b"told: " + reports(handover))


def main() -> None:
    """Do what the command line says."""
    function: Callable[..., None] = globals()[sys.argv[1]]
    function(*sys.argv[2:])


if __name__ == "__main__":
    main()
