"""The inside of a job's namespaces: PID 1, and how it starts the job.

    monitor (outside)                 forwards signals, waits, ends as the job ended
      └ init                          PID 1; made by the monitor into the new namespaces
          ├ usher                     lives for a moment in the root of the job's control group
          └ the job                   born by the usher into its leaf, as a child of init

Why an usher: a cgroup namespace has as its root the group of whoever makes it, and moving a
process into a group costs milliseconds, being born there nothing. So one is born in the root,
makes the namespace and the mount that shows it, and gives birth to the job in the leaf.

A user namespace is made only if "user" is among the namespaces of the launch; without it, all this
is done with the rights of whoever starts it.
"""

from __future__ import annotations

import _signal
import posix
import select
from time import monotonic

from ledge.errors import StepFailed, take_step
from ledge.job import report
from ledge.job.inheritance import Inheritance
from ledge.job.leaf import Leaf
from ledge.job.logical_io import LogicalIo
from ledge.kernel import syscalls
from ledge.kernel.descriptors import release_descriptors
from ledge.kernel.mounts import Cgroup2
from ledge.kernel.signalfd import open_signals, read_signals

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from ledge.job.leaf_v1 import LeafV1
    from ledge.kernel.mounts import Operation
    from ledge.plan.plan import Mount

NAMESPACE_FLAGS = {
    "user": syscalls.CLONE_NEWUSER,
    "mount": syscalls.CLONE_NEWNS,
    "pid": syscalls.CLONE_NEWPID,
    "ipc": syscalls.CLONE_NEWIPC,
    "uts": syscalls.CLONE_NEWUTS,
    "network": syscalls.CLONE_NEWNET,
}
_SI_USER = 0
# What cannot be killed holds the end of a PID namespace up anyhow; this long it is waited for.
_PATIENCE_SECONDS = 1.0
_LOOK_SECONDS = 0.05


class Launch:
    """All that init needs to know.

    `namespaces` are names, "user" among them if one is to be made; `operations` make the mounts,
    and `mounts` are those of the plan that they make; the job is born into `leaf` or, on a node
    with version 1, moves itself into `leaf_v1`.
    `confinement` is what init takes upon itself first, and the job with it.
    `logical_io` is opened by init, before it has given up the right to.
    """

    __slots__ = (
        "inheritance",
        "namespaces",
        "operations",
        "mounts",
        "leaf",
        "leaf_v1",
        "confinement",
        "logical_io",
    )

    def __init__(
        self,
        inheritance: Inheritance,
        namespaces: tuple[str, ...],
        operations: list[Operation],
        leaf: Leaf | None,
        leaf_v1: LeafV1 | None = None,
    ) -> None:
        self.inheritance = inheritance
        self.namespaces = namespaces
        self.operations = operations
        self.mounts: tuple[Mount, ...] = ()
        self.leaf = leaf
        self.leaf_v1 = leaf_v1
        self.confinement: list[Operation] = []
        self.logical_io: LogicalIo | None = None

    def descriptors(self) -> tuple[int, ...]:
        """The descriptors that whoever reads the figures at the end must keep."""
        leaf = self.leaf or self.leaf_v1
        return leaf.descriptors() if leaf else ()

    def discard(self) -> None:
        """Remove the control groups; whatever was in them has gone."""
        leaf = self.leaf or self.leaf_v1
        if leaf:
            leaf.remove()


def start_init(launch: Launch, hear: int, report_fd: int) -> int:
    """Make init in its new namespaces; return its PID here. Raises OSError.

    All signals are blocked in the caller and stay so in init. `hear` and `report_fd` are the two
    ends of a pipe for ledge/job/report.py, close-on-exec as every descriptor of ours.
    """
    uid, gid = posix.getuid(), posix.getgid()
    monitor = 0 if "pid" in launch.namespaces else posix.getpid()
    pid = syscalls.clone3(namespace_flags(launch), _signal.SIGCHLD)
    if pid:
        return pid
    try:
        posix.close(hear)
        # Also while it is at work, and not only when it looks (see _reap_until_end).
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, _signal.SIGKILL)
        if "user" in launch.namespaces:
            take_step("map the user's own ids into a user namespace", _map_ids, uid, gid)
        if "network" in launch.namespaces:
            from ledge.kernel.loopback import raise_loopback  # few jobs have to pay for it

            take_step("bring up the loopback of the job's network", raise_loopback)
        confine(launch)
        launch.logical_io = LogicalIo()
        be_init(launch, report_fd, monitor)
    except StepFailed as failure:
        report.tell_failed(report_fd, failure.errno, failure.step)
    finally:
        # Whatever went wrong: a copy of the monitor must never run on in here.
        posix._exit(1)


