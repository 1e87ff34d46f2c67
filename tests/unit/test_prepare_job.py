"""The prepare hook: which command it tries, and that trying executes nothing."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
from pathlib import Path
from typing import Callable

import psutil
import pytest

from ledge.prepare_job import command_of, refusal, trial


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hook's working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def file(path: Path, contents: str, mode: int = 0o755) -> Path:
    path.write_text(contents)
    path.chmod(mode)
    return path


def test_nothing_of_a_script_is_executed(scratch: Path) -> None:
    script = file(scratch / "script", f"#!/bin/sh\n: >{scratch}/trace\n")
    assert trial(os.fsencode(script)) == 0
    assert not (scratch / "trace").exists()
    subprocess.run([script], check=True)
    assert (scratch / "trace").exists()  # it would have been


@pytest.mark.requires("x86_64")
def test_nothing_of_a_program_is_executed(scratch: Path) -> None:
    program = scratch / "program"
    program.write_bytes(program_that_makes_a_directory(b"trace"))
    program.chmod(0o755)
    # Its first instructions do it; were it only killed soon, one in so many would get that far.
    for _ in range(200):
        assert trial(os.fsencode(program)) == 0
    assert not (scratch / "trace").exists()
    subprocess.run([program], check=True)
    assert (scratch / "trace").exists()  # it would have been


def program_that_makes_a_directory(name: bytes) -> bytes:
    """An ELF program for x86-64 that does mkdir(name, 0777) and exit(0), by hand (elf(5))."""
    code = bytes.fromhex(
        "b853000000"  # mov eax, 83: mkdir
        "488d3d10000000"  # lea rdi, [rip + 16]: the name
        "beff010000"  # mov esi, 0777
        "0f05"  # syscall
        "b83c000000"  # mov eax, 60: exit
        "31ff"  # xor edi, edi
        "0f05"  # syscall
    )
    code = code.ljust(28, b"\x90") + name + b"\0"
    base, headers = 0x400000, 64 + 56
    elf = struct.pack("<4s5B7x", b"\x7fELF", 2, 1, 1, 0, 0)
    elf += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    size = headers + len(code)
    return elf + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000) + code


@pytest.mark.parametrize("command", [b"/bin/true", b"/bin/false", b"/bin/sh", b"/usr/bin/python3"])
def test_a_program_can_be_executed(command: bytes) -> None:
    assert trial(command) == 0


def make_missing(path: Path) -> None:
    del path


def make_not_executable(path: Path) -> None:
    file(path, "#!/bin/sh\n", 0o644)


def make_bad_interpreter(path: Path) -> None:
    file(path, "#!/no/such/interpreter\n")


def make_interpreter_of_dos(path: Path) -> None:
    file(path, "#!/bin/sh\r\n")


def make_directory(path: Path) -> None:
    path.mkdir()


def make_text(path: Path) -> None:
    file(path, "echo hello\n")


def make_empty(path: Path) -> None:
    file(path, "")


def make_broken_link(path: Path) -> None:
    path.symlink_to("nowhere")


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def make_fifo(path: Path) -> None:
    os.mkfifo(path, 0o755)


def make_cut_off_elf(path: Path) -> None:
    path.write_bytes(Path("/bin/true").read_bytes()[:100])
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (make_missing, {errno.ENOENT}),
        (make_not_executable, {errno.EACCES}),
        (make_bad_interpreter, {errno.ENOENT}),
        (make_interpreter_of_dos, {errno.ENOENT}),
        (make_directory, {errno.EACCES}),
        (make_text, {errno.ENOEXEC}),
        (make_empty, {errno.ENOEXEC}),
        (make_broken_link, {errno.ENOENT}),
        (make_loop, {errno.ELOOP}),
        (make_fifo, {errno.EACCES}),
        (make_cut_off_elf, {errno.ENOEXEC, errno.EIO}),
    ],
    ids=lambda value: value.__name__[5:] if callable(value) else "",
)
def test_the_errno_is_that_of_execve(make: object, expected: set[int], scratch: Path) -> None:
    assert callable(make)
    make(scratch / "command")
    assert trial(os.fsencode(scratch / "command")) in expected


def test_a_trial_leaves_no_process_and_no_descriptor() -> None:
    before = set(os.listdir("/proc/self/fd"))
    children = set(psutil.Process().children())
    trial(b"/bin/true")
    trial(b"/no/such/command")
    assert set(os.listdir("/proc/self/fd")) == before
    assert set(psutil.Process().children()) <= children


def ad(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


VANILLA = "JobUniverse = 5"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([VANILLA, 'Cmd = "/bin/sh"'], b"/bin/sh", id="vanilla"),
        pytest.param(["JobUniverse = 11", 'Cmd = "/bin/sh"'], b"/bin/sh", id="parallel"),
        pytest.param(["JobUniverse = 7", 'Cmd = "/bin/sh"'], None, id="scheduler universe"),
        pytest.param(["JobUniverse = 10", 'Cmd = "Main"'], None, id="java universe"),
        pytest.param(["JobUniverse = 13", 'Cmd = "vm"'], None, id="vm universe"),
        pytest.param(['Cmd = "/bin/sh"'], None, id="no universe"),
        pytest.param([VANILLA], None, id="no command"),
        pytest.param([VANILLA, "Cmd = undefined"], None, id="an undefined command"),
        pytest.param([VANILLA, 'Cmd = ""'], None, id="an empty command"),
        pytest.param(
            [VANILLA, 'Cmd = "/bin/sh"', 'ContainerImage = "a.sif"'], None, id="container image"
        ),
        pytest.param(
            [VANILLA, 'Cmd = "/bin/sh"', 'DockerImage = "debian"'], None, id="docker image"
        ),
        pytest.param(
            [VANILLA, 'Cmd = "/bin/sh"', 'SingularityImage = "a"'], None, id="singularity image"
        ),
        pytest.param(
            [VANILLA, 'Cmd = "bin/job"', 'Iwd = "/home/alice"'],
            b"/home/alice/bin/job",
            id="relative to the job's directory",
        ),
        pytest.param(
            [VANILLA, 'Cmd = "/home/alice/my \\"job\\".sh"'],
            b'/home/alice/my "job".sh',
            id="blanks and quotes",
        ),
    ],
)
def test_which_command_is_tried(lines: list[str], expected: bytes | None, scratch: Path) -> None:
    assert command_of(ad(*lines)) == expected


def test_a_transferred_executable_is_the_one_that_is_tried(scratch: Path) -> None:
    file(scratch / "job.sh", "#!/bin/sh\n")
    command = command_of(ad(VANILLA, 'Cmd = "/home/alice/job.sh"'))
    assert command == os.fsencode(scratch / "job.sh")


def test_one_that_was_not_transferred_is_tried_where_it_is(scratch: Path) -> None:
    file(scratch / "job.sh", "#!/bin/sh\n")
    lines = [VANILLA, 'Cmd = "/home/alice/job.sh"', "TransferExecutable = false"]
    assert command_of(ad(*lines)) == b"/home/alice/job.sh"


Hook = Callable[[bytes], bytes]


@pytest.fixture
def hook(installed: Path, scratch: Path) -> Hook:
    """The installed hook: its answer to a job ad."""

    def answer(job_ad: bytes) -> bytes:
        hook = [installed / "prepare_job_alone"]
        result = subprocess.run(hook, input=job_ad, capture_output=True)
        assert (result.returncode, result.stderr) == (0, b"")
        return result.stdout

    return answer


def test_the_hook_says_nothing_about_a_good_command(hook: Hook) -> None:
    assert hook(ad(VANILLA, 'Cmd = "/bin/true"')) == b""


def test_the_hook_holds_a_bad_command_with_its_errno(hook: Hook) -> None:
    answer = hook(ad(VANILLA, 'Cmd = "/no/such"')).decode().splitlines()
    assert answer == [
        f"HookStatusCode = {errno.ENOENT}",
        "HookStatusMessage = "
        "\"Failed to execute '/no/such': (errno=2: 'No such file or directory')\"",
    ]


@pytest.mark.parametrize("job_ad", [b"", b"\xff\xfe\n\0", b"JobUniverse = 5\nCmd = \"\xff\"\n"])
def test_the_hook_ends_well_whatever_it_reads(job_ad: bytes, hook: Hook) -> None:
    hook(job_ad)


@pytest.mark.parametrize("name", [b"a\nb", b'a"b', b"a\\", b"\xff", b"x" * 5000])
def test_a_refusal_has_two_lines_whatever_the_command_is_called(name: bytes) -> None:
    answer = refusal(name, errno.ENOENT)
    assert answer.count("\n") == 2
    assert answer.endswith('"\n')
