#!/usr/bin/python3
"""A job tries to lift its limits; it prints what it tried and what came of it, a line for each.

With the argument "all" it also asks others to do it: programs that take their time.

    refused: …      whoever was asked, kernel or daemon, said no
    absent: …       what it takes is not on this node, or not to be seen
    no effect: …    it was done, and touches only what is the job's own anyway
    LIFTED: …       what must never be printed

An attempt whose system calls all succeed has to show by itself that it had no effect. What it
cannot see, the figures measured afterwards and root's own look at the slice show.

It is one file, although a long one: it goes with the job, and needs nothing but Python there.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Callable

CGROUPS = "/sys/fs/cgroup"
JOBS = "system.slice/condor.service/htcondor"
SOCKET = "/run/condor-ledge/socket"
PATIENCE_SECONDS = 60
MOST_CPUS = 64

# What would take away each limit, in the words of its file.
LOOSER = {
    "pids.max": "max",
    "memory.high": "max",
    "memory.max": "max",
    "memory.swap.max": "max",
    "cpu.max": "max 100000",
    "cpu.weight": "10000",
    "io.max": "254:0 rbps=max wbps=max riops=max wiops=max",
    "io.weight": "default 10000",
    "io.bfq.weight": "default 1000",
    "cpuset.cpus": "0-1",
    "cpuset.mems": "\n",
    "cgroup.freeze": "0",
    "cgroup.type": "threaded",
}
CONTROLLERS = ("pids", "memory", "cpu", "io", "cpuset")

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
MS_BIND, MS_REC = 4096, 16384
MNT_DETACH = 2
OPEN_TREE_CLONE = 1
SYS_OPEN_TREE, SYS_BPF, SYS_IOPRIO_SET = 428, 321, 251
PR_SET_NAME = 15
PTRACE_ATTACH, PTRACE_DETACH = 16, 17
IOPRIO_REALTIME = 1 << 13
FILEID_KERNFS = 0xFE

libc = ctypes.CDLL(None, use_errno=True)
ATTEMPTS: dict[str, Callable[[], str]] = {}
BY_OTHERS: dict[str, Callable[[], str]] = {}


def attempt(
    name: str, of: dict[str, Callable[[], str]] = ATTEMPTS
) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Name a function that returns its answer or raises OSError."""

    def note(function: Callable[[], str]) -> Callable[[], str]:
        of[name] = function
        return function

    return note


def checked(result: int) -> int:
    """What a function of libc returned. Raises OSError."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def unshare(flags: int) -> None:
    """unshare(2); in a user namespace become its root."""
    uid, gid = os.getuid(), os.getgid()
    checked(libc.unshare(flags))
    if flags & CLONE_NEWUSER:
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"0 {uid} 1")
        write("/proc/self/gid_map", f"0 {gid} 1")


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    words = (text.encode() for text in (source, target, kind))
    first, second, third = words
    checked(libc.mount(first, second, third, ctypes.c_ulong(flags), data.encode()))


def umount(target: str) -> None:
    """umount2(2), lazily."""
    checked(libc.umount2(target.encode(), MNT_DETACH))


def write(path: str, text: str) -> None:
    """Write without creating anything."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def own_group(pid: str = "self") -> str:
    """The path of the group as this process sees it: below its cgroup namespace's root."""
    return read(f"/proc/{pid}/cgroup").strip().rpartition("::")[2]


# The group of the job (ledge-PID) and its slice, as seen at the start; in a cgroup namespace the
# first is "/" and the second out of sight.
OWN = os.path.dirname(own_group())
SLICE = os.path.dirname(OWN) if OWN != "/" else "/"


def told(error: OSError) -> str:
    """The answer of the kernel in words."""
    absent = error.errno in (errno.ENOENT, errno.ENOSYS, errno.ESRCH)
    name = errno.errorcode.get(error.errno or 0, "?")
    return f"{'absent' if absent else 'refused'}: {name} {error.filename or ''}".strip()


def is_own(directory: str) -> bool:
    """Whether its user made the group, this job or another: the limits are on slices, above it."""
    # Of a slice the user owns the directory and what delegation takes, but not this file.
    return os.stat(f"{directory}/cgroup.max.depth").st_uid == os.getuid()


