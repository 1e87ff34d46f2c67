"""Jobs with every kind of isolation, killed at random moments, on a node that is theirs: a program.

    python -m tests.kernel.killed_jobs INSTALLED JOBS SEED

It is to be started in mount, PID, IPC and network namespaces of its own, where what is counted is
its own and nobody else's. It prints as JSON what there is too much of afterwards, what there was
while jobs ran, and who was killed how often.
"""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from ledge.kernel.cgroup2 import Cgroup
from ledge.private_network.ruleset import TABLE
from tests.inventory import PINS, inventory, surplus
from tests.kernel.cgroups import Slice, mount_point
from tests.kernel.private_node import PrivateNode
from tests.kernel.starter import JOB_AD, Starter

PATIENCE_SECONDS = 30.0
SETTLING_SECONDS = 3.0
AT_ONCE = 8
JOBS_PER_DAEMON = 10  # that is killed
EMPTY = ("/tmp", "/var/tmp", "/dev/shm", "/run", "/srv")
COUNTED = ["/tmp", "/var/tmp", "/dev/shm", "/run/condor-ledge", "/srv"]
ALONE = "in a user namespace"
# The kinds of isolation, and the rules of a policy by which a job's attribute Kind asks for them.
ISOLATED_KINDS = (
    "default",
    "no network",
    "private network",
    "no PID namespace",
    "hidden",
    "mounts",
)
ISOLATION = """defaults:
  namespaces: [pid, mount, ipc, cgroup, uts]
rules:
- {name: none, match: TARGET.Kind == "no network", network: none}
- {name: private, match: TARGET.Kind == "private network", network: private, network_ports: 8080}
- {name: few, match: TARGET.Kind == "no PID namespace", namespaces: [mount, ipc]}
- {name: hidden, match: TARGET.Kind == "hidden", hide: [execute, /srv/tree], no_new_privs: true}
- name: mounts
  match: TARGET.Kind == "mounts"
  mounts:
  - {kind: tmpfs, target: /tmp, size: 1M}
  - {kind: private, target: /var/tmp}
  - {kind: tmpfs, target: /dev/shm}
  - {kind: devpts, target: /dev/pts}
  - {kind: bind, source: /srv/tree, target: /srv/bound, read_only: true}
  - {kind: overlay, source: /srv/tree, target: /srv/site}"""
REFUSED = """
- name: refused
  match: TARGET.Kind == "cannot be launched"
  mounts:
  - {kind: private, target: /tmp}
  - {kind: overlay, source: /srv/tree, target: /srv/site}
  - {kind: bind, source: /srv/tree, target: /srv/missing}
"""
POLICY = "version: 1\n" + ISOLATION + REFUSED
KINDS = (
    *ISOLATED_KINDS,
    "private network",  # once more: most of all can be left of it
    "cannot be launched",
    ALONE,
)
DAEMONS = ("ledged", "launcher", "network")
WAYS = ("wrapper", "init", "job", "anybody", "starter", "slice")

# Something of everything; its name is "mess".
MESS = """
import ctypes, os, socket, subprocess, time
libc = ctypes.CDLL(None)
libc.prctl(15, b"mess")
libc.shmget(0, 4096, 0o600), libc.semget(0, 1, 0o600), libc.msgget(0, 0o600)
libc.syscall(248, b"user", b"left", b"x", 1, -3)
for path in ("/tmp/left", "/var/tmp/left", "/dev/shm/left", "/dev/mqueue/left", "/srv/site/left"):
    try:
        open(path, "w").close()
    except OSError:
        pass
sockets = [socket.socket(socket.AF_UNIX) for _ in range(2)]
for own, name in zip(sockets, (b"\\0left" + os.urandom(8).hex().encode(), "/tmp/left.socket")):
    own.bind(name)
    own.listen()
for line in open("/proc/self/mountinfo"):
    if " - cgroup2 " in line:
        place = line.split()[4]
try:
    os.makedirs(place + "/left/below")
except OSError:
    pass
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.execvp("unshare", ["unshare", "-Urmn", "sh", "-c", "mount -t tmpfs left /mnt; sleep 1000"])
open("ready", "w").close()
"""


