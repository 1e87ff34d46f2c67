"""condor_ledge, the command: one module for each subcommand."""

from __future__ import annotations

import argparse
import sys

from ledge import __version__
from ledge.cli import doctor, enter, metrics, policy, ps, run, status, top, usage
from ledge.errors import LedgeError


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status is the subcommand's, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(
        prog="condor_ledge", description="Jobs kept apart, and exactly accounted for."
    )
    parser.add_argument("--version", action="version", version=f"condor_ledge {__version__}")
    subparsers = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    run.add_parser(subparsers)
    policy.add_parser(subparsers)
    status.add_parser(subparsers)
    ps.add_parser(subparsers)
    enter.add_parser(subparsers)
    usage.add_parser(subparsers)
    doctor.add_parser(subparsers)
    top.add_parser(subparsers)
    metrics.add_parser(subparsers)
    options = parser.parse_args(arguments)
    try:
        exit_status: int = options.main(options)
    except LedgeError as error:
        print(f"condor_ledge {options.subcommand}: {error}", file=sys.stderr)
        return error.status
    return exit_status
