"""HTCondor's USER_JOB_WRAPPER: carries the plan out around one job.

HTCondor manual, "USER_JOB_WRAPPER": it runs as the job's user with the job's command as its
arguments. A job that it cannot run as the plan says goes back to the queue (ledge/refusal.py).

Start-up is a contract (tests/unit/test_startup.py): every job waits for what is imported here.
"""

from __future__ import annotations

import posix
from sys import argv

from ledge.descriptors import hold_standard_streams
from ledge.errors import CommandError, IsolationError, LedgeError
from ledge.inheritance import Inheritance, hold_signals, inherited
from ledge.monitor import end_as
from ledge.universe import checkpoints_itself, left_alone, read_job_ad

ERROR_FILE = b"_CONDOR_WRAPPER_ERROR_FILE"


def main(alone: bool = False) -> None:
    """Run the job of the command line; does not return.

    `alone`: ledged does not run on this node, and is not asked.
    """
    mask = hold_signals()
    hold_standard_streams()
    try:
        inheritance = inherited(mask, len(argv) - 1, from_starter=True)
        # The starter sets it because there is a wrapper; a job that wrote there would be requeued.
        inheritance.remove_variable(ERROR_FILE)
        if not inheritance.argv:
            raise LedgeError("no command", "HTCondor gives the job's as the wrapper's arguments")
        ad = read_job_ad(inheritance)
        reason = left_alone(inheritance, ad)
        if reason is not None:
            _run_as_it_is(inheritance, reason)
        elif alone or not inheritance.leads_session:
            _run_alone(inheritance, ad)
        else:
            _run_by_daemon(inheritance, ad)
    except LedgeError as error:
        _refuse(str(error))
    except Exception as error:  # noqa: BLE001  # a fault of ours must never pass for the job's exit
        _refuse(f"internal error: {type(error).__name__}: {error}")


def _run_by_daemon(inheritance: Inheritance, ad: bytes) -> None:
    """Have ledged start the job, or do what the admin wants where it does not answer."""
    from ledge.by_daemon import LeftAloneError, choice_without_daemon, settle, start_job
    from ledge.client import UnavailableError

    # Loaded before the job runs: by its end another version may be installed.
    from ledge.publish.starter import report_expressions

    chirp_config = _chirp_config(inheritance)
    scratch = _scratch(inheritance)
    try:
        running, group, attributes = start_job(inheritance, scratch, ad)
    except UnavailableError as error:
        if choice_without_daemon() != "run":
            raise
        _run_alone(inheritance, ad, str(error))
        return
    except LeftAloneError as reason:
        _run_alone(inheritance, ad, str(reason))
        return
    ending = running.wait()
    if ending.exec_errno is not None:
        raise _not_executed(inheritance, ending.exec_errno)
    try:
        usage = None if checkpoints_itself(ad) else settle(ending)
        if usage is None:
            from ledge.settle import settle_alone

            usage = settle_alone(group, scratch if checkpoints_itself(ad) else None, ending)
        report_expressions(chirp_config, _expressions(attributes + usage))
    finally:
        # Whatever goes wrong with the figures, the job has ended as it has ended.
        end_as(ending.status)


def _expressions(lines: bytes) -> dict[str, str]:
    expressions = {}
    for line in lines.decode("utf-8", "replace").splitlines():
        name, _, expression = line.partition(" = ")
        expressions[name] = expression
    return expressions


def _run_alone(inheritance: Inheritance, ad: bytes, reason: str = "") -> None:
    """Run the job with what its user's rights give; `reason` says why ledged is not there.

    A job that is started anew after each checkpoint has the figures of all its starts.
    """
    from ledge.in_process import node_plan, start_job

    plan = node_plan()
    scratch = _scratch(inheritance)
    # Read before the job could write something else there.
    chirp_config = _chirp_config(inheritance)
    try:
        launch, running = start_job(plan, inheritance, scratch)
        # While init is at work, load what the end of the job will need.
        from ledge.settle import measure, report_usage

        running.confirm()
    except IsolationError as error:
        if plan.on_failure != "run":
            raise
        _run_as_it_is(inheritance, "; ".join([why for why in (reason, str(error)) if why]))
        return
    ending = running.wait()
    if ending.exec_errno is not None:
        raise _not_executed(inheritance, ending.exec_errno)
    try:
        usage = measure(launch, ending)
        if checkpoints_itself(ad):
            from ledge.checkpoints import add_earlier_starts

            add_earlier_starts(usage, scratch)
        report_usage(chirp_config, launch, usage, reason)
    finally:
        # Whatever goes wrong with the figures, the job has ended as it has ended.
        end_as(ending.status)


def _not_executed(inheritance: Inheritance, errno: int) -> CommandError:
    from ledge.execution import describe_failure

    return CommandError(describe_failure(inheritance.path, errno), errno)


def _run_as_it_is(inheritance: Inheritance, reason: str) -> None:
    """Become the job without any isolation, and let its ad say so."""
    if reason:
        from ledge.attributes import isolation_attributes
        from ledge.settle import report_attributes

        attributes = isolation_attributes((), reason)
        report_attributes(_chirp_config(inheritance), dict(attributes))
    try:
        inheritance.execute()
    except OSError as error:
        raise _not_executed(inheritance, error.errno or 0) from None


def _scratch(inheritance: Inheritance) -> bytes:
    scratch = inheritance.variable(b"_CONDOR_SCRATCH_DIR")
    if scratch is None:
        raise IsolationError("no _CONDOR_SCRATCH_DIR in the environment")
    return scratch


def _chirp_config(inheritance: Inheritance) -> bytes | None:
    """The contents of .chirp.config, which says where the starter listens."""
    path = inheritance.variable(b"_CONDOR_CHIRP_CONFIG")
    try:
        with open(path or b"", "rb", buffering=0) as file:
            return file.read(4096)
    except OSError:
        return None


def _refuse(problem: str) -> None:
    from ledge.refusal import refuse

    refuse(problem, posix.environ.get(ERROR_FILE))
