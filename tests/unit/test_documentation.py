"""The pages: what they link to and name is there, and what they have HTCondor read it reads so."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ledge.doctor import htcondor
from ledge.doctor.configuration import Configuration, Value
from ledge.doctor.report import Subject
from ledge.policy.keys import KEYS, attribute_of
from ledge.policy.model import MOUNTS
from ledge.publish.starter import NAMES
from tests.installed import SOURCE_ROOT

README = SOURCE_ROOT / "README.md"
PAGES = [README, *sorted((SOURCE_ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
# Paths in the text: directories of the source tree, and what is below them.
ROOMS = "bench|condor_config\\.d|docs|hooks|ledge|packaging|tests"
PATH = re.compile(rf"(?<![\w/.*-])(?:{ROOMS})/[\w./-]*\w")
# What a reading has beside its figures (docs/recording.md).
OF_A_READING = ("Reading", "ReadingAgeSeconds", "Taken")
# Two screens.
MOST_LINES, MOST_COLUMNS = 100, 100
CONFIGURATION = SOURCE_ROOT / "condor_config.d/50-condor-ledge.conf"
SWITCHES = ("LEDGE_ENABLED", "LEDGE_DAEMON", "LEDGE_USAGE", "LEDGE_RECORD")
NAMES_READ = (
    "USER_JOB_WRAPPER", "LEDGE_HOOK_PREPARE_JOB", "DAEMON_LIST", "STARTD_CRON_JOBLIST",
    "STARTER_DEFAULT_JOB_HOOK_KEYWORD", "STARTD_CRON_LEDGE_ARGS",
    *SWITCHES, *(f"{name}_IS" for name in SWITCHES),
)  # fmt: skip
READ = """
import json, sys, htcondor2
print(json.dumps({name: htcondor2.param.get(name) or "" for name in sys.argv[1:]}))
"""


def prose(page: Path) -> str:
    """The page without what stands in blocks of code."""
    return re.sub(r"(?ms)^ *```.*?^ *```$|^    .*?$", "", page.read_text())


def anchors(page: Path) -> set[str]:
    """What the page's headings are called in links, as GitHub does it."""
    titles = re.findall(r"(?m)^#+ (.*)$", prose(page))
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in plain}


def by_name(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    broken = []
    for target in targets:
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_paths_of_the_source_tree_are_there(page: Path) -> None:
    named = set(PATH.findall(prose(page)))
    assert sorted(path for path in named if not (SOURCE_ROOT / path).exists()) == []


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_attributes_and_settings_are_ones(page: Path) -> None:
    text = page.read_text()
    figures = re.findall(r"\bChirpLedge([A-Z]\w+)\b(?!{)", text)
    running = re.findall(r"\bLedge(?:Usage)?\.([A-Z]\w+)", text)
    asked = re.findall(r"\bMy\.(Ledge\w+)", text)
    settings = re.findall(r"\bLEDGE_[A-Z_]+[A-Z]\b", text)
    assert set(figures) - {*NAMES} == set()
    assert set(running) - {*NAMES, *OF_A_READING} == set()
    assert set(asked) - {attribute_of(name) for name in (*KEYS, MOUNTS)} == set()
    assert [name for name in settings if name not in CONFIGURATION.read_text()] == []


def test_the_readme_leads_to_every_page() -> None:
    linked = set(LINK.findall(README.read_text()))
    assert {f"docs/{page.name}" for page in PAGES[1:]} - linked == set()


def test_the_readme_fits_on_two_screens() -> None:
    lines = README.read_text().splitlines()
    assert len(lines) <= MOST_LINES
    long = [line for line in lines if len(line) > MOST_COLUMNS]
    assert [line for line in long if not line.startswith("|")] == []  # a row is one line


@pytest.mark.parametrize(("host", "here"), [("node7", True), ("node-8", True), ("node9", False)])
def test_one_node_first(host: str, here: bool, tmp_path: Path) -> None:
    """The line for a configuration that all nodes share, behind the one that is installed."""
    page = (SOURCE_ROOT / "docs/admins.md").read_text()
    shown = re.findall(r"(?ms)^   ```condor\n(.*?)^   ```$", page)[0]
    read = configured(tmp_path, shown, f"{host}.pool")
    installed = "/usr/libexec/condor/condor-ledge"
    assert read["USER_JOB_WRAPPER"] == (f"{installed}/job_wrapper" if here else "")
    assert read["LEDGE_HOOK_PREPARE_JOB"] == (f"{installed}/prepare_job" if here else "")
    assert read["DAEMON_LIST"].split() == ["MASTER", "LEDGED"][: 1 + here]
    assert read["STARTD_CRON_JOBLIST"].split() == ["LEDGE"] * here


@pytest.mark.parametrize("value", ["Flase", "", "False # off", '"False"', ")", "2", "no"])
def test_a_misspelt_switch_ends_no_daemon_and_leaves_jobs_protected(
    value: str, tmp_path: Path
) -> None:
    """HTCondor's $INT(LEDGE_ENABLED) would: each process that reads the configuration ends."""
    read = configured(tmp_path, "".join(f"{name} = {value}\n" for name in SWITCHES), "node7.pool")
    assert read["USER_JOB_WRAPPER"] == "/usr/libexec/condor/condor-ledge/job_wrapper"
    assert read["DAEMON_LIST"].split() == ["MASTER", "LEDGED"]
    assert read["STARTD_CRON_LEDGE_ARGS"] == "1"
    if value not in ("", "2"):
        told = Configuration("STARTER", {name: Value(text, "") for name, text in read.items()})
        subject = Subject("configuration")
        for name in SWITCHES:
            htcondor._check_switch(subject, told, name)
        assert len(subject.findings) == len(SWITCHES)


@pytest.mark.parametrize("enabled", [True, False])
def test_an_earlier_wrapper_and_hook_are_back_when_it_is_off(
    enabled: bool, tmp_path: Path
) -> None:
    earlier = "USER_JOB_WRAPPER = /site\nSTARTER_DEFAULT_JOB_HOOK_KEYWORD = SITE\n"
    read = configured(tmp_path, f"LEDGE_ENABLED = {enabled}\n", "node7.pool", earlier)
    keyword, wrapper = read["STARTER_DEFAULT_JOB_HOOK_KEYWORD"], read["USER_JOB_WRAPPER"]
    assert (keyword == "LEDGE") == enabled == wrapper.endswith("/job_wrapper")
    assert (keyword == "SITE") == (not enabled) == (wrapper == "/site")


def configured(directory: Path, more: str, host: str, earlier: str = "") -> dict[str, str]:
    """What HTCondor makes of the installed configuration with more behind it."""
    shipped = re.sub(r"(?m)^include .*$", "LEDGE_INSTALLED = True", CONFIGURATION.read_text())
    head = f"LIBEXEC = /usr/libexec/condor\nDAEMON_LIST = MASTER\nNETWORK_HOSTNAME = {host}\n"
    (directory / "condor_config").write_text(f"{head}{earlier}{shipped}\n{more}")
    environment = {**os.environ, "CONDOR_CONFIG": str(directory / "condor_config")}
    done = subprocess.run(
        [sys.executable, "-c", READ, *NAMES_READ], env=environment, capture_output=True, check=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found
