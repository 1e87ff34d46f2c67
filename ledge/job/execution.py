"""Why a command could not be executed, in the words of HTCondor's starter."""

from __future__ import annotations

import posix
from errno import ENOENT

_FIRST_LINE = 1024


def describe_failure(command: bytes, errno: int) -> str:
    """One line for an execve(2) of `command` that failed with `errno`.

    A script that is there fails with ENOENT because its interpreter is not, and the line says so.
    """
    text = command.decode("utf-8", "backslashreplace")
    interpreter = _interpreter(command) if errno == ENOENT else None
    detail = ""
    if interpreter is not None:
        name = interpreter.decode("utf-8", "backslashreplace")
        detail = f"invalid interpreter ({name}) specified on first line of script "
    return f"Failed to execute '{text}': {detail}(errno={errno}: '{posix.strerror(errno)}')"


def _interpreter(command: bytes) -> bytes | None:
    """The program that the first line of a script names; None if there is no such line."""
    try:
        fd = posix.open(command, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    except OSError:
        return None
    try:
        line = posix.read(fd, _FIRST_LINE).partition(b"\n")[0]
    except OSError:
        return None
    finally:
        posix.close(fd)
    words = line[2:].split()
    return words[0] if line.startswith(b"#!") and words else None
