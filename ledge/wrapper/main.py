"""HTCondor's USER_JOB_WRAPPER: carries the plan out around one job.

HTCondor manual, "USER_JOB_WRAPPER": it runs as the job's user with the job's command as its
arguments. A job that it cannot run as the plan says goes back to the queue
(ledge/wrapper/refusal.py).

Start-up is a contract (tests/unit/test_startup.py): every job waits for what is imported here.
"""

from __future__ import annotations

import posix
from sys import argv

from ledge.errors import CommandError, IsolationError, LedgeError
from ledge.job.inheritance import Inheritance, hold_signals, inherited
from ledge.kernel.descriptors import hold_standard_streams
from ledge.wrapper.monitor import end_as
from ledge.wrapper.universe import (
    awaits_session,
    checkpoints_itself,
    is_interactive,
    is_session,
    left_alone,
    read_job_ad,
)

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from ledge.job.init import Launch
    from ledge.wrapper.monitor import Running

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
        if is_session(inheritance):
            _run_session(inheritance, ad, alone)
        elif reason is not None:
            _run_as_it_is(inheritance, reason)
        elif alone or not inheritance.leads_session:
            _run_alone(inheritance, ad)
        else:
            _run_by_daemon(inheritance, ad)
    except LedgeError as error:
        _refuse(str(error))
    except Exception as error:  # noqa: BLE001  # a fault of ours must never pass for the job's exit
        _refuse(f"internal error: {type(error).__name__}: {error}")


def _run_session(inheritance: Inheritance, ad: bytes, alone: bool) -> None:
    """Run the sshd of condor_ssh_to_job in the job or, where that cannot be, beside it."""
    # What a session fails with must not send its job back to the queue: sshd's log is for that.
    posix.environ.pop(ERROR_FILE, None)
    interactive = is_interactive(ad)
    # One that does not wait for its session would take it along.
    if not alone and (not interactive or awaits_session(ad)):
        from ledge.wrapper.session import run_in_job

        run_in_job(inheritance, interactive)
    _run_as_it_is(inheritance, "")


def _run_by_daemon(inheritance: Inheritance, ad: bytes) -> None:
    """Have ledged start the job, or do what the admin wants where it does not answer."""
    from ledge.client import UnavailableError, choice_without_daemon

    # Loaded before the job runs: by its end another version may be installed.
    from ledge.publish.starter import report_expressions
    from ledge.wrapper.by_daemon import LeftAloneError, settle, start_job

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
    if b"\nNetworkAddress = " in attributes:  # what others need to reach the job while it runs
        report_expressions(chirp_config, _expressions(attributes))
    tracker = running.tracked(scratch)
    ending = running.wait()
    if ending.exec_errno is not None:
        raise _not_executed(inheritance, ending.exec_errno)
    try:
        usage = settle(ending) if group and not checkpoints_itself(ad) else None
        if usage is None:
            from ledge.wrapper.settle import settle_alone

            kept = scratch if checkpoints_itself(ad) else None
            usage = settle_alone(group, kept, ending, tracker)
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
    from ledge.wrapper.in_process import bare, node_plan, start_confirmed

    plan = node_plan()
    scratch = _scratch(inheritance)
    # Read before the job could write something else there.
    chirp_config = _chirp_config(inheritance)
    try:
        launch, running = start_confirmed(plan, inheritance, scratch)
    except IsolationError as error:
        if plan.on_failure != "run":
            raise
        reason = "; ".join([why for why in (reason, str(error)) if why])
        try:
            launch, running = start_confirmed(bare(plan), inheritance, scratch)
        except IsolationError:
            _run_as_it_is(inheritance, reason)
            return
    _attend(inheritance, launch, running, (chirp_config, scratch, checkpoints_itself(ad), reason))


def _attend(
    inheritance: Inheritance,
    launch: Launch,
    running: Running,
    about: tuple[bytes | None, bytes, bool, str],
) -> None:
    """Wait for the job's end, and report what it used."""
    from ledge.wrapper.settle import measure, report_usage

    chirp_config, scratch, checkpoints, reason = about
    tracker = running.tracked(scratch)
    ending = running.wait()
    if ending.exec_errno is not None:
        raise _not_executed(inheritance, ending.exec_errno)
    try:
        usage = measure(launch, ending, tracker)
        if checkpoints:
            from ledge.wrapper.checkpoints import add_earlier_starts

            add_earlier_starts(usage, scratch)
        report_usage(chirp_config, launch, usage, reason)
    finally:
        # Whatever goes wrong with the figures, the job has ended as it has ended.
        end_as(ending.status)


def _not_executed(inheritance: Inheritance, errno: int) -> CommandError:
    from ledge.job.execution import describe_failure

    return CommandError(describe_failure(inheritance.path, errno), errno)


def _run_as_it_is(inheritance: Inheritance, reason: str) -> None:
    """Become the job without any isolation, and let its ad say so."""
    if reason:
        from ledge.usage.attributes import isolation_attributes
        from ledge.wrapper.settle import report_attributes

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
    from ledge.wrapper.refusal import refuse

    refuse(problem, posix.environ.get(ERROR_FILE))
