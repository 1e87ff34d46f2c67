"""The test pool as a user and as an administrator see it.

    with Pool.start() as pool:
        job = pool.submit("executable = /bin/sleep\\narguments = 5", user="alice")
        job.wait("terminated")
        assert job.ad()["ExitCode"] == 0
"""

from __future__ import annotations

import io
import itertools
import posixpath
import shlex
import subprocess
import tarfile
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import TracebackType

from tests.packages import build
from tests.pool import image, machine
from tests.pool.container import Container
from tests.pool.errors import CommandError, PoolError
from tests.pool.job import DESCRIPTION_FILE, Job, Submission
from tests.pool.machine import Result
from tests.pool.progress import Progress
from tests.pool.releases import CONTAINER, Place, chosen_or_first

CONFIG_DIRECTORY = "/etc/condor/config.d"
SWITCH_FILE = f"{CONFIG_DIRECTORY}/60-ledge-switch.conf"
MARKER_FILE = f"{CONFIG_DIRECTORY}/98-pool-marker.conf"
MARKER = "POOL_CONFIGURATION"
# The starter of a job that is removed by force may wait for its shadow (seen on 23.9.6).
GRACE_SECONDS = 15.0
DAEMONS = ("master", "schedd", "startd")

# Two at a time: the machine has two processors. Arguments: user and directory, in turns.
SUBMIT_SCRIPT = r"""
tar -xf - -C / || exit
printf '%s\0' "$@" | xargs -0 -n 2 -P 2 sh -c '
    cd "$1" && setpriv --reuid "$0" --regid "$0" --init-groups --reset-env \
        condor_submit -terse DESCRIPTION >.submitted 2>&1 || echo failed >>.submitted'
while [ $# -gt 0 ]; do cat "$2/.submitted"; printf '\0'; shift 2; done
""".replace("DESCRIPTION", DESCRIPTION_FILE)
INSTALL_SCRIPT = r"""
package=$(mktemp --suffix=.deb) && cat >"$package" && dpkg --install "$package"
code=$?
rm -f "$package"
exit $code
"""


