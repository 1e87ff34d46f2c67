"""condor_ledge policy: check a policy before it is in force, and explain what it makes of a job.

An explanation comes from the evaluator of ledged itself, with all its limits, so that a job is
refused here if it is refused there, and in the same words.
"""

from __future__ import annotations

import argparse
import re
import select
import sys

from ledge.cli.ads import read_ads
from ledge.plan.plan import Mount
from ledge.policy.decision import Decision
from ledge.policy.document import read_policy
from ledge.policy.errors import PolicyError
from ledge.policy.evaluator import Evaluator, read_file
from ledge.policy.keys import AMOUNTS, KEYS
from ledge.policy.model import MOUNTS

POLICY_FILE = "/etc/condor-ledge/policy.yaml"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser(
        "policy", help="check a policy, or explain what it makes of a job", description=__doc__
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    checking = actions.add_parser("check", help="say what is wrong with a policy file")
    checking.add_argument("file", nargs="?", default=POLICY_FILE, metavar="FILE")
    checking.set_defaults(main=check)
    explaining = actions.add_parser("explain", help="print a job's plan and what set each value")
    explaining.add_argument("--policy", default=POLICY_FILE, metavar="FILE")
    explaining.add_argument("job_ad", metavar="JOBAD", help="file of condor_q -long; - for stdin")
    explaining.add_argument(
        "machine_ad", metavar="MACHINEAD", nargs="?", help="file of condor_status -long"
    )
    explaining.set_defaults(main=explain)


def check(options: argparse.Namespace) -> int:
    """Print OK, or everything that is wrong with a file. Raises PolicyError."""
    document = read_file(options.file)
    if document is None:
        raise PolicyError(f"{options.file}: there is no such file", "the built-in plan is in force")
    try:
        policy = read_policy(document, options.file)
    except PolicyError as error:
        for line in error.errors:
            print(line, file=sys.stderr)
        return error.status
    rules = f"{len(policy.rules)} rule{'' if len(policy.rules) == 1 else 's'}"
    print(f"{options.file}: OK, {rules}, without_daemon: {policy.without_daemon}")
    return 0


def explain(options: argparse.Namespace) -> int:
    """Print the plan of each job and where its values come from; 1 if a job is refused.

    Raises LedgeError.
    """
    machine_ad = read_ads(options.machine_ad)[0] if options.machine_ad else b""
    job_ads = read_ads(options.job_ad)
    evaluator = Evaluator(options.policy)
    try:
        decisions = [_decided(evaluator, token, ad, machine_ad) for token, ad in enumerate(job_ads)]
    finally:
        evaluator.close()
    for job_ad, decision in zip(job_ads, decisions):
        if len(job_ads) > 1:
            print(f"job {_job_id(job_ad)}")
        _print(decision)
    return int(any(decision.plan is None for decision in decisions))


def _decided(evaluator: Evaluator, token: int, job_ad: bytes, machine_ad: bytes) -> Decision:
    evaluator.submit(token, job_ad, machine_ad)
    decisions: dict[int, Decision] = {}
    while token not in decisions:
        select.select([evaluator], [], [])
        decisions.update(evaluator.receive())
    return decisions[token]


def _job_id(ad: bytes) -> str:
    found = dict(re.findall(rb"^(ClusterId|ProcId)\s*=\s*([0-9]+)", ad, re.MULTILINE))
    return ".".join(found.get(name, b"?").decode() for name in (b"ClusterId", b"ProcId"))


def _print(decision: Decision) -> None:
    if decision.plan is None:
        print(f"refused: {decision.refusal}")
    else:
        lines = [(f"{name}:", key.shown(key.of(decision.plan)), decision.origins[name])
                 for name, key in KEYS.items()]  # fmt: skip
        mounts = [_described(mount) for mount in decision.plan.mounts] or ["none"]
        lines.append((f"{MOUNTS}:", mounts[0], decision.origins[MOUNTS]))
        lines += [("", mount, "") for mount in mounts[1:]]
        name_width, value_width = (max(len(line[i]) for line in lines) for i in (0, 1))
        for name, value, origin in lines:
            comment = f"  # {origin}" if origin else ""
            print(f"{name:{name_width}} {value:{value_width}}{comment}".rstrip())
    for note in decision.notes:
        print(f"note: {note}")


def _described(mount: Mount) -> str:
    over = {"bind": f"{mount.source} at ", "overlay": f"overlay over {mount.source} at "}
    further = [", read-only"] if mount.read_only else []
    further += [", no set-uid programs"] if mount.nosuid else []
    for name, key in AMOUNTS.items():
        amount = getattr(mount, name)
        if amount is not None:
            further.append(f", {key.shown(amount)}{' inodes' if name == 'inodes' else ''}")
    return over.get(mount.kind, f"{mount.kind} ") + mount.target + "".join(further)
