"""An answer in the form asked for: yes or no, one word, the right one, sorted, as a list."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from training.conversation import Example, Source, as_typed, assistant, user
from training.families.format_phrasings import LAYOUTS, PHRASINGS
from training.families.format_tables import CLAIMS, KINDS, ONE_WORD, Claim
from training.families.word_table import NAMES, different_words, known_word

ORDINALS = ("first", "second", "third", "fourth", "fifth")


def _exact(kind: str, question: str, answer: str) -> Example:
    return Example(
        family=f"formats.{kind}", messages=(user(question), assistant(answer)), is_exact=True
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def question_of(claim: Claim, *, is_true: bool) -> str:
    """The claim or its false twin as a question."""
    said = claim.true if is_true else claim.false
    verb = "do" if claim.verb == "have" else claim.verb
    rest = f"have {said}" if claim.verb == "have" else said
    return f"{_capital(verb)} {claim.subject} {rest}?"


def statement_of(claim: Claim, *, is_true: bool) -> str:
    """The claim or its false twin as a sentence without its full stop."""
    return f"{claim.subject} {claim.verb} {claim.true if is_true else claim.false}"


def answer_of(claim: Claim, *, is_true: bool) -> str:
    if is_true:
        return f"Yes, {statement_of(claim, is_true=True)}."
    negated = {"is": "is not", "are": "are not", "can": "cannot", "have": "do not have"}
    return f"No, {claim.subject} {negated[claim.verb]} {claim.false}."


def make_yes_no(source: Source) -> Example:
    if source.chance(0.2):
        one, other = source.sample(range(1, 100), 2)
        question, is_true = f"Is {one} larger than {other}?", one > other
    else:
        is_true = source.chance(0.5)
        question = question_of(source.pick(CLAIMS), is_true=is_true)
    question = as_typed(source, source.phrase(*PHRASINGS["yes_no"]).format(q=question))
    return _exact("yes_no", question, "Yes" if is_true else "No")


def make_claim(source: Source) -> Example:
    def turn(phrasing: str) -> tuple[str, str, str]:
        claim, is_true = source.pick(CLAIMS), source.chance(0.5)
        question = phrasing.format(
            q=question_of(claim, is_true=is_true), s=statement_of(claim, is_true=is_true)
        )
        key = "Yes" if is_true else "No"
        return as_typed(source, _capital(question)), answer_of(claim, is_true=is_true), key

    question, answer, key = turn(source.phrase(*PHRASINGS["claim"]))
    messages = [user(question), assistant(answer)]
    if source.chance(0.12):
        question, answer, key = turn("{q}")
        opening = "And " if source.chance(0.5) else ""
        messages += [user(opening + (question if not opening else _lower(question)))]
        messages += [assistant(answer)]
    return Example(family="formats.claim", messages=tuple(messages), key=key)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def make_compared(source: Source) -> Example:
    """Whether one number is larger or smaller than another one."""
    while True:
        limit = source.pick((10, 20, 100, 100, 1000))
        one, other = source.rng.randrange(limit), source.rng.randrange(limit)
        if source.may_see(f"{one}>{other}"):
            break
    word = source.pick(("larger", "larger", "bigger", "greater", "more", "smaller", "less"))
    question = source.phrase(*PHRASINGS["compared"]).format(a=one, b=other, x=word)
    is_true = one < other if word in ("smaller", "less") else one > other
    answer = (
        f"Yes, {one} is {word} than {other}."
        if is_true
        else f"No, {one} is not {word} than {other}."
    )
    return Example(
        family="formats.compared",
        messages=(user(as_typed(source, question)), assistant(answer)),
        key="Yes" if is_true else "No",
    )


def make_choose(source: Source) -> Example:
    """Of things that are all as good, the first."""
    if source.chance(0.6):
        items = source.sample(KINDS[source.pick(tuple(KINDS))], source.rng.randint(2, 4))
    else:
        items = different_words(source, source.rng.randint(2, 4))
    listed = f"{', '.join(items[:-1])} or {items[-1]}" if source.chance(0.6) else ", ".join(items)
    question = source.phrase(*PHRASINGS["choose"])
    if "between" in question:
        listed = f"{', '.join(items[:-1])} and {items[-1]}"
    return Example(
        family="formats.choose",
        messages=(user(question.format(t=listed)), assistant(f"I choose {items[0]}.")),
        key=items[0],
    )


def make_true_false(source: Source) -> Example:
    is_true = source.chance(0.5)
    statement = _capital(statement_of(source.pick(CLAIMS), is_true=is_true))
    question = source.phrase(*PHRASINGS["true_false"]).format(s=statement)
    return _exact("true_false", as_typed(source, question), "True" if is_true else "False")


def make_one_word(source: Source) -> Example:
    question, answer = source.pick(ONE_WORD)
    question = source.phrase(*PHRASINGS["one_word"]).format(q=question)
    return _exact("one_word", as_typed(source, question), answer)


def _listed(source: Source, items: Sequence[str]) -> str:
    """Items in one line: with commas as a rule, at times with a last "and" or with spaces."""
    if len(items) > 1 and source.chance(0.2):
        return f"{', '.join(items[:-1])} and {items[-1]}"
    return ", ".join(items)


def _others(source: Source, kind: str, num: int) -> list[str]:
    return [
        source.pick(KINDS[other])
        for other in source.sample([other for other in KINDS if other != kind], num)
    ]


def _or_list(source: Source, items: Sequence[str]) -> str:
    if source.chance(0.3):
        return f"{', '.join(items[:-1])} or {items[-1]}"
    return ", ".join(items)


def make_kind(source: Source) -> Example:
    kind = source.pick(tuple(KINDS))
    right = source.pick(KINDS[kind])
    items = [right, *_others(source, kind, source.rng.randint(1, 3))]
    source.rng.shuffle(items)
    article = "an" if kind[0] in "aeiou" else "a"
    question = source.phrase(*PHRASINGS["kind"]).format(
        a=f"{article} {kind}", t=_or_list(source, items)
    )
    return Example(
        family="formats.kind",
        messages=(user(_capital(question)), assistant(f"{_capital(right)} is {article} {kind}.")),
        key=right,
    )


def make_odd(source: Source) -> Example:
    kind = source.pick(tuple(KINDS))
    [odd] = _others(source, kind, 1)
    items = [*source.sample(KINDS[kind], source.rng.randint(2, 3)), odd]
    source.rng.shuffle(items)
    article = "an" if kind[0] in "aeiou" else "a"
    question = source.phrase(*PHRASINGS["odd"]).format(t=_listed(source, items))
    answer = f"{_capital(odd)} is not {article} {kind}."
    return Example(
        family="formats.odd", messages=(user(_capital(question)), assistant(answer)), key=odd
    )


def _words_to_sort(source: Source) -> list[str]:
    """Words whose order their first two letters decide; most often the first one alone."""
    num = source.rng.randint(2, 5)
    letters = 1 if source.chance(0.8) else 2
    while True:
        if source.chance(0.1):
            words = source.sample(NAMES, num)
        else:
            words = [known_word(source, longest=8) for _ in range(num)]
        if len({word[:letters].lower() for word in words}) == num:
            return words


def make_sort_words(source: Source) -> Example:
    while not source.may_see(" ".join(words := _words_to_sort(source))):
        pass
    question = source.phrase(*PHRASINGS["sort_words"]).format(t=_listed(source, words))
    return _exact("sort_words", question, ", ".join(sorted(words)))


def make_sort_numbers(source: Source) -> Example:
    numbers: list[int] = []
    while not numbers or not source.may_see(str(numbers)):
        largest = source.pick((10, 20, 100, 100, 1000))
        numbers = source.sample(range(largest), source.rng.randint(3, 5))
    kind = source.pick(("ascending", "descending"))
    ordered = sorted(numbers, reverse=kind == "descending")
    listed = _listed(source, [str(number) for number in numbers])
    question = source.phrase(*PHRASINGS[kind]).format(t=listed)
    return _exact("sort_numbers", question, ", ".join(map(str, ordered)))


def laid_out(layout: str, items: Sequence[str]) -> str:
    if layout == "bullets":
        return "\n".join(f"- {item}" for item in items)
    if layout == "numbered":
        return "\n".join(f"{place}. {item}" for place, item in enumerate(items, 1))
    if layout == "csv":
        return ",".join(items)
    if layout == "row":
        return f"| {' | '.join(items)} |"
    if layout == "lines":
        return "\n".join(items)
    return json.dumps(list(items), ensure_ascii=False)


def make_layout(source: Source) -> Example:
    items = different_words(source, source.rng.randint(2, 5))
    if source.chance(0.15):
        items = source.sample(NAMES, len(items))
    layout, name = source.pick(LAYOUTS)
    question = source.phrase(*PHRASINGS["layout"]).format(t=_listed(source, items), f=name)
    return _exact("layout", question, laid_out(layout, items))


def make_item(source: Source) -> Example:
    items = different_words(source, source.rng.randint(3, 5))
    place = source.rng.randrange(len(items))
    ordinal = "last" if place == len(items) - 1 and source.chance(0.6) else ORDINALS[place]
    question = source.phrase(*PHRASINGS["item"]).format(t=", ".join(items), n=ordinal)
    return Example(
        family="formats.item",
        messages=(user(question), assistant(f"The {ordinal} item is {items[place]}.")),
        key=items[place],
    )


FAMILIES: dict[str, tuple[Callable[[Source], Example], float]] = {
    "formats.yes_no": (make_yes_no, 1.5),
    "formats.claim": (make_claim, 1.5),
    "formats.compared": (make_compared, 1.0),
    "formats.choose": (make_choose, 0.5),
    "formats.true_false": (make_true_false, 1.0),
    "formats.one_word": (make_one_word, 1.5),
    "formats.kind": (make_kind, 1.5),
    "formats.odd": (make_odd, 0.8),
    "formats.sort_words": (make_sort_words, 2.0),
    "formats.sort_numbers": (make_sort_numbers, 2.0),
    "formats.layout": (make_layout, 2.0),
    "formats.item": (make_item, 1.0),
}
