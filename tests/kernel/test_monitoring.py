"""ledged's word on the jobs that run, and what monitoring makes of it: metrics, and a screen."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pyte
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ledge.client import Connection
from ledge.daemon.sampling import INTERVAL_SECONDS
from ledge.monitoring.exposition import text_of
from ledge.monitoring.metrics import families
from tests.installed import SOURCE_ROOT
from tests.kernel.starter import Process
from tests.kernel.test_ledged import Node
from tests.unit.test_metrics import GRAFANA_S, expressions, full

pytestmark = pytest.mark.requires("root", "cgroup2")

COMMAND = [sys.executable, "-m", "ledge"]
WIDTH, HEIGHT = 80, 12
PATIENCE_SECONDS = 20.0
# Most of a CPU, as far as others leave it, a known amount of memory, and several processes.
BURNING = """import time
kept = bytearray(64 << 20)
for i in range(0, len(kept), 4096): kept[i] = 1
open('running', 'w')
while True:
  end = time.monotonic() + 0.08
  while time.monotonic() < end: pass
  time.sleep(0.02)"""
BUSY = f'sleep 1000 & /usr/bin/python3 -c "{BURNING}"'
BURN = "i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done; touch running; "
SLEEP = "touch running; exec sleep 1000"
Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def node(
    installed: Path, execute: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    """ledged with two jobs, of which readings were taken: the first is busy, the second sleeps."""
    node = Node(installed, execute, tmp_path_factory.mktemp("node"))
    for line in (BUSY, SLEEP):  # one after the other, and so they stand in ledged's answer
        node.job(line).wait_for("running")
    await_samples(2)
    yield node
    node.close()


@pytest.fixture
def quiet(node: Node) -> Node:
    """The same, when no job runs any more."""
    for slice_ in node.slices:
        (slice_.path / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while ask()["jobs"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return node


def ask(verb: bytes = b"jobs") -> dict[str, Any]:
    connection = Connection(patience_seconds=10)
    answer = connection.request(verb)
    connection.close()
    assert answer.status == b"done", answer.body
    return dict(json.loads(answer.body))


def figures(job: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(told["figures"], job["values"]))


def cpu_seconds(told: dict[str, Any], slot: str | None = None) -> float:
    sums = dict(zip(told["counters"], told["slots"][slot] if slot else told["node"]))
    return float((sums["CpuUserSeconds"] or 0) + (sums["CpuSystemSeconds"] or 0))


def own(node: Node, number: int, file: str) -> str | None:
    """What the kernel says in the job's own group; None where it has no such file."""
    (path,) = node.slices[number].path.glob("ledge-*")
    return (path / file).read_text() if (path / file).exists() else None


def end(job: Process) -> None:
    os.kill(job.pid, signal.SIGTERM)
    job.wait()


def await_samples(count: int) -> dict[str, Any]:
    """ledged's answer when all jobs have a reading."""
    deadline = time.monotonic() + 2 * INTERVAL_SECONDS + 5
    while True:
        told = ask()
        if sum(job["age"] is not None for job in told["jobs"]) == count:
            return told
        assert time.monotonic() < deadline, told
        time.sleep(0.2)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], cwd=SOURCE_ROOT, capture_output=True, text=True, timeout=60
    )


def memory_is_right(node: Node, anon: float | None) -> bool:
    """Undefined where there is no such controller, and not zero."""
    if own(node, 0, "memory.stat") is None:
        return anon is None
    return anon is not None and 60 << 20 < anon < 120 << 20


def values_of(text: str) -> Values:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_ledged_says_of_its_jobs(node: Node) -> None:
    told = ask()
    row = told["jobs"][0]
    assert (row["slot"], row["job"], row["owner"]) == ("slot1", "1.0", "nobody")
    assert (row["cpus"], row["memory"], row["uid"]) == (1, 1024, node.user.uid)
    started = Path(f"/proc/{row['wrapper']}").stat().st_ctime
    assert row["group"] == f"ledge-{row['wrapper']}" and abs(row["start"] - started) < 5
    assert 0 <= row["age"] < INTERVAL_SECONDS + 2
    found = figures(row, told)
    assert memory_is_right(node, found["MemoryAnonBytes"])
    assert 0.1 < found["CpuInUseCores"] < 1.1
    assert found["RatesOverSeconds"] > 1
    assert told["jobs_begun"] == 2 and told["left_out"] == 0


