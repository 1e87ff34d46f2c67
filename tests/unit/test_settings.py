"""What ledged makes of wrong settings: a line that names the setting, in its log and by doctor."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ledge.daemon.service import _parser
from ledge.doctor.service import _why_it_ended
from ledge.errors import LedgeError
from ledge.settings import size_bytes, tell_end


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("--usage-interval=30s", "LEDGE_USAGE_INTERVAL = 30s"),
        ("--usage-interval=nan", "LEDGE_USAGE_INTERVAL = nan"),
        ("--record-interval=-1", "LEDGE_RECORD_INTERVAL = -1"),
        ("--spool-files=many", "LEDGE_SPOOL_FILES = many"),
        ("--policy=", "LEDGE_POLICY = "),
        ("--usage-interval=30 s", "unrecognized arguments: s"),
    ],
)
def test_a_wrong_setting_is_named(arguments: str, problem: str) -> None:
    with pytest.raises(LedgeError) as raised:
        _parser().parse_args(arguments.split())
    assert problem in str(raised.value)


@pytest.mark.parametrize(
    ("text", "size"), [("10000000", 10_000_000), ("10 Mb", 10 << 20), ("1GB", 1 << 30)]
)
def test_sizes_of_logs_have_htcondors_units(text: str, size: int) -> None:
    assert size_bytes(text.split()) == size


def test_no_size_of_a_log() -> None:
    with pytest.raises(LedgeError, match="MAX_LEDGED_LOG = 1 day, but has to be bytes"):
        size_bytes(["1", "day"])


@pytest.mark.parametrize("option", ["--log={}", "--log {}"])
def test_why_ledged_ended_is_in_its_log_and_told_by_doctor(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "LedgeLog"
    assert "there is no" in _why_it_ended(str(log))
    words = option.format(log).split()
    monkeypatch.setattr(sys, "argv", ["ledged", *words, "--usage-interval=30s", "what"])
    tell_end("ledged", LedgeError("LEDGE_USAGE_INTERVAL = 30s", "mend it"))
    assert _why_it_ended(str(log)) == ": LEDGE_USAGE_INTERVAL = 30s; mend it"
    with log.open("a") as file:
        file.write("11/23/26 21:01:34 ledged 0.1.0 started\n")
    assert _why_it_ended(str(log)) == ""
