"""What a job is to inherit, as if whoever started the wrapper had executed the job itself.

Python alters its process at start-up: it ignores SIGPIPE and SIGXFSZ, handles SIGINT, and in the
C locale puts LC_CTYPE into the environment (PEP 538); and it decodes arguments in the locale's
encoding. So arguments and environment are taken from /proc/self, byte for byte, and the signal
dispositions that Python overwrote are asked of the parent.
"""

from __future__ import annotations

import _signal
import posix

from ledge.errors import IsolationError
from ledge.kernel import syscalls

# What we make for the job must be usable whatever the job's umask is.
_OUR_UMASK = 0o022
_OVERWRITTEN = (_signal.SIGPIPE, _signal.SIGXFSZ)


class Inheritance:
    """The job's command, environment, signal mask, ignored signals and session.

    `path` is what is executed; `argv` and `environ` are lists of bytes; `ignored` are the signals
    that the job ignores; `leads_session` says whether the job is to lead a session of its own, as
    the wrapper does. A session with a terminal cannot be had twice: there the job stays in ours,
    and hears the terminal's signals itself.
    """

    __slots__ = ("path", "argv", "environ", "mask", "ignored", "umask", "leads_session")

    # The signals whose disposition is not what the job is to have: Python's doing, and ours.
    altered: tuple[int, ...] = (_signal.SIGINT, _signal.SIGCHLD, *_OVERWRITTEN)

    def __init__(self, argv: list[bytes], environ: list[bytes]) -> None:
        self.path = argv[0] if argv else b""
        self.argv = argv
        self.environ = environ
        self.mask: set[int] = set()
        self.ignored: set[int] = set()
        self.umask = _OUR_UMASK
        self.leads_session = False

    def variable(self, name: bytes) -> bytes | None:
        """The value of an environment variable of the job."""
        prefix = name + b"="
        for entry in self.environ:
            if entry.startswith(prefix):
                return entry[len(prefix) :]
        return None

    def remove_variable(self, name: bytes) -> None:
        """Take a variable that is ours out of the job's environment."""
        prefix = name + b"="
        self.environ = [entry for entry in self.environ if not entry.startswith(prefix)]

    def restore_signals(self) -> None:
        """Give every signal the disposition and the mask that the job is to start with.

        Signals that came meanwhile strike at the end of this, with their default action.
        """
        for signal in self.altered:
            handler = _signal.SIG_IGN if signal in self.ignored else _signal.SIG_DFL
            _signal.signal(signal, handler)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self.mask)

    def execute(self) -> None:
        """Become the job. Raises OSError as execve(2) gives it, the signals restored by then."""
        posix.umask(self.umask)
        self.restore_signals()
        syscalls.execve(self.path, self.argv, self.environ)


def _has_terminal() -> bool:
    try:
        posix.close(posix.open("/dev/tty", posix.O_RDONLY | posix.O_NOCTTY | posix.O_CLOEXEC))
    except OSError:
        return False
    return True


def hold_signals() -> set[int]:
    """Block all signals from here on; return the mask that was in force."""
    mask: set[int] = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    return mask


def inherited(mask: set[int], command_words: int, from_starter: bool) -> Inheritance:
    """What the job inherits, `mask` being what hold_signals() returned.

    The job's command are the last `command_words` of our own command line. HTCondor's starter
    ignores SIGPIPE and its jobs inherit that; `from_starter` says that the parent's own
    dispositions tell what we were started with, which is not so under a shell.
    """
    argv = _strings("/proc/self/cmdline")
    command = argv[len(argv) - command_words :]
    inheritance = Inheritance(command, _strings("/proc/self/environ"))
    inheritance.mask = mask
    inheritance.umask = posix.umask(_OUR_UMASK)
    inheritance.leads_session = posix.getsid(0) == posix.getpid() and not _has_terminal()
    for signal in (_signal.SIGCHLD, _signal.SIGINT):
        if _signal.getsignal(signal) == _signal.SIG_IGN:
            inheritance.ignored.add(signal)
    if from_starter:
        ignored = _ignored_by_parent()
        inheritance.ignored.update([s for s in _OVERWRITTEN if ignored >> (s - 1) & 1])
    # Ours to reap with, whatever the job is to have.
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    return inheritance


def _strings(path: str) -> list[bytes]:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall().split(b"\0")[:-1]
    except OSError as error:
        raise IsolationError(
            f"cannot read {path}: {error.strerror}", "condor-ledge needs /proc to be mounted"
        ) from None


def _ignored_by_parent() -> int:
    """The bit set SigIgn of the parent (proc(5)); with hidepid, what HTCondor's starter has."""
    try:
        with open(f"/proc/{posix.getppid()}/status", "rb", buffering=0) as file:
            _, _, rest = file.readall().partition(b"\nSigIgn:\t")
    except OSError:
        return 1 << (int(_signal.SIGPIPE) - 1)
    return int(rest.partition(b"\n")[0], 16)
