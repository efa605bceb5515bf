"""Days, months and years are those of the standard library's calendar."""

import calendar
import datetime
import re

import pytest

from tests.training import checks
from training.families import dates_phrasings as phrasings
from training.families.dates import FAMILIES
from training.families.dates_known import KNOWN

_DAYS = list(calendar.day_name)
_MONTHS = list(calendar.month_name)[1:]
_PAIRS = (
    *phrasings.NEIGHBOUR.values(),
    *phrasings.TODAY.values(),
    *phrasings.TODAY_DISTANCE.values(),
    phrasings.DISTANCE,
    phrasings.NTH_MONTH,
    phrasings.MONTH_NUMBER,
    phrasings.LENGTH,
    phrasings.LEAP,
    phrasings.BETWEEN,
    (phrasings.NEXT_TRAINED, phrasings.NEXT_KEPT_BACK),
    (phrasings.NEXT_LENGTH_TRAINED, phrasings.NEXT_LENGTH_KEPT_BACK),
    *((known.trained, known.kept_back) for known in KNOWN),
)


def _answers(name: str) -> list[str]:
    return [
        message["content"]
        for example in checks.examples(FAMILIES[name][0])
        for message in example.messages[1::2]
    ]


@pytest.mark.parametrize("name", FAMILIES)
def test_conversations_can_be_checked(name: str) -> None:
    checks.check_family(FAMILIES, name)


def test_kept_back_phrasings_are_new_but_made_of_known_words() -> None:
    checks.check_kept_back(_PAIRS)


def test_days_and_months_before_and_after() -> None:
    monday = datetime.date(2024, 1, 1)
    for answer in _answers("calendar_neighbour") + _answers("calendar_distance"):
        kind, where, name, found = re.search(
            r"(day|month|season)s? (\w+) (\w+) is (\w+)", answer
        ).groups()
        num = int(answer.split()[0]) if answer[0].isdigit() else 1
        step = {"after": 1, "before": -1}[where] * num
        if kind == "day":
            date = monday + datetime.timedelta(days=_DAYS.index(name) + step)
            assert f"{date:%A}" == found
        elif kind == "month":
            assert (_MONTHS.index(found) - _MONTHS.index(name) - step) % 12 == 0
        else:
            seasons = ["spring", "summer", "autumn", "winter"] * 3
            assert seasons[seasons.index(name) + 4 + step] == found


def test_numbers_of_months() -> None:
    for answer in _answers("month_number"):
        number = int(re.search(r"\d+", answer).group())
        assert _MONTHS[number - 1] in answer


def test_lengths_of_months() -> None:
    for answer in _answers("month_length"):
        month, length = re.match(r"(\w+) has (\d+) days", answer).groups()
        assert int(length) == calendar.monthrange(2023, _MONTHS.index(month) + 1)[1]


def test_leap_years() -> None:
    for answer in _answers("leap_year"):
        assert calendar.isleap(int(answer.split()[0])) == ("not" not in answer)


def test_what_lies_between() -> None:
    for answer in _answers("calendar_between"):
        first, last, found = re.search(r"between (\w+) and (\w+) is (\w+)", answer).groups()
        names = (_DAYS if found in _DAYS else _MONTHS) * 2
        i = names.index(first)
        assert names[i : i + 3] == [first, found, last]


def test_what_is_always_the_same_has_one_answer_a_question() -> None:
    answers: dict[str, str] = {}
    for known in KNOWN:
        for question in (*known.trained, *known.kept_back):
            assert answers.setdefault(question, known.answer) == known.answer


def test_lists_of_months_are_complete() -> None:
    answers = {
        checks.last_answer(example) for example in checks.examples(FAMILIES["calendar_known"][0])
    }
    for length, num in ((30, 4), (31, 7)):
        months = [
            m for m in _MONTHS if calendar.monthrange(2023, _MONTHS.index(m) + 1)[1] == length
        ]
        assert (
            f"{num} months have {length} days: {', '.join(months[:-1])} and {months[-1]}."
            in answers
        )
