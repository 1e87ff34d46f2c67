"""The packages as they are built: what is in them, where, and what the linters say."""

from __future__ import annotations

import argparse
import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledge import __version__
from ledge.cli import doctor, enter, metrics, policy, ps, run, status, top, usage
from ledge.daemon.service import _parser
from ledge.policy.keys import KEYS
from tests.cookbook import POLICIES
from tests.installed import SOURCE_ROOT
from tests.packages import build

HOME = "/usr/libexec/condor/condor-ledge"
CONFIGURATION = ["/etc/condor-ledge/policy.yaml", "/etc/condor/config.d/50-condor-ledge.conf"]
MAN = SOURCE_ROOT / "packaging/man"
DROP_INS = SOURCE_ROOT / "share/condor-ledge/systemd"
# Beside the modules. Documents are where each distribution wants them.
FILES = {
    *CONFIGURATION,
    "/usr/bin/condor_ledge",
    "/usr/lib/systemd/system/ledged.service",
    "/usr/lib/systemd/system/condor-ledge-metrics.service",
    f"{HOME}/installed.conf",
    f"{HOME}/restart_ledged",
    *(f"{HOME}/{path.name}" for path in (SOURCE_ROOT / "hooks").iterdir()),
    *(f"/usr/share/condor-ledge/{path.name}" for path in SOURCE_ROOT.glob("share/*/*.*")),
    *(f"/usr/share/condor-ledge/cookbook/{path.name}" for path in POLICIES.iterdir()),
    *(f"/usr/share/condor-ledge/systemd/{path.name}" for path in DROP_INS.iterdir()),
    *(f"/usr/share/man/man{path.suffix[1:]}/{path.name}.gz" for path in MAN.iterdir()),
}
DOCUMENTS = ("/usr/share/doc/", "/usr/share/licenses/", "/usr/share/python3/runtime.d/")
# The package of RPM distributions, and what Depends says of Debian's.
PROVIDED_BY = {
    "classad2": ("python3-condor", "condor (>= 23.9)"),
    "htcondor2": ("python3-condor", "condor (>= 23.9)"),
    "psutil": ("python3-psutil", "python3-psutil"),
    "yaml": ("python3-pyyaml", "python3-yaml"),
}
# What does without, and says so.
SUGGESTED = {
    "prometheus_client": ("python3-prometheus_client", "python3-prometheus-client"),
    "rich": ("python3-rich", "python3-rich"),
}
# Settings that the others are made of.
INTERNAL = re.compile(r"LEDGE\w*_(?:0|1|01|IF|IS)|LEDGED|LEDGED_ARGS|LEDGE_RECORDER|"
                      r"LEDGE_RECORDER_ARGS|LEDGE_HOOK_\w+|LEDGE_INSTALLED")  # fmt: skip


