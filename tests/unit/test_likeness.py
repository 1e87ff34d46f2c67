"""What the kernel says of a process, as the launcher reads it."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from ledge.kernel.proc import read, read_status
from ledge.launcher.likeness import Likeness, parse_limits

LIMITS = b"""\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max file size             4096                 unlimited            bytes     
Max data size             unlimited            unlimited            bytes     
Max stack size            8388608              unlimited            bytes     
Max core file size        0                    12345                bytes     
"""  # noqa: W291  # as the kernel writes it


def test_limits_come_by_number() -> None:
    infinity = resource.RLIM_INFINITY
    assert parse_limits(LIMITS) == {
        0: (infinity, infinity),
        1: (4096, infinity),
        2: (infinity, infinity),
        3: (8388608, infinity),
        4: (0, 12345),
    }


def test_our_own_limits_are_those_that_getrlimit_tells() -> None:
    own = parse_limits(Path("/proc/self/limits").read_bytes())
    assert len(own) == 16
    assert own == {number: resource.getrlimit(number) for number in own}


@pytest.mark.parametrize("text", [b"x\nMax cpu time   nonsense\n", b"x\n\xff\xfe\n"])
def test_garbage_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        parse_limits(text)


def test_our_own_likeness() -> None:
    proc = os.open("/proc/self", os.O_PATH)
    likeness = Likeness(proc, os.getpid())
    os.close(proc)
    assert likeness.uid == os.getuid()
    assert sorted(likeness.groups) == sorted(os.getgroups())
    assert likeness.scheduling.cpus == os.sched_getaffinity(0)
    assert likeness.scheduling.nice == os.getpriority(os.PRIO_PROCESS, 0)
    assert likeness.label is None


def test_a_process_that_has_gone() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    proc = os.open(f"/proc/{child}", os.O_PATH)
    os.waitpid(child, 0)
    with pytest.raises(OSError, match="No such"):
        read_status(proc)
    os.close(proc)


def test_a_file_that_this_kernel_lacks_is_none() -> None:
    proc = os.open("/proc/self", os.O_PATH)
    assert read(proc, "no_such_file") is None
    os.close(proc)
