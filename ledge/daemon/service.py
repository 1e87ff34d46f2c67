"""The daemon proper: its options, its files under /run, its signals, and what ends it."""

from __future__ import annotations

import _socket
import argparse
import contextlib
import fcntl
import os
import pwd
import resource
import signal
import socket

from ledge import __version__
from ledge.client import SOCKET
from ledge.daemon.advertisement import Advertisement
from ledge.daemon.decider import Decider
from ledge.daemon.hardening import harden
from ledge.daemon.leftovers import Leftovers
from ledge.daemon.networks import PrivateNetworks
from ledge.daemon.recording import Recording
from ledge.daemon.requests import Requests
from ledge.daemon.server import Server
from ledge.daemon.traffic import NodeTraffic
from ledge.errors import LedgeError
from ledge.kernel import syscalls
from ledge.kernel.signalfd import open_signals, read_signals
from ledge.log import Log
from ledge.recorder.spool import MOST_FILES, Spool, make_spool
from ledge.settings import Parser, count, path, seconds, size_bytes

_SIGNALS = {signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGINT}
_BACKLOG = 1024
_LAUNCHER_SECONDS = 20.0
_DESCRIPTORS = 16384
_ORDER_BYTES = 4 << 20
_SO_SNDBUFFORCE = 32  # asm-generic/socket.h; Python has no name for it


class StartError(LedgeError):
    """ledged cannot be started here."""


def serve(arguments: list[str], order_socket: _socket.socket) -> None:
    """Serve until a signal says otherwise. Raises StartError, SettingsError."""
    options = _parser().parse_args(arguments)
    if os.geteuid() != 0:
        raise StartError("ledged has to be started as root")
    signals = open_signals(_SIGNALS)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    syscalls.prctl(syscalls.PR_SET_NAME, b"ledged\0")
    # condor_master may die without a word, and then starts another ledged.
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)
    log = _log(options)
    directory = os.path.dirname(options.socket)
    _lock(directory)
    orders = socket.socket(fileno=order_socket.detach())
    orders.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _ORDER_BYTES)
    launcher = _greet_launcher(orders)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, max(most, _DESCRIPTORS)))
    except ValueError:  # a container that has no CAP_SYS_RESOURCE
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    advertisement = Advertisement(options.base_cgroup, options.execute, directory, log)
    networks = PrivateNetworks(
        options.network_addresses, options.network_ports, options.network_name_servers, directory
    )
    traffic = NodeTraffic([*options.local_networks, *networks.own()])
    has_slices = options.base_cgroup != ""
    requests = Requests(orders, networks, traffic, log, has_slices)
    server = Server(_listen(options.socket), requests.admit, requests.receive, log)
    decider = Decider(options.policy, log.write, server.watch)
    requests.attach(server, decider, _recording(options, server, log))
    _write_choice(directory, decider.without_daemon, log)
    advertisement.attach(server, decider, traffic)
    watch = _Watch(server, decider, log, signals, directory, advertisement)
    server.watch(signals, watch.signalled)
    if traffic.problem:
        log.write(f"network traffic is not counted: {traffic.problem}")
    leftovers = Leftovers(traffic, log, requests.running)
    leftovers.attach(server)
    leftovers.begin(options.base_cgroup)  # with rights that ledged gives up now
    if not harden(counts_traffic=not traffic.problem):
        log.write("system calls are not filtered: unknown numbers on this architecture")
    requests.adopt()
    log.write(f"ledged {__version__} started, process {os.getpid()}, launcher {launcher}")
    server.run()
    os.unlink(options.socket)
    advertisement.withdraw()
    log.write("ledged ends; running jobs go on")
    os._exit(1 if requests.crippled else 0)


class _Watch:
    """What is to be done on a signal."""

    def __init__(
        self,
        server: Server,
        decider: Decider,
        log: Log,
        signals: int,
        directory: str,
        advertisement: Advertisement,
    ) -> None:
        self.advertisement = advertisement
        self.server = server
        self.decider = decider
        self.log = log
        self.signals = signals
        self.directory = directory

    def signalled(self) -> None:
        """Take the signals that have come."""
        for told in read_signals(self.signals):
            if told.signo == signal.SIGHUP:
                self._reload()
            else:
                self.server.stopping = True

    def _reload(self) -> None:
        self.log.reopen()
        self.decider.reload()
        _write_choice(self.directory, self.decider.without_daemon, self.log)
        self.advertisement.renew()


