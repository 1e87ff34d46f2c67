"""Running ip(8) and nft(8): a text in, success or the reason out."""

from __future__ import annotations

import json
import os
import subprocess
from subprocess import DEVNULL, PIPE

from ledge.errors import LedgeError
from ledge.kernel import syscalls

PATIENCE_SECONDS = 10.0
DIRECTORIES = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")


class ProgramError(LedgeError):
    """ip(8) or nft(8) did not do it."""


def find(name: str) -> str | None:
    """The path of a program; None if it is not installed."""
    paths = [f"{directory}/{name}" for directory in DIRECTORIES]
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def ip(commands: str) -> None:
    """Carry out commands, a line each, on the node. Raises ProgramError."""
    _finish(_start("ip", "-batch", "-"), commands)


def links() -> list[dict[str, object]]:
    """What ip(8) says of each device of the node. Raises ProgramError."""
    try:
        answer = json.loads(_finish(_start("ip", "-json", "link", "show", asked=True), ""))
    except ValueError:
        raise ProgramError("ip: what it says of the devices is no JSON") from None
    assert isinstance(answer, list)
    return answer


def nft(commands: str) -> None:
    """Carry out commands, all or none. Raises ProgramError."""
    _finish(_start("nft", "-f", "-"), commands)


def in_new_namespace(commands: str) -> int:
    """Carry out commands of ip(8) in a new network namespace; its descriptor. Raises ProgramError.

    The namespace lives as long as the descriptor, or a process in it.
    """
    running = _start("ip", "-batch", "-", new_namespace=True)
    try:
        # It waits for its commands, so it is there.
        namespace = os.open(f"/proc/{running.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        running.kill()
        _finish(running, "")
        raise ProgramError(f"cannot hold a network namespace: {error.strerror}") from None
    try:
        _finish(running, commands)
    except ProgramError:
        os.close(namespace)
        raise
    return namespace


def _start(
    name: str, *arguments: str, new_namespace: bool = False, asked: bool = False
) -> subprocess.Popen[bytes]:
    path = find(name)
    if path is None:
        raise ProgramError(f"there is no {name} on this node")
    try:
        return subprocess.Popen(
            [path, *arguments],
            stdin=PIPE,
            stdout=PIPE if asked else DEVNULL,
            stderr=PIPE,
            env={},
            # There are no threads here.
            preexec_fn=_new_namespace if new_namespace else None,  # noqa: PLW1509
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ProgramError(f"cannot start {name}: {error}") from None


def _new_namespace() -> None:
    syscalls.unshare(syscalls.CLONE_NEWNET)


def _finish(running: subprocess.Popen[bytes], commands: str) -> bytes:
    try:
        answer, said = running.communicate(commands.encode(), PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        running.kill()
        running.communicate()
        said = b"it takes too long"
    if running.returncode != 0:
        name = os.path.basename(str(running.args[0]))  # type: ignore[index]  # a list, as we gave it
        raise ProgramError(f"{name}: {' '.join(said.decode('utf-8', 'replace').split())[:300]}")
    return answer
