"""A system call filter: a list of calls that fail with EPERM from now on, in all children too.

    if the architecture is another one: kill the process
    for each call of the list: if the number is this one: return EPERM
    allow

Source: seccomp(2), Documentation/userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Collection
from errno import EPERM

from ledge.kernel import syscalls

# linux/audit.h
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
Numbers = tuple[int, int]  # of one system call, by the architectures in this order
# linux/bpf_common.h, linux/seccomp.h
_LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET = 0, 4
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2


def forbid(calls: Collection[Numbers]) -> bool:
    """Have the calls fail; False on an architecture whose numbers are not known here.

    no_new_privs has to be set. Raises OSError.
    """
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        return False
    column = list(_ARCHITECTURES).index(machine)
    program = filter_program(_ARCHITECTURES[machine], [numbers[column] for numbers in calls])
    instructions = ctypes.create_string_buffer(program)
    # struct sock_fprog: a length, and the address of the instructions.
    fprog = struct.pack("HP", len(program) // 8, ctypes.addressof(instructions))
    syscalls.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, fprog)
    return True


def filter_program(architecture: int, numbers: list[int]) -> bytes:
    """The filter as struct sock_filter has it: code, jump if true, jump if false, operand."""
    rest = len(numbers)
    program = [
        (_LOAD_WORD, 0, 0, _ARCHITECTURE_OFFSET),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD_WORD, 0, 0, _NUMBER_OFFSET),
    ]
    # Each match jumps over what is left of the list, and over the instruction that allows.
    program += [(_JUMP_EQUAL, rest - at, 0, number) for at, number in enumerate(numbers)]
    program += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO | EPERM)]
    return b"".join([struct.pack("HBBI", *instruction) for instruction in program])