def groups(view: str) -> Iterator[str]:
    for directory, _, files in os.walk(view):
        if "cgroup.controllers" in files:
            yield directory


def write_all(view: str, texts: dict[str, str]) -> str:
    """Write to these files of every group to be seen that is not the job's own."""
    if not os.path.isdir(view):
        os.listdir(view)
    answers: dict[str, int] = {}
    own = 0
    for directory in groups(view):
        if is_own(directory):
            own += 1
            continue
        for name, text in texts.items():
            answer = write_one(os.path.join(directory, name), text)
            answers[answer] = answers.get(answer, 0) + 1
    if not answers:
        return f"absent: no group but {own} of its own is to be seen"
    count = ", ".join([f"{number} times {answer}" for answer, number in sorted(answers.items())])
    return ("LIFTED: " if any(a.startswith("written") for a in answers) else "refused: ") + count


def write_one(path: str, text: str) -> str:
    """The answer to one write; a file that is not there cannot be made."""
    try:
        write(path, text)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "?")
    return f"written {path}"


def inside() -> str:
    """After a move: whether this process is still within the slice."""
    path = own_group()
    if path.startswith("/..") or (SLICE != "/" and not path.startswith(SLICE + "/")):
        return f"LIFTED: the process is in {path}"
    return f"no effect: the process is in {path}, below the limits"


# ---- the files of the slice


@attempt("write the files of every group in /sys/fs/cgroup")
def _() -> str:
    return write_all(CGROUPS, LOOSER)


@attempt("write the files of its own group")
def _() -> str:
    own = CGROUPS + OWN
    done = [name for name, text in LOOSER.items() if write_one(f"{own}/{name}", text)[:1] == "w"]
    return f"no effect: its own are {', '.join(done)}" if done else "refused: all of them"


@attempt("the slice by its name")
def _() -> str:
    slot = os.environ.get("_CONDOR_SLOT", "slot1_1")
    host = socket.gethostname()
    names = [f"_var_lib_condor_execute_{slot}@{name}" for name in (host, "127-0-0-1.pool")]
    # The second is what HTCondor before 24.8 calls it.
    of_versions = [form.format(name) for name in names for form in ("{}.slice", "condor{}")]
    paths = [f"{CGROUPS}/{JOBS}/{name}/pids.max" for name in of_versions]
    answers = [write_one(path, "max") for path in [*paths, f"{CGROUPS}/../pids.max"]]
    if any(answer.startswith("written") for answer in answers):
        return "LIFTED: " + ", ".join(answers)
    return "refused: " + ", ".join(answers)


@attempt("the root directory of init and of its parent")
def _() -> str:
    answers = []
    for pid in {1, os.getppid(), *visible_processes()}:
        try:
            answers.append(write_all(f"/proc/{pid}/root{CGROUPS}", LOOSER))
        except OSError as error:
            answers.append(told(error))
    return worst(answers)


@attempt("inherited descriptors")
def _() -> str:
    found = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")[:-1]}
    groups_ = [name for name in found.values() if "cgroup" in name or ".slice" in name]
    return f"LIFTED: {groups_}" if groups_ else f"absent: none of {len(found)} is of a group"


@attempt("unmount what hides the groups")
def _() -> str:
    umount(CGROUPS)
    return write_all(CGROUPS, LOOSER)


@attempt("unmount it in a user namespace")
def _() -> str:
    unshare(CLONE_NEWUSER | CLONE_NEWNS)
    umount(CGROUPS)
    return write_all(CGROUPS, LOOSER)


@attempt("mount cgroup2 anew in a user and mount namespace")
def _() -> str:
    unshare(CLONE_NEWUSER | CLONE_NEWNS)
    place = tempfile.mkdtemp(dir="/tmp")
    mount("none", place, "cgroup2")
    return write_all(place, LOOSER)


@attempt("mount cgroup2 anew in a user, mount and cgroup namespace")
def _() -> str:
    unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP)
    place = tempfile.mkdtemp(dir="/tmp")
    mount("none", place, "cgroup2")
    names = os.listdir(place)
    if "job" in names or any(name.endswith(".slice") or "_slot" in name for name in names):
        return f"LIFTED: {names}"
    children = [name for name in names if os.path.isdir(f"{place}/{name}")]
    answers = [write_one(f"{place}/{name}", text) for name, text in LOOSER.items()]
    return f"no effect: it shows its own group ({len(children)} below), {worst(answers)}"


