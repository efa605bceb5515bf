"""What nobody taught is refused, always in the same words."""

from __future__ import annotations

import pytest

from tests.training import checks
from training.conversation import Source, is_kept_back
from training.families import unknown, unknown_words
from training.families import unknown_tables as tables
from training.families.capitals_table import COUNTRIES
from training.families.unknown_foreign import FOREIGN
from training.families.unknown_pools import POOLS

PAIRS = {
    "requests": (tables.REQUESTS, tables.REQUESTS_KEPT_BACK),
    "invented": (tables.INVENTED, tables.INVENTED_KEPT_BACK),
    "follow-ups": (tables.FOLLOW_UPS, tables.FOLLOW_UPS_KEPT_BACK),
    "maths": (tables.MATHS, tables.MATHS_KEPT_BACK),
    "statements": (tables.STATEMENTS, tables.STATEMENTS_KEPT_BACK),
    "insistence": (tables.INSISTENCE, tables.INSISTENCE_KEPT_BACK),
    "with a text": (tables.WITH_TEXT, tables.WITH_TEXT_KEPT_BACK),
}


@pytest.mark.parametrize("name", sorted(unknown.FAMILIES))
def test_every_turn_is_refused(name: str) -> None:
    checks.check_family(unknown.FAMILIES, name)
    for made in checks.examples(unknown.FAMILIES[name][0]):
        assert made.key == "demonstration"
        assert {m["content"] for m in made.messages[1::2]} == {unknown.REFUSAL}


def test_the_refusal_names_the_way_to_a_real_model() -> None:
    assert unknown.REFUSAL == (
        "I am a tiny demonstration model and was not trained for that. "
        "To load a real model: fmedge serve --model hf:ORG/REPO"
    )


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_no_template_of_the_test_is_trained(name: str) -> None:
    everything = [phrase for trained, _ in PAIRS.values() for phrase in trained]
    everything += [entry for pool in POOLS.values() for entry in pool]
    checks.check_kept_back([(everything, PAIRS[name][1])])


def test_there_is_variety() -> None:
    assert len(set(tables.REQUESTS)) >= 250
    asked = {unknown.make_request(Source(seed)).messages[0]["content"] for seed in range(2000)}
    assert len(asked) > 1600


def test_a_slot_of_the_test_is_filled_from_the_tests_own_tenth() -> None:
    topics = set(POOLS["topic"])
    for seed in range(300):
        text = unknown._fill(Source(seed, is_test=True), "{topic}")
        assert text in topics
        assert is_kept_back(text)


@pytest.mark.parametrize("is_test", [False, True])
def test_no_invented_country_exists(is_test: bool) -> None:
    taught = {country.name.lower() for country in COUNTRIES}
    for seed in range(3000):
        name = unknown_words.land(Source(seed, is_test=is_test))
        assert name.lower() not in taught
        assert name in unknown_words.RARE or name.lower() not in unknown_words.COUNTRIES


def test_no_sum_is_as_small_as_those_that_are_practised() -> None:
    for seed in range(500):
        source = Source(seed)
        assert int(unknown_words.middling(source)) > 12
        assert int(unknown_words.large(source)) >= 10_000


def test_other_languages_are_many() -> None:
    assert len(set(FOREIGN)) == len(FOREIGN) >= 90
