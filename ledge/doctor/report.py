"""What was found of one subject, to be printed for people or for programs."""

from __future__ import annotations

from typing import NamedTuple

OK = "ok"
UNTOLD = "untold"
WARNING = "warning"
FAULT = "fault"
# A program that watches the node goes by these (as Nagios's plugins do).
EXIT_STATUS = {OK: 0, UNTOLD: 0, WARNING: 1, FAULT: 2}


class Finding(NamedTuple):
    """Something wrong: what it costs, and the command or line that mends it."""

    severity: str
    problem: str
    cost: str
    remedy: str


class Subject:
    """What was found of one subject; `summary` says what is well, `untold` what needs root."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.summary = ""
        self.untold = ""
        self.findings: list[Finding] = []

    def fault(self, problem: str, cost: str, remedy: str) -> None:
        """Note what keeps condor-ledge from what it promises, or jobs from running."""
        self._note(FAULT, problem, cost, remedy)

    def warning(self, problem: str, cost: str, remedy: str) -> None:
        """Note what is lost, or will be."""
        self._note(WARNING, problem, cost, remedy)

    def _note(self, severity: str, *texts: str) -> None:
        problem, cost, remedy = (" ".join(text.split()) for text in texts)
        self.findings.append(Finding(severity, problem, cost, remedy))

    @property
    def status(self) -> str:
        """The worst of its findings."""
        found = {finding.severity for finding in self.findings}
        if not found:
            return UNTOLD if self.untold and not self.summary else OK
        return FAULT if FAULT in found else WARNING

    def as_json(self) -> dict[str, object]:
        """All of it."""
        return {
            "subject": self.name,
            "status": self.status,
            "summary": self.summary,
            "untold": self.untold,
            "findings": [finding._asdict() for finding in self.findings],
        }