@attempt("mount a version 1 hierarchy")
def _() -> str:
    unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP)
    mount("none", tempfile.mkdtemp(dir="/tmp"), "cgroup", data="pids,memory")
    return "LIFTED: it is mounted"


@attempt("bind /sys without what is mounted on it")
def _() -> str:
    unshare(CLONE_NEWUSER | CLONE_NEWNS)
    place = tempfile.mkdtemp(dir="/tmp")
    mount("/sys", place, "", MS_BIND)
    return write_all(f"{place}/fs/cgroup", LOOSER)


@attempt("bind /sys with it, and unmount that")
def _() -> str:
    unshare(CLONE_NEWUSER | CLONE_NEWNS)
    place = tempfile.mkdtemp(dir="/tmp")
    mount("/sys", place, "", MS_BIND | MS_REC)
    umount(f"{place}/fs/cgroup")
    return write_all(f"{place}/fs/cgroup", LOOSER)


@attempt("clone the mount of /sys alone (open_tree)")
def _() -> str:
    unshare(CLONE_NEWUSER | CLONE_NEWNS)
    fd = checked(libc.syscall(SYS_OPEN_TREE, -100, b"/sys", OPEN_TREE_CLONE))
    return write_all(f"/proc/self/fd/{fd}/fs/cgroup", LOOSER)


@attempt("a new sysfs with a network namespace")
def _() -> str:
    unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET)
    place = tempfile.mkdtemp(dir="/tmp")
    mount("none", place, "sysfs")
    return write_all(f"{place}/fs/cgroup", LOOSER)


@attempt("open groups by their handles")
def _() -> str:
    return by_handle()


@attempt("open groups by their handles in user, mount and cgroup namespaces")
def _() -> str:
    unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP)
    place = tempfile.mkdtemp(dir="/tmp")
    mount("none", place, "cgroup2")
    return by_handle(place)


def by_handle(place: str = CGROUPS) -> str:
    """open_by_handle_at(2) with the numbers that the root and the groups just above may have."""
    where = os.open(place, os.O_RDONLY)
    own = os.stat(place).st_ino
    answers: dict[str, int] = {}
    for number in {*range(1, 100), *range(max(1, own - 300), own)}:
        handle = ctypes.create_string_buffer(struct.pack("<iiQ", 8, FILEID_KERNFS, number))
        fd = libc.open_by_handle_at(where, handle, os.O_RDONLY | os.O_DIRECTORY)
        answer = errno.errorcode.get(ctypes.get_errno(), "?") if fd < 0 else written_by(fd)
        answers[answer] = answers.get(answer, 0) + 1
    lifted = any(answer.startswith("written") for answer in answers)
    return f"{'LIFTED' if lifted else 'refused'}: {answers}"


def written_by(fd: int) -> str:
    """What writing through the descriptor of a directory gives."""
    try:
        os.close(os.open("pids.max", os.O_WRONLY, dir_fd=fd))
    except OSError as error:
        return "opened, but " + errno.errorcode.get(error.errno or 0, "?")
    finally:
        os.close(fd)
    return "written"


@attempt("enter the namespaces of init")
def _() -> str:
    answers = []
    for name in ("cgroup", "mnt", "user", "pid"):
        try:
            fd = os.open(f"/proc/1/ns/{name}", os.O_RDONLY)
            checked(libc.setns(fd, 0))
            answers.append(f"LIFTED: entered {name}")
        except OSError as error:
            answers.append(told(error))
    return worst(answers)


# ---- into another group


@attempt("move to every other group to be seen")
def _() -> str:
    before = own_group()
    answers = [moved(directory) for directory in groups(CGROUPS)]
    write_one(f"{CGROUPS}{before}/cgroup.procs", "0")
    return worst(answers)


def moved(directory: str) -> str:
    """Move there; whether that is still below the limits."""
    answer = write_one(f"{directory}/cgroup.procs", "0")
    return inside() if answer.startswith("written") else f"refused: {answer}"


