"""How the wrapper tells the starter that it, and not the job, failed.

HTCondor manual, "USER_JOB_WRAPPER": one line in the file that $_CONDOR_WRAPPER_ERROR_FILE names
sends the job back to the queue, and stands in its event log. The starter looks for the file with
the rights of the condor user, who cannot enter a job's scratch directory (mode 0700): it would find
nothing, and the job would count as ended with the wrapper's exit code. So that user, and nobody
else, is let through first.
"""

from __future__ import annotations

import posix

# linux/posix_acl.h, posix_acl_xattr.h
_ACL = "system.posix_acl_access"
_ACL_VERSION = 2
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NOBODY_NAMED = 0xFFFFFFFF
_RWX, _X = 7, 1


def refuse(problem: str, path: bytes | None) -> None:
    """Write the problem to the error file at `path` and exit. Does not return."""
    line = f"condor-ledge: {problem}\n".encode("utf-8", "backslashreplace")
    try:
        if path is None:
            raise FileNotFoundError  # not started by HTCondor
        _let_starter_in(path.rpartition(b"/")[0])
        _write(path, line)
    except OSError:
        posix.write(2, line)  # the last resort: the job's own standard error
    posix._exit(1)


def _write(path: bytes, line: bytes) -> None:
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_NOFOLLOW | posix.O_CLOEXEC
    fd = posix.open(path, flags, 0o644)
    posix.fchmod(fd, 0o644)  # whatever the umask is
    posix.write(fd, line)


def _let_starter_in(scratch: bytes) -> None:
    """Let the owner of the execute directory, as whom the starter looks, into the scratch one."""
    starter = posix.stat(scratch + b"/..").st_uid
    entries = (
        (_USER_OBJ, _RWX, _NOBODY_NAMED),
        (_USER, _X, starter),
        (_GROUP_OBJ, 0, _NOBODY_NAMED),
        (_MASK, _X, _NOBODY_NAMED),
        (_OTHER, 0, _NOBODY_NAMED),
    )
    acl = _ACL_VERSION.to_bytes(4, "little") + b"".join(
        [
            tag.to_bytes(2, "little") + rights.to_bytes(2, "little") + uid.to_bytes(4, "little")
            for tag, rights, uid in entries
        ]
    )
    try:
        posix.setxattr(scratch, _ACL, acl)
    except OSError:
        # No such lists on this file system: others may pass, but not look, for a moment.
        posix.chmod(scratch, 0o711)
