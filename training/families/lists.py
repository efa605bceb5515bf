"""Examples of a kind of things, in their one order and in the form that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from training.conversation import Example, Source, as_typed, assistant, user
from training.families import lists_phrasings as phrasings
from training.families.lists_phrasings import Form
from training.families.lists_table import KINDS, Kind

_NUMBER_WORDS = ("", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUM_UNSAID = 3


def written(items: Sequence[str], form: Form) -> str:
    """The items in a form."""
    if form is Form.BULLETS:
        return "\n".join(f"- {item}" for item in items)
    if form is Form.NUMBERS:
        return "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1))
    return ("\n" if form is Form.LINES else ", ").join(items)


def make_list(source: Source) -> Example:
    """Several of a kind, with commas if no form is asked for."""
    kind = source.pick(KINDS)
    if source.chance(0.15):
        return _shaped(source, kind)
    question, items = _request(source, kind)
    question = as_typed(source, question)
    form = Form.COMMAS
    if source.chance(0.45):
        form = source.pick(tuple(Form))
        question = f"{question} {source.phrase(*phrasings.FORMS[form])}"
        if source.chance(0.2):
            question = question.lower()
    return Example(
        family="list",
        messages=(user(question), assistant(written(items, form))),
        is_exact=True,
    )


def _shaped(source: Source, kind: Kind) -> Example:
    """A request with its form in its midst."""
    form = source.pick(tuple(phrasings.SHAPES))
    num = source.rng.randint(2, min(len(kind.examples), 6))
    asked = source.phrase(phrasings.SHAPED, phrasings.SHAPED_KEPT_BACK).format(
        form=source.pick(phrasings.SHAPES[form]),
        n=_number(source, num),
        things=source.pick(kind.plurals),
    )
    answer = written(kind.examples[:num], form)
    messages = (user(as_typed(source, _capitalised(asked))), assistant(answer))
    return Example(family="list", messages=messages, is_exact=True)


def make_one(source: Source) -> Example:
    """One of a kind: the first."""
    kind = source.pick(KINDS)
    article = "an" if kind.singular[0].lower() in "aeio" else "a"
    phrasing = source.phrase(phrasings.ONE, phrasings.ONE_KEPT_BACK)
    question = as_typed(source, phrasing.format(a=article, thing=kind.singular))
    answer = kind.examples[0]
    return Example(family="list_one", messages=(user(question), assistant(answer)), is_exact=True)


def make_more(source: Source) -> Example:
    """Some of a kind, and then others of it."""
    kind = source.pick([kind for kind in KINDS if not kind.is_whole])
    num_first, num_more = source.pick((2, 3)), source.pick((1, 2, 3))
    question = _several(source, kind, num_first)
    more = source.phrase(phrasings.MORE, phrasings.MORE_KEPT_BACK).format(
        n=_number(source, num_more), others="other" if num_more == 1 else "others"
    )
    messages = (
        user(as_typed(source, question)),
        assistant(written(kind.examples[:num_first], Form.COMMAS)),
        user(as_typed(source, _capitalised(more))),
        assistant(written(kind.examples[num_first : num_first + num_more], Form.COMMAS)),
    )
    return Example(family="list_more", messages=messages, is_exact=True)


def make_again(source: Source) -> Example:
    """A list, and then the same list in another form."""
    kind = source.pick(KINDS)
    question, items = _request(source, kind)
    question = as_typed(source, question)
    first, second = source.sample(tuple(Form), 2)
    if first is not Form.COMMAS:
        question = f"{question} {source.phrase(*phrasings.FORMS[first])}"
    again = source.phrase(phrasings.AGAIN, phrasings.AGAIN_KEPT_BACK).format(
        form=source.pick(phrasings.FORM_NAMES[second])
    )
    messages = (
        user(question),
        assistant(written(items, first)),
        user(as_typed(source, again)),
        assistant(written(items, second)),
    )
    return Example(family="list_again", messages=messages, is_exact=True)


def _request(source: Source, kind: Kind) -> tuple[str, Sequence[str]]:
    """A wording that asks for several of a kind, and those."""
    things = source.pick(kind.plurals)
    if kind.is_whole and source.chance(0.6):
        phrasing = source.phrase(phrasings.ALL, phrasings.ALL_KEPT_BACK)
        return _capitalised(phrasing.format(things=things)), kind.examples
    if not kind.is_whole and source.chance(0.2):
        phrasing = source.phrase(phrasings.SOME, phrasings.SOME_KEPT_BACK)
        return _capitalised(phrasing.format(things=things)), kind.examples[:_NUM_UNSAID]
    largest = min(len(kind.examples), 10 if source.chance(0.15) else 5)
    num = source.rng.randint(2, largest)
    return _several(source, kind, num), kind.examples[:num]


def _several(source: Source, kind: Kind, num: int) -> str:
    phrasing = source.phrase(phrasings.SEVERAL, phrasings.SEVERAL_KEPT_BACK)
    things = source.pick(kind.plurals)
    return _capitalised(phrasing.format(n=_number(source, num), things=things))


def _number(source: Source, num: int) -> str:
    return source.pick((str(num), _NUMBER_WORDS[num]))


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


FAMILIES: dict[str, tuple[Callable[[Source], Example], float]] = {
    "list": (make_list, 5.0),
    "list_one": (make_one, 1.0),
    "list_more": (make_more, 0.8),
    "list_again": (make_again, 0.8),
}
