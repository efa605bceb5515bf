"""Numbers come in the right order, and lists are counted as they stand in the question."""

import re
from itertools import pairwise

import pytest

from tests.training import checks
from training.families import counting_phrasings as phrasings
from training.families.counting import FAMILIES
from training.families.numerals import in_words, ordinal

_PAIRS = (
    phrasings.COUNT_TO,
    phrasings.COUNT_UP,
    phrasings.COUNT_DOWN,
    phrasings.COUNT_BY,
    phrasings.EVEN_OR_ODD_NUMBERS,
    phrasings.SEQUENCE,
    *phrasings.NUMBER_NEIGHBOUR.values(),
    phrasings.NEXT,
    phrasings.PARITY,
    phrasings.IN_WORDS,
    phrasings.IN_DIGITS,
    phrasings.EXTREME,
    phrasings.LIST_SIZE,
    phrasings.NTH,
)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _asked(name: str) -> list[tuple[str, str]]:
    """The last question and answer of each example."""
    return [
        (example.messages[-2]["content"], checks.last_answer(example))
        for example in checks.examples(FAMILIES[name][0])
    ]


@pytest.mark.parametrize("name", FAMILIES)
def test_conversations_can_be_checked(name: str) -> None:
    checks.check_family(FAMILIES, name)


def test_kept_back_phrasings_are_new_but_made_of_known_words() -> None:
    checks.check_kept_back(_PAIRS)


def test_counting_goes_one_by_one_between_the_numbers_asked() -> None:
    for question, answer in _asked("count"):
        counted = _numbers(answer)
        steps = {b - a for a, b in pairwise(counted)}
        assert steps in ({1}, {-1})
        asked = _numbers(question)
        assert counted[-1] == asked[-1]
        assert counted[0] == (asked[0] if len(asked) == 2 else 1)


def test_steps_are_even() -> None:
    for question, answer in _asked("count_in_steps"):
        counted, asked = _numbers(answer), _numbers(question)
        step = 2 if re.search("even|odd", question.lower()) else counted[0]
        assert {b - a for a, b in pairwise(counted)} == {step}
        if step == 2 and "even" in question.lower():
            assert not any(number % 2 for number in counted)
        if "odd" in question.lower():
            assert all(number % 2 for number in counted)
        assert counted[-1] <= max(asked) < counted[-1] + step


def test_the_next_number_goes_on_as_before() -> None:
    for question, answer in _asked("sequence"):
        numbers = [*_numbers(question), *_numbers(answer)]
        assert len({b - a for a, b in pairwise(numbers)}) == 1


def test_neighbours_parities_and_places() -> None:
    for question, answer in _asked("number_neighbour"):
        number, found = _numbers(answer)
        assert found == number + (1 if "after" in answer else -1)
        assert number in _numbers(question)
    for question, answer in _asked("parity"):
        (number,) = _numbers(answer)
        assert answer.endswith("odd." if number % 2 else "even.")
        assert number in _numbers(question)
    for _, answer in _asked("nth_number"):
        place, found = _numbers(answer)
        assert found == 2 * place - ("odd" in answer)


def test_the_largest_and_the_smallest() -> None:
    for question, answer in _asked("extreme"):
        wanted = min if re.search("smallest|lowest", question) else max
        assert _numbers(answer) == [wanted(_numbers(question))]


def test_lists_are_counted() -> None:
    for question, answer in _asked("list_size"):
        items = question.count(",") + 1 + question.count(" and ")
        if "\n" in question:
            items = question.count("\n- ")
        else:  # a greeting has a comma of its own
            items -= question.lower().startswith(("please, ", "hey, ", "hi, "))
            items -= question.endswith(", please?")
        assert _numbers(answer) == [items]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (7, "seven"),
        (13, "thirteen"),
        (20, "twenty"),
        (42, "forty-two"),
        (90, "ninety"),
        (100, "one hundred"),
        (115, "one hundred and fifteen"),
        (999, "nine hundred and ninety-nine"),
        (1000, "one thousand"),
    ],
)
def test_numbers_in_words(number: int, words: str) -> None:
    assert in_words(number) == words


def test_ordinals() -> None:
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 22, 101, 112)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "101st", "112th")
    ]
