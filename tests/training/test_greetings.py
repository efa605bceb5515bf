"""Small talk: one answer to each thing said, and names said back."""

from __future__ import annotations

import pytest

from tests.training import checks
from training.conversation import Source
from training.families import about, greetings
from training.families import greetings_about_me as about_me
from training.families import greetings_small_talk as small_talk
from training.families.about_questions import QUESTIONS
from training.families.topics import Topic

TOPICS = (*small_talk.SMALL_TALK, *about_me.ABOUT_ME)


def _answer(asked: str) -> str:
    return next(one.answer for one in TOPICS if asked in one.trained)


@pytest.mark.parametrize("name", sorted(greetings.FAMILIES))
def test_examples_are_well_formed(name: str) -> None:
    checks.check_family(greetings.FAMILIES, name)


def test_no_phrasing_of_the_test_is_trained() -> None:
    trained = [phrase for one in (*TOPICS, *QUESTIONS) for phrase in one.trained]
    trained += [*about_me.NOT_ME, *about_me.WITH_NAME, *about_me.RECALL, *about.MEANING]
    kept = [phrase for one in TOPICS for phrase in one.kept_back]
    kept += [
        *about_me.NOT_ME_KEPT_BACK,
        *about_me.WITH_NAME_KEPT_BACK,
        *about_me.RECALL_KEPT_BACK,
    ]
    checks.check_kept_back([(trained, kept)])


def test_nothing_said_has_two_answers() -> None:
    answers: dict[str, set[str]] = {}
    for one in (*TOPICS, *QUESTIONS):
        for phrase in (*one.trained, *one.kept_back):
            answers.setdefault(checks.plain(phrase), set()).add(one.answer)
    assert {said: told for said, told in answers.items() if len(told) > 1} == {}


def test_every_topic_has_its_phrasings() -> None:
    for one in TOPICS:
        assert isinstance(one, Topic)
        assert len(one.trained) >= 6
        assert len(one.kept_back) >= 3
        assert checks.holds(one.key, one.answer)


def test_answers_fit_what_is_said() -> None:
    assert _answer("hello") == "Hello! How can I help you?"
    assert _answer("Thank you!") == "You are welcome!"
    assert _answer("Good morning").startswith("Good morning!")
    assert _answer("See you later") == "Goodbye!"
    assert "demonstration" in _answer("Who are you?")
    assert "fmedge serve --model hf:ORG/REPO" in _answer("Who are you?")
    assert _answer("Are you a robot?").startswith("Yes")


@pytest.mark.parametrize("is_test", [False, True])
def test_a_name_is_said_back(is_test: bool) -> None:
    for seed in range(300):
        made = greetings.make_with_name(Source(seed, is_test=is_test))
        assert made.key in made.messages[0]["content"]
        assert made.messages[-1]["content"] == f"Hello, {made.key}! How can I help you?"


def test_what_was_asked_is_said_back_word_for_word() -> None:
    for seed in range(300):
        asked, _, _, recalled = greetings.make_recall(Source(seed)).messages
        assert recalled["content"] == f'You said: "{asked["content"]}"'
