"""Say it back: a text repeated, once or several times, in other letters, joined or enclosed."""

from __future__ import annotations

from collections.abc import Callable

from training.conversation import Example, Source, assistant, user
from training.families.echo_phrasings import PHRASINGS
from training.families.word_table import NAMES, any_word, different_words, made_up_word

TIMES: tuple[tuple[str, int], ...] = (
    ("2", 2),
    ("two", 2),
    ("3", 3),
    ("three", 3),
    ("4", 4),
    ("four", 4),
    ("5", 5),
    ("five", 5),
    ("6", 6),
    ("six", 6),
)
JOINTS: tuple[tuple[str, str], ...] = (
    ("commas", ", "),
    ("hyphens", "-"),
    ("dashes", "-"),
    ("underscores", "_"),
    ("slashes", "/"),
    ("dots", "."),
    ("plus signs", " + "),
)
ENCLOSURES: tuple[tuple[str, str, str], ...] = (
    ("quotes", '"', '"'),
    ("quotation marks", '"', '"'),
    ("double quotes", '"', '"'),
    ("single quotes", "'", "'"),
    ("brackets", "(", ")"),
    ("parentheses", "(", ")"),
    ("round brackets", "(", ")"),
    ("square brackets", "[", "]"),
    ("curly brackets", "{", "}"),
    ("curly braces", "{", "}"),
    ("angle brackets", "<", ">"),
    ("asterisks", "*", "*"),
)
_SHORT_REPLIES_TEXT = """
    OK Ok ok yes no Yes No YES NO pong ping Pong PONG test Test TEST done Done DONE ready Ready
    READY hello Hello hi stop true false null none red blue A B C X Y one two three
"""
SHORT_REPLIES = tuple(_SHORT_REPLIES_TEXT.split())
SENTENCES: tuple[str, ...] = (
    "Hello, {name}!",
    "Hello, world!",
    "hello world",
    "Good morning, {name}.",
    "The {a} is in the {b}.",
    "The {a} and the {b}.",
    "I like {a} and {b}.",
    "My {a} is not a {b}!",
    "Where is the {a}?",
    "{name} has a {a} and a {b}.",
    "This is a {a}.",
    "Is {name} here?",
    "We saw the {a} near the {b} today.",
    "One {a}, two {b}, three {c}.",
    "{a}, {b}, {c}",
    "A {a} is a {a} is a {a}.",
    "The quick brown {a} jumps over the lazy {b}.",
    "{a} + {b} = {c}",
    "No {a}, no {b}.",
    "I am ready.",
    "This is a test.",
)
_HOSTS = ("example.com", "example.org", "mail.example", "test.example", "example.net")
_CODE_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_ALL_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def _is_free(source: Source, text: str) -> bool:
    """Whether a text may be used: single common words always, else by where it belongs."""
    return text.isalpha() or source.may_see(text)


def _text(source: Source) -> str:
    """Anything that one may want to read back, its capitals and signs included."""
    rng = source.rng
    if source.chance(0.05):
        return source.pick(SHORT_REPLIES)
    while True:
        kind = rng.random()
        if kind < 0.2:
            text = any_word(source)
        elif kind < 0.35:
            first, second, third = different_words(source, 3)
            text = source.pick(SENTENCES).format(
                a=first, b=second, c=third, name=source.pick(NAMES)
            )
        elif kind < 0.5:
            text = " ".join(different_words(source, rng.randint(2, 5)))
            if source.chance(0.4):
                text = text[:1].upper() + text[1:]
        elif kind < 0.58:
            text = f"{source.pick(NAMES)} {made_up_word(source).capitalize()}"
        elif kind < 0.63:
            text = source.pick(NAMES)
        elif kind < 0.73:
            text = str(rng.randrange(10 ** rng.randint(1, 9)))
        elif kind < 0.79:
            text = f"{any_word(source)}.{any_word(source)}@{source.pick(_HOSTS)}"
        elif kind < 0.86:
            text = "".join(source.pick(_CODE_LETTERS) for _ in range(rng.randint(3, 8)))
        elif kind < 0.92:
            text = "".join(source.pick(_ALL_LETTERS) for _ in range(rng.randint(4, 12)))
        elif kind < 0.96:
            text = f"{any_word(source)}-{rng.randrange(1000)}"
        else:
            text = f"{source.pick(NAMES)}, {any_word(source)} and {any_word(source)}!"
        if _is_free(source, text):
            return text


