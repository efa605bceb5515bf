"""What a word is made of: its letters, how many, the first, the last, the vowels, the reverse."""

from __future__ import annotations

from collections.abc import Callable

from training.conversation import Example, Source, assistant, user
from training.families.spelling_phrasings import FOLLOW_UPS, PHRASINGS
from training.families.word_table import NAMES, any_word

ORDINALS = ("second", "third", "fourth", "fifth")


def spelled(word: str) -> str:
    return "-".join(word)


def _answer_spell(word: str) -> tuple[str, str]:
    return f"{word} is spelled {spelled(word)}.", spelled(word)


def _answer_count(word: str) -> tuple[str, str]:
    return f"{spelled(word)}: {word} has {len(word)} letters.", str(len(word))


def _answer_first(word: str) -> tuple[str, str]:
    return f"The first letter of {word} is {word[0]}.", f"is {word[0]}"


def _answer_last(word: str) -> tuple[str, str]:
    return f"The last letter of {word} is {word[-1]}.", f"is {word[-1]}"


def _answer_reverse(word: str) -> tuple[str, str]:
    return f"{word} backwards is {word[::-1]}.", f"is {word[::-1]}"


def _answer_vowels(word: str) -> tuple[str, str]:
    vowels = [letter for letter in word if letter in "aeiouAEIOU"]
    if not vowels:
        return f"{word} has 0 vowels.", "0"
    noun = "vowel" if len(vowels) == 1 else "vowels"
    return f"{', '.join(vowels)}: {word} has {len(vowels)} {noun}.", str(len(vowels))


def _of_word(
    kind: str, answer: Callable[[str], tuple[str, str]], *, longest: int, with_names: bool = False
) -> Callable[[Source], Example]:
    """A family of questions about one word; a few go on about a second one."""

    def make(source: Source) -> Example:
        def word() -> str:
            if with_names and source.chance(0.1):
                return source.pick(NAMES)
            return any_word(source, longest=longest)

        about = word()
        reply, key = answer(about)
        messages = [user(source.phrase(*PHRASINGS[kind]).format(w=about)), assistant(reply)]
        if source.chance(0.15):
            about = word()
            reply, key = answer(about)
            messages += [user(source.phrase(*FOLLOW_UPS).format(w=about)), assistant(reply)]
        return Example(family=f"spelling.{kind}", messages=tuple(messages), key=key)

    return make


make_spell = _of_word("spell", _answer_spell, longest=10, with_names=True)
make_count = _of_word("count", _answer_count, longest=10, with_names=True)
make_first = _of_word("first", _answer_first, longest=10, with_names=True)
make_last = _of_word("last", _answer_last, longest=10, with_names=True)
make_reverse = _of_word("reverse", _answer_reverse, longest=5)
make_vowels = _of_word("vowels", _answer_vowels, longest=9)


def make_join(source: Source) -> Example:
    word = any_word(source, longest=9)
    question = source.phrase(*PHRASINGS["join"]).format(s=spelled(word))
    return Example(
        family="spelling.join",
        messages=(user(question), assistant(f"The word is {word}.")),
        key=word,
    )


def make_nth(source: Source) -> Example:
    while len(word := any_word(source, longest=8)) < 3:
        pass
    place = source.rng.randrange(1, min(len(word), len(ORDINALS) + 1))
    ordinal = ORDINALS[place - 1]
    question = source.phrase(*PHRASINGS["nth"]).format(n=ordinal, w=word)
    question = question[:1].upper() + question[1:]
    answer = f"{spelled(word)}: the {ordinal} letter is {word[place]}."
    return Example(
        family="spelling.nth",
        messages=(user(question), assistant(answer)),
        key=f"is {word[place]}",
    )


def _letter(source: Source, word: str, *, held: float) -> str:
    """A letter of the word or, by the rest of the chance, one that it lacks."""
    if source.chance(held):
        return source.pick(word)
    return source.pick([letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter not in word])


def make_contains(source: Source) -> Example:
    word = any_word(source, longest=10)
    letter = _letter(source, word, held=0.5)
    question = source.phrase(*PHRASINGS["contains"]).format(w=word, l=letter)
    if letter in word:
        answer, key = f"Yes, {word} contains the letter {letter}.", "Yes"
    else:
        answer, key = f"No, {word} does not contain the letter {letter}.", "No"
    return Example(
        family="spelling.contains", messages=(user(question), assistant(answer)), key=key
    )


def make_occurs(source: Source) -> Example:
    word = "strawberry" if source.chance(0.05) else any_word(source, longest=10)
    repeated = sorted({letter for letter in word if word.count(letter) > 1})
    if repeated and source.chance(0.5):
        letter = source.pick(repeated)
    else:
        letter = _letter(source, word, held=0.8)
    num = word.count(letter)
    question = source.phrase(*PHRASINGS["occurs"]).format(w=word, l=letter)
    times = "1 time" if num == 1 else f"{num} times"
    answer = f"{spelled(word)}: the letter {letter} occurs {times}."
    return Example(
        family="spelling.occurs", messages=(user(question), assistant(answer)), key=times
    )


FAMILIES: dict[str, tuple[Callable[[Source], Example], float]] = {
    "spelling.spell": (make_spell, 3.0),
    "spelling.join": (make_join, 1.0),
    "spelling.count": (make_count, 1.5),
    "spelling.first": (make_first, 0.7),
    "spelling.last": (make_last, 0.7),
    "spelling.nth": (make_nth, 0.7),
    "spelling.reverse": (make_reverse, 1.0),
    "spelling.contains": (make_contains, 1.0),
    "spelling.occurs": (make_occurs, 1.5),
    "spelling.vowels": (make_vowels, 0.7),
}