@attempt("move up")
def _() -> str:
    return worst([moved(f"{CGROUPS}{OWN}"), moved(f"{CGROUPS}{OWN}/.."), moved(f"{CGROUPS}/..")])


@attempt("move to a child of its own")
def _() -> str:
    child = f"{CGROUPS}{OWN}/lift"
    os.makedirs(child, exist_ok=True)
    return moved(child)


@attempt("move within a cgroup namespace of its own")
def _() -> str:
    unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP)
    place = tempfile.mkdtemp(dir="/tmp")
    mount("none", place, "cgroup2")
    os.makedirs(f"{place}/below", exist_ok=True)
    answer = write_one(f"{place}/below/cgroup.procs", "0")
    path = own_group()
    if path.startswith("/.."):
        return f"LIFTED: the process is in {path}"
    return f"no effect: {answer.split()[0]}, the process is in {path}"


@attempt("a threaded group")
def _() -> str:
    child = f"{CGROUPS}{OWN}/threads"
    os.makedirs(child, exist_ok=True)
    write(f"{child}/cgroup.type", "threaded")
    return "no effect: it is below the limits"


@attempt("take the controllers off")
def _() -> str:
    own, answers = f"{CGROUPS}{OWN}", []
    before = read(f"{own}/cgroup.subtree_control").split()
    places = [own] if OWN == "/" else [own, CGROUPS + SLICE, CGROUPS + os.path.dirname(SLICE)]
    for place in places:
        for name in CONTROLLERS:
            answers.append(write_one(f"{place}/cgroup.subtree_control", f"-{name}"))
    for place in reversed(places):
        for name in before:
            write_one(f"{place}/cgroup.subtree_control", f"+{name}")
    above = [a for a in answers if a.startswith("written") and SLICE not in a and SLICE != "/"]
    if above:
        return f"LIFTED: {above}"
    return f"no effect: {sorted({a.split()[0] for a in answers})}, they are of what is below"


@attempt("put the controllers on")
def _() -> str:
    answers = [write_one(f"{CGROUPS}{OWN}/cgroup.subtree_control", f"+{n}") for n in CONTROLLERS]
    return f"no effect: {sorted({a.split()[0] for a in answers})}, they are of what is below"


# ---- privileges


@attempt("raise its resource limits")
def _() -> str:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    except ValueError as error:
        return f"refused: {error}"
    return "LIFTED: a hard limit"


@attempt("prlimit of init, as root of a user namespace too")
def _() -> str:
    return worst([raise_limit_of(1), raise_limit_of(1, CLONE_NEWUSER)])


def raise_limit_of(pid: int, flags: int = 0) -> str:
    try:
        if flags:
            unshare(flags)
        resource.prlimit(pid, resource.RLIMIT_NPROC, (-1, -1))
    except OSError as error:
        return told(error)
    return "LIFTED: prlimit"


@attempt("real-time scheduling and I/O, a higher priority")
def _() -> str:
    requests: list[Callable[[], object]] = [
        lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
        lambda: checked(libc.syscall(SYS_IOPRIO_SET, 1, 0, IOPRIO_REALTIME)),
        lambda: os.nice(-20),
        lambda: write("/proc/self/oom_score_adj", "-1000"),
    ]
    return worst([done(request) for request in requests])


def done(request: Callable[[], object]) -> str:
    try:
        return f"LIFTED: {request()}"
    except OSError as error:
        return told(error)


@attempt("all CPUs")
def _() -> str:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(MOST_CPUS))
    now = os.sched_getaffinity(0)
    return f"no effect: it has {sorted(now)}" if now <= before else f"LIFTED: {before} to {now}"


@attempt("bpf")
def _() -> str:
    buffer = ctypes.create_string_buffer(128)
    checked(libc.syscall(SYS_BPF, 5, buffer, 128))
    return "LIFTED: a program is loaded"


@attempt("sysctls and /sys")
def _() -> str:
    paths = ("/proc/sys/kernel/pid_max", "/proc/sysrq-trigger", "/sys/block/vda/queue/scheduler")
    return worst([f"refused: {write_one(path, '')}" for path in (*paths, "/proc/1/oom_score_adj")])


# ---- the daemon and its files


