"""What the wrapper hands to the launcher so that the job is as if the wrapper had executed it.

Over a socket of messages (SOCK_SEQPACKET) that ledged made for the two: descriptors, and the job's
command in a memory file. Whoever takes them has dropped root's rights before: nothing here is to be
trusted, and what a file of a user's could do (block, be endless) strikes that user's job alone.

    COUNT               with [command, working directory, scratch directory]
    NUMBER NUMBER …     with as many of the job's COUNT descriptors
"""

from __future__ import annotations

import _socket
import posix
from sys import byteorder

from ledge.job.inheritance import Inheritance

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from typing import Callable

    Make = Callable[[list[bytes], list[bytes]], Inheritance]

_AT_ONCE = 200  # SCM_MAX_FD is 253
_MOST_DESCRIPTORS = 4096
_HIGHEST_DESCRIPTOR = 1 << 20  # fs.nr_open, proc(5)
_LONGEST_MESSAGE = 4096
_LARGEST_COMMAND = 8 << 20  # execve(2) takes at most 6 MiB
_PATH_ONLY = posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC
_INT_BYTES = 4


class Handover:
    """What was taken: the command, two directories, and the job's descriptors by their number."""

    __slots__ = ("inheritance", "working_directory", "scratch", "descriptors")

    def __init__(
        self,
        inheritance: Inheritance,
        working_directory: int,
        scratch: int,
        descriptors: dict[int, int],
    ) -> None:
        self.inheritance = inheritance
        self.working_directory = working_directory
        self.scratch = scratch
        self.descriptors = descriptors


def give(socket: _socket.socket, inheritance: Inheritance, scratch: int) -> None:
    """Hand everything over; `scratch` is a descriptor, and closed. Raises OSError."""
    numbers = _inheritable()
    special = [
        _memory_file(inheritance),
        # By the link of /proc: a directory that may not be searched can still be worked in.
        posix.open("/proc/self/cwd", _PATH_ONLY),
        scratch,
    ]
    _send(socket, b"%d" % len(numbers), special)
    for start in range(0, len(numbers), _AT_ONCE):
        some = numbers[start : start + _AT_ONCE]
        _send(socket, b" ".join([b"%d" % number for number in some]), some)
    for fd in special:
        posix.close(fd)


def take(socket: _socket.socket, make: Make) -> Handover:
    """Receive everything; `make` is given argv and environment. Raises OSError, ValueError."""
    count, special = _receive(socket)
    if len(special) != 3 or not count.isdigit() or int(count) > _MOST_DESCRIPTORS:
        raise ValueError("the wrapper handed over something else than it should")
    command, working_directory, scratch = special
    descriptors: dict[int, int] = {}
    while len(descriptors) < int(count):
        words, received = _receive(socket)
        numbers = [int(word) for word in words.split()]
        if not received or len(numbers) != len(received) or not _are_descriptors(numbers):
            raise ValueError("the wrapper did not hand over the job's descriptors")
        descriptors.update(zip(numbers, received))
    inheritance = _read(command, make)
    posix.close(command)
    return Handover(inheritance, working_directory, scratch, descriptors)


def _are_descriptors(numbers: list[int]) -> bool:
    return min(numbers) >= 0 and max(numbers) < _HIGHEST_DESCRIPTOR


def _inheritable() -> list[int]:
    """The descriptors that execve(2) would leave open; all of ours close themselves."""
    numbers = sorted([int(name) for name in posix.listdir("/proc/self/fd")])
    return [number for number in numbers if _is_inheritable(number)]


def _is_inheritable(fd: int) -> bool:
    try:
        return posix.get_inheritable(fd)
    except OSError:
        return False  # that of the listing itself


def _memory_file(inheritance: Inheritance) -> int:
    """The command: a line of numbers, and the strings, each ended by a NUL."""
    argv, environ = inheritance.argv, inheritance.environ
    numbers = (
        _bits(inheritance.mask),
        _bits(inheritance.ignored),
        inheritance.umask,
        int(inheritance.leads_session),
        len(argv),
    )
    text = b" ".join([b"%d" % number for number in numbers]) + b"\n"
    text += b"".join([string + b"\0" for string in (inheritance.path, *argv, *environ)])
    fd = posix.memfd_create("ledge-command", posix.MFD_CLOEXEC)
    written = 0
    while written < len(text):
        written += posix.write(fd, text[written:])
    return fd


def _read(fd: int, make: Make) -> Inheritance:
    text = b""
    while len(text) <= _LARGEST_COMMAND:
        chunk = posix.pread(fd, _LARGEST_COMMAND, len(text))
        if not chunk:
            break
        text += chunk
    line, _, rest = text.partition(b"\n")
    numbers = [int(word) for word in line.split()]
    strings = rest.split(b"\0")[:-1]
    if len(numbers) != 5 or len(strings) <= numbers[4] or numbers[4] < 1:
        raise ValueError("the wrapper handed over no command")
    mask, ignored, umask, leads_session, words = numbers
    inheritance = make(strings[1 : words + 1], strings[words + 1 :])
    inheritance.path = strings[0]
    inheritance.mask, inheritance.ignored = _numbers(mask), _numbers(ignored)
    inheritance.umask = umask & 0o777
    inheritance.leads_session = bool(leads_session)
    return inheritance


def _bits(signals: set[int]) -> int:
    return sum([1 << (int(signal) - 1) for signal in signals])


def _numbers(bits: int) -> set[int]:
    return {signal for signal in range(1, 65) if bits >> (signal - 1) & 1}


def _send(socket: _socket.socket, data: bytes, fds: list[int]) -> None:
    payload = b"".join([fd.to_bytes(_INT_BYTES, byteorder) for fd in fds])
    socket.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, payload)])


def _receive(socket: _socket.socket) -> tuple[bytes, list[int]]:
    space = _socket.CMSG_SPACE((_AT_ONCE + 53) * _INT_BYTES)
    data, ancillary, flags, _ = socket.recvmsg(_LONGEST_MESSAGE, space, _socket.MSG_CMSG_CLOEXEC)
    fds = []
    for level, kind, payload in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            whole = len(payload) - len(payload) % _INT_BYTES
            fds += [
                int.from_bytes(payload[start : start + _INT_BYTES], byteorder)
                for start in range(0, whole, _INT_BYTES)
            ]
    if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC):
        raise ValueError("the wrapper handed over too much at once")
    return data, fds
