"""The container: the image's own file system natively on this kernel, with its systemd as init.

Some 20 times as fast as the emulated machine, and judge of less: the kernel is the machine's own,
and where its controllers are on cgroup v1, the control groups in here have none. Nothing of it
outlives its owner: its keeper ends it as soon as the owner is gone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tests.kernel import cgroups
from tests.pool import host_needs, image
from tests.pool.errors import MachineError
from tests.pool.machine import Machine
from tests.pool.progress import Progress

HERE = Path(__file__).resolve().parent
DIRECTORY_PREFIX = "ledge-container-"
KEEPER = HERE / "container_keeper.sh"
CONSOLE = "console.log"
INIT = "pid"
# As sshd would start a command: in a group of its own, as root, with a login's environment.
ENTER = r"""
echo 0 >"$0/commands/cgroup.procs" && exec nsenter --target "$1" \
    --mount --uts --ipc --net --pid --cgroup /usr/bin/env -i --chdir=/root HOME=/root USER=root \
    LOGNAME=root SHELL=/bin/bash PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /bin/bash ${2+-c "$2"}
"""
START_SECONDS = 20.0


class Container(Machine):
    """A running container; `pid` is its init's, as this machine sees it."""

    _keeper: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, source: image.Image, progress: Progress, keep: bool = False) -> Container:
        """Start a container with the pool up; `keep` lets it outlive this process."""
        host_needs.check_container()
        with progress.step("starting the container", 5):
            container = _launch(source, keep)
            try:
                container._await_init()
                container.await_pool(60.0)
            except BaseException:
                container.stop()
                raise
        return container

    @property
    def group(self) -> Path:
        """Its control group."""
        return _root() / self.directory.name

    def ssh_command(self) -> list[str]:
        """What stands before a command line to run it in there; no ssh is needed."""
        return ["/bin/sh", "-c", ENTER, str(self.group), str(self.pid)]

    def alive(self) -> bool:
        if self._keeper is not None:
            return self._keeper.poll() is None
        record = self.directory / INIT
        return record.exists() and record.read_text() == f"{self.pid}\n"

    def stop(self) -> None:
        """End the container at once; nothing of it is kept."""
        if self._keeper is None:
            os.kill(self.pid, signal.SIGKILL)           # and its keeper after it
        else:
            self._keeper.terminate()
            self._keeper.communicate()                  # it ends with its standard input
        _await_gone(self.directory)

    def _await_init(self) -> None:
        """Wait until systemd has started, and so has the root directory that it is to have."""
        assert self._keeper is not None
        record = self.directory / INIT
        deadline = time.monotonic() + START_SECONDS
        while not (record.exists() and _is_systemd(record.read_text().strip())):
            if self._keeper.poll() is not None or time.monotonic() > deadline:
                raise MachineError(f"the container did not start:\n{self._log()}")
            time.sleep(0.02)
        self.pid = int(record.read_text())

    def _log(self) -> str:
        path = self.directory / CONSOLE
        return path.read_text(errors="replace")[-2000:] if path.exists() else "no console.log"


def _is_systemd(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "systemd\n"
    except OSError:
        return False


def _root() -> Path:
    root = cgroups.mount_point()
    assert root is not None                             # host_needs has seen it
    return root


def _launch(source: image.Image, keep: bool) -> Container:
    """Start the keeper; without `keep` it ends the container with this process."""
    _remove_stale()
    directory = Path(tempfile.mkdtemp(prefix=DIRECTORY_PREFIX))
    container = Container(source, directory, 0, 0)
    command = [str(KEEPER), str(source.disk), str(directory), str(container.group)]
    # The keeper inherits these locks: image and directory are in use as long as it lives.
    holds = (source.hold(), image.hold(directory))
    try:
        with open(directory / CONSOLE, "wb") as console:
            container._keeper = subprocess.Popen(
                [*command, "stay" if keep else "end"],
                stdin=subprocess.DEVNULL if keep else subprocess.PIPE,
                stdout=console,
                stderr=console,
                pass_fds=holds,
                start_new_session=True,                 # Ctrl-C is for us to handle
            )
    finally:
        for descriptor in holds:
            os.close(descriptor)
    return container


def _await_gone(directory: Path) -> None:
    """Wait until the keeper has removed the directory, which it does last."""
    deadline = time.monotonic() + START_SECONDS
    while directory.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    shutil.rmtree(directory, ignore_errors=True)


def _remove_stale() -> None:
    """Remove what containers left behind whose keeper was killed; their processes are gone."""
    for group in _root().glob(DIRECTORY_PREFIX + "*"):
        directory = Path(tempfile.gettempdir(), group.name)
        with contextlib.suppress(OSError):              # another may be at it, too
            if directory.exists():
                image.remove_unless_held(directory)
            if not directory.exists():
                cgroups.Slice.of(group).remove()