def test_only_root_is_told(node: Node) -> None:
    program = "from ledge.client import Connection; print(Connection().request(b'jobs').body)"
    done = subprocess.run(
        ["/usr/bin/python3", "-c", program], cwd=node.installed, user="nobody",
        capture_output=True, text=True, env={"PYTHONPATH": str(node.installed)},
    )  # fmt: skip
    assert done.stdout == "b'jobs is for root'\n", done.stderr


def test_textfile_and_exporter_tell_the_same(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "ledge.prom"
    assert run("metrics", "--job-info", "--textfile", str(path)).returncode == 0
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path).count("ledge.prom") == 1
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".condor")]
    of_file = values_of(path.read_text())
    with exporter() as port:
        of_server = values_of(fetched(port))
        check(fetched(port))
    assert of_file.keys() == of_server.keys()
    check(path.read_text())
    # The two jobs are of the same slot here: what they have is added up.
    slot = frozenset({("slot", "slot1")})
    anon = frozenset({("slot", "slot1"), ("kind", "anon")})
    assert of_file["condor_ledge_up", frozenset()] == 1
    assert of_file["condor_ledge_jobs", frozenset()] == 2
    processes = [own(node, number, "pids.current") for number in (0, 1)]
    found = of_file.get(("condor_ledge_slot_processes", slot))
    assert found == (None if None in processes else sum(map(int, filter(None, processes))))
    assert of_file["condor_ledge_slot_cpus", slot] == 2
    assert memory_is_right(node, of_file.get(("condor_ledge_slot_memory_bytes", anon)))
    waited = frozenset({("slot", "slot1"), ("resource", "cpu"), ("kind", "some")})
    stalled = of_file["condor_ledge_slot_pressure_seconds_total", waited]
    now = [(own(node, number, "cpu.pressure") or "").splitlines()[0] for number in (0, 1)]
    assert 0 < stalled <= sum(int(line.rpartition("=")[2]) for line in now) / 1e6
    who = {("slot", "slot1"), ("job", "1.0"), ("owner", "nobody"), ("user", "nobody")}
    assert of_file["condor_ledge_job_info", frozenset(who)] == 2
    assert "condor_ledge_slot_memory_limit_bytes" not in {name for name, _ in of_file}


