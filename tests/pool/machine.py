"""The virtual machine: QEMU on its own overlay of an image, and ssh into it.

A machine wakes from the saved state of a running pool in seconds. The state is read by
QEMU's incoming migration rather than -loadvm, because a state beside the disk can be
shared: every machine writes to an overlay of its own and the image stays as it was.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from tests.pool import host_needs, image
from tests.pool.errors import CommandError, MachineError, MachineTimeout
from tests.pool.progress import Progress
from tests.pool.qmp import Monitor

DIRECTORY_PREFIX = "ledge-pool-"
AUTOGROUP_NICE = "-3"
KERNEL_COMMAND_LINE = "root=/dev/vda rw console=ttyS0 quiet mitigations=off net.ifnames=0"
SSH_OPTIONS = (
    "BatchMode=yes",
    "ConnectTimeout=10",
    "IdentitiesOnly=yes",
    "LogLevel=ERROR",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
)
WARM_FILES = "/usr/sbin/condor_* /usr/bin/condor_* /usr/bin/python3 /usr/bin/setpriv"
WHY_NOT_UP = "date; ps -ef | grep condor_; tail -n 5 /var/log/condor/*Log; condor_q; condor_status"
POOL_IS_UP = (
    "timeout 20 condor_status -af Name 2>/dev/null | grep -q . && "
    "timeout 20 condor_q >/dev/null 2>&1"
)

# A machine wakes at the time of its saved state. condor_master takes a jump of more than
# 20 minutes for an error and restarts everything, at a time of its own choosing and with
# errors for the tools meanwhile: so after a long sleep HTCondor is started anew here.
SET_CLOCK = r"""
jump=$(($0 - $(date +%s)))
if [ $jump -gt 900 ]; then systemctl kill --signal=KILL condor; systemctl stop condor; fi
date --utc --set=@$0 >/dev/null
if [ $jump -gt 900 ]; then exec systemctl start condor; fi
"""


class Result(NamedTuple):
    """What a command in the guest printed, and its exit code."""

    stdout: str
    stderr: str
    returncode: int


class Machine:
    """A running virtual machine; `directory` holds all that is its own."""

    def __init__(self, source: image.Image, directory: Path, pid: int, port: int) -> None:
        self.image = source
        self.directory = directory
        self.pid = pid
        self.port = port
        self._qemu: subprocess.Popen[bytes] | None = None
        self._master: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, source: image.Image, progress: Progress, keep: bool = False) -> Machine:
        """Wake a machine with the pool up; `keep` lets it outlive this process."""
        host_needs.check_run()
        with progress.step("waking the virtual machine", 5):
            machine = _launch(source, restore=True, keep=keep)
            try:
                machine._wake(keep)
            except BaseException:
                machine.stop()
                raise
        return machine

    def _wake(self, keep: bool) -> None:
        with closing(Monitor(self.directory / "monitor")) as monitor:
            monitor.await_restored()
            self.port = _forwarded_port(monitor)
        self._await_ssh(30.0, keep)
        self.run(f"sh -c {shlex.quote(SET_CLOCK)} {time.time():.0f}")
        self.await_pool(120.0)

    def ssh_command(self) -> list[str]:
        """The ssh command line as far as the host's name; what is to be run follows."""
        options = [f"-o{option}" for option in SSH_OPTIONS]
        control = self.directory / "ssh"
        where = ["-i", str(self.image.ssh_key), "-p", str(self.port), "-S", str(control)]
        return ["ssh", *options, *where, "root@127.0.0.1"]

    def execute(
        self, command: str, stdin: bytes = b"", timeout: float = 300.0
    ) -> tuple[bytes, bytes, int]:
        """Run a shell command as root; returns output, errors, exit code."""
        done = subprocess.run(
            [*self.ssh_command(), command], input=stdin, capture_output=True, timeout=timeout
        )
        return done.stdout, done.stderr, done.returncode

    def run(
        self, command: str, stdin: bytes = b"", check: bool = True, timeout: float = 300.0
    ) -> Result:
        """Run a shell command as root, as text; with `check`, raise unless it ends with 0."""
        out, err, code = self.execute(command, stdin, timeout)
        result = Result(out.decode(errors="replace"), err.decode(errors="replace"), code)
        if check and code != 0:
            raise CommandError(f"{command}\nended with {code}:\n{result.stdout}{result.stderr}")
        return result

    def await_pool(self, seconds: float) -> None:
        """Wait until the startd's slots are in the collector and the schedd answers."""
        loop = f"for i in $(seq 600); do {POOL_IS_UP} && exit 0; sleep 0.5; done; exit 1"
        try:
            self.run(loop, timeout=seconds)
        except subprocess.TimeoutExpired as error:
            logs, _, _ = self.execute(f"timeout 20 sh -c {shlex.quote(WHY_NOT_UP)}")
            told = logs.decode(errors="replace")
            raise MachineTimeout(f"HTCondor was not up after {seconds:.0f} s\n{told}") from error

    def alive(self) -> bool:
        if self._qemu is not None:
            return self._qemu.poll() is None
        command = Path(f"/proc/{self.pid}/cmdline")
        return command.exists() and str(self.directory).encode() in command.read_bytes()

    def await_end(self, seconds: float) -> None:
        """Wait until QEMU, started by this process and told to quit, has written its disk."""
        assert self._qemu is not None
        self._qemu.wait(seconds)

    def stop(self) -> None:
        """End the machine at once; nothing of it is kept."""
        self._close_master()
        if self.alive():
            os.kill(self.pid, signal.SIGKILL)
        if self._qemu is not None:
            self._qemu.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _close_master(self) -> None:
        if self._master is not None:
            self._master.kill()
            self._master.wait()
        elif (self.directory / "ssh").exists():
            command = self.ssh_command()
            command[-1:] = ["-O", "exit", command[-1]]
            subprocess.run(command, stderr=subprocess.DEVNULL)

    def _await_ssh(self, seconds: float, keep: bool) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.alive():
                raise MachineError(f"QEMU ended:\n{self._log()}")
            if self._open_master(keep):
                return
            time.sleep(0.2)
        raise MachineTimeout(f"no ssh after {seconds:.0f} s; the console said:\n{self._log()}")

    def _open_master(self, keep: bool) -> bool:
        """Open the connection that all later commands share."""
        prefix = [] if keep else ["setpriv", "--pdeathsig", "KILL"]
        command = [*prefix, *self.ssh_command()]
        command[-1:] = ["-M", "-N", command[-1]]
        master = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=keep,
        )
        while master.poll() is None:
            if (self.directory / "ssh").exists():
                self._master = master
                return True
            time.sleep(0.02)
        return False

    def _log(self) -> str:
        names = ("qemu.log", "console.log")
        paths = [self.directory / name for name in names]
        return "".join(path.read_text(errors="replace")[-2000:] for path in paths if path.exists())

    def remember(self, record: Path) -> None:
        """Write down where the machine is, for `recall` in another process."""
        record.parent.mkdir(parents=True, exist_ok=True)
        facts = {
            "image": str(self.image.directory),
            "directory": str(self.directory),
            "pid": self.pid,
            "port": self.port,
        }
        record.write_text(json.dumps(facts), encoding="ascii")

    @classmethod
    def recall(cls, record: Path) -> Machine | None:
        """The machine that was written down, if it still runs."""
        if not record.exists():
            return None
        facts = json.loads(record.read_text(encoding="ascii"))
        source = image.Image(Path(facts["image"]))
        machine = cls(source, Path(facts["directory"]), facts["pid"], facts["port"])
        return machine if machine.alive() else None