class Job:
    """A job with a starter of its own, which stands in its directory, and a slice in `place`."""

    def __init__(self, node: PrivateNode, place: str, number: int, kind: str) -> None:
        self.kind = kind
        self.slice = Slice(f"{place}/job-{number}.slice", node.user.uid)
        wrapper = "job_wrapper_alone" if kind == ALONE else "job_wrapper"
        self.starter = Starter(node.installed / wrapper, node.execute, node.user, self.slice)
        self.starter.job_ad = f'{JOB_AD}Kind = "{kind}"\n'
        self.begun = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._be_starter()
            finally:
                os._exit(1)

    def _be_starter(self) -> None:
        go, ready = os.pipe()
        command = ("/usr/bin/python3", "-ISEc", MESS + "time.sleep(1000)\n")
        process = self.starter.start(*command, before=lambda: os.read(go, 1))
        os.chdir(process.directory)
        os.write(ready, b"\n")
        os.waitpid(process.pid, 0)
        os._exit(0)

    def victims(self, way: str) -> list[int]:
        """The PIDs of whom to kill."""
        if way == "starter":
            return [self.pid]
        pids = {pid: _comm(pid) for pid in self.slice.processes()}
        wrapper = [pid for pid in pids if _parent(pid) == self.pid]
        if way == "wrapper":
            return wrapper
        inits = [pid for pid, name in pids.items() if name == "ledge_init"]
        if way == "init":
            return inits
        rest = sorted(set(pids) - {*inits, *wrapper})
        return rest[:1] if way == "job" else sorted(pids)

    def kill(self, way: str, chance: random.Random) -> bool:
        """Whether there was somebody to be killed in that way."""
        if way == "slice":
            (self.slice.path / "cgroup.kill").write_text("1")
            return True
        victims = self.victims(way)
        if not victims:
            return False
        with suppress(ProcessLookupError):
            os.kill(chance.choice(victims), signal.SIGKILL)
        return True

    def await_end(self) -> None:
        """Wait until the wrapper has settled, and its starter has gone: not for ever."""
        pidfd = os.pidfd_open(self.pid)
        select.select([pidfd], [], [], SETTLING_SECONDS)
        os.close(pidfd)

    def finish(self, by_itself: bool = False) -> None:
        """What HTCondor does when a job or its starter has gone: all is killed, and removed.

        `by_itself`: nothing may be left to be killed.
        """
        if by_itself:
            names = [_comm(pid) for pid in self.slice.processes()]
            assert self.slice.is_empty(), (self.kind, names)
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.slice.remove()


class Node(PrivateNode):
    """A node whose ledged and its processes are killed, too."""

    def kill_daemon(self, name: str) -> None:
        """Kill one of them, and start ledged anew, as condor_master does."""
        if name == "ledged":
            self.ledged.process.kill()
        else:
            (pid,) = self.ledged.children(f"ledge_{name}")
            os.kill(pid, signal.SIGKILL)
        self.ledged.process.wait(PATIENCE_SECONDS)
        self.ledged.log.unlink()
        self.start()

    def stop(self) -> None:
        """End ledged as condor_master does, once it has settled."""
        self.settled()
        self.ledged.close()
        self.ledged.log.unlink()

    def settled(self) -> None:
        """Wait until it has found out what this node can do, and has all that it keeps: finding out
        makes namespaces, too, and its process for networks puts rules there when it comes to it.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "advertised: " not in self.ledged.log.read_text() or not _has_rules():
            assert time.monotonic() < deadline, self.ledged.log.read_text()
            time.sleep(0.05)


def _has_rules() -> bool:
    command = ("nft", "list", "table", "inet", TABLE)
    return subprocess.run(command, capture_output=True).returncode == 0


def _comm(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _parent(pid: int) -> int:
    with suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        return int(stat.rpartition(")")[2].split()[1])
    return 0


def mount(*arguments: str) -> None:
    """mount(8)."""
    subprocess.run(["mount", *arguments], check=True)


def prepare(installed: Path) -> None:
    """Have a node of one's own: /proc, directories that are empty, a place for eBPF maps."""
    top = str(installed.parents[3])  # it is below one of those that are to be empty
    mount("--bind", top, "/mnt")
    mount("-t", "proc", "proc", "/proc")
    for directory in EMPTY:
        mount("-t", "tmpfs", "-o", "mode=1777", "none", directory)
    os.mkdir(top)
    mount("--move", "/mnt", top)
    mount("-t", "bpf", "bpf", PINS)
    for name in ("tree/own", "bound", "site"):
        Path("/srv", name).mkdir(parents=True)


