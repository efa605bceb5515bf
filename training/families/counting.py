"""Whole numbers in order: counting, sequences, neighbours, and how many things a list holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from training.conversation import Example, Source, as_typed
from training.families import counting_phrasings as phrasings
from training.families.numerals import answered, in_words, ordinal

_ITEMS = (
    *("apple", "pear", "plum", "cat", "dog", "horse", "red", "blue", "green", "bread", "milk"),
    *("sugar", "tea", "cup", "plate", "spoon", "chair", "table", "lamp", "book", "pen", "paper"),
    *("car", "bus", "train", "boat", "sun", "moon", "star", "tree", "flower", "river", "stone"),
    *("Anna", "Tom", "Maria", "Ben", "Rome", "Paris", "Oslo", "one", "seven", "key", "door"),
    *("window", "house", "shoe", "hat", "coat", "fish", "bird", "rain", "snow", "wind", "gold"),
)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def make_count(source: Source) -> Example:
    """Counting up or down by one; the numbers themselves are the answer."""
    while True:
        start = 1 if source.chance(0.4) else source.rng.randint(0, 60)
        end = start + source.rng.randint(3, 14)
        is_up = source.chance(0.7)
        if source.may_see(f"{start} to {end} {is_up}") or (start, end, is_up) == (1, 10, True):
            break
    if is_up and start == 1 and source.chance(0.6):
        phrase, numbers = source.phrase(*phrasings.COUNT_TO), range(1, end + 1)
        question = phrase.format(b=end)
    elif is_up:
        phrase, numbers = source.phrase(*phrasings.COUNT_UP), range(start, end + 1)
        question = phrase.format(a=start, b=end)
    else:
        phrase, numbers = source.phrase(*phrasings.COUNT_DOWN), range(end, start - 1, -1)
        question = phrase.format(a=end, b=start)
    return answered("count", (as_typed(source, question), f"{_listed(numbers)}."))


def make_count_in_steps(source: Source) -> Example:
    """By twos, fives or tens, and the even or odd numbers between two."""
    if source.chance(0.5):
        while True:
            step = source.pick((2, 3, 5, 10))
            end = step * source.rng.randint(3, 12)
            if source.may_see(f"by {step} to {end}"):
                break
        question = source.phrase(*phrasings.COUNT_BY).format(n=step, b=end)
        return answered(
            "count_in_steps",
            (as_typed(source, question), f"{_listed(range(step, end + 1, step))}."),
        )
    kind, rest = source.pick((("even", 0), ("odd", 1)))
    while True:
        start = source.pick((0, 1, 1, 1, source.rng.randint(2, 40)))
        end = start + source.rng.randint(6, 20)
        if source.may_see(f"{kind} {start} {end}"):
            break
    numbers = [number for number in range(start, end + 1) if number % 2 == rest]
    question = source.phrase(*phrasings.EVEN_OR_ODD_NUMBERS).format(kind=kind, a=start, b=end)
    return answered("count_in_steps", (as_typed(source, question), f"{_listed(numbers)}."))


def make_sequence(source: Source) -> Example:
    while True:
        step = source.pick((1, 1, 2, 2, 3, 4, 5, 10, -1, -2, -5, 100))
        start = (
            100
            if step == 100
            else source.rng.randint(30, 90)
            if step < 0
            else source.rng.randint(0, 40)
        )
        if step in (5, 10) and source.chance(0.6):
            start -= start % step
        length = source.rng.randint(3, 5)
        if source.may_see(f"{start} {step} {length}"):
            break
    numbers = [start + step * i for i in range(length)]
    found = start + step * length
    question = source.phrase(*phrasings.SEQUENCE).format(list=_listed(numbers))
    return answered(
        "sequence", (as_typed(source, question), f"The next number is {found}."), key=str(found)
    )


def _neighbour(number: int, direction: int) -> str:
    where = "after" if direction == 1 else "before"
    return f"The number {where} {number} is {number + direction}."


def make_number_neighbour(source: Source) -> Example:
    direction = source.pick((1, 1, -1))
    allowed = [
        number for number in range(1, 1000) if source.may_see(f"{number} then {number + direction}")
    ]
    number, other = (
        source.pick(allowed if source.chance(0.4) else allowed[: len(allowed) // 10])
        for _ in range(2)
    )
    phrase = source.phrase(*phrasings.NUMBER_NEIGHBOUR[direction])
    first = (as_typed(source, phrase.format(x=number)), _neighbour(number, direction))
    if number == other or not source.chance(0.2):
        return answered("number_neighbour", first, key=str(number + direction))
    question = as_typed(source, source.phrase(*phrasings.NEXT).format(x=other))
    return answered(
        "number_neighbour",
        first,
        (question, _neighbour(other, direction)),
        key=str(other + direction),
    )


def make_parity(source: Source) -> Example:
    number = source.fresh(range(source.pick((100, 100, 1000))))
    question = source.phrase(*phrasings.PARITY).format(x=number)
    kind = "odd" if number % 2 else "even"
    answer = f"{number} is {kind}."
    if not source.chance(0.15):
        return answered("parity", (as_typed(source, question), answer), key=kind)
    other = source.fresh(range(100))
    other_kind = "odd" if other % 2 else "even"
    follow_up = as_typed(source, source.phrase(*phrasings.NEXT).format(x=other))
    return answered(
        "parity",
        (as_typed(source, question), answer),
        (follow_up, f"{other} is {other_kind}."),
        key=other_kind,
    )


def make_number_in_words(source: Source) -> Example:
    largest = source.pick((20, 99, 99, 999))
    number = source.rng.randint(0, 20) if largest == 20 else source.fresh(range(largest + 1))
    words = in_words(number)
    if source.chance(0.6):
        question, key = source.phrase(*phrasings.IN_WORDS).format(x=number), words
        answer = f"{number} in words is {words}."
    else:
        question, key = source.phrase(*phrasings.IN_DIGITS).format(x=words), str(number)
        answer = f"The number is {number}."
    return answered("number_in_words", (as_typed(source, question), answer), key=key)


def make_extreme(source: Source) -> Example:
    """The largest or smallest of some numbers, in the form that suits any number of them."""
    kind = source.pick(("largest", "largest", "smallest"))
    while True:
        numbers = source.sample(range(source.pick((20, 100, 100, 1000))), source.rng.randint(3, 5))
        if source.may_see(_listed(numbers)):
            break
    found = max(numbers) if kind == "largest" else min(numbers)
    trained, kept_back = phrasings.EXTREME
    synonym = {"largest": ("largest", "biggest", "highest"), "smallest": ("smallest", "lowest")}
    question = source.phrase(trained, kept_back).format(
        kind=source.pick(synonym[kind]),
        list=_listed(numbers),
        list_and=f"{_listed(numbers[:-1])} and {numbers[-1]}",
    )
    answer = f"The {kind} number is {found}."
    return answered("extreme", (as_typed(source, question), answer), key=str(found))


def make_list_size(source: Source) -> Example:
    num = source.rng.randint(2, 8)
    while True:
        items = source.sample(_ITEMS, num)
        if source.may_see(",".join(items)):
            break
    question = source.phrase(*phrasings.LIST_SIZE).format(
        list=", ".join(items),
        list_and=f"{', '.join(items[:-1])} and {items[-1]}",
        lines="\n".join(f"- {item}" for item in items),
    )
    return answered(
        "list_size", (as_typed(source, question), f"The list has {num} items."), key=str(num)
    )


def make_nth_number(source: Source) -> Example:
    """The n-th even or odd number."""
    kind, first = source.pick((("even", 2), ("odd", 1)))
    n = source.rng.randint(1, 12)
    found = first + 2 * (n - 1)
    question = source.phrase(*phrasings.NTH).format(nth=ordinal(n), kind=kind)
    answer = f"The {ordinal(n)} {kind} number is {found}."
    return answered("nth_number", (as_typed(source, question), answer), key=str(found))


FAMILIES: dict[str, tuple[Callable[[Source], Example], float]] = {
    "count": (make_count, 1.4),
    "count_in_steps": (make_count_in_steps, 1.0),
    "sequence": (make_sequence, 1.0),
    "number_neighbour": (make_number_neighbour, 0.8),
    "parity": (make_parity, 0.5),
    "number_in_words": (make_number_in_words, 0.8),
    "extreme": (make_extreme, 0.8),
    "list_size": (make_list_size, 0.8),
    "nth_number": (make_nth_number, 0.2),
}
