"""Spelling: each answer is recomputed from the word in the question."""

from __future__ import annotations

import re

import pytest

from tests.training import checks
from training.conversation import Source, is_kept_back
from training.families import spelling, spelling_phrasings, word_table


@pytest.mark.parametrize("name", spelling.FAMILIES)
def test_conversations_are_well_formed_and_stable(name: str) -> None:
    checks.check_family(spelling.FAMILIES, name)


def test_kept_back_phrasings_are_new_but_of_known_words() -> None:
    phrasings = {**spelling_phrasings.PHRASINGS, "more": spelling_phrasings.FOLLOW_UPS}
    checks.check_kept_back(phrasings.values())


def _letters(text: str) -> str:
    found = re.search(r"(?:\w-)+\w", text)
    assert found, text
    return found[0].replace("-", "")


def test_a_spelled_word_is_the_one_in_the_question() -> None:
    for question, answer in checks.answers(spelling.FAMILIES["spelling.spell"][0]):
        assert re.search(rf"\b{_letters(answer)}\b", question)
    for question, answer in checks.answers(spelling.FAMILIES["spelling.join"][0]):
        assert answer == f"The word is {_letters(question)}."


def test_counts_are_right() -> None:
    for question, answer in checks.answers(spelling.FAMILIES["spelling.count"][0]):
        num = int(re.findall(r"\d+", answer)[0])
        assert num == len(_letters(answer))
        assert _letters(answer) in question
    for _, answer in checks.answers(spelling.FAMILIES["spelling.occurs"][0]):
        found = re.search(r"the letter (\w) occurs (\d+) times?\.$", answer)
        assert found, answer
        assert len(re.findall(found[1], _letters(answer))) == int(found[2])
    for question, answer in checks.answers(spelling.FAMILIES["spelling.vowels"][0]):
        found = re.search(r"(\w+) has (\d+) vowels?\.$", answer)
        assert found, answer
        assert found[1] in question
        assert len(re.sub("[^aeiou]", "", found[1])) == int(found[2])


def test_single_letters_are_right() -> None:
    for kind, place in (("first", 0), ("last", -1)):
        for question, answer in checks.answers(spelling.FAMILIES[f"spelling.{kind}"][0]):
            found = re.fullmatch(rf"The {kind} letter of (\w+) is (\w)\.", answer)
            assert found, answer
            assert found[1] in question
            assert found[1][place] == found[2]
    places = {"second": 1, "third": 2, "fourth": 3, "fifth": 4}
    for _, answer in checks.answers(spelling.FAMILIES["spelling.nth"][0]):
        ordinal, letter = re.findall(r"the (\w+) letter is (\w)\.$", answer)[0]
        assert _letters(answer)[places[ordinal]] == letter
    for _, answer in checks.answers(spelling.FAMILIES["spelling.contains"][0]):
        word, letter = re.findall(r"(\w+) (?:contains|does not contain) the letter (\w)", answer)[0]
        assert answer.startswith("Yes" if letter in word else "No")


def test_reversed_twice_is_the_word() -> None:
    for question, answer in checks.answers(spelling.FAMILIES["spelling.reverse"][0]):
        word, turned = re.findall(r"(\w+) backwards is (\w+)\.", answer)[0]
        assert "".join(reversed(turned)) == word
        assert word in question


def test_words_are_many_and_plain() -> None:
    assert len(word_table.WORDS) >= 900
    for table in (word_table.WORDS, word_table.NAMES):
        assert len(set(table)) == len(table)
        assert all(word.isascii() and word.isalpha() for word in table)


def test_made_up_words_of_the_test_are_kept_from_training() -> None:
    for seed in range(300):
        assert not is_kept_back(word_table.made_up_word(Source(seed)))
        assert is_kept_back(word_table.made_up_word(Source(seed, is_test=True)))
