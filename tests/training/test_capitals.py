"""Countries: every answer holds its key, and the facts are those of an independent list."""

from __future__ import annotations

import re

import pytest

from training.conversation import Source
from training.families import capitals
from training.families.capitals_table import ALIASES, COUNTRIES


@pytest.mark.parametrize("is_test", [False, True])
def test_conversations_alternate_hold_their_key_and_repeat(is_test: bool) -> None:
    for name, (make, weight) in capitals.FAMILIES.items():
        assert weight > 0
        for seed in range(100):
            example = make(Source(f"{name}{seed}", is_test=is_test))
            assert example == make(Source(f"{name}{seed}", is_test=is_test))
            assert example.family == name
            roles = [message["role"] for message in example.messages]
            assert roles == ["user", "assistant"] * (len(roles) // 2)
            answer = example.messages[-1]["content"]
            assert re.search(rf"\b{re.escape(example.key)}\b", answer, re.IGNORECASE)


def test_kept_back_phrasings_are_other_phrasings_in_known_words() -> None:
    trained = {_bare(text) for group in capitals.GROUPS for text in group.trained}
    trained |= {_bare(text) for text in capitals._CHECKS}
    trained |= {_bare(text) for known, _ in capitals._ITS.values() for text in known}
    kept_back = {_bare(text) for group in capitals.GROUPS for text in group.kept_back}
    kept_back |= {_bare(text) for text in capitals._KEPT_BACK_CHECKS}
    kept_back |= {_bare(text) for _, kept in capitals._ITS.values() for text in kept}
    assert not trained & kept_back
    known_words = {word for text in trained for word in text.split()} | {"and"}
    assert {word for text in kept_back for word in text.split()} <= known_words


@pytest.mark.parametrize(
    ("group", "asked", "answer"),
    [
        (capitals.CAPITALS, "France", "The capital of France is Paris."),
        (capitals.CAPITALS, "USA", "The capital of the United States is Washington."),
        (capitals.CAPITALS, "Australia", "The capital of Australia is Canberra."),
        (capitals.CAPITALS, "Brazil", "The capital of Brazil is Brasilia."),
        (capitals.CAPITALS, "Turkey", "The capital of Turkey is Ankara."),
        (capitals.CAPITALS, "Canada", "The capital of Canada is Ottawa."),
        (capitals.COUNTRIES_OF_CAPITALS, "Nairobi", "Nairobi is the capital of Kenya."),
        (capitals.CONTINENTS, "Peru", "Peru is in South America."),
        (capitals.CONTINENTS, "Netherlands", "The Netherlands is in Europe."),
        (capitals.CURRENCIES, "Japan", "The currency of Japan is the yen."),
        (capitals.LANGUAGES, "Brazil", "The main language of Brazil is Portuguese."),
    ],
)
def test_facts(group: capitals.FactGroup, asked: str, answer: str) -> None:
    entry = next(entry for entry in group.entries if entry["x"] == asked)
    assert group.reply(entry)["content"] == answer


def test_every_country_and_alias_stands_once() -> None:
    names = [country.name for country in COUNTRIES]
    assert len(set(names)) == len(names) >= 110
    assert {name for _, name in ALIASES} <= set(names)
    capitals_asked = [entry["x"] for entry in capitals.COUNTRIES_OF_CAPITALS.entries]
    assert len(set(capitals_asked)) == len(capitals_asked)


def test_a_check_says_no_with_the_right_capital() -> None:
    answers = {
        make.messages[-1]["content"].split(",")[0]
        for make in (capitals.make_capital_check(Source(seed)) for seed in range(50))
    }
    assert answers == {"Yes", "No"}


def _bare(phrasing: str) -> str:
    return " ".join(re.sub(r"[^\w{}' ]", " ", phrasing.lower()).split())
