"""What the families about numbers share: numbers in words, and a conversation's last assembly."""

from __future__ import annotations

import re

from training.conversation import Example, assistant, user

_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def in_words(number: int) -> str:
    """A number of 0 to 1000 in English."""
    if number < len(_ONES):
        return _ONES[number]
    if number < 100:
        tens = _TENS[number // 10 - 2]
        return f"{tens}-{_ONES[number % 10]}" if number % 10 else tens
    if number == 1000:
        return "one thousand"
    hundreds = f"{_ONES[number // 100]} hundred"
    return f"{hundreds} and {in_words(number % 100)}" if number % 100 else hundreds


def ordinal(number: int) -> str:
    """A place in a row: 1st, 2nd, 3rd, 11th."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}th" if number % 100 in (11, 12, 13) else f"{number}{ending}"


def holds(answer: str, key: str) -> int:
    """How often an answer holds a key as a whole word or number."""
    return len(re.findall(rf"(?<![\w-]){re.escape(key)}(?!\w)", answer, re.IGNORECASE))


def answered(family: str, *turns: tuple[str, str], key: str = "") -> Example:
    """The conversation of some (question, answer) turns, of which the last is what is tested.

    A key that the answer holds anyway (7 + 0 = 7), or none, makes the exact answer decide.
    """
    is_exact = not key or holds(turns[-1][1], key) != 1
    messages = [message for q, a in turns for message in (user(q), assistant(a))]
    return Example(
        family=family,
        messages=tuple(messages),
        key="" if is_exact else key,
        is_exact=is_exact,
    )
