"""A job inherits what it would without the wrapper: each probe is run with it and without."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Sequence
from typing import Callable

import pytest

from tests.kernel.starter import Starter


def nothing() -> None:
    """Change nothing before the start."""


def same(
    starter: Starter,
    *argv: str | bytes,
    environ: Sequence[bytes] = (),
    before: Callable[[], object] = nothing,
) -> bytes:
    """Run a command with the wrapper and without; both must say the same, which is returned."""
    wrapped = starter.run(*argv, environ=environ, before=before).check()
    alone = starter.run(*argv, environ=environ, before=before, wrapped=False).check()
    assert wrapped == alone
    return wrapped


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([], id="none"),
        pytest.param([b"two words", b" ", b"\t"], id="blanks"),
        pytest.param([b"two\nlines", b"\n"], id="newlines"),
        pytest.param([b"'single'", b'"double"', b"back\\slash", b"$HOME", b"*"], id="quotes"),
        pytest.param([b"", b"a", b"", b""], id="empty strings"),
        pytest.param([b"\xff\xfe", "naïve".encode("latin-1"), b"\xed\xa0\x80"], id="no UTF-8"),
        pytest.param([b"-c", b"-I", b"--help", b"-"], id="options of Python"),
        pytest.param([b"x" * 100_000] * 10, id="a megabyte"),
        pytest.param([b"x"] * 20_000, id="many"),
    ],
)
def test_arguments(starter: Starter, words: list[bytes]) -> None:
    output = same(starter, "/bin/sh", "-c", "cat /proc/$$/cmdline", "sh", *words)
    assert output.split(b"\0")[4:-1] == words


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([], id="none"),
        pytest.param([b"A=1", b"A=2", b"A=1"], id="a name that stands twice"),
        pytest.param([b"no equals sign", b"=no name", b"", b"EMPTY="], id="odd entries"),
        pytest.param([b"BYTES=\xff\xfe", b"\xff=x"], id="no UTF-8"),
        pytest.param([b"LINES=one\ntwo", b"BASH_FUNC_f%%=() { :; }"], id="newlines, functions"),
        pytest.param([b"LANG=C"], id="the C locale"),
        pytest.param([b"LC_ALL=POSIX"], id="the POSIX locale"),
        pytest.param([b"LANG=de_DE.UTF-8"], id="a locale that is not there"),
        pytest.param([b"PYTHONPATH=/x", b"PYTHONHOME=/x", b"PYTHONWARNINGS=error"], id="Python's"),
        pytest.param([b"LD_LIBRARY_PATH=/x", b"MALLOC_ARENA_MAX=1"], id="the loader's"),
        pytest.param([b"BIG=" + b"x" * 100_000], id="a large one"),
    ],
)
def test_environment(starter: Starter, entries: list[bytes]) -> None:
    process = starter.run("/bin/cat", "/proc/self/environ", environ=entries)
    found = process.check().split(b"\0")[:-1]
    ours = b"_CONDOR_WRAPPER_ERROR_FILE="
    expected = [*starter.environment(process.directory), *entries]
    assert found == [entry for entry in expected if not entry.startswith(ours)]


def test_working_directory(starter: Starter) -> None:
    process = starter.run("/bin/pwd")
    assert process.check() == os.fsencode(process.directory) + b"\n"


def test_a_working_directory_elsewhere(starter: Starter) -> None:
    assert same(starter, "/bin/pwd", before=lambda: os.chdir("/usr/share")) == b"/usr/share\n"


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o027, 0o077, 0o777])
def test_umask(starter: Starter, mask: int) -> None:
    line = f"umask; grep Umask: /proc/self/status; test $(umask) = {mask:04o}"
    same(starter, "/bin/sh", "-c", line, before=lambda: os.umask(mask))


def test_resource_limits(starter: Starter) -> None:
    def limit() -> None:
        for kind, soft, hard in (
            (resource.RLIMIT_CORE, 0, 1 << 20),
            (resource.RLIMIT_NOFILE, 100, 200),
            (resource.RLIMIT_STACK, 1 << 20, 1 << 24),
            (resource.RLIMIT_FSIZE, 1 << 20, 1 << 20),
            (resource.RLIMIT_CPU, 100, 200),
        ):
            resource.setrlimit(kind, (soft, hard))

    assert b"1048576" in same(starter, "/bin/cat", "/proc/self/limits", before=limit)


# What the kernel says of a process that must be as without the wrapper. SigQ counts all of the
# user's; PIDs and memory differ from run to run.
STATUS = (
    "Umask", "Uid", "Gid", "NSsid", "NSpgid", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt",
    "NoNewPrivs", "Seccomp", "Seccomp_filters", "Cpus_allowed", "Mems_allowed", "Threads",
)  # fmt: skip
CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Groups")


def status(text: bytes, keys: Sequence[str]) -> dict[str, str]:
    lines = (line.partition(":") for line in text.decode().splitlines())
    return {key: value.strip() for key, _, value in lines if key in keys}


@pytest.mark.parametrize("ignored", [set(), {"SIGPIPE"}, {"SIGPIPE", "SIGXFSZ", "SIGHUP"}])
@pytest.mark.parametrize("blocked", [set(), {"SIGTERM", "SIGUSR1", "SIGINT"}])
def test_signal_mask_and_ignored_signals(
    starter: Starter, ignored: set[str], blocked: set[str]
) -> None:
    """The starter, here this process, ignores what its jobs are to ignore, as HTCondor's does."""
    touched = [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP]
    before = {number: signal.getsignal(number) for number in touched}

    def block() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.Signals[name] for name in blocked})

    try:
        for number in touched:
            how = signal.SIG_IGN if number.name in ignored else signal.SIG_DFL
            signal.signal(number, how)
        wrapped = starter.run("/bin/cat", "/proc/self/status", before=block).check()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    found = status(wrapped, ("SigBlk", "SigIgn", "SigCgt"))
    assert found == {
        "SigBlk": bit_set(blocked),
        "SigIgn": bit_set(ignored),
        "SigCgt": bit_set(set()),
    }


