"""Where a command is to run: all that root opens of a running job, and looks at, before it enters.

Namespaces and root directory are those of the job's init, which nobody can trace or change; group,
environment and directory those of the job's first process. Limits, groups and labels are the
wrapper's, as the job had them (ledge/launcher/likeness.py).
"""

from __future__ import annotations

import os
from fcntl import ioctl
from sys import byteorder

from ledge.daemon.inventory import first_process
from ledge.daemon.peer import Process, mount_point
from ledge.errors import LedgeError
from ledge.kernel import syscalls
from ledge.kernel.cgroup2 import Cgroup, parse_flat_keyed
from ledge.kernel.pid_namespaces import is_in_ours
from ledge.launcher.likeness import Likeness, objection, user_namespace

_NS_GET_PARENT, _NS_GET_OWNER_UID = 0xB702, 0xB704  # linux/nsfs.h
_UID_BYTES = 4
_LARGEST_ENVIRONMENT = 8 << 20
_READ = os.O_RDONLY | os.O_CLOEXEC
_PATH = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
# In this order: the user namespace gives the right to the others.
_KINDS = (
    ("user", syscalls.CLONE_NEWUSER),
    ("mnt", syscalls.CLONE_NEWNS),
    ("net", syscalls.CLONE_NEWNET),
    ("ipc", syscalls.CLONE_NEWIPC),
    ("uts", syscalls.CLONE_NEWUTS),
    ("cgroup", syscalls.CLONE_NEWCGROUP),
    ("pid", syscalls.CLONE_NEWPID),
)


class Place:
    """A job's place. `namespaces` are descriptors with their flags, of those that are not ours;
    `own_user_namespace` says whether a user namespace is among them. `outer_pids` is the wrapper's
    PID namespace, if that is not ours.
    """

    def __init__(self, init: int, wrapper: int, uid: int, slice_: bytes) -> None:
        """Raises LedgeError, OSError if the job ends meanwhile."""
        self.uid = uid
        self.init, self.wrapper = Process(init), Process(wrapper)
        why = objection(self.wrapper.proc, uid)
        if why:
            raise LedgeError(f"the job's wrapper is {why}")
        self.likeness = self._likeness()
        self.own_user_namespace = self._has_user_namespace()
        found = first_process(init)
        if found is None:
            raise LedgeError("the job has not begun, or has ended")
        self.first = Process(found[0])
        self.group = self._group(slice_)
        self.namespaces = self._namespaces()
        self.outer_pids = self._outer_pids()
        self.root = os.open("root", _PATH, dir_fd=self.init.proc)
        self.directory = os.open("cwd", _PATH, dir_fd=self.first.proc)
        self.umask = int(self.first.status().get(b"Umask", b"022"), 8)
        self._check_again(init)

    def _likeness(self) -> Likeness:
        """The wrapper's, but for what condor-ledge has changed of it since."""
        likeness = Likeness(self.wrapper.proc, self.wrapper.pid)
        # The audit trail is the caller's.
        likeness.files["loginuid"] = None
        confined = self.init.status().get(b"NoNewPrivs") == b"1"
        likeness.no_new_privileges = likeness.no_new_privileges or confined
        return likeness

    def _has_user_namespace(self) -> bool:
        """Whether init is in one; only a direct child of ours that is the user's own will do."""
        fd = os.open("ns/user", _READ, dir_fd=self.init.proc)
        try:
            ours = os.stat("/proc/self/ns/user")
            if os.path.samestat(os.fstat(fd), ours):
                return False
            parent = ioctl(fd, _NS_GET_PARENT)
            try:
                is_child = os.path.samestat(os.fstat(parent), ours)
            finally:
                os.close(parent)
            owner = bytearray(_UID_BYTES)
            ioctl(fd, _NS_GET_OWNER_UID, owner)
        finally:
            os.close(fd)
        if not is_child or int.from_bytes(owner, byteorder) != self.uid:
            raise LedgeError("the job's user namespace is not one that its wrapper has made")
        return True

    def _group(self, slice_: bytes) -> Cgroup:
        path = self.first.cgroup()
        if not path.startswith(slice_ + b"/") or b"/../" in path:
            raise LedgeError("the job's first process is not in the job's slice")
        above = Cgroup.open(mount_point() + slice_)
        try:
            if parse_flat_keyed(above.read("cgroup.events"), "cgroup.events").get(b"frozen"):
                raise LedgeError("the job is suspended, and what enters it would be, too")
        finally:
            above.close()
        return Cgroup.open(mount_point() + path)

    def _namespaces(self) -> list[tuple[int, int]]:
        found = []
        for kind, flag in _KINDS:
            # Init stands outside of the cgroup namespace that it has had made for the job.
            of = self.first if kind == "cgroup" else self.init
            fd = os.open(f"ns/{kind}", _READ, dir_fd=of.proc)
            if os.path.samestat(os.fstat(fd), os.stat(f"/proc/self/ns/{kind}")):
                os.close(fd)
            else:
                found.append((fd, flag))
        return found

    def _outer_pids(self) -> int | None:
        """HTCondor kills all PIDs in the job's group, and a process that has none there is 0 to
        it, which is the starter's own process group (kill(2)): nothing else may be in the group.
        """
        if is_in_ours(self.wrapper.proc):
            return None
        return os.open("ns/pid", _READ, dir_fd=self.wrapper.proc)

    def _check_again(self, init: int) -> None:
        """All that was opened was of these processes, and they are who they were."""
        uids = self.init.status()[b"Uid"].split()
        if not all(process.lives() for process in (self.init, self.wrapper, self.first)):
            raise LedgeError("the job has just ended")
        if set(uids) != {b"%d" % self.uid} or not self.likeness.still_holds(self.wrapper.proc):
            raise LedgeError("the job's processes have just changed their rights")
        if (first_process(init) or (0, 0))[0] != self.first.pid:
            raise LedgeError("the job has just ended")
        if user_namespace(self.first.proc) != user_namespace(self.init.proc):
            raise LedgeError("the job's first process is in a user namespace of its own")

    def environ(self) -> list[bytes]:
        """The first process's environment. It is read from memory of the user's. Raises OSError."""
        with open(os.open("environ", _READ, dir_fd=self.first.proc), "rb") as file:
            return [entry for entry in file.read(_LARGEST_ENVIRONMENT).split(b"\0") if entry]

    def descriptors(self) -> tuple[int, ...]:
        """Those that the waiter needs: none is of a file."""
        namespaces = [fd for fd, _ in self.namespaces]
        return (*namespaces, self.root, self.directory, self.init.pidfd)
