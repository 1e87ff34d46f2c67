"""The sshd of condor_ssh_to_job as HTCondor's starter starts it: beside a job, by the wrapper.

In a slice of its own that is delegated to the job's user, in the job's scratch directory, with the
client's connection for standard input and output, a log for its errors, and the PIDs of what runs
in the environment (sshd_proc.cpp, starter.cpp).
"""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from tests.kernel.cgroups import Slice
from tests.kernel.starter import PATIENCE_SECONDS, Process, Starter

# Whatever is to be a session's program, by the name of sshd.
STAND_IN = '#!/bin/sh\nexec "$@"\n'


class Session:
    """One that was started; `client` is the other end of its standard input and output."""

    def __init__(self, process: Process, client: socket.socket, log: Path) -> None:
        self.process = process
        self.client = client
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def output(self) -> str:
        """All that it writes, until it has closed the connection."""
        self.client.settimeout(PATIENCE_SECONDS)
        text = b""
        with self.client:
            while chunk := self.client.recv(65536):
                text += chunk
        return text.decode()


class Sshd(Starter):
    """Starts sessions of one job of `starter`'s."""

    def __init__(self, starter: Starter, job: Process) -> None:
        slice_ = Slice(f"ledge-test-{os.getpid()}-sshd.slice", starter.user.uid)
        super().__init__(starter.wrapper, starter.execute, starter.user, slice_)
        self.mounts = starter.mounts
        self.wrapped = True
        self.job = job
        self.program = job.directory / "sshd"
        if not self.program.exists():
            self.program.write_text(STAND_IN)
            self.program.chmod(0o755)

    def _scratch(self) -> Path:
        return self.job.directory

    def session(
        self,
        *argv: str,
        wrapped: bool | None = None,
        program: str = "",
        connection: socket.socket | None = None,
    ) -> Session:
        """Start a command as a session's sshd, or `program` with these arguments.

        `connection` is what it is to be connected with, if it is not to be `client`'s other end.
        """
        client, theirs = socket.socketpair()
        if connection is not None:
            theirs.close()
            theirs = connection
        log = self.job.directory / "sshd.log"

        def connect() -> None:
            for fd in (0, 1):
                os.dup2(theirs.fileno(), fd)
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 2)

        process = self.start(
            program or str(self.program), *argv, before=connect,
            environ=[b"_CONDOR_JOB_PIDS=%d" % self.job.pid],
            wrapped=self.wrapped if wrapped is None else wrapped,
        )  # fmt: skip
        theirs.close()
        return Session(process, client, log)

    def said(self, *argv: str, wrapped: bool = True) -> str:
        """What a command says in a session; it is to end well, and nothing is to be in its log."""
        session = self.session(*argv, wrapped=wrapped)
        text = session.output()
        assert (session.process.wait(), session.log) == (0, ""), (text, session.log)
        return text

    def close(self) -> None:
        super().close()
        assert self.slice is not None
        self.slice.remove()


# As condor_ssh_to_job_sshd_config_template has them.
CONFIGURATION = """\
HostKey {directory}/sshkey
AuthorizedKeysFile {directory}/authorized_keys
AcceptEnv *
Subsystem sftp /usr/lib/openssh/sftp-server
StrictModes no
LogLevel DEBUG
X11Forwarding yes
X11UseLocalhost no
PermitRootLogin no
PrintLastLog yes
Compression delayed
"""
# What condor_ssh_to_job_shell_setup does.
SHELL_SETUP = """\
. "$1"
cd "$_CONDOR_SCRATCH_DIR"
if grep -q '^InteractiveJob = true' .job.ad && [ "$_CONDOR_JOB_PIDS" ]; then
    kill "$_CONDOR_JOB_PIDS"
fi
if [ "$SSH_ORIGINAL_COMMAND" ]; then
    eval $SSH_ORIGINAL_COMMAND
else
    echo "Your condor job is running with pid(s) $_CONDOR_JOB_PIDS."
    exec -l /bin/bash
fi
"""


class OpenSsh:
    """sshd and ssh of this machine, with the files that HTCondor makes for one session."""

    def __init__(self, sshd: Sshd) -> None:
        self.sshd = sshd
        self.directory = directory = sshd.job.directory / ".condor_ssh_to_job_1"
        directory.mkdir(0o700)
        key = directory / "sshkey"
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", key], check=True)
        (directory / "sshd_config").write_text(CONFIGURATION.format(directory=directory))
        (directory / "shell_setup").write_text(SHELL_SETUP)
        (directory / "env.sh").write_text(
            f"export _CONDOR_SCRATCH_DIR='{sshd.job.directory}'\n"
            f"export _CONDOR_JOB_PIDS='{sshd.job.pid}'\n"
        )
        command = f"/bin/bash {directory}/shell_setup {directory}/env.sh"
        public = key.with_suffix(".pub").read_text()
        (directory / "authorized_keys").write_text(f'command="{command}" {public}')
        for path in (directory, *directory.iterdir()):
            os.chown(path, sshd.user.uid, sshd.user.gid)
        self.client_key = directory.parent.parent / "client_key"
        self.client_key.write_text(key.read_text())
        self.client_key.chmod(0o600)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def options(self, port: str = "-p") -> list[str]:
        """Of ssh, and with "-P" of scp."""
        settings = ("UserKnownHostsFile=/dev/null", "StrictHostKeyChecking=no", "LogLevel=ERROR")
        options = [f"-o{setting}" for setting in (*settings, "IdentitiesOnly=yes", "BatchMode=yes")]
        return ["-F/dev/null", *options, "-i", str(self.client_key), port, str(self.port)]

    def run(self, *command: str) -> tuple[int, str, Session]:
        """A client and the session that it asks for; how it ends and what it says."""
        client = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        session = self.accept()
        text = client.communicate(timeout=PATIENCE_SECONDS)[0]
        session.process.wait()
        return client.returncode, text, session

    def accept(self) -> Session:
        """Have the starter start sshd for who connects."""
        connection, _ = self.listener.accept()
        session = self.sshd.session(
            "-i", "-e", "-f", f"{self.directory}/sshd_config", program="/usr/sbin/sshd",
            connection=connection,
        )  # fmt: skip
        session.client.close()
        return session

    def ssh(self, *words: str) -> list[str]:
        """The command line of a client."""
        return ["ssh", *self.options(), f"{self.sshd.user.name}@127.0.0.1", *words]

    def close(self) -> None:
        self.listener.close()
