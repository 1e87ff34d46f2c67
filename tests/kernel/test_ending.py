"""The wrapper ends as the job ended."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from tests.kernel.starter import Starter

# What ends a process by default (signal(7)); 32 and 33 are the C library's, but can be sent.
FATAL = [
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT,
    signal.SIGBUS, signal.SIGFPE, signal.SIGKILL, signal.SIGUSR1, signal.SIGSEGV, signal.SIGUSR2,
    signal.SIGPIPE, signal.SIGALRM, signal.SIGTERM, signal.SIGSTKFLT, signal.SIGXCPU,
    signal.SIGXFSZ, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGPWR, signal.SIGSYS,
    32, 33, *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
]  # fmt: skip


@pytest.fixture
def at_once(by_ledged: object) -> int:
    """How many jobs may be started in one slice: ledged sees to it that there is one."""
    return 1 if by_ledged else 8


def test_every_exit_code(starter: Starter, at_once: int) -> None:
    codes = range(256)
    found = []
    for first in range(0, 256, at_once):
        batch = codes[first : first + at_once]
        processes = [starter.start("/bin/sh", "-c", f"exit {code}") for code in batch]
        found += [process.wait() for process in processes]
    assert [os.WEXITSTATUS(status) for status in found] == list(codes)
    assert all(os.WIFEXITED(status) for status in found)


def no_core() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@pytest.mark.usefixtures("default_dispositions")
def test_death_by_every_fatal_signal(starter: Starter, at_once: int) -> None:
    found = {}
    for first in range(0, len(FATAL), at_once):
        processes = {
            number: starter.start("/bin/sh", "-c", f"kill -{number} $$", before=no_core)
            for number in map(int, FATAL[first : first + at_once])
        }
        found.update({number: process.wait() for number, process in processes.items()})
    wrong = {n: s for n, s in found.items() if not os.WIFSIGNALED(s) or os.WTERMSIG(s) != n}
    assert not wrong


def test_a_job_killed_by_the_kernel(starter: Starter) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (1, 1))

    status = starter.run("/bin/sh", "-c", "while :; do :; done", before=limit).wait()
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("/no/such/command", "(errno=2: 'No such file or directory')"),
        ("/etc/passwd", "(errno=13: 'Permission denied')"),
        ("/bin", "(errno=13: 'Permission denied')"),
    ],
)
def test_a_command_that_cannot_be_executed_is_told_to_the_starter(
    starter: Starter, command: str, reason: str
) -> None:
    process = starter.run(command)
    assert process.wrapper_error.decode() == (
        f"condor-ledge: Failed to execute '{command}': {reason}\n"
    )
    assert process.wait() != 0
    assert process.error == b""


def test_text_without_an_interpreter_is_told_to_the_starter(starter: Starter) -> None:
    # Not in EXECUTE, where a job sees nothing but its own directory.
    script = starter.execute.with_name(starter.execute.name + "-text")
    script.write_text("echo hello\n")
    script.chmod(0o755)
    try:
        assert b"errno=8" in starter.run(str(script)).wrapper_error
    finally:
        script.unlink()


def test_no_command_at_all_is_told_to_the_starter(starter: Starter) -> None:
    process = starter.run()
    assert process.wrapper_error.startswith(b"condor-ledge: ")
    assert b"internal error" not in process.wrapper_error


@pytest.mark.requires("core")
@pytest.mark.parametrize("uses_pid", ["0", "1"])
def test_a_core_file_has_the_name_that_the_starter_looks_for(
    starter: Starter, uses_pid: str
) -> None:
    switch = Path("/proc/sys/kernel/core_uses_pid")
    before = switch.read_text()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (1 << 26, resource.RLIM_INFINITY))

    try:
        switch.write_text(uses_pid)
        process = starter.run("/bin/sh", "-c", "kill -SEGV $$", before=limit)
    finally:
        switch.write_text(before)
    assert os.WTERMSIG(process.wait()) == signal.SIGSEGV
    cores = [path.name for path in process.directory.glob("core*")]
    assert cores == (["core"] if uses_pid == "0" else [f"core.{process.pid}"])
