"""Echo: what is said back is what the question holds, changed as asked."""

from __future__ import annotations

import re

import pytest

from tests.training import checks
from training.families import echo, echo_phrasings


@pytest.mark.parametrize("name", echo.FAMILIES)
def test_conversations_are_well_formed_and_stable(name: str) -> None:
    checks.check_family(echo.FAMILIES, name)


def test_kept_back_phrasings_are_new_but_of_known_words() -> None:
    checks.check_kept_back(echo_phrasings.PHRASINGS.values())


def test_a_repeated_text_stands_in_the_question() -> None:
    for name in ("echo.repeat", "echo.word"):
        for question, answer in checks.answers(echo.FAMILIES[name][0]):
            assert answer in question
    assert all(" " not in answer for _, answer in checks.answers(echo.FAMILIES["echo.word"][0]))


def test_a_text_is_said_as_often_as_asked() -> None:
    names = {"twice": 2, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
    for question, answer in checks.answers(echo.FAMILIES["echo.times"][0]):
        said = answer.split()
        assert len(set(said)) == 1
        assert said[0] in question
        found = re.search(r"(\w+) times|twice", question, re.IGNORECASE)
        assert found, question
        asked = (found[1] or "twice").lower()
        assert len(said) == (names[asked] if asked in names else int(asked))


def test_letters_are_changed_as_asked() -> None:
    for question, answer in checks.answers(echo.FAMILIES["echo.upper"][0]):
        assert answer.isupper()
        assert answer in question.upper()
    for question, answer in checks.answers(echo.FAMILIES["echo.lower"][0]):
        assert answer.islower()
        assert answer in question.lower()
    for question, answer in checks.answers(echo.FAMILIES["echo.title"][0]):
        assert answer.lower() in question
        assert all(word[0].isupper() and word[1:].islower() for word in answer.split())


def test_words_are_joined_and_enclosed_as_asked() -> None:
    for question, answer in checks.answers(echo.FAMILIES["echo.join"][0]):
        assert " ".join(re.findall("[a-z]+", answer)) in question
    pairs = {"'": "'", '"': '"', "(": ")", "[": "]", "{": "}", "<": ">", "*": "*"}
    for question, answer in checks.answers(echo.FAMILIES["echo.enclose"][0]):
        assert answer[1:-1] in question
        assert pairs[answer[0]] == answer[-1]
    assert ("Put {t} in {b}.".format(t="a b", b="square brackets")) == "Put a b in square brackets."


def test_what_is_said_again_was_said_before() -> None:
    for example in checks.examples(echo.FAMILIES["echo.again"][0], is_test=False):
        assert example.messages[-1] == example.messages[-3]
