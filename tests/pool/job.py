"""A job in the test pool: what was submitted, and what became of it."""

from __future__ import annotations

import json
import os
import re
import selectors
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from tests.pool import user_log
from tests.pool.errors import JobEnded, JobTimeout, PoolError
from tests.pool.machine import Result

if TYPE_CHECKING:
    from tests.pool.condor import Pool

# The description's own settings come later and win.
DEFAULTS = "log = log\noutput = output.$(Process)\nerror = error.$(Process)\n"
DESCRIPTION_FILE = "description.sub"
COMPLETED_OR_REMOVED = (3, 4)
ENDINGS = ("aborted", "held", "terminated")
QUIET_SECONDS = 0.5


class Submission(NamedTuple):
    """What is to be submitted: a submit description, by whom, beside which files."""

    description: str
    user: str = "alice"
    name: str = "job"
    files: Mapping[str, str | bytes] = {}

    def text(self) -> str:
        """The description as condor_submit gets it, with a queue statement."""
        queue = "" if re.search(r"(?im)^\s*queue\b", self.description) else "\nqueue\n"
        return DEFAULTS + self.description + queue


class Job:
    """One process of a cluster, with its submit directory in the guest."""

    def __init__(
        self, pool: Pool, submission: Submission, directory: str, cluster: int, proc: int
    ) -> None:
        self.pool = pool
        self.submission = submission
        self.user = submission.user
        self.directory = directory
        self.cluster = cluster
        self.proc = proc
        self.siblings: list[Job] = [self]

    def __repr__(self) -> str:
        return f"Job({self.id} of {self.user})"

    @property
    def id(self) -> str:
        return f"{self.cluster}.{self.proc}"

    def wait(
        self, event: str = "terminated", timeout: float = 120.0, count: int = 1, strict: bool = True
    ) -> user_log.Event:
        """Wait until the user log has the event for the `count`-th time.

        With `strict`, a job that is held, removed or done meanwhile raises JobEnded at once.
        """
        number = user_log.event_number(event)
        seen: list[user_log.Event] = []
        for batch in self._follow(timeout):
            seen += batch
            matching = [one for one in seen if one.number == number]
            if len(matching) >= count:
                return matching[count - 1]
            if strict and not batch:
                self._raise_if_ended(seen, event)
        names = ", ".join(one.name for one in seen) or "nothing"
        raise JobTimeout(f"{self!r}: not {event} after {timeout:.0f} s; its log has {names}")

    def events(self) -> list[user_log.Event]:
        """All events so far."""
        text = self.pool.get(self.path("log")).decode(errors="replace")
        return self._own(user_log.parse(text)[0])

    def ad(self, timeout: float = 30.0) -> dict[str, Any]:
        """The job ad: from the queue while the job is there, else from the history.

        Undefined attributes are missing. Once the log tells that the job is over, this
        waits for the final ad.
        """
        deadline = time.monotonic() + timeout
        over = any(one.name in ("terminated", "aborted") for one in self.events())
        while time.monotonic() < deadline:
            ad = self._query("condor_history -limit 1") if over else {}
            ad = ad or self._query("condor_q")
            if ad and (not over or ad.get("JobStatus") in COMPLETED_OR_REMOVED):
                return ad
            over = over or not ad
            time.sleep(0.2)
        raise JobTimeout(f"{self!r}: neither in the queue nor in the history")

    def output(self) -> bytes:
        return self.file(self._name_of("output"))

    def error(self) -> bytes:
        return self.file(self._name_of("error"))

    def file(self, name: str) -> bytes:
        """A file in the submit directory."""
        return self.pool.get(self.path(name))

    def path(self, name: str) -> str:
        """Full path of a file in the submit directory; `log` is the user log's."""
        return os.path.join(self.directory, self._name_of("log") if name == "log" else name)

    def remove(self) -> Result:
        return self._command("condor_rm")

    def hold(self) -> Result:
        return self._command("condor_hold")

    def release(self) -> Result:
        return self._command("condor_release")

    def vacate(self) -> Result:
        return self._command("condor_vacate_job")

    def suspend(self) -> Result:
        return self._command("condor_suspend")

    def cont(self) -> Result:
        return self._command("condor_continue")

    def _command(self, program: str) -> Result:
        return self.pool.run_as(self.user, f"{program} {self.id}")

    def _query(self, program: str) -> dict[str, Any]:
        output = self.pool.root(f"{program} -json {self.id}").stdout.strip()
        ads = json.loads(output) if output else []
        return dict(ads[0]) if ads else {}

    def _name_of(self, command: str) -> str:
        """Value of a submit command, with the macros that tell processes apart."""
        pattern = rf"(?im)^\s*{command}\s*=\s*(.*?)\s*$"
        value = str(re.findall(pattern, self.submission.text())[-1])
        value = re.sub(r"(?i)\$\(proc(ess|id)?\)", str(self.proc), value)
        return re.sub(r"(?i)\$\(cluster(id)?\)", str(self.cluster), value)

    def _own(self, events: list[user_log.Event]) -> list[user_log.Event]:
        return [one for one in events if (one.cluster, one.proc) == (self.cluster, self.proc)]

    def _raise_if_ended(self, seen: list[user_log.Event], wanted: str) -> None:
        states = [one for one in seen if one.name in (*ENDINGS, "released", "executing")]
        if states and states[-1].name in ENDINGS:
            story = "\n".join(states[-1].lines)
            raise JobEnded(f"{self!r}: {states[-1].name} while waiting for {wanted}\n{story}")

    def _follow(self, timeout: float) -> Iterator[list[user_log.Event]]:
        """Batches of new events; an empty one when the log was quiet for a while."""
        log = shlex.quote(self.path("log"))
        # cat ends when this side closes the channel: no tail stays behind in the guest.
        script = f"tail -c +1 -F {log} 2>/dev/null & cat >/dev/null; kill $!"
        tail = subprocess.Popen(
            [*self.pool.machine.ssh_command(), script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert tail.stdin is not None and tail.stdout is not None
        try:
            yield from self._batches(tail.stdout, time.monotonic() + timeout)
        finally:
            tail.stdin.close()
            tail.wait()
            tail.stdout.close()

    def _batches(self, stream: IO[bytes], deadline: float) -> Iterator[list[user_log.Event]]:
        text = ""
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while time.monotonic() < deadline:
                if not selector.select(QUIET_SECONDS):
                    yield []
                    continue
                chunk = os.read(stream.fileno(), 65536)
                if not chunk:
                    raise PoolError("the connection to the virtual machine was lost")
                events, text = user_log.parse(text + chunk.decode(errors="replace"))
                if events:
                    yield self._own(events)