@pytest.mark.parametrize("name", ["SIGCHLD", "SIGINT", "SIGTERM", "SIGQUIT", "SIGUSR1", "SIGTSTP"])
@pytest.mark.usefixtures("default_dispositions")
def test_a_signal_that_is_ignored_stays_so(starter: Starter, name: str) -> None:
    def ignore() -> None:
        signal.signal(signal.Signals[name], signal.SIG_IGN)

    wrapped = starter.run("/bin/cat", "/proc/self/status", before=ignore).check()
    assert status(wrapped, ("SigIgn",)) == {"SigIgn": bit_set({name})}


def bit_set(names: set[str]) -> str:
    return f"{sum(1 << (signal.Signals[name] - 1) for name in names):016x}"


def test_what_the_kernel_says_of_the_process(starter: Starter) -> None:
    def before() -> None:
        os.nice(5)

    outputs = [
        starter.run("/bin/cat", "/proc/self/status", before=before, wrapped=wrapped).check()
        for wrapped in (True, False)
    ]
    # With a user namespace the job has all capabilities in it and none outside.
    keys = STATUS if starter.user.name != "root" else (*STATUS, *CAPABILITIES)
    namespace = ("NSsid", "NSpgid", "SigIgn")  # in a PID namespace; SigIgn has tests of its own
    wanted = [key for key in keys if key not in namespace]
    found, expected = (status(output, wanted) for output in outputs)
    assert found == expected


def test_niceness(starter: Starter) -> None:
    assert same(starter, "/usr/bin/nice", before=lambda: os.nice(7)) == b"7\n"


def test_cpu_affinity(starter: Starter) -> None:
    cpu = max(os.sched_getaffinity(0))
    line = "grep Cpus_allowed_list /proc/self/status"
    output = same(starter, "/bin/sh", "-c", line, before=lambda: os.sched_setaffinity(0, {cpu}))
    assert output.split()[-1] == b"%d" % cpu


def test_oom_score(starter: Starter) -> None:
    def adjust() -> None:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("300")

    assert same(starter, "/bin/cat", "/proc/self/oom_score_adj", before=adjust) == b"300\n"


def test_the_job_leads_a_session_and_a_process_group(starter: Starter) -> None:
    line = "read -r stat </proc/self/stat; set -- $stat; test $5 = $$ && test $6 = $$ && echo yes"
    assert starter.shell(line).check() == b"yes\n"


OPEN = """
import os
found = {}
for fd in range(200):
    try:
        status = os.fstat(fd)
    except OSError:
        continue
    found[fd] = (status.st_mode, os.readlink(f"/proc/self/fd/{fd}").rpartition("/")[2])
with open("open", "w") as file:
    print(found, file=file)
"""


@pytest.mark.parametrize("closed", [{fd for fd in range(3) if bits >> fd & 1} for bits in range(8)])
def test_what_is_open_in_the_job_is_what_was_open(starter: Starter, closed: set[int]) -> None:
    def close() -> None:
        for fd in closed:
            os.close(fd)

    found = []
    for wrapped in (True, False):
        command = ("/usr/bin/python3", "-ISEc", OPEN)
        process = starter.run(*command, before=close, wrapped=wrapped)
        assert process.wait() == 0
        found.append((process.directory / "open").read_text())
    assert found[0] == found[1]


def test_an_inherited_descriptor_passes(starter: Starter) -> None:
    reader, writer = os.pipe()
    process = starter.start("/bin/sh", "-c", "echo hello >&7", before=lambda: os.dup2(writer, 7))
    os.close(writer)
    try:
        assert process.check() == b""
        assert os.read(reader, 100) == b"hello\n"
        assert os.read(reader, 100) == b""
    finally:
        os.close(reader)


def test_a_pipe_ends_for_its_reader_when_the_job_closes_it(starter: Starter) -> None:
    reader, writer = os.pipe()
    line = "echo hello; exec >&- 2>&-; : >closed; exec sleep 100"
    process = starter.start("/bin/sh", "-c", line, before=lambda: os.dup2(writer, 1))
    os.close(writer)
    try:
        process.wait_for("closed")
        assert os.read(reader, 100) == b"hello\n"
        assert os.read(reader, 100) == b""  # would wait as long as the job if somebody held it
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait() == signal.SIGTERM
    finally:
        os.close(reader)


def test_standard_input_is_the_job_s(starter: Starter) -> None:
    reader, writer = os.pipe()
    process = starter.start("/bin/cat", before=lambda: os.dup2(reader, 0))
    os.close(reader)
    os.write(writer, b"hello\n")
    os.close(writer)
    assert process.check() == b"hello\n"
