"""The tool `pool`: start, use and stop a test pool by hand.

In the environment: CONDOR_LEDGE_POOL=trixie for the one with HTCondor 23.9,
CONDOR_LEDGE_MACHINE=container for one that runs natively.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from tests.pool import image, machine
from tests.pool.condor import Pool
from tests.pool.container import Container
from tests.pool.errors import PoolError
from tests.pool.progress import Progress, on_stderr
from tests.pool.releases import CONTAINER, VM, chosen_or_first

SOURCE_ROOT = Path(__file__).resolve().parents[2]


def build(options: argparse.Namespace, progress: Progress) -> int:
    """Make the image, unless the cache has it."""
    ready = image.ready_image(chosen_or_first().release, machine.boot_and_save, progress)
    progress.say(f"the image is in {ready.directory}")
    return 0


def up(options: argparse.Namespace, progress: Progress) -> int:
    """Start a pool that stays, unless it runs already."""
    running = _recall(options)
    if running is None:
        running = Pool.start(progress, keep=True).machine
        running.remember(_record(options))
    print(shlex.join(running.ssh_command()))
    return 0


def down(options: argparse.Namespace, progress: Progress) -> int:
    """End the pool; nothing of it is kept."""
    running = _recall(options)
    if running is not None:
        running.stop()
    progress.say("the pool is down" if running else "no pool was up")
    _record(options).unlink(missing_ok=True)
    return 0


def ssh(options: argparse.Namespace, progress: Progress) -> int:
    """Become root in the pool, or run a command there."""
    command = _running(options).ssh_command()
    if not options.command and chosen_or_first().machine == VM:
        command.insert(-1, "-t")
    line = [" ".join(options.command)] if options.command else []
    os.execvp(command[0], [*command, *line])


def install(options: argparse.Namespace, progress: Progress) -> int:
    """Install condor-ledge from this source tree in the pool."""
    with progress.step("installing condor-ledge in the pool", 5):
        Pool(_running(options)).install(SOURCE_ROOT)
    return 0


def submit(options: argparse.Namespace, progress: Progress) -> int:
    """Submit a description, wait for its first job, and print the events and the output."""
    description = Path(options.file).read_text(encoding="utf-8")
    job = Pool(_running(options)).submit(description, options.user)
    progress.say(f"job {job.id} in {job.directory}")
    job.wait("terminated", timeout=options.timeout)
    for event in job.events():
        progress.say(f"{event.time} {event.lines[0]}")
    sys.stderr.flush()
    sys.stdout.buffer.write(job.output())
    sys.stdout.flush()
    sys.stderr.buffer.write(job.error())
    return 0


def status(options: argparse.Namespace, progress: Progress) -> int:
    """Show the slots and the queue."""
    print(Pool(_running(options)).root("condor_status; condor_q -allusers").stdout)
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return int(options.action(options, on_stderr()))
    except PoolError as error:
        print(f"pool: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pool", description=__doc__)
    parser.add_argument("--name", help="which pool, if several are up; default: its release")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for action in (build, up, down, ssh, install, submit, status):
        one = actions.add_parser(action.__name__, help=action.__doc__)
        one.set_defaults(action=action)
        if action is ssh:
            one.add_argument("command", nargs=argparse.REMAINDER)
        if action is submit:
            one.add_argument("file")
            one.add_argument("--user", default="alice")
            one.add_argument("--timeout", type=float, default=300.0, help="seconds")
    return parser


def _record(options: argparse.Namespace) -> Path:
    name = options.name or chosen_or_first().name
    return image.cache_directory() / "machines" / f"{name}.json"


def _recall(options: argparse.Namespace) -> machine.Machine | None:
    kind = Container if chosen_or_first().machine == CONTAINER else machine.Machine
    return kind.recall(_record(options))


def _running(options: argparse.Namespace) -> machine.Machine:
    running = _recall(options)
    if running is None:
        raise PoolError("no pool is up: tests/pool/pool up")
    return running
