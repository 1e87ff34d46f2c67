"""docs/cookbook.md as the tests read it: policies, jobs, and what "explain" is said to say of them.

The page has, in each section, one block "yaml", the policy; perhaps one "condor", what a node says
of itself for it; "sub", submit descriptions; and "console", each about the description above it.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from tests.installed import SOURCE_ROOT

PAGE = SOURCE_ROOT / "docs/cookbook.md"
POLICIES = SOURCE_ROOT / "share/condor-ledge/cookbook"
_BLOCK = re.compile(r"(?ms)^```(\w+)\n(.*?)^```$")
_SETTING = re.compile(r"(?m)^(\S+) *= *(.*?) *$")
_COMMAND = re.compile(
    r"\$ condor_ledge policy explain --policy (\S+) job\.ad (slot|other)\.ad \| grep -E '(.+)'"
)
_ASKED = {"request_cpus": "RequestCpus", "request_memory": "RequestMemory",
          "request_disk": "RequestDisk"}  # fmt: skip
_UNASKED = {"RequestCpus": "1", "RequestMemory": "1024", "RequestDisk": "1024"}


class Description(NamedTuple):
    """A submit description: its text, and what of it is in the job ad."""

    text: str
    attributes: dict[str, str]

    @property
    def argv(self) -> list[str]:
        """The command with its arguments, which the page writes in either syntax."""
        settings = dict(_SETTING.findall(self.text))
        arguments = settings.get("arguments", "").strip('"').replace('""', '"')
        return [settings["executable"], *shlex.split(arguments)]

    @property
    def ad(self) -> str:
        """The job ad, in the long format."""
        return long_format({"ClusterId": "17", "ProcId": "0", **self.attributes})


class Session(NamedTuple):
    """A command of the page, and what it prints there."""

    policy: str
    job: Description
    slot_ad: str
    pattern: str
    output: list[str]


class Recipe(NamedTuple):
    """A section of the page."""

    title: str
    name: str
    policy: str
    node: dict[str, str]
    jobs: list[Description]
    sessions: list[Session]

    @property
    def path(self) -> Path:
        """Where the policy is."""
        return POLICIES / f"{self.name}.yaml"


def recipes() -> dict[str, Recipe]:
    """All of them, by the names of their policies."""
    head, *sections = re.split(r"(?m)^## ", PAGE.read_text())
    machine = dict(_SETTING.findall(dict(_BLOCK.findall(head))["classad"]))
    found = [_recipe(section, machine) for section in sections]
    return {recipe.name: recipe for recipe in found}


def long_format(attributes: dict[str, str]) -> str:
    return "".join(f"{name} = {value}\n" for name, value in attributes.items())


def _recipe(section: str, machine: dict[str, str]) -> Recipe:
    blocks = _BLOCK.findall(section)
    name = re.findall(r"cookbook/([\w-]+)\.yaml\)", section)[0]
    configured = dict(_SETTING.findall("".join(text for kind, text in blocks if kind == "condor")))
    node = {key: value for key, value in configured.items() if "$(" not in value}
    jobs: list[Description] = []
    sessions = []
    for kind, text in blocks:
        if kind == "sub":
            jobs.append(_description(text))
        elif kind == "console":
            sessions.append(_session(text, jobs[-1], machine, node))
    (policy,) = [text for kind, text in blocks if kind == "yaml"]
    return Recipe(section.splitlines()[0], name, policy, node, jobs, sessions)


def _description(text: str) -> Description:
    attributes = dict(_UNASKED)
    for name, value in _SETTING.findall(text):
        if name in _ASKED:
            attributes[_ASKED[name]] = value
        elif name.startswith("My."):
            attributes[name[3:]] = value
    return Description(text, attributes)


def _session(
    text: str, job: Description, machine: dict[str, str], node: dict[str, str]
) -> Session:
    command, *output = text.splitlines()
    found = _COMMAND.fullmatch(command)
    assert found, command
    policy, slot, pattern = found.groups()
    asked = {"Cpus": job.attributes["RequestCpus"], "Memory": job.attributes["RequestMemory"]}
    attributes = {**machine, **asked, **(node if slot == "slot" else {})}
    return Session(policy, job, long_format(attributes), pattern, output)
