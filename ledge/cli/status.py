"""condor_ledge status: how ledged is, and what it looks after; for root."""

from __future__ import annotations

import argparse
import json
import os
import time

from ledge.cli.asking import status_of
from ledge.client import SOCKET


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser("status", help="how ledged is", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--socket", default=SOCKET, metavar="PATH")
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Print what ledged says of itself; 0 if its policy is valid. Raises LedgeError."""
    status = status_of(options.socket)
    if options.json:
        print(json.dumps(status, indent=2))
    else:
        _print(status)
    return 1 if status["policy_problem"] else 0


def _print(status: dict[str, object]) -> None:
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(int(str(status["started"]))))
    print(f"ledged {status['version']}, running since {started}")
    missing = "" if os.path.exists(str(status["policy"])) else "; there is none: no limits"
    print(f"policy: {status['policy']}{missing}")
    if status["policy_problem"]:
        print(f"problem: {status['policy_problem']}")
    if status["network_problem"]:
        print(f"network traffic is not counted: {status['network_problem']}")
    networks = status["private_networks"]
    if isinstance(networks, dict):
        for problem in filter(None, networks.values()):
            print(f"private networks: {problem}")
    print(f"jobs: {status['jobs']} running, {status['reservations']} reserved")
    endings = status["endings"]
    if isinstance(endings, dict):
        if endings["problem"]:
            print(f"problem: {endings['problem']}")
        print(
            f"jobs that were killed: {endings['exact']} read at their end, {endings['sampled']} "
            f"before it, {endings['not_read']} never"
        )
    recording = status["recording"]
    if isinstance(recording, dict) and recording["dropped"]:
        dropped = sum(recording["dropped"].values())
        print(
            f"last figures: {recording['in_time']} recorded in time, {recording['too_late']} "
            f"not; {dropped} dropped from a full spool"
        )