def check(text: str) -> None:
    """What Prometheus's own tool says of it."""
    promtool = ["promtool", "check", "metrics"]
    done = subprocess.run(promtool, input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@contextlib.contextmanager
def exporter() -> Iterator[int]:
    """condor_ledge metrics on a free port, as its unit runs it: without what root may do beside."""
    port = free_port()
    words = ["metrics", "--job-info", "--listen", f"127.0.0.1:{port}"]
    bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    process = subprocess.Popen([*bare, *COMMAND, *words], cwd=SOURCE_ROOT)
    try:
        yield port
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def fetched(port: int) -> str:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
                return str(page.read().decode())
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_where_ledged_does_not_answer_that_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ledge.prom"
    words = ("--socket", str(tmp_path / "socket"))
    done = run("metrics", *words, "--textfile", str(path))
    assert done.returncode == 1 and "ledged does not answer" in done.stderr
    assert values_of(path.read_text()) == {("condor_ledge_up", frozenset()): 0}
    assert run("top", *words, "-b").returncode == 125


@pytest.mark.requires("node_exporter")
def test_node_exporter_takes_the_file(node: Node, tmp_path: Path) -> None:
    assert run("metrics", "--textfile", str(tmp_path / "ledge.prom")).returncode == 0
    port = free_port()
    options = ["--collector.disable-defaults", "--collector.textfile",
               f"--collector.textfile.directory={tmp_path}",
               f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    process = subprocess.Popen(["prometheus-node-exporter", *options], stderr=subprocess.DEVNULL)
    try:
        found = values_of(fetched(port))
    finally:
        process.kill()
        process.wait()
    assert found["condor_ledge_up", frozenset()] == 1
    assert found["node_textfile_scrape_error", frozenset()] == 0


@pytest.mark.requires("promtool")
def test_prometheus_answers_the_dashboard(node: Node, tmp_path: Path) -> None:
    """Beside this node it asks one that has every figure, also those that this kernel has not."""
    with exporter() as of_ledge, page_of_all() as of_all:
        fetched(of_ledge)
        with prometheus((of_ledge, of_all), tmp_path) as port:
            asked = [*expressions(), "count(condor_ledge_up == 1) == 2"]
            deadline = time.monotonic() + PATIENCE_SECONDS
            while left := [text for text in asked if not answered(port, text)]:
                assert time.monotonic() < deadline, left
                time.sleep(0.5)


@contextlib.contextmanager
def page_of_all() -> Iterator[int]:
    """The metrics of a node that has them all."""
    text = text_of(families(full(), with_jobs=True)).encode()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def prometheus(ports: tuple[int, ...], directory: Path) -> Iterator[int]:
    """A Prometheus that asks every second."""
    targets = [f"127.0.0.1:{port}" for port in ports]
    scrape = {"job_name": "ledge", "static_configs": [{"targets": targets}]}
    configuration = {"global": {"scrape_interval": "1s"}, "scrape_configs": [scrape]}
    (directory / "prometheus.json").write_text(json.dumps(configuration))
    port = free_port()
    words = ["prometheus", f"--config.file={directory}/prometheus.json",
             f"--storage.tsdb.path={directory}/data", f"--web.listen-address=127.0.0.1:{port}"]
    process = subprocess.Popen(words, cwd=directory, stderr=subprocess.DEVNULL)
    try:
        fetched(port)
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def answered(port: int, expression: str) -> bool:
    for variable, value in GRAFANA_S.items():
        expression = expression.replace(variable, value)
    query = urllib.parse.urlencode({"query": expression})
    url = f"http://127.0.0.1:{port}/api/v1/query?{query}"
    with urllib.request.urlopen(url, timeout=10) as page:
        told = json.load(page)
    assert told["status"] == "success", told
    return bool(told["data"]["result"])


class Terminal:
    """A program in a terminal of its own, and what the terminal shows."""

    def __init__(self, *words: str) -> None:
        self.screen = pyte.Screen(WIDTH, HEIGHT)
        self.stream = pyte.ByteStream(self.screen)
        pid, self.fd = pty.fork()
        if pid == 0:
            size = struct.pack("HHHH", HEIGHT, WIDTH, 0, 0)
            fcntl.ioctl(0, termios.TIOCSWINSZ, size)
            os.chdir(SOURCE_ROOT)
            # Of this process's own environment readline has made one with LINES and COLUMNS.
            environment = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
            os.execve(COMMAND[0], [*COMMAND, *words], environment)
        self.pid = pid
        self.before = termios.tcgetattr(self.fd)

    def until(self, *texts: str) -> list[str]:
        """The lines of the screen, when all the texts are on it."""
        self.await_that(lambda: all(text in "\n".join(self.screen.display) for text in texts))
        return list(self.screen.display)

    def await_that(self, holds: Callable[[], bool]) -> None:
        """Feed the screen until something holds of it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            assert time.monotonic() < deadline, "\n".join(self.screen.display)
            if select.select([self.fd], [], [], 0.2)[0]:
                self.stream.feed(os.read(self.fd, 65536))

    def press(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def marked(self) -> str:
        """The title of the column that is sorted by."""
        line = self.screen.buffer[1]
        return "".join([line[x].data for x in range(WIDTH) if line[x].reverse]).strip()

    def end(self) -> int:
        """How it has ended; the terminal is as it was before."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with contextlib.suppress(OSError):  # EIO when the program has gone
                if select.select([self.fd], [], [], 0.1)[0]:
                    self.stream.feed(os.read(self.fd, 65536))
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                assert termios.tcgetattr(self.fd) == self.before
                assert not self.screen.cursor.hidden
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline


def test_top_in_a_terminal(node: Node) -> None:
    terminal = Terminal("top", "-d", "0.5")
    lines = terminal.until("SLOT", "2 jobs", "slot1", "q quit")
    assert lines[1].split() == ["SLOT", "JOB", "OWNER", "CPU", "MEM", "READ", "WRITE", "IN", "OUT",
                                "PROC", "PRES"]  # fmt: skip
    assert terminal.marked() == "CPU"
    first, second = lines[2:4]
    assert first.split()[:3] == ["slot1", "1.0", "nobody"]
    assert 0.1 < float(first[26:30]) < 1.1 and first[31] != " ", first
    assert float(second[26:30]) < 0.05 and second[31] == " "
    assert {line[76:].strip()[0] for line in (first, second)} <= set("cmi")
    assert lines[4].strip() == "" and lines[HEIGHT - 1].startswith("sort:")
    terminal.press("v")
    terminal.await_that(lambda: terminal.screen.display[3][31] != " ")
    assert terminal.marked() == "CPU" and terminal.screen.display[2][31] == " "
    terminal.press("\x1b[D")
    terminal.await_that(lambda: terminal.marked() == "OWNER")
    terminal.press("p")
    terminal.await_that(lambda: terminal.marked() == "PROC")
    terminal.press(" ")
    terminal.until("paused")
    assert termios.tcgetattr(terminal.fd) != terminal.before
    terminal.press("q")
    assert terminal.end() == 0


def test_top_that_is_told_to_end_leaves_the_terminal_as_it_was(node: Node) -> None:
    terminal = Terminal("top")
    terminal.until("SLOT")
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.end() == 0


def test_top_in_a_pipe(node: Node) -> None:
    done = run("top", "-s", "job", "-n", "2", "-d", "0.5")
    assert done.returncode == 0, done.stderr
    tables = done.stdout.split("\n\n")
    assert [len(table.splitlines()) for table in tables] == [3, 3]
    assert tables[0].splitlines()[1].split()[:3] == ["slot1", "1.0", "nobody"]
    assert "\x1b" not in done.stdout


def test_sums_do_not_go_back_when_a_job_ends_nor_when_it_is_killed(quiet: Node) -> None:
    node, before, slices = quiet, ask(), len(quiet.slices)
    jobs = [node.job(BURN + SLEEP) for _ in range(3)]
    for job in jobs:
        job.wait_for("running")
    await_samples(3)
    found = [cpu_seconds(ask())]
    (node.slices[slices].path / "cgroup.kill").write_text("1")  # as HTCondor kills
    for job in jobs[:2]:
        with contextlib.suppress(ProcessLookupError):
            end(job)
        found.append(cpu_seconds(ask()))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while ask()["jobs_ended"] < before["jobs_ended"] + 2:
        assert time.monotonic() < deadline
        found.append(cpu_seconds(ask()))
    end(jobs[2])
    told = ask()
    found.append(cpu_seconds(told))
    assert found == sorted(found) and found[0] > cpu_seconds(before) + 0.1, found
    assert (told["jobs"], told["jobs_begun"]) == ([], before["jobs_begun"] + 3)
    assert cpu_seconds(told, "slot1") == pytest.approx(found[-1])


def test_a_job_of_a_moment_counts_as_well(quiet: Node) -> None:
    """No reading was taken before it settled."""
    before = cpu_seconds(ask())
    assert quiet.job(BURN).wait() == 0
    assert cpu_seconds(ask()) > before + 0.02


def test_what_a_job_used_before_ledged_was_started_anew_is_not_counted_again(quiet: Node) -> None:
    node = quiet
    job = node.job(BURN + BURN + "read line <gate; " + BURN)
    os.mkfifo(job.directory / "gate")
    os.chown(job.directory / "gate", node.user.uid, -1)
    job.wait_for("running")
    (row,) = await_samples(1)["jobs"]
    before = sum(row["values"][:2])
    node.kill()
    node.start()
    told = ask()
    assert (len(told["jobs"]), told["jobs_begun"]) == (1, 0)
    assert cpu_seconds(told) < 0.2 * before
    (job.directory / "gate").write_text("\n")
    assert job.wait() == 0
    assert 0.2 * before < cpu_seconds(ask()) < before
