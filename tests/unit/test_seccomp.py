"""The system call filter: its instructions, and what it does to a process."""

from __future__ import annotations

import os
import platform
import struct
from errno import EPERM

import pytest

from ledge.kernel import seccomp, syscalls

X86_64 = 0xC000003E


def test_the_program_of_two_calls() -> None:
    program = seccomp.filter_program(X86_64, [59, 101])
    instructions = list(struct.iter_unpack("HBBI", program))
    assert instructions == [
        (0x20, 0, 0, 4),  # load the architecture
        (0x15, 1, 0, X86_64),
        (0x06, 0, 0, 0x80000000),  # another one: kill
        (0x20, 0, 0, 0),  # load the number
        (0x15, 2, 0, 59),  # jumps to the last
        (0x15, 1, 0, 101),
        (0x06, 0, 0, 0x7FFF0000),  # allow
        (0x06, 0, 0, 0x00050000 | EPERM),
    ]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="numbers not known")
def test_a_forbidden_call_fails_and_others_do_not() -> None:
    child = os.fork()
    if child == 0:
        try:
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
            assert seccomp.forbid([(59, 221), (101, 117)])  # execve, ptrace
            os.getpid()
            os.execv("/bin/true", ["true"])
        except PermissionError:
            os._exit(7)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