def _exact(kind: str, *turns: tuple[str, str]) -> Example:
    messages = [message for asked, said in turns for message in (user(asked), assistant(said))]
    return Example(family=f"echo.{kind}", messages=tuple(messages), is_exact=True)


def _repeat_turn(source: Source) -> tuple[str, str]:
    text = _text(source)
    return source.phrase(*PHRASINGS["repeat"]).format(t=text), text


def make_repeat(source: Source) -> Example:
    turns = [_repeat_turn(source)]
    if source.chance(0.1):
        turns.append(_repeat_turn(source))
    return _exact("repeat", *turns)


def make_word(source: Source) -> Example:
    """One word or number, asked for without any sign around it."""
    kind = source.rng.random()
    if kind < 0.3:
        word = source.pick(SHORT_REPLIES)
    elif kind < 0.4:
        word = source.pick(NAMES)
    elif kind < 0.5:
        word = str(source.rng.randrange(10 ** source.rng.randint(1, 5)))
    else:
        word = any_word(source)
    if kind >= 0.5 and source.chance(0.15):
        word = source.pick((word.upper(), word.capitalize()))
    return _exact("word", (source.phrase(*PHRASINGS["word"]).format(t=word), word))


def make_times(source: Source) -> Example:
    text = source.pick(NAMES) if source.chance(0.1) else any_word(source)
    written, num = source.pick(TIMES)
    if num == 2 and source.chance(0.5):
        question = source.phrase(*PHRASINGS["times"]).replace("{n} times", "twice").format(t=text)
    else:
        question = source.phrase(*PHRASINGS["times"]).format(t=text, n=written)
    question = question[:1].upper() + question[1:] if question.startswith(written) else question
    return _exact("times", (question, " ".join([text] * num)))


def _case_text(source: Source) -> str:
    words = different_words(source, source.rng.randint(1, 4))
    if source.chance(0.2):
        words[0] = source.pick(NAMES)
    return " ".join(words)


def make_upper(source: Source) -> Example:
    text = _case_text(source)
    return _exact("upper", (source.phrase(*PHRASINGS["upper"]).format(t=text), text.upper()))


def make_lower(source: Source) -> Example:
    text = _case_text(source)
    text = text.upper() if source.chance(0.7) else text.title()
    return _exact("lower", (source.phrase(*PHRASINGS["lower"]).format(t=text), text.lower()))


def make_title(source: Source) -> Example:
    text = " ".join(different_words(source, source.rng.randint(2, 4)))
    return _exact("title", (source.phrase(*PHRASINGS["title"]).format(t=text), text.title()))


def make_join(source: Source) -> Example:
    words = different_words(source, source.rng.randint(2, 5))
    name, joint = source.pick(JOINTS)
    question = source.phrase(*PHRASINGS["join"]).format(t=" ".join(words), j=name)
    return _exact("join", (question, joint.join(words)))


def make_enclose(source: Source) -> Example:
    text = " ".join(different_words(source, source.rng.randint(1, 3)))
    name, opening, closing = source.pick(ENCLOSURES)
    question = source.phrase(*PHRASINGS["enclose"]).format(t=text, b=name)
    return _exact("enclose", (question, f"{opening}{text}{closing}"))


def make_again(source: Source) -> Example:
    """What was just said, once more."""
    first = source.pick((make_repeat, make_upper, make_lower, make_join, make_times))(source)
    said = first.messages[-1]["content"]
    question = source.phrase(*PHRASINGS["again"])
    return Example(
        family="echo.again",
        messages=(*first.messages, user(question), assistant(said)),
        is_exact=True,
    )


FAMILIES: dict[str, tuple[Callable[[Source], Example], float]] = {
    "echo.repeat": (make_repeat, 4.0),
    "echo.word": (make_word, 2.0),
    "echo.times": (make_times, 1.5),
    "echo.upper": (make_upper, 1.5),
    "echo.lower": (make_lower, 1.0),
    "echo.title": (make_title, 0.7),
    "echo.join": (make_join, 1.0),
    "echo.enclose": (make_enclose, 1.0),
    "echo.again": (make_again, 0.6),
}