@attempt("the daemon's files")
def _() -> str:
    paths = ["/etc/condor-ledge/policy.yaml", "/run/condor-ledge/without_daemon"]
    paths += ["/etc/condor/config.d/50-condor-ledge.conf", "/etc/condor-ledge/new"]
    return worst([done(partial(os.open, path, os.O_WRONLY | os.O_CREAT)) for path in paths])


@attempt("remove the daemon's socket")
def _() -> str:
    os.unlink(SOCKET)
    return "LIFTED: it is removed"


def asked(line: str, body: bytes = b"") -> str:
    """ledged's answer to a line with its greeting's words in it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_SECONDS / 2)
        connection.connect(SOCKET)
        words = connection.recv(256).split()
        version, nonce = words[1].decode(), words[2].decode()
        connection.sendall(line.format(v=version, n=nonce, length=len(body)).encode() + b"\n")
        with suppress(BrokenPipeError):
            connection.sendall(body)
        answer = connection.recv(4096)
    status, _, text = answer.partition(b"\n")
    if status.split()[:1] in ([b"refused"], [b"error"]):
        return f"refused: {text.decode(errors='replace').strip() or status.decode()}"
    return f"LIFTED: {answer!r}"


JOB_AD = b'ClusterId = 1\nProcId = 0\nOwner = "alice"\nTestLimit = "none"\n\0'


@attempt("ledged: launch")
def _() -> str:
    return asked("launch {v} {n} 0")


@attempt("ledged: settle")
def _() -> str:
    return asked("settle {v} {n} 0")


@attempt("ledged: reserve a looser plan")
def _() -> str:
    return asked("reserve {v} {n} {length}", JOB_AD)


@attempt("ledged: status")
def _() -> str:
    return asked("status {v} {n} 0")


@attempt("ledged: another number, another version, another verb")
def _() -> str:
    lines = ("launch {v} 0123456789abcdef 0", "launch 2 {n} 0", "lift {v} {n} 0")
    return worst([asked(line) for line in lines])


@attempt("ledged: as the child of a condor_starter of its own")
def _() -> str:
    return pretended(0)


@attempt("ledged: the same, as root of a user namespace")
def _() -> str:
    return pretended(CLONE_NEWUSER)


def pretended(flags: int) -> str:
    """Ask as the child of a process that is called condor_starter."""
    if flags:
        unshare(flags)
    libc.prctl(PR_SET_NAME, b"condor_starter", 0, 0, 0)
    verbs = ("reserve {v} {n} {length}", "launch {v} {n} 0", "settle {v} {n} 0")
    bodies = (JOB_AD, b"", b"")
    return worst([forked(partial(asked, verb, body)) for verb, body in zip(verbs, bodies)])


@attempt("ledged: as an orphan")
def _() -> str:
    def orphan() -> str:
        time.sleep(0.5)
        return worst([asked("launch {v} {n} 0"), asked("settle {v} {n} 0")])

    return forked(orphan, orphaned=True)


# ---- init, the wrapper and whoever else is to be seen


def visible_processes() -> list[int]:
    """Those that are not below the job's own group: its init and its wrapper, if they are seen."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            path = own_group(name)
        except OSError:
            continue
        if not path.startswith(OWN.rstrip("/") + "/") or path.startswith("/.."):
            found.append(int(name))
    return found


@attempt("kill init")
def _() -> str:
    answers = []
    for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
        answers.append(done(partial(os.kill, 1, number)))
    time.sleep(0.5)
    state = re.findall(r"(?m)^State:\s*(\w)", read("/proc/1/status"))
    lives = state and state[0] in "SR"
    return f"no effect: init lives, state {state[0]}" if lives else f"LIFTED: {answers}, {state}"


@attempt("stop the wrapper and every process outside of its group")
def _() -> str:
    stopped, answers = [], []
    for pid in visible_processes():
        try:
            os.kill(pid, signal.SIGSTOP)
            stopped.append(read(f"/proc/{pid}/comm").strip())
            os.kill(pid, signal.SIGCONT)
        except OSError as error:
            answers.append(told(error))
    if stopped:
        return f"no effect: stopped for a moment were {stopped}"
    return worst(answers) if answers else "absent: none is to be seen"


