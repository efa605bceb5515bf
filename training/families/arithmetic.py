"""Sums with whole numbers: whatever the wording, the answer is "47 + 38 = 70 + 15 = 85.".

The step in between is what makes sums learnable for so small a model: each part is a small table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from training.conversation import Example, Source, as_typed
from training.families import arithmetic_phrasings as phrasings
from training.families.numerals import answered, in_words

_ALWAYS_TRAINED_UP_TO = 10  # what everybody asks first is known, not generalised to
_TABLE_SIZE = 12
_NAMES = (
    *("Anna", "Tom", "Maria", "Ben", "Sara", "Leo", "Mia", "Jack", "Nora", "Paul", "Lucy", "Omar"),
    *("Emma", "David", "Lena", "Sam", "Ali", "Julia", "Peter", "Grace"),
)
_THINGS = (
    *("apples", "books", "coins", "pens", "eggs", "cards", "marbles", "stamps", "cookies"),
    *("oranges", "balls", "tickets", "flowers", "shells", "stickers", "pears", "keys", "cups"),
)
_VALUE: Mapping[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a // b,
}


def _value(a: int, op: str, b: int) -> int:
    return _VALUE[op](a, b)


def written(a: int, op: str, b: int) -> str:
    """The answer, with the steps to it."""
    return " = ".join([f"{a} {op} {b}", *_steps(a, op, b), str(_value(a, op, b))]) + "."


def _steps(a: int, op: str, b: int) -> list[str]:
    """What stands between a sum and its result: "70 + 15" for 47 + 38, "42 - 7" for 52 - 17."""
    if op == "+":
        if a < 0 or b < 0:
            small, large = sorted((a, b))
            if large <= 0:
                return _negated(-small, "+", -large)
            if -small > large:
                return _negated(-small, "-", large)
            return [f"{large} - {-small}", *_steps(large, "-", -small)]
        parts = [a // 100 * 100 + b // 100 * 100, a // 10 % 10 * 10 + b // 10 % 10 * 10]
        parts = [part for part in (*parts, a % 10 + b % 10) if part]
        return [" + ".join(map(str, parts))] if len(parts) > 1 else []
    if op == "-":
        if a < 0:
            return _negated(-a, "+", b)
        if b > a:
            return _negated(b, "-", a)
        steps = []
        for unit in (100, 10):
            if b >= unit and b % unit:
                a, b = a - b // unit * unit, b % unit
                steps.append(f"{a} - {b}")
        return steps
    return []


def _negated(a: int, op: str, b: int) -> list[str]:
    return [f"-({step})" for step in (f"{a} {op} {b}", *_steps(a, op, b))]


def _is_allowed(source: Source, a: int, op: str, b: int) -> bool:
    if 0 <= a <= _ALWAYS_TRAINED_UP_TO and b <= _ALWAYS_TRAINED_UP_TO:
        return not source.is_test
    return source.may_see(f"{a}{op}{b}")


def _operand(source: Source, largest: int) -> int:
    return source.rng.randint(0, largest)


def _pair(source: Source, op: str, *, given: int | None = None) -> tuple[int, int]:
    """Two operands of plus or minus, the first one given or drawn; mostly of up to two digits."""
    while True:
        share = source.rng.random()
        largest = 10 if share < 0.1 else 99 if share < 0.93 else 999
        a, b = _operand(source, largest), _operand(source, largest)
        if share > 0.985:
            a = source.pick((100, 100, 200, 300, 500, 1000))
        elif share > 0.97:
            b = _operand(source, 99)
        elif 0.1 < share < 0.12:
            a = -source.rng.randint(1, 50)
        if given is not None:
            a = given
        if _is_allowed(source, a, op, b):
            return a, b


def _ask(source: Source, op: str, a: int, b: int) -> str:
    trained, kept_back = phrasings.BY_OPERATION[op]
    phrase = source.phrase(trained, kept_back)
    if a >= 0 and max(a, b) <= 99 and source.chance(0.08) and phrase[:4] == "What":
        return as_typed(source, phrase.format(a=in_words(a), b=in_words(b)))
    return as_typed(source, phrase.format(a=a, b=b))


def make_plus(source: Source) -> Example:
    a, b = _pair(source, "+")
    return _single(source, a, "+", b, "plus")


def make_minus(source: Source) -> Example:
    a, b = _pair(source, "-")
    return _single(source, a, "-", b, "minus")


def _single(source: Source, a: int, op: str, b: int, family: str) -> Example:
    return answered(family, (_ask(source, op, a, b), written(a, op, b)), key=str(_value(a, op, b)))


def make_times(source: Source) -> Example:
    if source.chance(0.15):
        a, b = _operand(source, 99), source.pick((1, 2, 10, 10, 100))
    else:
        a, b = _operand(source, _TABLE_SIZE), _operand(source, _TABLE_SIZE)
    if source.chance(0.5):
        a, b = b, a
    return _single(source, a, "*", b, "times")


def make_divided(source: Source) -> Example:
    if source.chance(0.04):
        question = _ask(source, "/", _operand(source, 99), 0)
        return answered(
            "divided", (question, "A division by zero is not defined."), key="not defined"
        )
    b = source.rng.randint(1, _TABLE_SIZE)
    quotient = _operand(source, _TABLE_SIZE)
    if b > 1 and quotient and source.chance(0.2):
        rest = source.rng.randint(1, b - 1)
        a = quotient * b + rest
        answer = f"{a} / {b} = {quotient} remainder {rest}."
        return answered(
            "divided", (_ask(source, "/", a, b), answer), key=f"{quotient} remainder {rest}"
        )
    return _single(source, quotient * b, "/", b, "divided")


def make_word_problem(source: Source) -> Example:
    op = source.pick("+++---*/")
    trained, kept_back = phrasings.PROBLEMS[op]
    if op == "*":
        a, b = source.rng.randint(2, _TABLE_SIZE), source.rng.randint(2, _TABLE_SIZE)
    elif op == "/":
        b = source.rng.randint(2, _TABLE_SIZE)
        a = b * source.rng.randint(2, _TABLE_SIZE)
    else:
        a, b = 0, 0
        while not (min(a, b) >= 2 and max(a, b) <= 99 and (op == "+" or b < a)):
            a, b = _pair(source, op)
    name, other = source.sample(_NAMES, 2)
    question = source.phrase(trained, kept_back).format(
        a=a, b=b, name=name, other=other, things=source.pick(_THINGS)
    )
    question = as_typed(source, question)
    return answered("word_problem", (question, written(a, op, b)), key=str(_value(a, op, b)))


def make_three_numbers(source: Source) -> Example:
    while True:
        a, b, c = (_operand(source, 20) for _ in range(3))
        if source.may_see(f"{a}+{b}+{c}"):
            break
    phrase = source.phrase(phrasings.THREE_TRAINED, phrasings.THREE_KEPT_BACK)
    question = as_typed(source, phrase.format(a=a, b=b, c=c))
    answer = f"{a} + {b} + {c} = {written(a + b, '+', c)}"
    return answered("three_numbers", (question, answer), key=str(a + b + c))


def make_double_or_half(source: Source) -> Example:
    """A double is a sum with itself, so that it needs no skill of its own."""
    if source.chance(0.5):
        a = _operand(source, 99)
        while not _is_allowed(source, a, "+", a):
            a = _operand(source, 99)
        phrase = source.phrase(phrasings.DOUBLE_TRAINED, phrasings.DOUBLE_KEPT_BACK)
        answer, key = written(a, "+", a), str(2 * a)
    else:
        a = 2 * _operand(source, 50)
        phrase = source.phrase(phrasings.HALF_TRAINED, phrasings.HALF_KEPT_BACK)
        answer, key = written(a, "/", 2), str(a // 2)
    return answered("double_or_half", (as_typed(source, phrase.format(a=a)), answer), key=key)


def make_comparison(source: Source) -> Example:
    largest = source.pick((9, 99, 99, 99, 999))
    while True:
        a, b = _operand(source, largest), _operand(source, largest)
        if source.may_see(f"{a}<{b}"):
            break
    is_larger = source.chance(0.6)
    if is_larger:
        phrase = source.phrase(phrasings.LARGER_TRAINED, phrasings.LARGER_KEPT_BACK)
    else:
        phrase = source.phrase(phrasings.SMALLER_TRAINED, phrasings.SMALLER_KEPT_BACK)
    question = as_typed(source, phrase.format(a=a, b=b))
    if a == b:
        return answered("comparison", (question, f"{a} and {b} are equal."), key="equal")
    large, small = max(a, b), min(a, b)
    answer = (
        f"{large} is larger than {small}." if is_larger else f"{small} is smaller than {large}."
    )
    return answered("comparison", (question, answer), key=answer.removesuffix("."))


def make_follow_up(source: Source) -> Example:
    """First one sum, then another that leans on it or takes its place."""
    op = source.pick("+-")
    a, b = _pair(source, op)
    result = _value(a, op, b)
    first = (_ask(source, op, a, b), written(a, op, b))
    op = source.pick("+-")
    trained, kept_back = phrasings.NEXT[op]
    if source.chance(0.35):
        trained, kept_back = phrasings.INSTEAD
        a, b = _pair(source, op)
    else:
        a, b = _pair(source, op, given=result)
    question = source.phrase(trained, kept_back).format(a=a, b=b, op=op)
    second = (as_typed(source, question), written(a, op, b))
    return answered("sum_follow_up", first, second, key=str(_value(a, op, b)))


FAMILIES: dict[str, tuple[Callable[[Source], Example], float]] = {
    "plus": (make_plus, 6.0),
    "minus": (make_minus, 6.0),
    "times": (make_times, 1.5),
    "divided": (make_divided, 1.2),
    "word_problem": (make_word_problem, 2.5),
    "three_numbers": (make_three_numbers, 0.6),
    "double_or_half": (make_double_or_half, 0.6),
    "comparison": (make_comparison, 0.9),
    "sum_follow_up": (make_follow_up, 2.0),
}
