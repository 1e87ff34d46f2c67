"""What a process takes upon itself, and all its children with it: operations as those of mounts.

Landlock without any rule for files or ports leaves mounts, set-uid programs and sandboxes within
the job as they are: whoever has CAP_SYS_ADMIN need not set no_new_privs for it, and mount(2) is
refused only in a domain that has rules for files (security/landlock/fs.c). Tracing goes down
alone: from outside into the job, and from process to process in it.
"""

from __future__ import annotations

import posix
from errno import E2BIG, EDQUOT, EINVAL, ENOSYS, EOPNOTSUPP, EPERM

from ledge.kernel import syscalls

# Not in this kernel, turned off at boot, older than the scope, or without the right to.
_IMPOSSIBLE = (ENOSYS, EOPNOTSUPP, E2BIG, EINVAL, EPERM)


class AbstractSockets:
    """Reach only those abstract Unix sockets that are the job's; `required`: or fail."""

    __slots__ = ("required",)

    def __init__(self, required: bool) -> None:
        self.required = required

    def describe(self) -> str:
        return "keep the job's abstract Unix sockets apart (Landlock, Linux 6.12)"

    def execute(self) -> None:
        try:
            ruleset = syscalls.landlock_create_scope(syscalls.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET)
            syscalls.landlock_restrict_self(ruleset)
        except OSError as error:
            if self.required or error.errno not in _IMPOSSIBLE:
                raise
            return
        posix.close(ruleset)


class SessionKeyring:
    """A session keyring of its own; a kernel without keys needs none.

    A user who has used up what he may have of keys keeps the one that there is.
    """

    __slots__ = ()

    def describe(self) -> str:
        return "make a session keyring"

    def execute(self) -> None:
        try:
            syscalls.join_session_keyring()
        except OSError as error:
            if error.errno not in (ENOSYS, EDQUOT):
                raise


class NoNewPrivileges:
    """No set-uid program gives rights any more."""

    __slots__ = ()

    def describe(self) -> str:
        return "set no_new_privs"

    def execute(self) -> None:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)


def why_no_scope() -> str:
    """Why abstract sockets cannot be kept apart on this node; empty if they can."""
    try:
        posix.close(syscalls.landlock_create_scope(syscalls.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET))
    except OSError as error:
        return f"Landlock: {error.strerror}; it takes Linux 6.12, and lsm=landlock,... at boot"
    return ""
