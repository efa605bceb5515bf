"""Lists: as many as asked for, in the form asked for, from the table's start."""

from __future__ import annotations

import re

import pytest

from training.conversation import Source
from training.families import lists
from training.families.lists import Form, written
from training.families.lists_table import KINDS

_NUMBERS = {word: number for number, word in enumerate(lists._NUMBER_WORDS) if word}


@pytest.mark.parametrize("is_test", [False, True])
def test_conversations_alternate_and_repeat(is_test: bool) -> None:
    for name, (make, weight) in lists.FAMILIES.items():
        assert weight > 0
        for seed in range(100):
            example = make(Source(f"{name}{seed}", is_test=is_test))
            assert example == make(Source(f"{name}{seed}", is_test=is_test))
            assert example.family == name
            assert example.is_exact
            roles = [message["role"] for message in example.messages]
            assert roles == ["user", "assistant"] * (len(roles) // 2)
            assert all(message["content"] for message in example.messages)


@pytest.mark.parametrize("is_test", [False, True])
def test_as_many_are_listed_as_asked_for(is_test: bool) -> None:
    num_said = 0
    for seed in range(300):
        asked, answer = lists.make_list(Source(seed, is_test=is_test)).messages
        said = re.search(
            rf"\b(\d+|{'|'.join(_NUMBERS)})\b(?! (per|line))", asked["content"].lower()
        )
        if said is None:
            continue
        num_said += 1
        items = re.split(r", |\n", answer["content"])
        assert len(items) == (_NUMBERS.get(said[1]) or int(said[1])), asked
        assert len(set(items)) == len(items)
    assert num_said > 100


def test_forms() -> None:
    assert written(["a", "b"], Form.COMMAS) == "a, b"
    assert written(["a", "b"], Form.LINES) == "a\nb"
    assert written(["a", "b"], Form.BULLETS) == "- a\n- b"
    assert written(["a", "b"], Form.NUMBERS) == "1. a\n2. b"


@pytest.mark.parametrize("is_test", [False, True])
def test_more_are_others(is_test: bool) -> None:
    for seed in range(50):
        _, first, _, more = lists.make_more(Source(seed, is_test=is_test)).messages
        assert not set(first["content"].split(", ")) & set(more["content"].split(", "))


def test_the_same_again_differs_in_its_form_alone() -> None:
    for seed in range(50):
        _, first, _, second = lists.make_again(Source(seed)).messages
        assert first != second
        assert _items(first["content"]) == _items(second["content"])


def test_the_table_names_every_kind_once_with_different_examples() -> None:
    plurals = [plural.lower() for kind in KINDS for plural in kind.plurals]
    assert len(set(plurals)) == len(plurals)
    for kind in KINDS:
        assert len(set(kind.examples)) == len(kind.examples)
        assert len(kind.examples) >= (3 if kind.is_whole else 5)
    examples = {kind.plurals[0]: kind.examples for kind in KINDS}
    assert examples["fruits"][:3] == ("apple", "banana", "orange")
    assert len(examples["planets"]) == 8
    assert len(examples["continents"]) == 7


def test_kept_back_phrasings_are_other_phrasings_in_known_words() -> None:
    families = (
        (lists.phrasings.SEVERAL, lists.phrasings.SEVERAL_KEPT_BACK),
        (lists.phrasings.SOME, lists.phrasings.SOME_KEPT_BACK),
        (lists.phrasings.ALL, lists.phrasings.ALL_KEPT_BACK),
        (lists.phrasings.ONE, lists.phrasings.ONE_KEPT_BACK),
        (lists.phrasings.MORE, lists.phrasings.MORE_KEPT_BACK),
        (lists.phrasings.AGAIN, lists.phrasings.AGAIN_KEPT_BACK),
        (lists.phrasings.SHAPED, lists.phrasings.SHAPED_KEPT_BACK),
        *lists.phrasings.FORMS.values(),
    )
    trained = {_bare(text) for known, _ in families for text in known}
    kept_back = {_bare(text) for _, kept in families for text in kept}
    assert not trained & kept_back
    known_words = {word for text in trained for word in text.split()}
    assert {word for text in kept_back for word in text.split()} <= known_words


def _items(text: str) -> list[str]:
    return [re.sub(r"^(- |\d+\. )", "", item) for item in re.split(r", |\n", text)]


def _bare(phrasing: str) -> str:
    return " ".join(re.sub(r"[^\w{}' -]", " ", phrasing.lower()).split())