def run(node: Node, place: str, count: int, chance: random.Random) -> Counter[str]:
    """Start and kill jobs, a few at once; who was killed how often."""
    killed: Counter[str] = Counter()
    living: list[Job] = []
    for number in range(count):
        living.append(Job(node, place, number, KINDS[number % len(KINDS)]))
        time.sleep(chance.uniform(0, 0.08))
        # The youngest, which is on its way, or one that has been there for a while.
        job = chance.choice([living[-1], chance.choice(living)])
        way = chance.choice(WAYS)
        if job.kill(way, chance):
            killed[way] += 1
            if way == "job":
                job.await_end()
            time.sleep(chance.uniform(0, 0.02))  # until HTCondor sees it
            living.remove(job)
            job.finish(way in ("wrapper", "init") and job.kind != "no PID namespace")
        elif len(living) > AT_ONCE:
            living.pop(0).finish()
        # Not to the end: what the last ledged keeps for nothing is to be seen.
        if number % JOBS_PER_DAEMON == 3 and number < count * 2 // 3:
            name = DAEMONS[number // JOBS_PER_DAEMON % len(DAEMONS)]
            node.kill_daemon(name)
            killed[name] += 1
    for job in living:
        job.finish()
    return killed


def crowd(node: Node, place: str) -> list[Job]:
    """One job of each kind, in full swing."""
    jobs = [Job(node, place, number, kind) for number, kind in enumerate(KINDS)]
    deadline = time.monotonic() + PATIENCE_SECONDS
    missing = len([kind for kind in KINDS if kind != "cannot be launched"])
    while len(list(node.execute.glob("*/scratch/ready"))) < missing:
        assert time.monotonic() < deadline, _said(node)
        time.sleep(0.02)
    return jobs


def _said(node: Node) -> str:
    """What ledged and jobs say, for whoever looks for why they do not run."""
    paths = [*node.execute.glob("*/wrapper_error"), *node.execute.glob("*/scratch/_condor_stderr")]
    return "\n".join([*node.ledged.lines(), *[path.read_text() for path in paths]])


def left(before: Counter[str], cgroup: str) -> list[str]:
    """What there is too much of, after a while for what ledged and the kernel do later."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while found := surplus(before, inventory(cgroup, COUNTED)):
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    return found


def main(installed: Path, count: int, seed: int) -> None:
    prepare(installed)
    root = mount_point()
    assert root is not None
    cgroup = tempfile.mkdtemp(prefix="ledge-test-killed-", dir=root)
    directory = Path(tempfile.mkdtemp(prefix="ledge-execute-", dir="/var/lib"))
    try:
        directory.chmod(0o755)
        told = tell(installed, directory, Path(cgroup), count, seed)
    finally:
        remove(Path(cgroup))
        shutil.rmtree(directory)
    print(json.dumps(told))


def remove(cgroup: Path) -> None:
    """Whatever is still in it, if this has failed."""
    group = Cgroup.open(os.fsencode(cgroup))
    group.empty()
    group.close()
    above = Cgroup.open(os.fsencode(cgroup.parent))
    above.remove(os.fsencode(cgroup.name))
    above.close()


def tell(
    installed: Path, directory: Path, cgroup: Path, count: int, seed: int
) -> dict[str, object]:
    """Before, meanwhile and afterwards."""
    execute = directory / "execute"
    execute.mkdir(mode=0o755)
    node = Node(installed, execute, directory)
    node.stop()
    at_first = inventory(str(cgroup), COUNTED)  # with the map that is pinned, as is meant
    node.policy(POLICY)
    node.start()
    node.settled()
    before = inventory(str(cgroup), COUNTED)
    jobs = crowd(node, cgroup.name)
    more = surplus(before, inventory(str(cgroup), COUNTED))
    meanwhile = Counter(name.split()[0] for name in more)
    for job in jobs:
        job.finish()
    begun = time.monotonic()
    killed = run(node, cgroup.name, count, random.Random(seed))
    seconds = time.monotonic() - begun
    node.settled()
    running = left(before, str(cgroup))
    waited = time.monotonic() - begun - seconds
    node.close()
    return {
        "meanwhile": meanwhile,
        "killed": killed,
        "left with ledged": running,
        "left without": left(at_first, str(cgroup)),
        "seconds": round(seconds, 1),
        "waited": round(waited, 1),
        "counted": sum(before.values()),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