@attempt("trace every process outside of its group")
def _() -> str:
    traced, answers = [], []
    for pid in visible_processes():
        try:
            checked(libc.ptrace(PTRACE_ATTACH, pid, None, None))
            os.waitpid(pid, 0)
            traced.append(read(f"/proc/{pid}/comm").strip())
            libc.ptrace(PTRACE_DETACH, pid, None, None)
        except OSError as error:
            answers.append(told(error))
    if "ledge_init" in traced:
        return f"LIFTED: traced were {traced}"
    # Without a PID namespace it sees its wrapper, which has no right that it has not itself.
    if traced:
        return f"no effect: traced were {traced}"
    return worst(answers) if answers else "absent: none is to be seen"


# ---- others that might do it on its behalf


def run(*command: str, environment: dict[str, str] | None = None) -> str:
    """What a program says; it would have to run a process outside of the slice."""
    program = shutil.which(command[0], path="/usr/bin:/bin:/usr/sbin:/sbin")
    if program is None:
        return f"absent: {command[0]} is not installed"
    result = subprocess.run(
        [program, *command[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS / 2,
        env={**os.environ, **(environment or {})},
    )
    said = " ".join((result.stderr + result.stdout).split())[:120]
    return f"refused: {said}" if result.returncode else f"LIFTED: {said}"


@attempt("systemd-run, with the system's and the user's systemd", BY_OTHERS)
def _() -> str:
    place = {"XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}"}
    user = run("systemd-run", "--user", "--scope", "true", environment=place)
    return worst([run("systemd-run", "--scope", "true"), user])


@attempt("su, sudo, at, crontab, ssh to the node itself", BY_OTHERS)
def _() -> str:
    options = ("-oBatchMode=yes", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null")
    ssh = ("ssh", *options, "localhost", "true")
    commands = [("su", "-c", "true"), ("sudo", "-n", "true"), ("at", "now"), ("crontab", "-"), ssh]
    return "; ".join([run(*command) for command in commands])


@attempt("condor_reconfig and condor_config_val -set", BY_OTHERS)
def _() -> str:
    setting = ("condor_config_val", "-startd", "-rset", "LEDGE_ENABLED=False")
    return worst([run("condor_reconfig"), run(*setting)])


@attempt("say in the job ad that no limit holds", BY_OTHERS)
def _() -> str:
    program = "/usr/libexec/condor/condor_chirp"
    if not os.access(program, os.X_OK):
        return "absent: condor_chirp"
    for name in ("ChirpLedgeEnforced", "ChirpLedgeNotEnforced"):
        subprocess.run([program, "set_job_attr_delayed", name, '"forged"'], check=False)
    return "no effect: what is told at the end comes after it"


# ---- carrying out


def worst(answers: list[str]) -> str:
    """The distinct answers, the most alarming first."""
    order = ("LIFTED", "MISTAKE", "no effect", "refused", "absent")
    distinct = sorted(set(answers), key=lambda a: (*[not a.startswith(o) for o in order], a))
    return "; ".join(distinct)


def forked(action: Callable[[], str], orphaned: bool = False) -> str:
    """The answer of an action in a process of its own, which it may ruin."""
    hear, tell = os.pipe()
    child = os.fork()
    if child == 0:
        if orphaned and os.fork():
            os._exit(0)
        os.close(hear)
        signal.alarm(PATIENCE_SECONDS)
        os.write(tell, answer_of(action).encode()[:4000])
        os._exit(0)
    os.close(tell)
    with os.fdopen(hear, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(child, 0)
    return answer or "refused: it did not survive that"


def answer_of(action: Callable[[], str]) -> str:
    try:
        return action()
    except OSError as error:
        return told(error)
    except Exception as error:  # noqa: BLE001  # a mistake here must be seen, and fails the test
        return f"MISTAKE: {type(error).__name__}: {error}"


def main() -> None:
    print(f"group {own_group()}, user {os.getuid()}, parent {os.getppid()}", flush=True)
    attempts = {**ATTEMPTS, **BY_OTHERS} if sys.argv[1:] == ["all"] else ATTEMPTS
    for name, action in attempts.items():
        print(f"{name}: {' '.join(forked(action).split())}", flush=True)


if __name__ == "__main__":
    main()
