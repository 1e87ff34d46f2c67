"""What can be seen of a token, in the form in which condor_token_create writes it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ledge.recorder.tokens import token_problem, versions

NOW = 1795422900.0
# By condor_token_create of HTCondor 25.14.1, with -lifetime 3.
EXPIRED = (
    "eyJhbGciOiJIUzI1NiIsImtpZCI6IlBPT0wifQ.eyJleHAiOjE3OTU0MjI4NDAsImlhdCI6MTc5NTQyMjgzNywiaXNz"
    "IjoicG9vbCIsImp0aSI6ImViMWY4OTI2OTk1OTlmNGQ2M2UyMzQ0ODc1MWQwZTgyIiwic2NvcGUiOiJjb25kb3I6XC9S"
    "RUFEIGNvbmRvcjpcL1dSSVRFIiwic3ViIjoibGVkZ2VAcG9vbCJ9.oC--9oI2gCnPhPSYksPqVPluGmQKqQb5t4D0Mmt"
    "Pkxo"
)


def token(claims: Any) -> str:
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{part}.c2ln"


def test_a_token_of_htcondor_s_that_has_expired(tmp_path: Path) -> None:
    (tmp_path / "ledge").write_text(EXPIRED + "\n")
    problem = token_problem(str(tmp_path), NOW)
    assert f"the token in {tmp_path} expired at 2026-11-23 " in problem
    assert "condor_token_create" in problem
    assert token_problem(str(tmp_path), 1795422839.0) == ""


@pytest.mark.parametrize(
    "good",
    [
        pytest.param(token({"exp": NOW + 1}), id="lives"),
        pytest.param(token({"sub": "ledge@pool"}), id="for ever"),
        pytest.param(token(["exp"]), id="no claims"),
        pytest.param(token({"exp": "soon"}), id="a word"),
        pytest.param("no token at all", id="garbage"),
        pytest.param("a.\xff.b", id="no base64"),
    ],
)
def test_one_that_may_do_is_enough(tmp_path: Path, good: str) -> None:
    (tmp_path / "old").write_text(f"# expired\n{EXPIRED}\n")
    (tmp_path / "new").write_text(good)
    assert token_problem(str(tmp_path), NOW) == ""


def test_no_token(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text(token({}))
    (tmp_path / "empty").write_text("# nothing\n\n")
    assert f"there is no token in {tmp_path}" in token_problem(str(tmp_path), NOW)


def test_no_directory(tmp_path: Path) -> None:
    problem = token_problem(str(tmp_path / "tokens.d"), NOW)
    assert f"{tmp_path}/tokens.d: No such file or directory" in problem


def test_where_htcondor_chooses_nothing_can_be_said() -> None:
    assert token_problem(None, NOW) == ""


def test_a_change_is_seen(tmp_path: Path) -> None:
    directory = str(tmp_path / "tokens.d")
    seen = [versions(None), versions(directory)]
    assert seen == [[], []]
    (tmp_path / "tokens.d").mkdir()
    for text in ("one", "other"):
        (tmp_path / "tokens.d" / "ledge").write_text(text)
        seen.append(versions(directory))
    assert seen[2] != seen[3]
    assert len(seen[3]) == 1
