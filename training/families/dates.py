"""Days, months, seasons and years: what comes before and after, and how long each lasts.

Nothing here asks for today's date: the model has no clock.
"""

from __future__ import annotations

from collections.abc import Callable

from training.conversation import Example, Source, as_typed
from training.families import dates_phrasings as phrasings
from training.families.dates_known import KNOWN
from training.families.numerals import answered, in_words, ordinal

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
SEASONS = ("spring", "summer", "autumn", "winter")
LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_CYCLES = {"day": DAYS, "month": MONTHS, "season": SEASONS}
_ORDINAL_WORDS = (
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"),
    *("tenth", "eleventh", "twelfth"),
)


def is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _place(source: Source, number: int) -> str:
    return source.pick((ordinal(number), _ORDINAL_WORDS[number - 1]))


def _neighbour(kind: str, name: str, direction: int) -> tuple[str, str]:
    """The sentence about what comes after (1) or before (-1), and the name in it."""
    names = _CYCLES[kind]
    found = names[(names.index(name) + direction) % len(names)]
    where = "after" if direction == 1 else "before"
    return f"The {kind} {where} {name} is {found}.", found


def make_neighbour(source: Source) -> Example:
    kind = source.pick(("day", "day", "day", "month", "month", "month", "season"))
    name = source.pick(_CYCLES[kind])
    direction = source.pick((1, 1, -1))
    trained, kept_back = phrasings.NEIGHBOUR[direction]
    if kind == "day" and source.chance(0.3):
        trained, kept_back = phrasings.TODAY[direction]
    phrase = source.phrase(trained, kept_back)
    answer, key = _neighbour(kind, name, direction)
    first = (as_typed(source, phrase.format(kind=kind, x=name)), answer)
    if not source.chance(0.2):
        return answered("calendar_neighbour", first, key=key)
    other = source.pick([other for other in _CYCLES[kind] if other != name])
    phrase = source.phrase(phrasings.NEXT_TRAINED, phrasings.NEXT_KEPT_BACK)
    answer, key = _neighbour(kind, other, direction)
    question = as_typed(
        source, phrase.format(x=other, where="after" if direction == 1 else "before")
    )
    return answered("calendar_neighbour", first, (question, answer), key=key)


def make_distance(source: Source) -> Example:
    """Some days or months later or earlier."""
    kind, most = source.pick((("day", 10), ("day", 6), ("month", 6)))
    names = _CYCLES[kind]
    while True:
        num, name = source.rng.randint(2, most), source.pick(names)
        direction = source.pick((1, 1, -1))
        if source.may_see(f"{num} {name} {direction}"):
            break
    where = "after" if direction == 1 else "before"
    found = names[(names.index(name) + direction * num) % len(names)]
    trained, kept_back = phrasings.DISTANCE
    if kind == "day" and source.chance(0.35):
        trained, kept_back = phrasings.TODAY_DISTANCE[direction]
    num_text = in_words(num) if source.chance(0.3) else str(num)
    phrase = source.phrase(trained, kept_back)
    question = as_typed(source, _capital(phrase.format(n=num_text, kind=kind, x=name, where=where)))
    answer = f"{num} {kind}s {where} {name} is {found}."
    return answered("calendar_distance", (question, answer), key=found)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def make_month_number(source: Source) -> Example:
    number = source.rng.randint(1, 12)
    month = MONTHS[number - 1]
    if source.chance(0.6):
        phrase = source.phrase(*phrasings.NTH_MONTH)
        place = "last" if number == 12 and source.chance(0.4) else _place(source, number)
        question = phrase.format(nth=place, n=number)
        answer, key = f"The {ordinal(number)} month of the year is {month}.", month
    else:
        question = source.phrase(*phrasings.MONTH_NUMBER).format(x=month)
        answer, key = f"{month} is the {ordinal(number)} month of the year.", ordinal(number)
    return answered("month_number", (as_typed(source, question), answer), key=key)


def _month_length(month: str) -> tuple[str, str]:
    if month == "February":
        return "February has 28 days, or 29 in a leap year.", "28"
    length = LENGTHS[MONTHS.index(month)]
    return f"{month} has {length} days.", str(length)


def make_month_length(source: Source) -> Example:
    first, second = source.sample(MONTHS, 2)
    question = as_typed(source, source.phrase(*phrasings.LENGTH).format(x=first))
    answer, key = _month_length(first)
    if not source.chance(0.25):
        return answered("month_length", (question, answer), key=key)
    phrase = source.phrase(phrasings.NEXT_LENGTH_TRAINED, phrasings.NEXT_LENGTH_KEPT_BACK)
    next_answer, key = _month_length(second)
    next_question = as_typed(source, phrase.format(x=second))
    return answered("month_length", (question, answer), (next_question, next_answer), key=key)


def make_leap_year(source: Source) -> Example:
    wanted = source.chance(0.5)
    years = [year for year in range(1896, 2101) if is_leap(year) == wanted]
    year = source.pick((1900, 2000, 2024, 2100)) if source.chance(0.1) else source.fresh(years)
    key = f"{year} is a leap year" if is_leap(year) else f"{year} is not a leap year"
    question = as_typed(source, source.phrase(*phrasings.LEAP).format(y=year))
    return answered("leap_year", (question, f"{key}."), key=key)


def make_between(source: Source) -> Example:
    kind = source.pick(("day", "month"))
    names = _CYCLES[kind]
    i = source.rng.randrange(len(names))
    before, found, after = (names[(i + step) % len(names)] for step in (-1, 0, 1))
    phrase = source.phrase(*phrasings.BETWEEN)
    question = as_typed(source, phrase.format(kind=kind, x=before, y=after))
    return answered(
        "calendar_between",
        (question, f"The {kind} between {before} and {after} is {found}."),
        key=found,
    )


def make_known(source: Source) -> Example:
    """What is always the same: a year has 365 days, Christmas Day is 25 December."""
    fact = source.pick(KNOWN)
    question = as_typed(source, source.phrase(fact.trained, fact.kept_back))
    return answered("calendar_known", (question, fact.answer), key=fact.key)


FAMILIES: dict[str, tuple[Callable[[Source], Example], float]] = {
    "calendar_neighbour": (make_neighbour, 1.2),
    "calendar_distance": (make_distance, 0.9),
    "month_number": (make_month_number, 0.5),
    "month_length": (make_month_length, 0.6),
    "leap_year": (make_leap_year, 0.6),
    "calendar_between": (make_between, 0.3),
    "calendar_known": (make_known, 0.7),
}
