"""The virtual machine: QEMU on its own overlay of an image, and ssh into it.

A machine wakes from the saved state of a running pool in seconds. The state is read by
QEMU's incoming migration rather than -loadvm, because a state beside the disk can be
shared: every machine writes to an overlay of its own and the image stays as it was.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

from tests.pool import host_needs, image
from tests.pool.errors import CommandError, MachineError, MachineTimeout
from tests.pool.progress import Progress
from tests.pool.qmp import Monitor

KERNEL_COMMAND_LINE = "root=/dev/vda rw console=ttyS0 quiet mitigations=off net.ifnames=0"
SSH_OPTIONS = (
    "BatchMode=yes",
    "ConnectTimeout=10",
    "IdentitiesOnly=yes",
    "LogLevel=ERROR",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
)
POOL_IS_UP = "condor_status -af Name 2>/dev/null | grep -q . && condor_q >/dev/null 2>&1"


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
        self._qemu: Optional[subprocess.Popen[bytes]] = None
        self._master: Optional[subprocess.Popen[bytes]] = None

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
        monitor = Monitor(self.directory / "monitor")
        monitor.await_restored()
        self.port = _forwarded_port(monitor)
        monitor.close()
        self._await_ssh(30.0, keep)
        self.run(f"date --utc --set=@{time.time():.3f} >/dev/null && condor_reconfig >/dev/null")
        self.await_pool(120.0)

    def ssh_command(self) -> List[str]:
        """The ssh command line as far as the host's name; what is to be run follows."""
        options = [f"-o{option}" for option in SSH_OPTIONS]
        control = self.directory / "ssh"
        where = ["-i", str(self.image.ssh_key), "-p", str(self.port), "-S", str(control)]
        return ["ssh", *options, *where, "root@127.0.0.1"]

    def execute(self, command: str, stdin: bytes = b"", timeout: float = 300.0) -> Tuple[bytes, bytes, int]:
        """Run a shell command as root; returns output, errors, exit code."""
        done = subprocess.run(
            [*self.ssh_command(), command], input=stdin, capture_output=True, timeout=timeout
        )
        return done.stdout, done.stderr, done.returncode

    def run(self, command: str, stdin: bytes = b"", check: bool = True, timeout: float = 300.0) -> Result:
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
            raise MachineTimeout(f"HTCondor was not up after {seconds:.0f} s") from error

    def alive(self) -> bool:
        if self._qemu is not None:
            return self._qemu.poll() is None
        command = Path(f"/proc/{self.pid}/cmdline")
        return command.exists() and str(self.directory).encode() in command.read_bytes()

    def stop(self) -> None:
        """End the machine at once; nothing of it is kept."""
        if self._master is not None:
            self._master.kill()
            self._master.wait()
        elif (self.directory / "ssh").exists():
            subprocess.run([*self.ssh_command()[:-1], "-O", "exit", "root@127.0.0.1"], stderr=subprocess.DEVNULL)
        if self.alive():
            os.kill(self.pid, signal.SIGKILL)
        if self._qemu is not None:
            self._qemu.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

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
    def recall(cls, record: Path) -> Optional[Machine]:
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
            monitor = Monitor(machine.directory / "monitor")
            machine.port = _forwarded_port(monitor)
            machine._await_ssh(300.0, keep=False)
            progress.say("ssh answers; waiting for HTCondor")
            machine.await_pool(300.0)
            _settle(machine)
            monitor.save_state(source.state)
            monitor.execute("quit")
            machine._qemu and machine._qemu.wait(60)
        finally:
            machine.stop()


def _settle(machine: Machine) -> None:
    """Let the first start's work end and shrink the state: free memory costs nothing."""
    machine.run("sleep 5; sync; echo 3 > /proc/sys/vm/drop_caches")


def _launch(source: image.Image, restore: bool, keep: bool) -> Machine:
    directory = Path(tempfile.mkdtemp(prefix="ledge-pool-"))
    hold = source.hold()
    try:
        disk, disk_format = source.disk, "raw"
        if restore:
            disk, disk_format = directory / "disk.qcow2", "qcow2"
            _make_overlay(source.disk, disk)
        command = _qemu_command(source, directory, disk, disk_format)
        if restore:
            command += ["-incoming", f"exec:cat '{source.state}'"]
        if not keep:
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        with open(directory / "qemu.log", "wb") as log:
            qemu = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(hold,),
                start_new_session=True,
            )
    finally:
        os.close(hold)
    machine = Machine(source, directory, qemu.pid, 0)
    machine._qemu = qemu
    return machine


def _make_overlay(base: Path, overlay: Path) -> None:
    command = [host_needs.program("qemu-img"), "create", "-q", "-f", "qcow2", "-F", "raw"]
    subprocess.run([*command, "-b", str(base), str(overlay)], check=True)


def _qemu_command(source: image.Image, directory: Path, disk: Path, disk_format: str) -> List[str]:
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
