"""Echo: what is said back is what the question holds, changed as asked."""

from __future__ import annotations

import re

import pytest

from tests.training.phrasings import (
    answers_of,
    check_family,
    equal_phrasings,
    examples_of,
    untrained_words,
)
from training.families import echo, echo_phrasings


@pytest.mark.parametrize("name", echo.FAMILIES)
@pytest.mark.parametrize("is_test", [False, True])
def test_conversations_are_well_formed_and_stable(name: str, is_test: bool) -> None:
    check_family(echo.FAMILIES, name, is_test=is_test)


def test_kept_back_phrasings_are_new_but_of_known_words() -> None:
    assert equal_phrasings(echo_phrasings.PHRASINGS) == []
    assert untrained_words(echo_phrasings.PHRASINGS) == set()


def test_a_repeated_text_stands_in_the_question() -> None:
    for name in ("echo.repeat", "echo.word"):
        for question, answer in answers_of(echo.FAMILIES, name):
            assert answer in question
    assert all(" " not in answer for _, answer in answers_of(echo.FAMILIES, "echo.word"))


def test_a_text_is_said_as_often_as_asked() -> None:
    names = {"twice": 2, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
    for question, answer in answers_of(echo.FAMILIES, "echo.times"):
        said = answer.split()
        assert len(set(said)) == 1
        assert said[0] in question
        found = re.search(r"(\w+) times|twice", question, re.IGNORECASE)
        assert found, question
        asked = (found[1] or "twice").lower()
        assert len(said) == (names[asked] if asked in names else int(asked))


def test_letters_are_changed_as_asked() -> None:
    for question, answer in answers_of(echo.FAMILIES, "echo.upper"):
        assert answer.isupper()
        assert answer in question.upper()
    for question, answer in answers_of(echo.FAMILIES, "echo.lower"):
        assert answer.islower()
        assert answer in question.lower()
    for question, answer in answers_of(echo.FAMILIES, "echo.title"):
        assert answer.lower() in question
        assert all(word[0].isupper() and word[1:].islower() for word in answer.split())


def test_words_are_joined_and_enclosed_as_asked() -> None:
    for question, answer in answers_of(echo.FAMILIES, "echo.join"):
        assert " ".join(re.findall("[a-z]+", answer)) in question
    pairs = {"'": "'", '"': '"', "(": ")", "[": "]", "{": "}", "<": ">", "*": "*"}
    for question, answer in answers_of(echo.FAMILIES, "echo.enclose"):
        assert answer[1:-1] in question
        assert pairs[answer[0]] == answer[-1]
    assert ("Put {t} in {b}.".format(t="a b", b="square brackets")) == "Put a b in square brackets."


def test_what_is_said_again_was_said_before() -> None:
    for example in examples_of(echo.FAMILIES, "echo.again"):
        assert example.messages[-1] == example.messages[-3]
