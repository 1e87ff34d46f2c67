"""A session of condor_ssh_to_job in its job: sshd, which its wrapper would have become outside.

    the session's wrapper             the starter's child; passes signals on, ends as sshd ended
      waiter (the job's group)        the job's user by then; not in the job's PID namespace
        └ sshd                        PID 1's namespaces; a group of the session's own in the job's

The way is that of ledge/entering/process.py, but nobody of root's stays: what sshd is to have its
wrapper hands over when all rights have gone (ledge/job/handover.py), and hears how it ended. With
the wrapper the session ends, which HTCondor kills by its control group.
"""

from __future__ import annotations

import _signal
import _socket
import posix
from errno import EINVAL, EPERM, ESRCH

from ledge.daemon.peer import mount_point
from ledge.entering.place import Place
from ledge.entering.process import NAME, become_user, enter, leave_keyring, wait_for
from ledge.errors import LedgeError, StepFailed
from ledge.job import report
from ledge.job.handover import Handover
from ledge.kernel import syscalls
from ledge.kernel.cgroup2 import Cgroup
from ledge.kernel.descriptors import close_all_but, hold_standard_streams
from ledge.kernel.proc import lives
from ledge.launcher.order import Entry
from ledge.launcher.process import put_in_place, send_pidfd, take_over

_REMOVAL_SECONDS = 0.2


class _Group:
    """The group of a session beside the job's leaf; `group` is None where none can be made."""

    def __init__(self, entry: Entry) -> None:
        """As root: what was made by the user is opened, and nothing more."""
        self.name = b"session-%d" % entry.pid
        self.above: Cgroup | None = None
        self.group: Cgroup | None = None
        try:
            self.above = Cgroup.open(mount_point() + entry.slice + b"/" + entry.group)
        except FileNotFoundError:
            pass  # the policy wants no group for the job

    def make(self) -> None:
        """As the job's user: he can be out of groups, or have closed his own to himself."""
        try:
            self.group = self.above.make(self.name) if self.above else None
        except OSError:
            pass

    def fork(self) -> int:
        """Raises OSError."""
        if self.group is None:
            return posix.fork()
        return syscalls.clone3(syscalls.CLONE_INTO_CGROUP, _signal.SIGCHLD, self.group.fd)

    def kill(self, leader: int) -> None:
        """Kill all of the session, or its leader, who takes the terminal along."""
        try:
            if self.group is not None:
                self.group.kill()
            posix.kill(leader, _signal.SIGKILL)
        except OSError:
            pass  # gone in this moment

    def remove(self) -> None:
        """Unless somebody has been left in it, who stays until the job ends."""
        if self.above is not None and self.group is not None:
            self.above.remove(self.name, _REMOVAL_SECONDS)

    def descriptors(self) -> tuple[int, ...]:
        """Those that are open."""
        return tuple([group.fd for group in (self.above, self.group) if group is not None])


def be_session(entry: Entry) -> None:
    """In a process that the launcher has forked, as root; does not return."""
    fd = entry.handover
    try:
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        place = _place(entry)
        group = _Group(entry)
        if syscalls.clone3(syscalls.CLONE_INTO_CGROUP, _signal.SIGCHLD, place.group.fd) == 0:
            _be_waiter(place, group, fd)
    except StepFailed as failure:
        report.tell_failed(fd, failure.errno, failure.step)
    except LedgeError as error:
        report.tell_failed(fd, EPERM, f"enter the job ({error.problem})")
    except (OSError, KeyError, ValueError) as error:
        errno = getattr(error, "errno", None) or EINVAL
        report.tell_failed(fd, errno, f"enter the job ({error})")
    finally:
        posix._exit(0)


def _place(entry: Entry) -> Place:
    """Raises LedgeError, OSError."""
    place = Place(entry.init, entry.pid, entry.uid, entry.slice)
    if not lives(entry.pidfd):  # and whoever has the PID now is not concerned
        raise StepFailed("enter the job for a process that has gone", ESRCH)
    if place.own_user_namespace:
        raise LedgeError("it is in a user namespace, where set-uid programs and owners are lost")
    return place


def _be_waiter(place: Place, group: _Group, fd: int) -> None:
    posix.setsid()
    syscalls.prctl(syscalls.PR_SET_NAME, NAME)
    close_all_but((fd, *group.descriptors(), *place.descriptors()))
    hold_standard_streams()
    leave_keyring()
    become_user(place)
    enter(place)
    syscalls.capset(0, 0, 0)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    posix.close(place.directory)
    socket = _socket.socket(fileno=fd)
    socket.send(b"ready\n")  # what is sent to who does not come to read it takes the reason along
    handover = take_over(socket, place.likeness)
    group.make()
    hear, tell = posix.pipe()
    leader = group.fork()
    if leader == 0:
        _become_sshd(handover, tell)
    close_all_but((0, 1, 2, fd, hear, place.init.pidfd, *group.descriptors()))
    refused = posix.read(hear, 16)  # nothing, once it is executed
    if refused:
        raise StepFailed("execute the session's sshd in the job", int(refused))
    send_pidfd(socket, b"started\n", leader)
    status = wait_for(leader, place.init.pidfd, fd, group.kill)
    try:
        report.tell_ended(fd, status, leader)
    finally:
        posix.close(fd)
        group.remove()
        posix._exit(0)


def _become_sshd(handover: Handover, tell: int) -> None:
    """In the child, which is in the job's PID namespace. Does not return."""
    try:
        posix.setsid()
        held = (tell, handover.working_directory)
        tell, directory = put_in_place(handover.descriptors, held)
        _go_to(directory)
        handover.inheritance.execute()
    except OSError as error:
        posix.write(tell, b"%d" % (error.errno or EINVAL))
    finally:
        posix._exit(127)


def _go_to(directory: int) -> None:
    """Reach the working directory through the job's own mounts, if it is to be seen there."""
    try:
        posix.chdir(posix.readlink(b"/proc/self/fd/%d" % directory))
    except OSError:
        posix.chdir("/")
