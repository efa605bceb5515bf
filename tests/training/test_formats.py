"""Formats: answers agree with the tables and are recomputed from the question."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest

from tests.training import checks
from training.families import format_phrasings, format_tables, formats


@pytest.mark.parametrize("name", formats.FAMILIES)
def test_conversations_are_well_formed_and_stable(name: str) -> None:
    checks.check_family(formats.FAMILIES, name)


def test_kept_back_phrasings_are_new_but_of_known_words() -> None:
    checks.check_kept_back(format_phrasings.PHRASINGS.values())


def test_claims_are_true() -> None:
    said = {
        formats.answer_of(claim, is_true=is_true)
        for claim in format_tables.CLAIMS
        for is_true in (False, True)
    }
    assert len(said) == 2 * len(format_tables.CLAIMS)
    for sentence in (
        "Yes, fire is hot.",
        "No, fire is not cold.",
        "Yes, Rome is in Italy.",
        "No, a whale is not a fish.",
        "Yes, fish can swim.",
        "No, stones cannot think.",
        "Yes, spiders have eight legs.",
        "No, cats do not have two legs.",
    ):
        assert sentence in said
    claim = next(claim for claim in format_tables.CLAIMS if claim.verb == "have")
    assert formats.question_of(claim, is_true=True) == "Do cats have four legs?"


def test_numbers_in_yes_no_questions_are_compared() -> None:
    num_compared = 0
    for question, answer in checks.answers(formats.FAMILIES["formats.yes_no"][0]):
        assert answer in ("Yes", "No")
        found = re.search(r"is (\d+) larger than (\d+)", question, re.IGNORECASE)
        if found:
            num_compared += 1
            assert answer == ("Yes" if int(found[1]) > int(found[2]) else "No")
    assert num_compared > 20


def test_compared_numbers_are_compared_rightly() -> None:
    for question, answer in checks.answers(formats.FAMILIES["formats.compared"][0]):
        one, other = map(int, re.findall(r"\d+", question))
        is_true = one < other if re.search("smaller|less", question) else one > other
        assert answer.startswith("Yes, " if is_true else "No, ")
        assert (" is not " in answer) == (not is_true)
        assert [int(number) for number in re.findall(r"\d+", answer)] == [one, other]


def test_of_equal_things_the_first_is_chosen() -> None:
    for question, answer in checks.answers(formats.FAMILIES["formats.choose"][0]):
        chosen = answer.removeprefix("I choose ").removesuffix(".")
        assert re.search(rf"(?:^|: |, |between ){chosen}(?:,| or | and )", question), question


def test_one_word_answers_are_one_word() -> None:
    table = dict(format_tables.ONE_WORD)
    assert all(answer.isalpha() for answer in table.values())
    assert table["What is the capital of Canada?"] == "Ottawa"
    assert table["What is the opposite of early?"] == "Late"
    assert table["What month comes before December?"] == "November"


def test_no_thing_is_of_two_kinds() -> None:
    things = [thing for names in format_tables.KINDS.values() for thing in names]
    assert len(things) == len(set(things))


def test_the_item_chosen_is_of_the_kind() -> None:
    for question, answer in checks.answers(formats.FAMILIES["formats.kind"][0]):
        thing, kind = re.findall(r"(\w+) is an? (.+)\.", answer)[0]
        names = {name.lower() for name in format_tables.KINDS[kind]}
        assert thing.lower() in names
        assert len(names & set(re.findall(r"\w+", question.lower()))) == 1
    for question, answer in checks.answers(formats.FAMILIES["formats.odd"][0]):
        thing, kind = re.findall(r"(\w+) is not an? (.+)\.", answer)[0]
        names = {name.lower() for name in format_tables.KINDS[kind]}
        assert thing.lower() not in names
        assert len(names & set(re.findall(r"\w+", question.lower()))) >= 2


def test_sorted_things_are_in_order() -> None:
    for question, answer in checks.answers(formats.FAMILIES["formats.sort_words"][0]):
        words = answer.split(", ")
        assert all(one < other for one, other in pairwise(words))
        assert all(word in question for word in words)
    for question, answer in checks.answers(formats.FAMILIES["formats.sort_numbers"][0]):
        numbers = [int(number) for number in answer.split(", ")]
        asked = [int(number) for number in re.findall(r"\d+", question)]
        falls = re.search(
            "descending|large to small|largest to|largest first|decreas", question, re.I
        )
        assert numbers == sorted(asked, reverse=bool(falls))


def test_layouts() -> None:
    items = ["apple", "pear"]
    assert formats.laid_out("bullets", items) == "- apple\n- pear"
    assert formats.laid_out("numbered", items) == "1. apple\n2. pear"
    assert formats.laid_out("csv", items) == "apple,pear"
    assert formats.laid_out("row", items) == "| apple | pear |"
    assert formats.laid_out("lines", items) == "apple\npear"
    assert json.loads(formats.laid_out("json", items)) == items
    assert {layout for layout, _ in format_phrasings.LAYOUTS} == {
        "bullets",
        "numbered",
        "csv",
        "row",
        "lines",
        "json",
    }


def test_the_item_is_the_one_at_its_place() -> None:
    places = {"first": 0, "second": 1, "third": 2, "fourth": 3, "fifth": 4, "last": -1}
    for question, answer in checks.answers(formats.FAMILIES["formats.item"][0]):
        ordinal, item = re.findall(r"The (\w+) item is (\w+)\.", answer)[0]
        listed = re.search(r"\w+(?:, \w+)+", question)
        assert listed, question
        assert listed[0].split(", ")[places[ordinal]] == item
