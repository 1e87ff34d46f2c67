"""HTCondor's PREPARE_JOB hook: what cannot be run, or must not be, is put on hold here.

A wrapper can only send a job back to the queue; this hook can hold it, with a reason. It asks for
two things. First, whether ledged's policy wants the job: ledged keeps what the policy said for the
wrapper that is to come. PREPARE_JOB_BEFORE_TRANSFER would refuse sooner, but there the executable
is not there yet, and one hook costs every job less than two.

Second, whether the command can be executed. Without a wrapper the starter itself sees that
execve(2) fails and holds the job with the errno. With one, only the wrapper sees it, and the job
would be tried again for ever. So the command is tried here first: executed for real, but stopped by
ptrace(2) before its first instruction and killed there. Interpreters named by #! are tried by that
as well.

HTCondor manual, "Hooks", PREPARE_JOB: runs as the job's user in the scratch directory, after the
input has been transferred, the job ad on standard input. HookStatusCode 1-299 holds the job.
"""

from __future__ import annotations

import posix
from errno import EACCES, ELOOP, ENOENT, ENOTDIR, EPERM

from ledge.classads import attribute, literal, string
from ledge.job.execution import describe_failure
from ledge.kernel import syscalls

_TRIED_UNIVERSES = (b"5", b"11")  # vanilla, parallel: elsewhere Cmd is not what is executed
_IMAGES = (b"ContainerImage", b"DockerImage", b"SingularityImage")
_LARGEST_AD = 1 << 22


REFUSED = 250
UNAVAILABLE = 251
# From 300 on the job goes back to the queue (HTCondor manual, "Hooks", HookStatusCode).
REQUEUED = 301


def main(alone: bool = False) -> None:
    """Read the job ad, try the command, ask ledged, tell HTCondor; exit code 0 in any case.

    `alone`: ledged does not run on this node, and is not asked.

    A hook that fails holds the job. What fails here has nothing to do with the job, so it becomes a
    warning in its event log (a message without a status code).
    """
    try:
        ad = _standard_input()
        command = command_of(ad)
        answer = _answer(command)
        if not answer and not alone:
            answer = _ledged_answer(ad, command)
    except Exception as error:  # noqa: BLE001  # the outermost edge of the process
        message = f"condor-ledge could not try the executable: {type(error).__name__}: {error}"
        answer = _status_message(message)
    posix.write(1, answer.encode("utf-8", "replace"))


def _answer(command: bytes | None) -> str:
    errno = trial(command) if command is not None else 0
    return refusal(command, errno) if command is not None and errno else ""


def _ledged_answer(ad: bytes, command: bytes | None) -> str:
    from ledge.client import (
        PATIENCE_SECONDS,
        UnavailableError,
        choice_without_daemon,
        persistently,
    )

    body = ad + b"\0" + _machine_ad()
    try:
        answer = persistently(lambda c: c.request(b"reserve", body), PATIENCE_SECONDS)
    except UnavailableError as error:
        return without_daemon(choice_without_daemon(), str(error))
    if answer.status == b"done":
        mounts = answer.body.split(b"\0") if answer.body else []
        if command is not None and _is_covered(command, mounts):
            return refusal(command, ENOENT)
        return _without_paths([path for path in mounts if path.startswith(b"/")])
    reason = answer.body.decode("utf-8", "replace")
    return f"HookStatusCode = {REFUSED}\n" + _status_message(f"condor-ledge: {reason}")


def _is_covered(command: bytes, mounts: list[bytes]) -> bool:
    """Whether the job will not find it: the innermost of its mounts above it begins empty.

    With the wrapper alone such a job would be tried again for ever.
    """
    if command.startswith(posix.getcwdb() + b"/"):
        return False
    above = [one for one in mounts if one[:1] in b"-+" and command.startswith(one[1:] + b"/")]
    return bool(above) and max(above, key=len).startswith(b"-")


def _without_paths(paths: list[bytes]) -> str:
    """The hook's answer if mounts that the job asks for need something that is not there.

    Looked at as a mount looks at it: with the user's rights, and through no symbolic link.
    """
    for path in paths:
        try:
            posix.close(syscalls.openat2(path, posix.O_PATH, syscalls.RESOLVE_NO_SYMLINKS))
        except OSError as error:
            if error.errno in (ENOENT, ENOTDIR, EACCES, ELOOP):
                link = "a symbolic link is in the way: name what it leads to"
                why = link if error.errno == ELOOP else error.strerror
                reason = f"mounts that the job asks for: {path.decode(errors='replace')}: {why}"
                return f"HookStatusCode = {REFUSED}\n" + _status_message(f"condor-ledge: {reason}")
    return ""


def without_daemon(choice: str, problem: str) -> str:
    """The hook's answer where ledged gives none, by what the admin chose."""
    if choice == "run":
        return ""
    code = REQUEUED if choice == "requeue" else UNAVAILABLE
    return f"HookStatusCode = {code}\n" + _status_message(f"condor-ledge: {problem}")


def _machine_ad() -> bytes:
    """What the starter wrote into the scratch directory, which is the working directory."""
    try:
        fd = posix.open(".machine.ad", posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return posix.read(fd, _LARGEST_AD)
    finally:
        posix.close(fd)


def command_of(ad: bytes) -> bytes | None:
    """What the starter is going to execute; None if that is not for us to try."""
    if attribute(ad, b"JobUniverse") not in _TRIED_UNIVERSES:
        return None
    if any(attribute(ad, image) is not None for image in _IMAGES):
        return None
    command = string(attribute(ad, b"Cmd"))
    if not command:
        return None
    # OsProc::canonicalizeJobPath of HTCondor's starter decides likewise.
    transferred = b"./" + command.rpartition(b"/")[2]
    if attribute(ad, b"TransferExecutable") != b"false" and posix.access(transferred, posix.F_OK):
        return posix.getcwdb() + transferred[1:]
    if command.startswith(b"/"):
        return command
    return (string(attribute(ad, b"Iwd")) or b".") + b"/" + command


def trial(command: bytes) -> int:
    """Execute the command up to before its first instruction; the errno of execve(2), or 0."""
    hear, tell = posix.pipe()
    child = posix.fork()
    if child == 0:
        try:
            _stopped_execution(command)
        except OSError as error:
            posix.write(tell, b"%d" % (error.errno or EPERM))
        finally:
            posix._exit(1)
    posix.close(tell)
    answer = posix.read(hear, 16)  # ends, empty, when execve closes the pipe
    posix.close(hear)
    posix.kill(child, 9)
    posix.waitpid(child, 0)
    return int(answer or b"0")


def _stopped_execution(command: bytes) -> None:
    try:
        syscalls.ptrace_traceme()
    except OSError:
        # No tracing here: ask what can be asked without, the rights.
        if not posix.access(command, posix.X_OK):
            posix.stat(command)
            raise PermissionError(13, "") from None
        return
    syscalls.execve(command, [command], [])


def refusal(command: bytes, errno: int) -> str:
    """The hook's answer: hold the job, in the words that the starter itself uses."""
    return f"HookStatusCode = {errno}\n" + _status_message(describe_failure(command, errno))


def _status_message(message: str) -> str:
    """HTCondor reads the old format, in which a backslash escapes nothing but a double quote."""
    plain = message.replace("\\", "/").replace('"', "'")
    return f"HookStatusMessage = {literal(plain)}\n"


def _standard_input() -> bytes:
    ad = b""
    while len(ad) < _LARGEST_AD:
        chunk = posix.read(0, 65536)
        if not chunk:
            break
        ad += chunk
    return ad
