"""Everything that needs htcondor2: whose a starter's job is, and an attribute in the job queue.

It runs in the worker (worker.py), a process that may be killed at any moment: htcondor2 waits in
C++, and has no time limits of its own that could be relied on.

One edit is one connection and one transaction with one attribute (htcondor2.Schedd.edit,
src/python-bindings/htcondor2/schedd.cpp), which is why a job's figures are one attribute.
"""

from __future__ import annotations

import json
import os
import re
import socket
from typing import Any

from ledge.condor_versions import errors_of

ATTRIBUTE = "Ledge"
# What became of an edit: the record is there; there is no such job, or it runs elsewhere by now;
# the schedd lets us do nothing; it will not have this record; it did not answer, or something else
# went wrong.
DONE, GONE, DENIED, REFUSED, FAILED = "done", "gone", "denied", "refused", "failed"
LARGEST_MESSAGE = 131072
# As HTCondor's src/condor_schedd.V6/qmgmt.cpp ModifyAttrCheck words them.
_GONE = re.compile(r"\bnonexistent job\b|non-active cluster")
_DENIED = re.compile(r"may not change|[Uu]nauthorized|Authentication is required|denied")
_REFUSED = re.compile(r"Unable to commit transaction: *\S")  # schedd.cpp of the bindings
_JOB_ID = re.compile(r"[0-9]+\.[0-9]+")


def serve(connection: socket.socket, tokens: str | None) -> None:
    """Answer requests until the other end is closed.

    `tokens` is the directory of the tokens, None for HTCondor's own choice.
    """
    _set_environment(tokens)
    message = connection.recv(LARGEST_MESSAGE)
    try:
        bindings = Bindings()
    except ImportError as error:
        problem = f"HTCondor's Python bindings cannot be loaded: {error}"
        answer = {"problem": problem, "outcome": FAILED, "reason": problem}
        connection.send(json.dumps(answer).encode())
        return
    while message:
        request = json.loads(message)
        answer = bindings.edit(**request["edit"]) if "edit" in request else bindings.jobs()
        connection.send(json.dumps(answer).encode())
        message = connection.recv(LARGEST_MESSAGE)


def _set_environment(tokens: str | None) -> None:
    """Before htcondor2 is loaded: condor_master's environment has sessions that are not ours.

    With a token we are whom it names. Without, the access point may know this process in another
    way: by FS where it is this very machine.
    """
    config = os.environ.get("CONDOR_CONFIG")
    os.environ.clear()
    if config:
        os.environ["CONDOR_CONFIG"] = config
    if tokens is not None and _has_files(tokens):
        os.environ["_CONDOR_SEC_TOKEN_DIRECTORY"] = tokens
        os.environ["_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS"] = "IDTOKENS"


def _has_files(directory: str) -> bool:
    try:
        return bool(os.listdir(directory))
    except OSError:
        return False


class Bindings:
    """htcondor2 and what it has told."""

    def __init__(self) -> None:
        """Raises ImportError where the bindings are not installed."""
        import htcondor2

        self.library = htcondor2
        self._errors: tuple[type[Exception], ...] = (
            *errors_of(htcondor2, "HTCondorException"),
            OSError,
            ValueError,
        )
        self._schedds: dict[str, Any] = {}

    def jobs(self) -> dict[str, Any]:
        """Schedd, job and slot of every job on this node, by the PID of its starter.

        The startd knows them from the claim and by the job's ids, which nobody can change; that
        cannot be said of what stands in a job ad.
        """
        wanted = ["Name", "StarterPid", "JobId", "RemoteScheddName"]
        try:
            startd = self.library.Collector().locate(self.library.DaemonType.Startd)
            ads = self.library.Collector(startd).query(
                self.library.AdType.Startd, "StarterPid =!= undefined", wanted
            )
        except self._errors as error:
            return {"problem": f"the startd does not say whose jobs run here: {error}"}
        found = {}
        for ad in ads:
            told = [ad.get(name) for name in ("RemoteScheddName", "JobId", "Name")]
            if all(isinstance(word, str) for word in told) and _JOB_ID.fullmatch(str(told[1])):
                found[str(int(ad["StarterPid"]))] = told
        return {"jobs": found}

    def edit(self, schedd: str, job: str, record: str, slot: str | None) -> dict[str, str]:
        """Put a record into a job's ad; with `slot`, if the job has run last in that slot."""
        try:
            queue = self._schedd(schedd)
            if slot is not None and not self._ran_in(queue, job, slot):
                return {"outcome": GONE, "reason": "it runs elsewhere, or has left the queue"}
            queue.edit([job], ATTRIBUTE, record)
        except self._errors as error:
            self._schedds.pop(schedd, None)  # it may have another address by now
            return {"outcome": outcome_of(str(error)), "reason": str(error)}
        return {"outcome": DONE, "reason": ""}

    def _schedd(self, name: str) -> Any:
        """Raises ValueError if the collector knows none of that name."""
        if name not in self._schedds:
            location = self.library.Collector().locate(self.library.DaemonType.Schedd, name)
            if location is None:
                raise ValueError("the collector knows no such schedd")
            self._schedds[name] = self.library.Schedd(location)
        return self._schedds[name]

    def _ran_in(self, queue: Any, job: str, slot: str) -> bool:
        cluster, _, proc = job.partition(".")
        constraint = f"ClusterId == {cluster} && ProcId == {proc}"
        for ad in queue.query(constraint, ["RemoteHost", "LastRemoteHost"], limit=1):
            return bool(ad.get("RemoteHost", ad.get("LastRemoteHost")) == slot)
        return False


def outcome_of(message: str) -> str:
    """What an exception of htcondor2's means, by its text: it has nothing else."""
    if _GONE.search(message):
        return GONE
    if _DENIED.search(message):
        return DENIED
    return REFUSED if _REFUSED.search(message) else FAILED