def boot_and_save(source: image.Image, progress: Progress) -> None:
    """Boot a new image, wait for the pool, and save the state of the running machine."""
    with progress.step("booting the virtual machine under emulation", 60):
        machine = _launch(source, restore=False, keep=False)
        try:
            with closing(Monitor(machine.directory / "monitor")) as monitor:
                machine.port = _forwarded_port(monitor)
                machine._await_ssh(300.0, keep=False)
                progress.say("ssh answers; waiting for HTCondor")
                machine.await_pool(300.0)
                _settle(machine)
                monitor.save_state(source.state)
                monitor.execute("quit")
            machine.await_end(60.0)
        finally:
            machine.stop()


def _settle(machine: Machine) -> None:
    """Let the first start's work end, and have in memory what every job will need."""
    machine.run(f"sleep 3; cat {WARM_FILES} >/dev/null; bash -c true; sync")


def _launch(source: image.Image, restore: bool, keep: bool) -> Machine:
    """Start QEMU in a directory of its own; without `keep` it dies with this process."""
    _remove_stale_directories()
    directory = Path(tempfile.mkdtemp(prefix=DIRECTORY_PREFIX))
    command = [] if keep else ["setpriv", "--pdeathsig", "KILL"]
    if restore:
        overlay = directory / "disk.qcow2"
        _make_overlay(source.disk, overlay)
        command += _qemu_command(source, directory, overlay, "qcow2")
        command += ["-incoming", f"exec:cat {shlex.quote(str(source.state))}"]
    else:
        command += _qemu_command(source, directory, source.disk, "raw")
    # QEMU inherits these locks: image and directory are in use as long as it lives.
    holds = (source.hold(), image.hold(directory))
    try:
        qemu = _spawn(command, directory / "qemu.log", holds)
    finally:
        for descriptor in holds:
            os.close(descriptor)
    machine = Machine(source, directory, qemu.pid, 0)
    machine._qemu = qemu
    return machine