def _greet_launcher(orders: socket.socket) -> int:
    """The PID of the launcher, which it tells when it is ready. Raises StartError."""
    orders.settimeout(_LAUNCHER_SECONDS)
    try:
        return int(orders.recv(16) or b"no")
    except (OSError, ValueError):
        raise StartError("the launcher does not start", "ledge_launcher is beside ledged") from None


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="ledged", description="condor-ledge's node daemon")
    parser.add_argument(
        "--log", metavar="FILE", type=path("LEDGED_LOG"), help="LedgeLog; default: standard error"
    )
    parser.add_argument("--max-log", metavar="BYTES", nargs="+", default=["10", "Mb"])
    parser.add_argument(
        "--policy", metavar="FILE", type=path("LEDGE_POLICY"),
        default="/etc/condor-ledge/policy.yaml",
    )  # fmt: skip
    parser.add_argument("--socket", metavar="PATH", default=SOCKET)
    parser.add_argument(
        "--local-networks", metavar="NETWORK", nargs="*", default=[], help="as 10.0.0.0/8"
    )
    base_cgroup = "HTCondor's BASE_CGROUP; empty: no slices"
    parser.add_argument("--base-cgroup", metavar="NAME", default="htcondor", help=base_cgroup)
    parser.add_argument("--execute", metavar="DIRECTORY", default="/", help="EXECUTE")
    parser.add_argument(
        "--network-addresses", metavar="NETWORK", default="",
        help="for jobs with a network of their own; empty: none",
    )  # fmt: skip
    parser.add_argument("--network-ports", metavar="FIRST-LAST", default="")
    parser.add_argument("--network-name-servers", metavar="ADDRESS", nargs="*", default=[])
    parser.add_argument("--usage-ad", action="store_true", help="LedgeUsage, by the starter")
    interval = seconds("LEDGE_USAGE_INTERVAL")
    parser.add_argument("--usage-interval", metavar="SECONDS", type=interval, default=30.0)
    parser.add_argument("--spool", metavar="DIRECTORY", help="Ledge, by the recorder")
    parser.add_argument("--recorder", metavar="USER", default="condor", help="whose the spool is")
    files = count("LEDGE_SPOOL_FILES")
    parser.add_argument("--spool-files", metavar="NUMBER", type=files, default=MOST_FILES)
    interval = seconds("LEDGE_RECORD_INTERVAL")
    parser.add_argument("--record-interval", metavar="SECONDS", type=interval, default=900.0)
    return parser


def _recording(options: argparse.Namespace, server: Server, log: Log) -> Recording:
    spool = None
    try:
        if options.spool:
            user = pwd.getpwnam(options.recorder)
            make_spool(options.spool, user.pw_uid, user.pw_gid)
            spool = Spool(options.spool, options.spool_files)
    except KeyError:
        problem = f"LEDGE_RECORDER_USERID = {options.recorder}: there is no such user"
        raise StartError(problem, "it is HTCondor's user, as a rule condor") from None
    except OSError as error:
        problem = f"LEDGE_SPOOL = {options.spool}: {error.strerror}"
        raise StartError(problem, "root has to be able to make that directory") from None
    intervals = options.record_interval, options.usage_interval
    return Recording(server, log, spool, options.usage_ad, *intervals)


def _log(options: argparse.Namespace) -> Log:
    try:
        return Log(options.log, size_bytes(options.max_log))
    except OSError as error:
        raise StartError(f"LEDGED_LOG = {options.log}: {error.strerror}") from None


def _lock(directory: str) -> None:
    """Make the directory, and be the only ledged that uses it. Raises StartError."""
    try:
        os.makedirs(directory, 0o755, exist_ok=True)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StartError("another ledged is running", "stop that one first") from None
    except OSError as error:
        raise StartError(f"{directory}: {error.strerror}") from None


def _write_choice(directory: str, choice: str, log: Log) -> None:
    """Leave the policy's without_daemon for those who will not reach us (ledge/client.py).

    A full /run must not stop us; what cannot be read there means hold.
    """
    path = os.path.join(directory, "without_daemon")
    try:
        with open(path + ".new", "w", encoding="ascii") as file:
            file.write(choice + "\n")
        os.replace(path + ".new", path)
    except OSError as error:
        log.write(f"{path}: {error.strerror}; without ledged, jobs are held")
        with contextlib.suppress(OSError):
            os.unlink(path)


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen(_BACKLOG)
    return listener
