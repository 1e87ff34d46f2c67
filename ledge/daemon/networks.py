"""The networks of jobs in ledged's work: ordered of the process that makes them, never waited for.

A launch that needs one is put aside, and begun anew when the answer is there; what was looked at
before is looked at again then.
"""

from __future__ import annotations

import copy
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import count

from ledge.daemon.server import Request, Server
from ledge.errors import LedgeError
from ledge.log import Log
from ledge.plan.plan import Mount, Plan
from ledge.private_network import resolver
from ledge.private_network.addresses import Addresses, Ports
from ledge.private_network.orders import REMARK, RULES, Answer, Order, receive_answer, send_order
from ledge.private_network.readiness import lacking

_PROGRAM = "ledge_network"
_SO_SNDBUFFORCE = 32  # asm-generic/socket.h; Python has no name for it
_ORDER_BYTES = 4 << 20
_NOT_HAD = "the job cannot have a network of its own: "
_OFF = "they are off on this node; LEDGE_NETWORK_ADDRESSES in its configuration"


class LaunchNetwork:
    """What one launch has for a network. Close it when the launch is ordered, or has failed.

    `kind` is what the job gets, `namespace` the descriptor of the one that was made for it, and
    `problem` says why it has not what the plan wants.
    """

    def __init__(self, kind: str, answer: Answer | None = None) -> None:
        self.problem = _NOT_HAD + answer.problem if answer and answer.problem else ""
        self.kind = "host" if self.problem else kind
        self.namespace = answer.namespace if answer else None
        self._ports: list[str] = []
        self.attributes = {"Network": self.kind}
        if self.problem:
            self.attributes["NetworkReason"] = self.problem
        elif answer:
            self.attributes["NetworkAddress"] = answer.address
            if answer.opened:
                self._ports = [",".join([f"{port}:{inner}" for port, inner in answer.opened])]
            self.attributes["NetworkPorts"] = "".join(self._ports) or "none"

    def namespaces(self) -> tuple[str, ...]:
        """As the job's isolation is told."""
        return () if self.kind == "host" else ("network",)

    def words(self) -> list[bytes]:
        """What the wrapper is told, if it is not the node's network: the kind, and open ports."""
        words = [] if self.kind == "host" else [self.kind, *self._ports]
        return [word.encode() for word in words]

    def descriptors(self) -> tuple[int, ...]:
        """What the launcher needs of it."""
        return () if self.namespace is None else (self.namespace,)

    def close(self) -> None:
        """Let go of the namespace; the job is in it."""
        if self.namespace is not None:
            os.close(self.namespace)
            self.namespace = None


