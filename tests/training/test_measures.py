"""Amounts are equal in both units, by factors written down here once more."""

import re
from fractions import Fraction

import pytest

from tests.training import checks
from training.families import measures
from training.families.measures import FAMILIES

_PAIRS = (
    (measures.TRAINED, measures.KEPT_BACK),
    (measures.NEXT_TRAINED, measures.NEXT_KEPT_BACK),
    (measures.FAHRENHEIT_TRAINED, measures.FAHRENHEIT_KEPT_BACK),
)
_IN_BASE_UNITS = {
    "kilometre": "1000",
    "metre": "1",
    "centimetre": "0.01",
    "millimetre": "0.001",
    "inch": "0.0254",
    "foot": "0.3048",
    "feet": "0.3048",
    "yard": "0.9144",
    "mile": "1609.344",
    "ton": "1000000",
    "kilogram": "1000",
    "gram": "1",
    "milligram": "0.001",
    "pound": "453.59237",
    "ounce": "28.349523",
    "litre": "1",
    "millilitre": "0.001",
    "second": "1",
    "millisecond": "0.001",
    "minute": "60",
    "hour": "3600",
    "day": "86400",
    "week": "604800",
    "kilobyte": "1000",
    "megabyte": "1000000",
    "gigabyte": "1000000000",
    "terabyte": "1000000000000",
    "gibibyte": "1073741824",
    "mebibyte": "1048576",
    "kilowatt": "1000",
    "watt": "1",
    "dozen": "12",
    "piece": "1",
    "degree": "1",
}
_IN_MONTHS = {"month": 1, "year": 12, "decade": 120, "century": 1200, "millennium": 12_000}
_IN_CENTS = {"cent": 1, "euro": 100, "dollar": 100}
_PARTS = {
    "half an": "0.5",
    "half a": "0.5",
    "a quarter of an": "0.25",
    "a quarter of a": "0.25",
    "three quarters of an": "0.75",
}


def _size(amount: str) -> Fraction:
    number, unit = amount.lower().rsplit(" ", 1)
    number = _PARTS.get(number, number)
    singular = {"centuries": "century", "millennia": "millennium", "inches": "inch"}.get(
        unit, unit.removesuffix("s")
    )
    for sizes in (_IN_MONTHS, _IN_CENTS):
        if singular in sizes:
            return Fraction(number) * sizes[singular]
    return Fraction(number) * Fraction(_IN_BASE_UNITS[singular])


@pytest.mark.parametrize("name", FAMILIES)
def test_conversations_can_be_checked(name: str) -> None:
    checks.check_family(FAMILIES, name)


def test_kept_back_phrasings_are_new_but_made_of_known_words() -> None:
    checks.check_kept_back(_PAIRS)


@pytest.mark.parametrize("name", ["conversion", "conversion_follow_up", "known_amount"])
def test_both_amounts_are_equal(name: str) -> None:
    for example in checks.examples(FAMILIES[name][0]):
        for message in example.messages[1::2]:
            given, result = message["content"].removesuffix(".").split(" = ")
            ratio = _size(given) / _size(result)
            if name == "known_amount":
                assert ratio == pytest.approx(1, rel=1e-3)
            else:
                assert ratio == 1, message["content"]


def test_temperatures_are_equal() -> None:
    for example in checks.examples(FAMILIES["temperature"][0]):
        answer = example.messages[-1]["content"]
        celsius, fahrenheit = map(int, re.findall(r"-?\d+", answer))
        assert fahrenheit == celsius * 1.8 + 32


def test_numbers_agree_with_their_units() -> None:
    for name in ("conversion", "conversion_follow_up"):
        for example in checks.examples(FAMILIES[name][0]):
            for number, unit in re.findall(r"(\d+) (\w+)", example.messages[-1]["content"]):
                is_one = unit not in ("feet", "centuries", "millennia") and unit[-1] != "s"
                assert unit == "dozen" or is_one == (number == "1")
