"""Plain facts: every answer holds its key, and samples agree with values written down here."""

from __future__ import annotations

import re
import string

import pytest

from training.conversation import Source
from training.families import facts
from training.families.fact_groups import FOLLOW_UPS, KEPT_BACK_FOLLOW_UPS

_GROUPS = {group.name: group for group, _ in facts.GROUPS}


@pytest.mark.parametrize("is_test", [False, True])
def test_conversations_alternate_hold_their_key_and_repeat(is_test: bool) -> None:
    for name, (make, weight) in facts.FAMILIES.items():
        assert weight > 0
        for seed in range(30):
            example = make(Source(f"{name}{seed}", is_test=is_test))
            assert example == make(Source(f"{name}{seed}", is_test=is_test))
            assert example.family == name
            roles = [message["role"] for message in example.messages]
            assert roles == ["user", "assistant"] * (len(roles) // 2)


def test_every_answer_holds_its_key_and_fills_every_phrasing() -> None:
    for group in _GROUPS.values():
        for entry in group.entries:
            answer = group.reply(entry)["content"]
            key = group.key.format_map(entry)
            assert key
            assert re.search(rf"(?<!\w){re.escape(key)}(?!\w)", answer, re.IGNORECASE), answer
            for phrasing in (*group.trained, *group.kept_back):
                assert "{" not in phrasing.format_map(entry)


def test_nothing_is_asked_twice_with_different_answers() -> None:
    answers: dict[str, str] = {}
    for group in _GROUPS.values():
        for entry in group.entries:
            for phrasing in (*group.trained, *group.kept_back):
                question = _bare(phrasing.format_map(entry))
                answer = group.reply(entry)["content"]
                assert answers.setdefault(question, answer) == answer, question


@pytest.mark.parametrize("name", _GROUPS)
def test_kept_back_phrasings_are_other_phrasings_in_known_words(name: str) -> None:
    known_words = {
        word
        for group in _GROUPS.values()
        for phrasing in group.trained
        for word in _bare(phrasing).split()
    }
    trained = {_bare(phrasing) for phrasing in _GROUPS[name].trained}
    kept_back = {_bare(phrasing) for phrasing in _GROUPS[name].kept_back}
    assert len(trained) >= 12
    assert len(kept_back) >= 5
    assert not trained & kept_back
    assert {word for phrasing in kept_back for word in phrasing.split()} <= known_words


def test_kept_back_follow_ups_are_other_follow_ups() -> None:
    assert not {_bare(text) for text in FOLLOW_UPS} & {_bare(text) for text in KEPT_BACK_FOLLOW_UPS}


@pytest.mark.parametrize(
    ("name", "asked", "answer"),
    [
        ("colour_of", "the sky", "The colour of the sky is blue."),
        ("animal_sound", "a dog", "A dog barks."),
        ("animal_young", "a cat", "A young cat is called a kitten."),
        ("legs", "a spider", "A spider has 8 legs."),
        ("animal_home", "a bee", "A bee lives in a hive."),
        ("chemical_symbol", "gold", "The chemical symbol of gold is Au."),
        ("element_of_symbol", "Fe", "Fe is the chemical symbol of iron."),
        ("nth_planet", "third", "The third planet from the Sun is the Earth."),
        ("planet_place", "Mars", "Mars is the fourth planet from the Sun."),
        ("opposite", "hot", "The opposite of hot is cold."),
        ("opposite", "in front", "The opposite of in front is behind."),
        ("plural", "mouse", "The plural of mouse is mice."),
        ("past_tense", "go", "The past tense of go is went."),
        ("comparative", "good", "The comparative of good is better."),
        ("stands_for", "CPU", "CPU stands for central processing unit."),
        ("meaning", "a bee", "A bee is an insect that makes honey."),
        ("how_many", "bits in a byte", "There are 8 bits in a byte."),
        ("how_many", "moons around the Earth", "There is 1 moon around the Earth."),
        ("sides", "a hexagon", "A hexagon has 6 sides."),
        ("shape_of_sides", "8", "A shape with 8 sides is an octagon."),
        ("which_one", "the largest ocean", "The largest ocean is the Pacific Ocean."),
        ("use", "cut paper", "You use scissors to cut paper."),
        ("who_does", "bakes bread", "A baker bakes bread."),
        ("body", "see", "We see with our eyes."),
    ],
)
def test_facts(name: str, asked: str, answer: str) -> None:
    group = _GROUPS[name]
    entry = next(entry for entry in group.entries if entry["x"] == asked)
    assert group.reply(entry)["content"] == answer


def test_letters_follow_the_alphabet() -> None:
    for entry in _GROUPS["nth_letter"].entries:
        number = int(entry["digits"].rstrip(string.ascii_lowercase))
        assert ord(entry["y"]) - ord("A") + 1 == number
    for entry in _GROUPS["letter_place"].entries:
        assert string.ascii_uppercase[int(entry["y"][:-2]) - 1] == entry["x"]
    for entry in _GROUPS["next_letter"].entries:
        assert ord(entry["y"]) == ord(entry["x"]) + 1


def test_atomic_numbers_are_those_of_an_independent_list() -> None:
    numbers = {entry["x"]: entry["y"] for entry in _GROUPS["atomic_number"].entries}
    known = {"hydrogen": "1", "carbon": "6", "oxygen": "8", "neon": "10", "chlorine": "17"}
    assert {name: numbers[name] for name in known} == known
    assert numbers["calcium"] == str(len(numbers)) == "20"


def _bare(phrasing: str) -> str:
    return " ".join(re.sub(r"[^\w{}' ]", " ", phrasing.lower()).split())