def _spawn(command: list[str], log: Path, holds: tuple[int, ...]) -> subprocess.Popen[bytes]:
    with open(log, "wb") as output:
        qemu = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=holds,
            start_new_session=True,                    # Ctrl-C is for us to handle
        )
    # What else runs here comes second: what it takes from the guest looks like the work of the
    # guest's processes (sched(7), "The autogroup feature": nice values count within a session).
    with suppress(OSError):
        Path(f"/proc/{qemu.pid}/autogroup").write_text(AUTOGROUP_NICE)
    return qemu


def _remove_stale_directories() -> None:
    """Remove what machines left behind whose owner was killed."""
    for directory in Path(tempfile.gettempdir()).glob(DIRECTORY_PREFIX + "*"):
        status = directory.stat()
        old = time.time() - status.st_mtime > 60        # a new one is not locked yet
        if old and status.st_uid == os.getuid():
            image.remove_unless_held(directory)


def _make_overlay(base: Path, overlay: Path) -> None:
    command = [host_needs.program("qemu-img"), "create", "-q", "-f", "qcow2", "-F", "raw"]
    subprocess.run([*command, "-b", str(base), str(overlay)], check=True)


def _qemu_command(source: image.Image, directory: Path, disk: Path, disk_format: str) -> list[str]:
    return [
        host_needs.program("qemu-system-x86_64"),
        *("-name", directory.name),
        *("-machine", "q35", "-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max"),
        *("-smp", str(image.PROCESSORS), "-m", image.MEMORY_SIZE),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-serial", f"file:{directory}/console.log"),
        *("-qmp", f"unix:{directory}/monitor,server=on,wait=off"),
        *("-kernel", str(source.kernel), "-initrd", str(source.initrd)),
        *("-append", KERNEL_COMMAND_LINE),
        *("-drive", f"file={disk},format={disk_format},if=virtio,cache=unsafe"),
        *("-device", "virtio-rng-pci"),
        *("-nic", "user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:0-:22"),
    ]


def _forwarded_port(monitor: Monitor) -> int:
    """The loopback port that the kernel chose for the guest's ssh."""
    table = monitor.human("info usernet")
    found = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)", table)
    if found is None:
        raise MachineError(f"QEMU forwards no port to the guest's ssh:\n{table}")
    return int(found.group(1))
