"""Remembering: what is answered was said in an earlier turn, or else never."""

from __future__ import annotations

import re

import pytest

from tests.training import checks
from training.families import remembering
from training.families.remembering_things import THINGS


@pytest.mark.parametrize("name", remembering.FAMILIES)
def test_conversations_are_well_formed_and_stable(name: str) -> None:
    checks.check_family(remembering.FAMILIES, name)


def test_kept_back_phrasings_are_new_but_of_known_words() -> None:
    told = {name: (thing.told, thing.kept_told) for name, thing in THINGS.items()}
    asked = {f"{name}?": (thing.asked, thing.kept_asked) for name, thing in THINGS.items()}
    phrasings = {**told, **asked, **remembering.PHRASINGS}
    checks.check_kept_back(phrasings.values())


def test_no_question_asks_for_two_things() -> None:
    asked = [
        {checks.plain(question) for question in (*thing.asked, *thing.kept_asked)}
        for thing in THINGS.values()
    ]
    assert sum(map(len, asked)) == len(set().union(*asked))


def test_what_is_answered_was_told_before() -> None:
    for example in checks.examples(remembering.FAMILIES["remembering.told"][0], is_test=False):
        told = " ".join(
            message["content"] for message in example.messages[:-2] if message["role"] == "user"
        )
        assert re.search(rf"\b{re.escape(example.key)}\b", told), example


@pytest.mark.parametrize(("name", "place"), [("remembering.first", 0), ("remembering.last", -1)])
def test_an_asked_question_was_asked(name: str, place: int) -> None:
    for example in checks.examples(remembering.FAMILIES[name][0], is_test=False):
        earlier = [
            message["content"] for message in example.messages[:-2] if message["role"] == "user"
        ]
        assert example.messages[-1]["content"] == f'You said: "{earlier[place]}"'


def test_what_was_never_told_is_not_known() -> None:
    for example in checks.examples(remembering.FAMILIES["remembering.untold"][0], is_test=False):
        assert example.messages[-1]["content"] == "You have not told me that."


def test_families_that_have_to_open_a_conversation_exist() -> None:
    assert set(remembering.FAMILIES) > remembering.OPENING