class PrivateNetworks:
    """ledged's end; `problem` says why there are no private networks, if there are none."""

    def __init__(
        self, addresses: str, ports: str, name_servers: Sequence[str], directory: str
    ) -> None:
        """Start the process, if there are addresses for jobs; `directory` is the one below /run."""
        self.problem = "" if addresses else _OFF
        self.name_servers = [word for text in name_servers for word in text.split(",") if word]
        self.directory = directory
        self._addresses = addresses
        self.channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._tokens = count(1)
        self._ordered: dict[int, Request] = {}
        self._made: dict[Request, LaunchNetwork] = {}
        if addresses:
            try:
                Addresses(addresses)
                Ports(ports)
                self.channel, self._process = _start(directory, addresses, ports)
            except (LedgeError, OSError) as error:
                self.problem = str(error)

    def attach(
        self,
        server: Server,
        handle: Callable[[Request], None],
        log: Log,
        died: Callable[[str], None],
    ) -> None:
        """Become part of the server's loop; `handle` is given again what waited for a network."""
        self._handle, self._log, self._died = handle, log, died
        if self.channel is not None:
            self.channel.setblocking(False)
            server.watch(self.channel.fileno(), self._answered)
        for problem in filter(None, self.status().values()):
            log.write(f"private networks: {problem}")

    def foreseen(self, plan: Plan) -> str:
        """Why a job that must have a private network could not have one now."""
        demanded = plan.network == "private" and plan.on_failure == "refuse"
        problem = self._lacking() if demanded else ""
        return _NOT_HAD + problem if problem else ""

    def own(self) -> list[str]:
        """The networks that are the node's and its jobs' alone."""
        return [] if self.channel is None else [self._addresses]

    def status(self) -> dict[str, str]:
        """What is wrong with what the admin has switched on."""
        if not self._addresses:
            return {}
        return {"problem": self._lacking(), "names": self._without_names()}

    def _lacking(self) -> str:
        return self.problem or lacking()

    def claim(self, request: Request, plan: Plan) -> LaunchNetwork | None:
        """What the request's job has for a network; None if it is yet to be made.

        The request is handled again then. Raises OSError.
        """
        if plan.network != "private":
            return LaunchNetwork(plan.network)
        if request in self._made:
            return self._made.pop(request)
        problem = self._lacking()
        if problem or self.channel is None:
            return LaunchNetwork("host", Answer(RULES, problem))
        token = next(self._tokens)
        peer = request.peer
        send_order(self.channel, Order(token, peer.pid, plan.network_ports, peer.pidfd))
        self._ordered[token] = request
        return None

    def furnished(self, plan: Plan, network: LaunchNetwork) -> Plan:
        """The plan as it is carried out: with the network that there is, and its name servers.

        Raises OSError.
        """
        if plan.network == network.kind != "private":
            return plan
        launched = copy.copy(plan)
        launched.network = network.kind
        if network.kind == "private" and "mount" in plan.namespaces:
            launched.mounts = (*self._name_servers(), *plan.mounts)
        return launched

    def _without_names(self) -> str:
        """Why jobs with a private network cannot look up names; empty if they can."""
        if self._resolv_conf() != "":
            return ""
        return (
            f"the name servers in {resolver.NODE} are on the node's loopback, which jobs with a "
            "private network do not reach; LEDGE_NETWORK_NAME_SERVERS names others"
        )

    def _name_servers(self) -> list[Mount]:
        text = self._resolv_conf()
        # A mount follows no links, and resolv.conf often is one.
        target = os.path.realpath(resolver.NODE)
        if not text or not os.path.isfile(target):
            return []
        path = os.path.join(self.directory, "resolv.conf")
        if _read(path) != text:
            with open(path + ".new", "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(path + ".new", path)
        return [Mount("bind", target, path, True)]

    def _resolv_conf(self) -> str | None:
        node, uplink = _read(resolver.NODE), _read(resolver.UPLINK)
        return resolver.for_jobs(node, uplink, self.name_servers)

    def _answered(self) -> None:
        assert self.channel is not None
        answer = receive_answer(self.channel)
        if answer is None:
            self._died("the process for networks has died")
        elif answer.token == REMARK:
            self._log.write(answer.problem)
        elif answer.token == RULES:
            self.problem = answer.problem
            self._log.write(answer.problem or "the rules of nftables are set again")
        else:
            self._proceed(self._ordered.pop(answer.token), answer)

    def _proceed(self, request: Request, answer: Answer) -> None:
        self._made[request] = LaunchNetwork("private", answer)
        self._handle(request)
        left = self._made.pop(request, None)  # it came to nothing before it was asked for
        if left is not None:
            left.close()


def _start(
    directory: str, addresses: str, ports: str
) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _ORDER_BYTES)  # a crowd's orders wait there
    program = os.path.join(os.path.dirname(sys.argv[0]), _PROGRAM)
    lock = os.path.join(directory, "network.lock")
    fd = theirs.fileno()
    try:
        command = [program, str(fd), lock, addresses, ports]
        return ours, subprocess.Popen(command, pass_fds=[fd], env={})
    except OSError as error:
        raise LedgeError(f"{program}: {error.strerror}", f"{_PROGRAM} is beside ledged") from None
    finally:
        theirs.close()


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