class Pool:
    """A running pool of one node, in a virtual machine or a container."""

    def __init__(self, running: machine.Machine, place: Place | None = None) -> None:
        self.machine = running
        self.place = place or chosen_or_first()
        self.release = self.place.release
        self._numbers = itertools.count(1)

    @classmethod
    def start(
        cls,
        progress: Progress | None = None,
        keep: bool = False,
        place: Place | None = None,
    ) -> Pool:
        """Wake a pool; the first time ever, build its image. `keep`: outlive this process.

        Without a place, in that which the environment names, or a machine of the first release.
        """
        progress = progress or Progress()
        place = place or chosen_or_first()
        source = image.ready_image(place.release, machine.boot_and_save, progress)
        kind = Container if place.machine == CONTAINER else machine.Machine
        return cls(kind.start(source, progress, keep), place)

    def stop(self) -> None:
        self.machine.stop()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def root(
        self,
        command: str,
        check: bool = True,
        stdin: str | bytes = b"",
        timeout: float = 300.0,
    ) -> Result:
        """Run a shell command as root; with `check`, raise CommandError unless it ends with 0."""
        return self.machine.run(command, _as_bytes(stdin), check, timeout)

    def run_as(
        self,
        user: str,
        command: str,
        check: bool = True,
        stdin: str | bytes = b"",
        timeout: float = 300.0,
    ) -> Result:
        """Run a shell command as a user, in the user's home directory."""
        name = shlex.quote(user)
        become = f"setpriv --reuid {name} --regid {name} --init-groups --reset-env"
        line = f"cd /home/{name} && exec {become} bash -c {shlex.quote(command)}"
        return self.root(line, check, stdin, timeout)

    def put(
        self, content: Path | str | bytes, path: str, owner: str = "root", mode: int = 0o644
    ) -> None:
        """Make a file in the guest, at once: of a local Path's bytes, of bytes or of text."""
        data = content.read_bytes() if isinstance(content, Path) else _as_bytes(content)
        user = shlex.quote(owner)
        options = f'-D -m {mode:o} -o {user} -g "$(id -gn {user})"'
        # HTCondor reads no file in config.d that begins with a dot.
        hidden = shlex.quote(str(PurePosixPath(path).with_name(f".{PurePosixPath(path).name}.new")))
        script = f"install {options} /dev/stdin {hidden} && mv -fT {hidden} {shlex.quote(path)}"
        self.root(script, stdin=data)

    def get(self, path: str) -> bytes:
        """The bytes of a file in the guest."""
        out, err, code = self.machine.execute(f"cat {shlex.quote(path)}")
        if code != 0:
            raise CommandError(err.decode(errors="replace"))
        return out

    def submit(
        self,
        description: str,
        user: str = "alice",
        name: str = "job",
        files: Mapping[str, str | bytes] | None = None,
    ) -> Job:
        """Submit and return the first job of the cluster; `job.siblings` are all of them.

        `files` are put into the submit directory first; those that begin with #! may be
        executed. The queue statement may be left out.
        """
        return self.submit_all([Submission(description, user, name, files or {})])[0]

    def submit_all(self, submissions: Sequence[Submission]) -> list[Job]:
        """Submit several in one round trip; returns the first job of each cluster."""
        places = [f"/home/{s.user}/jobs/{s.name}-{uuid.uuid4().hex[:8]}" for s in submissions]
        archive = _submit_archive(dict(zip(places, submissions)))
        pairs = [word for place, s in zip(places, submissions) for word in (s.user, place)]
        line = shlex.join(["sh", "-c", SUBMIT_SCRIPT, "submit", *pairs])
        answers = self.root(line, stdin=archive).stdout.split("\0")
        return [
            self._job(submission, place, answer)
            for submission, place, answer in zip(submissions, places, answers)
        ]

    def _job(self, submission: Submission, directory: str, answer: str) -> Job:
        """The jobs that condor_submit -terse tells of: "12.0 - 12.4"."""
        lines = answer.split("\n")
        ids = [line.split(" - ") for line in lines if line[:1].isdigit() and " - " in line]
        if "failed" in lines or not ids:
            raise PoolError(f"condor_submit in {directory} said:\n{answer}")
        first, last = (part.strip().split(".") for part in ids[0])
        cluster = int(first[0])
        procs = range(int(first[1]), int(last[1]) + 1)
        jobs = [Job(self, submission, directory, cluster, proc) for proc in procs]
        for job in jobs:
            job.siblings = jobs
        return jobs[0]

    def remove_all_jobs(self, timeout: float = 60.0) -> None:
        """Remove every job of every user and wait until no starter is left.

        The collector may for ever have an ad of a dynamic slot that is no more.
        """
        busy = "condor_q -allusers -af ClusterId; pgrep -x condor_starter"
        self.root("condor_rm -all", check=False)
        begin = time.monotonic()
        while self.root(busy, check=False).stdout.strip():
            waited = time.monotonic() - begin
            if waited > timeout:
                raise PoolError(f"there are still jobs after {timeout:.0f} s")
            if waited > GRACE_SECONDS:
                self.root("condor_rm -all -forcex", check=False)

    def install(self, source_root: Path) -> None:
        """Install condor-ledge as the package that its source tree makes."""
        with tempfile.TemporaryDirectory() as directory:
            package = build("deb", Path(directory), source=source_root)
            self.root(INSTALL_SCRIPT, stdin=package.read_bytes())
        self.reconfigure()

    def plugin_on(self, daemon: bool = True) -> None:
        """Switch condor-ledge on, with ledged or with what the wrapper can do alone."""
        self._switch(True, daemon)

    def plugin_off(self) -> None:
        self._switch(False, True)

    def _switch(self, enabled: bool, daemon: bool) -> None:
        self.put(f"LEDGE_ENABLED = {enabled}\nLEDGE_DAEMON = {daemon}\n", SWITCH_FILE)
        self.reconfigure()

    @contextmanager
    def configured(self, text: str, restart: bool = False) -> Iterator[None]:
        """HTCondor configuration, in force within the block; the innermost block wins.

        `restart` is for what daemons read at their start only, such as NUM_CPUS.
        """
        path = f"{CONFIG_DIRECTORY}/99-test-{next(self._numbers):04d}.conf"
        apply = self.restart if restart else self.reconfigure
        self.put(text if text.endswith("\n") else text + "\n", path)
        try:
            apply()
            yield
        finally:
            self.root(f"rm -f {path}")
            apply()

    def reconfigure(self, timeout: float = 60.0) -> None:
        """Let all daemons read their configuration again, and wait until they have."""
        token = uuid.uuid4().hex
        self.put(f"{MARKER} = {token}\n", MARKER_FILE)
        waits = "; ".join(
            f'until [ "$(condor_config_val -{daemon} {MARKER} 2>/dev/null)" = {token} ]; '
            "do sleep 0.1; done"
            for daemon in DAEMONS
        )
        line = f"condor_reconfig >/dev/null && {{ {waits}; }}"
        try:
            self.root(line, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise PoolError(f"no daemon read its configuration within {timeout:.0f} s") from error

    def restart(self, timeout: float = 180.0) -> None:
        """Restart HTCondor and wait until it is up again; running jobs are lost."""
        self.root("systemctl restart condor", timeout=timeout)
        self.machine.await_pool(timeout)


def _as_bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _submit_archive(submissions: Mapping[str, Submission]) -> bytes:
    """One tar file with all submit directories, owned by their users."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for place, submission in submissions.items():
            for directory in (posixpath.dirname(place), place):
                _add(archive, submission.user, directory, None)
            files: dict[str, str | bytes] = dict(submission.files)
            files[DESCRIPTION_FILE] = submission.text()
            for name, content in files.items():
                _add(archive, submission.user, f"{place}/{name}", _as_bytes(content))
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, user: str, path: str, content: bytes | None) -> None:
    """Add a file, or a directory when there is no content; tar finds the ids by name."""
    member = tarfile.TarInfo(path.lstrip("/"))
    member.uname = member.gname = user
    member.mtime = int(time.time())
    member.mode = 0o755 if content is None or content.startswith(b"#!") else 0o644
    member.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
    member.size = len(content or b"")
    archive.addfile(member, io.BytesIO(content or b""))