def output(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def rpm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("rpm", tmp_path_factory.mktemp("rpm"))


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("deb", tmp_path_factory.mktemp("deb"))


def files_of_rpm(rpm: Path) -> set[str]:
    lines = output("rpm", "-qp", "--qf", r"[%{FILEMODES:perms} %{FILENAMES}\n]", rpm).splitlines()
    return {line.split()[1] for line in lines if not line.startswith("d")}


def files_of_deb(deb: Path) -> set[str]:
    lines = output("dpkg-deb", "-c", deb).splitlines()
    return {line.split()[5][1:] for line in lines if not line.startswith("d")}


def modules(release: str) -> set[str]:
    paths = (SOURCE_ROOT / "ledge").rglob("*.py")
    return {f"{HOME}/{release}/{path.relative_to(SOURCE_ROOT)}" for path in paths}


def bytecode(module: str) -> str:
    path = Path(module)
    return str(path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc")


@pytest.mark.requires("rpm")
def test_files_of_the_rpm(rpm: Path) -> None:
    mine = modules(f"{__version__}-1")
    expected = FILES | mine | {bytecode(module) for module in mine}
    assert {path for path in files_of_rpm(rpm) if not path.startswith(DOCUMENTS)} == expected


def test_files_of_the_deb(deb: Path) -> None:
    """Bytecode is not among them: Debian's Python may be of another version tomorrow."""
    expected = FILES | modules(f"{__version__}-1")
    assert {path for path in files_of_deb(deb) if not path.startswith(DOCUMENTS)} == expected


@pytest.mark.requires("rpm")
def test_all_is_root_s_and_nobody_else_s_to_write(rpm: Path, deb: Path) -> None:
    query = r"[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILENAMES}\n]"
    of_rpm = output("rpm", "-qp", "--qf", query, rpm).splitlines()
    of_deb = output("dpkg-deb", "-c", deb).splitlines()
    assert {tuple(line.split()[1:3]) for line in of_rpm} == {("root", "root")}
    assert {line.split()[1] for line in of_deb} == {"root/root"}
    assert {line[5] + line[8] for line in of_rpm + of_deb} == {"--"}


@pytest.mark.requires("rpm")
def test_configuration_is_the_administrator_s(rpm: Path, deb: Path) -> None:
    assert output("rpm", "-qp", "--configfiles", rpm).split() == CONFIGURATION
    flags = output("rpm", "-qp", "--qf", r"[%{FILENAMES} %{FILEFLAGS:fflags}\n]", rpm)
    assert [line.split()[1] for line in flags.splitlines() if line.split()[0] in CONFIGURATION] == [
        "cn", "cn",  # config, noreplace
    ]  # fmt: skip
    assert output("dpkg-deb", "--info", deb, "conffiles").split() == CONFIGURATION


def test_packaging_install_keeps_what_was_changed(tmp_path: Path) -> None:
    """HTCondor leaves out ".rpmnew" (LOCAL_CONFIG_DIR_EXCLUDE_REGEXP), and would read ".new"."""
    install = (SOURCE_ROOT / "packaging/install", "--destdir", tmp_path, "--libexec", "/libexec")
    output(*install, "--no-bytecode")
    for path in CONFIGURATION:
        (tmp_path / path[1:]).write_text("# mine\n")
    output(*install, "--no-bytecode")
    for path in CONFIGURATION:
        file = tmp_path / path[1:]
        assert file.read_text() == "# mine\n"
        there = sorted(one.name for one in file.parent.iterdir())
        assert there == [file.name, f"{file.name}.rpmnew"]


def foreign_imports() -> Iterator[str]:
    """What ledge imports of neither its own nor Python's."""
    for path in (SOURCE_ROOT / "ledge").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in (name.partition(".")[0] for name in names):
                if name != "ledge" and name not in sys.stdlib_module_names:
                    yield name


@pytest.mark.requires("rpm")
def test_it_requires_what_it_imports(rpm: Path, deb: Path) -> None:
    required = set(output("rpm", "-qp", "--requires", rpm).splitlines())
    python = f"python(abi) = {sys.version_info.major}.{sys.version_info.minor}"
    needed = [name for name in foreign_imports() if name not in SUGGESTED]
    of_rpm, of_deb = zip(*[PROVIDED_BY[name] for name in needed])
    own = {line for line in required if not line.startswith(("rpmlib(", "config(", "/"))}
    assert own == {python, "condor >= 23.9", *of_rpm}
    depends = output("dpkg-deb", "--field", deb, "Depends").strip()
    assert depends.split(", ") == sorted({"python3 (>= 3.9)", *of_deb})


@pytest.mark.requires("rpm")
def test_it_recommends_what_private_networks_need(rpm: Path, deb: Path) -> None:
    assert output("rpm", "-qp", "--recommends", rpm).split() == ["iproute", "nftables"]
    recommends = output("dpkg-deb", "--field", deb, "Recommends").strip()
    assert recommends == "iproute2, nftables"


@pytest.mark.requires("rpm")
def test_it_suggests_what_monitoring_needs(rpm: Path, deb: Path) -> None:
    of_rpm, of_deb = zip(*[SUGGESTED[name] for name in sorted({*foreign_imports()} & {*SUGGESTED})])
    assert output("rpm", "-qp", "--suggests", rpm).split() == list(of_rpm)
    assert output("dpkg-deb", "--field", deb, "Suggests").strip().split(", ") == list(of_deb)


@pytest.mark.requires("rpm")
def test_one_place_for_the_version(rpm: Path, deb: Path) -> None:
    newest = f"{__version__}-1"
    assert output("rpm", "-qp", "--qf", "%{VERSION}-%{RELEASE}", rpm) == newest
    assert output("dpkg-deb", "--field", deb, "Version").strip() == newest
    first = (SOURCE_ROOT / "packaging/changelog").read_text().splitlines()[0]
    assert f"({newest})" in first
    assert output("rpm", "-qp", "--changelog", rpm).splitlines()[0].endswith(f" - {newest}")


@pytest.mark.requires("rpm")
def test_two_releases_have_no_module_in_common(rpm: Path, deb: Path, tmp_path: Path) -> None:
    """What is started while one replaces the other has modules of one release."""
    pairs = [
        (files_of_rpm(rpm), files_of_rpm(build("rpm", tmp_path, release=2))),
        (files_of_deb(deb), files_of_deb(build("deb", tmp_path, release=2))),
    ]
    for first, second in pairs:
        assert {path.replace("-1/", "-2/") for path in first} == second
        assert not {path for path in first & second if path.endswith((".py", ".pyc"))}


@pytest.mark.requires("rpm")
def test_the_same_sources_make_the_same_package(rpm: Path, deb: Path, tmp_path: Path) -> None:
    assert build("deb", tmp_path).read_bytes() == deb.read_bytes()
    # rpm's header has the directory that it was built in, by way of the source package.
    twice = (rpm, build("rpm", tmp_path))
    contents = [subprocess.check_output(["rpm2cpio", path]) for path in twice]
    assert contents[0] == contents[1]


@pytest.mark.requires("rpm")
def test_it_is_built_without_git(tmp_path: Path) -> None:
    """As from a release's archive, which the source package is."""
    source = build("rpm", tmp_path).parent
    (package,) = source.glob("*.src.rpm")
    define = ["--define", f"_topdir {tmp_path}/again", "--define", "__os_install_post %{nil}"]
    output("rpmbuild", "--rebuild", "--nodeps", "--quiet", *define, package)
    (again,) = tmp_path.glob("again/RPMS/noarch/*.rpm")
    assert files_of_rpm(again) == files_of_rpm(next(source.glob("*.noarch.rpm")))


@pytest.mark.requires("rpm", "rpmlint")
def test_rpmlint(rpm: Path) -> None:
    settings = SOURCE_ROOT / "packaging/rpm/rpmlint.toml"
    source = next(rpm.parent.glob("*.src.rpm"))
    said = output("rpmlint", "-c", settings, rpm, source)
    assert "0 errors, 0 warnings" in said, said


@pytest.mark.requires("lintian")
def test_lintian(deb: Path) -> None:
    # A first upload to Debian closes the bug that asks for the package; this is none.
    options = ["--fail-on", "error,warning", "--suppress-tags", "initial-upload-closes-no-bugs"]
    output("lintian", "--allow-root", *options, deb)


@pytest.mark.requires("mandoc")
@pytest.mark.parametrize("page", sorted(MAN.iterdir()), ids=lambda path: path.name)
def test_man_pages(page: Path) -> None:
    mandoc = shutil.which("mandoc")
    assert mandoc
    output(mandoc, "-T", "lint", "-W", "warning", page)


def options_of(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, str]]:
    """Every option of a command line with the subcommand that it belongs to."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, one in action.choices.items():
                yield f"{name} {word}".strip(), ""
                yield from options_of(one, f"{name} {word}".strip())
        for option in action.option_strings:
            if option not in ("-h", "--help"):
                yield name, option


def words_of(page: str) -> str:
    """The page's text as roff has it, options as their macro writes them."""
    return re.sub(r"\bFl -", "Fl --", (MAN / page).read_text())


def test_the_man_page_has_every_subcommand_and_option() -> None:
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    for module in (doctor, enter, metrics, policy, ps, run, status, top, usage):
        module.add_parser(subparsers)
    text = words_of("condor_ledge.1")
    for name, option in options_of(parser):
        flag = option if option.startswith("--") else option[1:]  # as roff has it
        assert f"Fl {flag}" in text if option else f"Cm {name.split()[0]}" in text, (name, option)


def test_the_man_page_has_every_option_of_ledged_s() -> None:
    text = words_of("ledged.8")
    for _, option in options_of(_parser()):
        assert f"It Fl {option}" in text, option


def test_the_man_page_has_every_setting() -> None:
    text = (SOURCE_ROOT / "condor_config.d/50-condor-ledge.conf").read_text()
    settings = set(re.findall(r"(?m)^(?:MAX_)?LEDGED?_\w+(?= =)", text))
    page = words_of("ledged.8")
    for setting in sorted(name for name in settings if not INTERNAL.fullmatch(name)):
        assert re.search(rf"\b{setting}\b", page), setting


def test_the_man_page_has_every_key_of_the_policy() -> None:
    page = words_of("condor-ledge-policy.5")
    for key in [*KEYS, "namespaces", "mounts", "refuse", "requests", "version", "without_daemon"]:
        assert re.search(rf"(?m)^\.It Cm .*\b{key}\b", page), key
