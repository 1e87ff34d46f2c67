"""The policy in force: an evaluator, or the reason why every job is refused.

A policy that is wrong when ledged starts must not keep ledged from saying so: jobs are held with
file and line as the reason, until condor_reconfig finds it mended. Where it is the process that
could not be had, on a node that is too busy say, the next job tries again.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable

from ledge.policy.decision import Decision, refusal
from ledge.policy.errors import PolicyError
from ledge.policy.evaluator import Evaluator, NotRunningError

Answer = Callable[[Decision], None]

_PAUSE_SECONDS = 5.0  # before a process that could not be started is tried once more


class Decider:
    """Decisions on jobs, each given to whoever asked."""

    def __init__(
        self,
        policy: str,
        report: Callable[[str], None],
        watch: Callable[[int, Callable[[], None]], None],
    ) -> None:
        self.policy = policy
        self.problem = ""
        self._report = report
        self._watch = watch
        self._evaluator: Evaluator | None = None
        self._answers: dict[int, Answer] = {}
        self._token = 0
        self._not_before = math.inf
        self.reload()

    @property
    def without_daemon(self) -> str:
        """What the policy wants while ledged does not answer; hold where there is no policy."""
        return self._evaluator.terms.without_daemon if self._evaluator else "hold"

    @property
    def pid(self) -> int | None:
        """The process that evaluates, if there is one."""
        return self._evaluator.pid if self._evaluator else None

    def reload(self) -> None:
        """Read the policy anew; what is wrong with it is reported, and the old one stays."""
        try:
            if self._evaluator is None:
                self._evaluator = Evaluator(self.policy, report=self._report)
                self._watch(self._evaluator.fileno(), self._receive)
                self.problem = ""
            else:
                self.problem = self._evaluator.reload() or ""
        except PolicyError as error:
            self.problem = str(error)
            again = isinstance(error, NotRunningError)
            self._not_before = time.monotonic() + _PAUSE_SECONDS if again else math.inf
        if self.problem:
            kept = "the old policy stays in force" if self._evaluator else "every job is refused"
            self._report(f"{self.problem}; {kept}")
        elif os.path.exists(self.policy):
            self._report(f"the policy is that of {self.policy}")
        else:
            self._report(f"there is no {self.policy}: jobs get the built-in plan, and no limits")

    def decide(self, job_ad: bytes, machine_ad: bytes, answer: Answer) -> None:
        """Call `answer` with the decision, sooner or later."""
        if self._evaluator is None and time.monotonic() >= self._not_before:
            self.reload()
        if self._evaluator is None:
            answer(refusal(f"this node has no valid policy: {self.problem}"))
            return
        self._token += 1
        self._answers[self._token] = answer
        self._evaluator.submit(self._token, job_ad, machine_ad)

    def _receive(self) -> None:
        assert self._evaluator is not None
        for token, decision in self._evaluator.receive():
            self._answers.pop(token)(decision)
