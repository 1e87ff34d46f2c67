"""Metrics by Prometheus's conventions, and a dashboard that knows no others."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledge.cli import main
from ledge.errors import LedgeError
from ledge.kernel.cgroup2 import Cgroup
from ledge.monitoring import exporter
from ledge.monitoring.exposition import text_of, write_textfile
from ledge.monitoring.metrics import COUNTER, PREFIX, families, names
from ledge.monitoring.node import Job, Node, _add_limits, _add_moment
from tests.installed import SOURCE_ROOT
from tests.unit import captured

DASHBOARD = SOURCE_ROOT / "share/condor-ledge/grafana-dashboard.json"
# What it puts in for the variables of a dashboard.
GRAFANA_S = {"$__rate_interval": "5m", "$instance": ".*", "$slot": ".*"}
STATUS = {
    "policy_problem": "",
    "network_problem": "no eBPF",
    "endings": {"problem": "", "exact": 1, "sampled": 0, "not_read": 0},
    "recording": {"in_time": 1, "too_late": 0, "not_written": 0},
}
COUNTERS = ["CpuUserSeconds", "CpuSystemSeconds", "BlockReadBytes"]
FIGURES = ["MemoryAnonBytes", "MemoryShmemBytes", "CpuInUseCores", "BlockReadBytesPerSecond"]


def job(slot: str | None, number: int, values: list[float | None], owner: str = "alice") -> Job:
    return Job(
        {"slot": slot, "job": f"{number}.0", "owner": owner, "uid": 0, "slice": None,
         "group": "ledge-1", "start": 1.5e9, "age": 2.0, "cpus": 2, "memory": 1024,
         "values": values}, FIGURES,
    )  # fmt: skip


def node(*jobs: Job) -> Node:
    told = {
        "version": "1.0", "started": 1.7e9, "jobs_begun": 3, "jobs_ended": 1, "left_out": 0,
        "counters": COUNTERS, "node": [10.5, 1.25, None],
        "slots": {"slot1": [10.5, 1.25, None]}, "figures": FIGURES, "jobs": [],
    }  # fmt: skip
    found = Node(told, STATUS)
    found.jobs = list(jobs)
    return found


def full() -> Node:
    """With every figure that there is."""
    one = job("slot1", 1, [1.0, 2.0, 0.5, 3.0])
    for name in ("File", "Kernel", "Sock", "Current", "Peak", "Limit"):
        one.figures[f"Memory{name}Bytes"] = 7.0
    one.figures.update({"SwapCurrentBytes": 0, "ProcessesCount": 3})
    one.stalled = {(resource, kind): 1.0 for resource in ("cpu", "memory", "io")
                   for kind in ("some", "full")}  # fmt: skip
    found = node(one)
    every = {"BlockReadBytes", "BlockWriteBytes", "BlockReadOperations", "BlockWriteOperations",
             "NetworkReceivedBytes", "NetworkSentBytes", "NetworkReceivedPacketsCount",
             "NetworkSentPacketsCount", "SwapInBytes", "SwapOutBytes", "PageFaultsMajorCount",
             "OomKills"}  # fmt: skip
    found.counters.update(dict.fromkeys(every, 1.0))
    found.slots["slot1"] = dict(found.counters)
    return found


def test_what_is_not_known_is_left_out_and_never_zero() -> None:
    text = text_of(families(node(job("slot1", 1, [1.0, None, None, None]))))
    assert 'condor_ledge_node_cpu_seconds_total{mode="user"} 10.5\n' in text
    assert 'condor_ledge_slot_memory_bytes{slot="slot1",kind="anon"} 1.0\n' in text
    for missing in ("block_read", "shmem", "processes{", "limit", "swap", "pressure"):
        assert missing not in text.replace("shmem in it", "")


def test_names_follow_the_conventions() -> None:
    for name, (type_, help_) in names().items():
        assert name.endswith("_total") == (type_ == COUNTER), name
        assert help_.endswith("."), name


def test_every_metric_can_be_there_and_is_documented() -> None:
    found = {family.name for family in families(full(), with_jobs=True)}
    assert found == {PREFIX + name for name in names()}
    document = (SOURCE_ROOT / "docs/monitoring.md").read_text()
    for name in names():
        short = re.sub(r"^(node|slot)_", "", name)
        assert f"`{PREFIX}{name}`" in document or f"`…_{short}`" in document, name


def test_ids_of_jobs_are_told_only_if_wanted() -> None:
    one = node(job("slot1", 4711, [1.0, 1.0, 1.0, 1.0], owner="alice"))
    assert not re.search("4711|alice", text_of(families(one)))
    told = 'condor_ledge_job_info{slot="slot1",job="4711.0",owner="alice",user="root"} 1\n'
    assert told in text_of(families(one, with_jobs=True))


def test_jobs_of_no_known_slot_are_added_up() -> None:
    one = node(job(None, 1, [1.0, None, None, None]), job(None, 2, [2.0, None, None, None]))
    text = text_of(families(one))
    assert 'condor_ledge_slot_memory_bytes{slot="unknown",kind="anon"} 3.0\n' in text
    assert "start_time_seconds{" not in text


def test_a_label_cannot_forge_a_line() -> None:
    evil = 'a"} 1\ncondor_ledge_up 7\\'
    lines = text_of(families(node(job(evil, 1, [1.0, 1.0, 1.0, 1.0])), True)).splitlines()
    assert "condor_ledge_up 7" not in [line[:17] for line in lines]
    assert [line for line in lines if line.startswith("condor_ledge_up ")] == ["condor_ledge_up 1"]


@pytest.mark.requires("promtool")
def test_promtool_has_no_objection() -> None:
    text = text_of(families(full(), with_jobs=True))
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "ledge.prom").mkdir()
    with pytest.raises(LedgeError, match=r"cannot write .*ledge\.prom"):
        write_textfile(str(tmp_path / "ledge.prom"), families(None))
    with pytest.raises(LedgeError, match="cannot write"):
        write_textfile(str(tmp_path / "none" / "ledge.prom"), families(None))
    assert os.listdir(tmp_path) == ["ledge.prom"]


@pytest.mark.parametrize(
    "words", [["--textfile", "/tmp/ledge.txt"], ["--listen", "9619"], ["--listen", "a:70000"]]
)
def test_wrong_command_lines(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["metrics", *words])
    assert caught.value.code == 2


def test_limits_and_what_is_of_the_moment(tmp_path: Path) -> None:
    files = {
        "memory.max": "max\n",
        "cpu.max": "150000 100000\n",
        "pids.current": "17\n",
        "memory.current": "1048576\n",
        "cpu.pressure": captured.CPU_PRESSURE.decode(),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    group = Cgroup.open(os.fsencode(tmp_path))
    one = job("slot1", 1, [1.0, 2.0, None, None])
    _add_limits(one, group)
    _add_moment(one, group)
    assert (one.cores, one.memory_limit, one.memory_used) == (1.5, 1024 << 20, 3.0)
    assert (one.figures["ProcessesCount"], one.figures["MemoryCurrentBytes"]) == (17, 1 << 20)
    assert one.figures["SwapCurrentBytes"] is None
    some = captured.CPU_PRESSURE.decode().splitlines()[0]
    assert one.pressure == {"cpu": float(some.split("=")[1].split()[0])}
    assert one.stalled["cpu", "some"] == int(some.rpartition("=")[2]) / 1e6
    (tmp_path / "memory.max").write_text("536870912\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    one = job("slot1", 1, [1.0, 2.0, None, None])
    _add_limits(one, group)
    assert (one.cores, one.memory_limit) == (2, 512 << 20)
    group.close()


def test_what_is_missing_is_named() -> None:
    """With -S there is nothing but Python and ledge."""
    program = f"import sys; sys.path.insert(0, {str(SOURCE_ROOT)!r})\n" \
              "from ledge.cli import main; sys.exit(main(['metrics']))"  # fmt: skip
    done = subprocess.run([sys.executable, "-ISBc", program], capture_output=True, text=True)
    assert done.returncode == 125
    assert "prometheus_client is not installed; install python3-prometheus-client" in done.stderr


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", [])


def expressions() -> list[str]:
    board = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in panels(board) for target in panel.get("targets", [])]
    assert len(found) > 10
    return found


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    known = {PREFIX + name for name in names()}
    text = DASHBOARD.read_text()
    asked = set(re.findall(rf"\b{PREFIX}\w+", text))
    assert asked <= known
    assert all(re.search(PREFIX, expression) for expression in expressions())


def test_the_dashboard_rates_counters_alone() -> None:
    types = {PREFIX + name: type_ for name, (type_, _) in names().items()}
    for expression in expressions():
        for name in re.findall(rf"\b{PREFIX}\w+", expression):
            rated = re.search(rf"\b(rate|increase)\({name}\b", expression) is not None
            assert rated == (types[name] == COUNTER), expression


def test_the_dashboard_has_a_place_and_a_number_for_each_panel() -> None:
    board = json.loads(DASHBOARD.read_text())
    every = list(panels(board))
    assert len({panel["id"] for panel in every}) == len(every)
    taken: set[tuple[int, int]] = set()
    for panel in every:
        place = panel["gridPos"]
        fields = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                  for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert place["x"] + place["w"] <= 24 and not fields & taken, panel["title"]
        taken |= fields
        uid = panel.get("datasource", {}).get("uid")
        assert uid == "${datasource}" or panel["type"] == "row", panel["title"]


@pytest.mark.requires("promtool")
def test_prometheus_understands_the_dashboard(tmp_path: Path) -> None:
    """Its expressions as recording rules, with what Grafana puts in for its variables."""
    rules = []
    for number, expression in enumerate(expressions()):
        for variable, value in GRAFANA_S.items():
            expression = expression.replace(variable, value)
        rules.append({"record": f"rule{number}", "expr": expression})
    path = tmp_path / "rules.json"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ledged_is_asked_once_however_many_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def look(socket: str) -> Node:
        asked.append(socket)
        return node()

    monkeypatch.setattr(exporter, "look", look)
    collector = exporter.Collector("/socket", False)
    texts = [[metric.samples for metric in collector.collect()] for _ in range(3)]
    assert asked == ["/socket"] and texts[0] == texts[2]
    monkeypatch.setattr(exporter, "KEPT_SECONDS", 0.0)
    collector = exporter.Collector("/socket", False)
    assert len([list(collector.collect()) for _ in range(3)]) == len(asked) - 1