def confine(launch: Launch) -> None:
    """Take upon oneself what the job is to have. Raises StepFailed."""
    for operation in launch.confinement:
        _operate(operation)


def namespace_flags(launch: Launch) -> int:
    """The flags of clone(2) for the namespaces; with a leaf the usher makes that of the cgroup."""
    flags = 0
    if launch.leaf is None and "cgroup" in launch.namespaces:
        flags |= syscalls.CLONE_NEWCGROUP
    for name in launch.namespaces:
        flags |= NAMESPACE_FLAGS.get(name, 0)
    return flags


def be_init(launch: Launch, report_fd: int, monitor: int) -> None:
    """Start the job and reap until it has ended; does not return. Raises StepFailed.

    `monitor` is the PID, as seen from here, of whoever passes signals on: 0 from outside the PID
    namespace. Whoever calls this stands in the new namespaces already.
    """
    try:
        report.tell_born(report_fd)
    except BrokenPipeError:
        posix._exit(1)  # the monitor died before we could hear of it
    if launch.inheritance.leads_session:
        posix.setsid()
    if "pid" not in launch.namespaces:
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    logical_io = launch.logical_io
    assert logical_io is not None
    has_groups = bool(launch.descriptors())
    if not has_groups:
        import ledge.job.waited_for  # before a mount could hide it
    job = _start_job(launch, logical_io, report_fd)
    _let_go((report_fd, *logical_io.fds))
    report.tell_ended(report_fd, _reap_until_end(job, monitor, report_fd), job)
    whole = end_the_rest()
    counted = logical_io.read()
    if counted is not None:
        report.tell_logical_io(report_fd, *counted, whole)
    if not has_groups:
        report.tell_waited_for(report_fd, ledge.job.waited_for.sums(logical_io))
    posix._exit(0)


def _operate(operation: Operation) -> None:
    try:
        operation.execute()
    except OSError as error:
        raise StepFailed(operation.describe(), error.errno or 0) from None


def _map_ids(uid: int, gid: int) -> None:
    """Map one's own ids to themselves and no other: a wider map would need, and give, root."""
    _write("/proc/self/setgroups", b"deny")
    _write("/proc/self/uid_map", b"%d %d 1" % (uid, uid))
    _write("/proc/self/gid_map", b"%d %d 1" % (gid, gid))


def _write(path: str, value: bytes) -> None:
    fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
    posix.write(fd, value)
    posix.close(fd)


def _start_job(launch: Launch, logical_io: LogicalIo, report_fd: int) -> int:
    """Make the mounts and the job, let it go when all is ready; return its PID as init sees it."""
    go, start = posix.pipe()
    bear = _into_leaf if launch.leaf else _beside
    job = bear(launch, go, start, report_fd)
    logical_io.begin()
    _become_unreadable()
    report.tell_started(report_fd)
    posix.write(start, b"\n")
    posix.close(start)
    posix.close(go)
    return job


def _beside(launch: Launch, go: int, start: int, report_fd: int) -> int:
    for operation in launch.operations:
        _operate(operation)
    job = posix.fork()
    if job == 0:
        _become_job(launch, go, start, report_fd)
    return job


def _into_leaf(launch: Launch, go: int, start: int, report_fd: int) -> int:
    leaf = launch.leaf
    assert leaf is not None
    hear, tell = posix.pipe()
    # The first makes the mounts slaves of the node's. Were the usher to mount anything before that,
    # the node would have it too where there is no user namespace, over its own /sys/fs/cgroup.
    for operation in launch.operations[:1]:
        _operate(operation)
    usher = _into_cgroup(0, leaf.root.fd, "start a process in the job's control group")
    if usher == 0:
        _ush(launch, leaf, (go, start, report_fd, tell))
    posix.close(tell)
    # While the usher is at work, init makes the mounts: they share the mount namespace.
    for operation in launch.operations[1:]:
        _operate(operation)
    _, status = posix.waitpid(usher, 0)
    answer = posix.read(hear, 16)
    posix.close(hear)
    if status or not answer:
        posix._exit(1)  # the usher has told why
    take_step("hand the controllers on to the job's control group", leaf.enable_controllers)
    return int(answer)


