"""The policies of the cookbook, by the real evaluator, for the jobs that its page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cookbook import POLICIES, Recipe, Session, recipes
from tests.unit.test_policy_command import Result, policy_command

RECIPES = recipes()
SESSIONS = [session for recipe in RECIPES.values() for session in recipe.sessions]


def explained(session: Session, directory: Path) -> Result:
    """What the page's command says, without the grep."""
    (directory / session.policy).write_bytes((POLICIES / session.policy).read_bytes())
    (directory / "job.ad").write_text(session.job.ad)
    (directory / "slot.ad").write_text(session.slot_ad)
    command = ("explain", "--policy", session.policy, "job.ad", "slot.ad")
    return policy_command(*command, cwd=directory)


def test_the_page_has_every_policy_and_every_policy_a_section() -> None:
    assert len(RECIPES) == 10
    assert sorted(path.name for path in POLICIES.iterdir()) == [f"{name}.yaml" for name in RECIPES]
    for number, recipe in enumerate(RECIPES.values(), 1):
        assert recipe.title.startswith(f"{number}. ")


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_page_has_the_policy_word_for_word(recipe: Recipe) -> None:
    assert recipe.policy == recipe.path.read_text()


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_it_is_a_policy(recipe: Recipe) -> None:
    result = policy_command("check", str(recipe.path), cwd=POLICIES)
    assert result.stderr == ""
    assert result.stdout.startswith(f"{recipe.path}: OK, ")


@pytest.mark.parametrize(
    "session", SESSIONS, ids=[f"{session.policy}-{i}" for i, session in enumerate(SESSIONS)]
)
def test_what_the_page_says_of_a_job(session: Session, tmp_path: Path) -> None:
    result = explained(session, tmp_path)
    lines = [line for line in result.stdout.splitlines() if re.search(session.pattern, line)]
    assert lines == session.output != []
    assert result.returncode == int(lines[0].startswith("refused: "))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_one_job_is_let_through_and_one_is_not_given_what_it_wants(
    recipe: Recipe, tmp_path: Path
) -> None:
    """Refused, or limited all the same; or limited, and on another node not."""
    said = [explained(session, tmp_path).stdout for session in recipe.sessions]
    assert any(not text.startswith("refused: ") for text in said)
    denied = any(re.search(r"(?m)^refused: |is ignored: ", text) for text in said)
    assert denied or (recipe.node and len(set(said)) > 1)
