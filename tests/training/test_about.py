"""What is taught about fmedge is what its commands and documents say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fmedge.cli import VERBS, main
from tests.training import checks
from training.families import about
from training.families.about_questions import QUESTIONS
from training.families.about_tasks import TASKS
from training.families.about_terms import COMMANDS, TERMS

ROOT = Path(__file__).parents[2]
ANSWERS = [one.answer for one in (*TERMS, *COMMANDS, *TASKS)]
ANSWERS += [one.answer for one in QUESTIONS]


def _written() -> str:
    files = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return "\n".join(path.read_text() for path in files)


@pytest.mark.parametrize("name", sorted(about.FAMILIES))
def test_examples_are_well_formed(name: str) -> None:
    checks.check_family(about.FAMILIES, name)


@pytest.mark.parametrize(
    ("trained", "kept_back"),
    [
        (about.MEANING, about.MEANING_KEPT_BACK),
        (about.PURPOSE, about.PURPOSE_KEPT_BACK),
        (about.HOW, about.HOW_KEPT_BACK),
    ],
)
def test_no_template_of_the_test_is_trained(
    trained: tuple[str, ...], kept_back: tuple[str, ...]
) -> None:
    everything = [*about.MEANING, *about.PURPOSE, *about.HOW]
    checks.check_kept_back([(everything, kept_back)])
    assert len(trained) >= 12
    assert len(kept_back) >= 5


def test_no_question_of_the_test_is_trained() -> None:
    trained = [phrase for one in QUESTIONS for phrase in one.trained]
    trained += [*about.MEANING, *about.PURPOSE, *about.HOW]
    trained += [name for one in (*TERMS, *COMMANDS, *TASKS) for name in one.names]
    checks.check_kept_back([(trained, [p for one in QUESTIONS for p in one.kept_back])])


def test_no_question_has_two_answers() -> None:
    answers: dict[str, set[str]] = {}
    for entries, templates in (
        (TERMS, (*about.MEANING, *about.MEANING_KEPT_BACK)),
        (COMMANDS, (*about.PURPOSE, *about.PURPOSE_KEPT_BACK)),
        (TASKS, (*about.HOW, *about.HOW_KEPT_BACK)),
    ):
        for entry in entries:
            for question in {t.replace("{x}", n) for t in templates for n in entry.names}:
                answers.setdefault(checks.plain(question), set()).add(entry.answer)
    for one in QUESTIONS:
        for question in (*one.trained, *one.kept_back):
            answers.setdefault(checks.plain(question), set()).add(one.answer)
    assert {asked: told for asked, told in answers.items() if len(told) > 1} == {}


def test_every_command_is_explained_and_exists() -> None:
    names = [name.strip("`").split() for entry in COMMANDS for name in entry.names]
    assert {name[1] for name in names if name[0] == "fmedge"} == set(VERBS)


def test_every_command_that_is_advised_exists() -> None:
    advice = re.compile(r"(?:^|: |, |or |start |; )fmedge ([a-z-]+) [A-Z-]", re.MULTILINE)
    named = set(advice.findall("\n".join(ANSWERS))) - {"serves", "speaks"}
    assert {"serve", "run", "rm", "bench", "why"} <= named
    assert named <= set(VERBS)


def test_every_option_exists(capsys: pytest.CaptureFixture[str]) -> None:
    known = ""
    for verb in ("serve", "plan", "simulate", "bench"):
        assert main([verb, "--help"]) == 0
        known += capsys.readouterr().out
    options = {option for answer in ANSWERS for option in re.findall(r"(?<!\S)--[a-z-]+", answer)}
    assert "--alias" in options
    assert {option for option in options if option not in known} == set()


def test_names_stand_in_the_documents() -> None:
    written = _written()
    name = re.compile(r"/v1/[a-z/]+|x-fmedge-[a-z-]+|\b[a-z0-9]+_[a-z0-9_]+\b|Apache-2\.0|\b8080\b")
    names = {found for answer in ANSWERS for found in name.findall(answer)}
    assert {"ttft_ms", "/v1/estimate", "x-fmedge-workflow-id", "on_miss"} <= names
    # The terms of the estimate are in the documents as they are here.
    assert {found for found in names if found not in written} == set()


def test_l_est_is_the_sum_of_its_terms() -> None:
    answer = next(one.answer for one in TERMS if "l_est" in one.names)
    assert "l_est = l_x + l_q + l_r" in answer
    assert "l_est = l_x + l_q + l_r" in _written()
