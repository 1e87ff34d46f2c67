"""condor_ledge run: what the wrapper does to a job, for any command and without HTCondor.

The command runs in the namespaces of a plan and, where the machine allows it, in control groups
of its own (version 2 below a delegated group, or version 1); its usage is printed afterwards as a
ClassAd or as JSON, on standard error or in a file, since standard output is the command's. The
exit status is the command's own, by signal too; 125 if it was not started, 126 and 127 as a
shell has them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from errno import ENOENT
from typing import IO, TYPE_CHECKING

from ledge.classads import literal
from ledge.errors import CommandError, IsolationError, LedgeError
from ledge.job.execution import describe_failure
from ledge.job.inheritance import Inheritance, hold_signals, inherited
from ledge.job.init import Launch
from ledge.job.leaf_v1 import make_leaf_v1
from ledge.job.report import Ending
from ledge.kernel.descriptors import hold_standard_streams
from ledge.plan.document import load_plan
from ledge.plan.plan import Plan
from ledge.usage.attributes import isolation_attributes, usage_attributes
from ledge.wrapper.in_process import prepared, start
from ledge.wrapper.monitor import end_as
from ledge.wrapper.settle import measure

if TYPE_CHECKING:
    from ledge.classads import Value
    from ledge.tracking.start import Tracker


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser(
        "run", help="run a command as a job is run, and print its usage", description=__doc__
    )
    parser.add_argument("--plan", metavar="FILE", help="the plan; default: the built-in one")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a ClassAd")
    parser.add_argument("--output", metavar="FILE", help="where to; default: standard error")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...")
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Run the command and end as it does; returns for a dry run only. Raises LedgeError."""
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise LedgeError("no command", "condor_ledge run -- COMMAND ...")
    plan = _plan(options.plan)
    inheritance = inherited(hold_signals(), len(command), from_starter=False)
    hold_standard_streams()
    path = _executable(inheritance)
    scratch = tempfile.mkdtemp(prefix="condor_ledge-").encode()
    try:
        launch = _prepare(plan, inheritance, scratch, path)
        if options.dry_run:
            launch.discard()
            _describe(launch)
            return 0
        output = _output(options.output)
        ending, tracker = _run(launch, output.fileno())
        usage = measure(launch, ending, tracker)
        attributes = {**usage_attributes(usage), **_isolation(launch)}
        _print(output, attributes, options.json)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    end_as(ending.status)
    raise AssertionError("end_as() does not return")


def _plan(path: str | None) -> Plan:
    try:
        return load_plan(path) if path else Plan()
    except FileNotFoundError:
        raise LedgeError(f"{path}: there is no such file") from None


def _prepare(plan: Plan, inheritance: Inheritance, scratch: bytes, path: bytes) -> Launch:
    """Version 1 first: on a machine that has both, its trees are those with the controllers."""
    leaf_v1 = make_leaf_v1() if plan.cgroup == "leaf" else None
    if leaf_v1 is not None:
        plan.cgroup = "none"
    try:
        launch = prepared(plan, inheritance, scratch, keep=(os.path.dirname(path),))
    except IsolationError:
        if leaf_v1 is not None:
            leaf_v1.remove()
        raise
    launch.leaf_v1 = leaf_v1
    return launch


def _run(launch: Launch, output_fd: int) -> tuple[Ending, Tracker | None]:
    running = start(launch)
    running.confirm(keep=(output_fd,))
    tracker = running.tracked(scratch=b"")
    ending = running.wait()
    if ending.exec_errno is not None:
        # Standard error has been let go of: say it where the usage would have gone.
        os.dup2(output_fd, 2)
        problem = describe_failure(launch.inheritance.path, ending.exec_errno)
        raise CommandError(problem, ending.exec_errno)
    return ending, tracker


def _executable(inheritance: Inheritance) -> bytes:
    """Find the command along the PATH, as a shell does, and put its path in its place."""
    name = inheritance.argv[0]
    search = inheritance.variable(b"PATH") or os.fsencode(os.defpath)
    path = shutil.which(os.fsdecode(name), path=os.fsdecode(search))
    if path is None and b"/" not in name:
        raise CommandError(f"{os.fsdecode(name)}: command not found", ENOENT)
    inheritance.path = os.path.abspath(os.fsencode(path) if path else name)
    return inheritance.path


def _output(path: str | None) -> IO[str]:
    """A stream of our own, since the standard ones are let go of when the command runs."""
    if path is None:
        return os.fdopen(os.dup(2), "w")
    try:
        return open(path, "w", encoding="utf-8")
    except OSError as error:
        raise LedgeError(f"{path}: {error.strerror}") from None


def _isolation(launch: Launch) -> dict[str, str]:
    return isolation_attributes(launch.namespaces, mounts=launch.mounts)


def _print(output: IO[str], attributes: Mapping[str, Value], as_json: bool) -> None:
    with output:
        if as_json:
            print(json.dumps(attributes, indent=2), file=output)
        else:
            for name, value in sorted(attributes.items()):
                print(f"{name} = {literal(value)}", file=output)


def _describe(launch: Launch) -> None:
    namespaces = ", ".join(launch.namespaces) or "none"
    print(f"namespaces: {namespaces}")
    for operation in launch.operations:
        print(operation.describe())
    groups = "of version 2" if launch.leaf else "of version 1" if launch.leaf_v1 else "none"
    print(f"control groups: {groups}")
    print(f"execute: {os.fsdecode(launch.inheritance.path)}")