def _into_cgroup(flags: int, cgroup_fd: int, step: str) -> int:
    signal = 0 if flags & syscalls.CLONE_PARENT else _signal.SIGCHLD
    try:
        return syscalls.clone3(flags | syscalls.CLONE_INTO_CGROUP, signal, cgroup_fd)
    except OSError as error:
        raise StepFailed(step, error.errno or 0) from None


def _ush(launch: Launch, leaf: Leaf, fds: tuple[int, int, int, int]) -> None:
    go, start, report_fd, tell = fds
    status = 1
    try:
        if "cgroup" in launch.namespaces:
            take_step("make a cgroup namespace", syscalls.unshare, syscalls.CLONE_NEWCGROUP)
            _operate(Cgroup2(leaf.mount_point))
        job = _into_cgroup(syscalls.CLONE_PARENT, leaf.job.fd, "start the job in its leaf")
        if job == 0:
            _become_job(launch, go, start, report_fd)
        posix.write(tell, b"%d" % job)
        status = 0
    except StepFailed as failure:
        report.tell_failed(report_fd, failure.errno, failure.step)
    finally:
        posix._exit(status)


def _become_job(launch: Launch, go: int, start: int, report_fd: int) -> None:
    """In the child: wait for init's word, then become the job. Does not return."""
    status = 127
    try:
        posix.close(start)
        if not posix.read(go, 1):
            return  # init failed, and has told why
        if launch.inheritance.leads_session:
            posix.setsid()
        _enter_working_directory()
        if launch.leaf_v1 is not None:
            launch.leaf_v1.enter()
        launch.inheritance.execute()
    except OSError as error:
        report.tell_exec_failed(report_fd, error.errno or 0)
    finally:
        posix._exit(status)


def _enter_working_directory() -> None:
    """Reach the working directory through the job's own mounts, if it is to be seen there.

    What covers it (a private /tmp) hides it from names, not from whoever stands in it; so a
    directory that cannot be reached any more is left as it is.
    """
    try:
        posix.chdir(posix.getcwdb())
    except OSError:
        pass


def _become_unreadable() -> None:
    """Be no way to anything, before the job's first instruction: not readable, not traceable."""
    syscalls.prctl(syscalls.PR_SET_NAME, b"ledge_init\0")
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


def _let_go(keep: tuple[int, ...]) -> None:
    """Close and leave all that is the job's."""
    posix.chdir("/")
    release_descriptors(keep)


def _reap_until_end(job: int, monitor: int, report_fd: int) -> int:
    """Forward the monitor's signals to the job and reap; return the job's wait status.

    A sender outside the PID namespace has the PID 0 in here; signals of the job's own processes
    are no business of ours, and those of a terminal reach the job without us. When nobody is left
    to read the report, the monitor is dead, and so is the job.
    """
    signals = open_signals(_signal.valid_signals())
    poll = select.poll()
    poll.register(signals, select.POLLIN)
    poll.register(report_fd, 0)  # an error or a hang-up is told unasked
    while True:
        for fd, _ in poll.poll():
            if fd == report_fd:
                posix._exit(1)
        for told in read_signals(signals):
            if told.signo == _signal.SIGCHLD:
                status = _reap(job)
                if status is not None:
                    return status
            elif told.code == _SI_USER and told.pid == monitor:
                posix.kill(job, told.signo)


def _reap(job: int) -> int | None:
    """Reap all that have ended; the wait status of the job if it is among them."""
    while True:
        pid, status = posix.waitpid(-1, posix.WNOHANG)
        if pid == job:
            return status
        if pid == 0:
            return None


def end_the_rest() -> bool:
    """Kill and reap what the job has left, so that it counts; whether nobody is left then.

    The kernel would kill it with the PID namespace. Without one init is its subreaper: a process
    whose parent has gone becomes init's child, however often it forked and whatever session it
    made, and nobody else can have the PID of a child that was not waited for.
    """
    deadline = monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            while posix.waitpid(-1, posix.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        if monotonic() > deadline:
            return False
        for pid in [-1] if posix.getpid() == 1 else _children():
            try:
                posix.kill(pid, _signal.SIGKILL)
            except OSError:
                pass  # gone in this moment, or root's (sudo): the kernel kills it after an init
        _signal.sigtimedwait({_signal.SIGCHLD}, _LOOK_SECONDS)


def _children() -> list[int]:
    """The PIDs of one's own children; none where the kernel does not say (CONFIG_PROC_CHILDREN)."""
    try:
        with open("/proc/thread-self/children", "rb", buffering=0) as file:
            return [int(word) for word in file.readall().split()]
    except OSError:
        return []
