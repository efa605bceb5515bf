"""Questions about fmedge, with answers as exact as its documentation."""

from __future__ import annotations

from collections.abc import Callable

from training.conversation import Example, Message, Source, as_typed, assistant, user
from training.families.about_questions import QUESTIONS
from training.families.about_tasks import TASKS
from training.families.about_terms import COMMANDS, TERMS
from training.families.topics import Entry, example, phrases

FAMILY = "about"
MEANING = phrases(
    """What is {x}? | What's {x}? | What does {x} mean? | Explain {x}. | Explain {x} to me. |
    What do you mean by {x}? | Define {x}. | {x}? | What is the meaning of {x}? | Can you
    explain {x}? | Tell me what {x} is. | Tell me about {x}. | What is {x} in fmedge? | Please
    explain what {x} means. | I do not know what {x} is. | In fmedge, what does {x} mean? |
    What exactly is {x}? | Describe {x}. | I have a question about {x}. | So what is {x}? |
    What is meant by {x}? | I want to understand {x}. | {x} | and what is {x}?"""
)
MEANING_KEPT_BACK = phrases(
    """Please explain {x}. | Can you tell me what {x} is? | What exactly does {x} mean? | I do
    not understand {x}. | Please describe {x}. | Explain what {x} means in fmedge. | Tell me
    what {x} means."""
)
PURPOSE = phrases(
    """What does {x} do? | What is {x} for? | What is {x}? | Explain {x}. | When do I use {x}? |
    What does the command {x} do? | Tell me about {x}. | {x}? | What can I do with {x}? | Why
    would I use {x}? | How does {x} help me? | What happens with {x}? | What is the command
    {x} for? | Describe what {x} does. | I saw {x}. What does it do? | What is the purpose of
    {x}? | Tell me what {x} does. | What do I need {x} for? | {x}"""
)
PURPOSE_KEPT_BACK = phrases(
    """What is the purpose of the command {x}? | Explain what {x} does. | When would I use {x}? |
    Why do I need {x}? | Tell me what the command {x} is for. | Describe the command {x}."""
)
HOW = phrases(
    """How do I {x}? | How can I {x}? | How to {x}? | how to {x} | I want to {x}. | I would like
    to {x}. | Show me how to {x}. | Tell me how to {x}. | Can you tell me how to {x}? | What
    do I type to {x}? | I need to {x}. | Help me {x}. | How does one {x}? | What must I do to
    {x}? | Is there a way to {x}? | How can one {x} with fmedge? | With fmedge, how do I {x}?
    | Explain how to {x}. | Which command do I need to {x}? | How should I {x}? | {x}: how? |
    I do not know how to {x}. | How do you {x}? | What is the command to {x}? | Can I {x}?"""
)
HOW_KEPT_BACK = phrases(
    """Can you show me how to {x}? | What should I do to {x}? | Please tell me how I can {x}. |
    What is the way to {x}? | What do I need to {x}? | I want to know how to {x}. | How can I
    {x} with fmedge?"""
)


def _asked(source: Source, kind: str) -> tuple[Message, Entry]:
    """A question of a kind, and what it asks for."""
    entries, trained, kept_back = {
        "terms": (TERMS, MEANING, MEANING_KEPT_BACK),
        "commands": (COMMANDS, PURPOSE, PURPOSE_KEPT_BACK),
        "tasks": (TASKS, HOW, HOW_KEPT_BACK),
    }[kind]
    entry = source.pick(entries)
    template = source.phrase(trained, kept_back)
    return user(as_typed(source, template.replace("{x}", source.pick(entry.names)))), entry


def _of_kind(source: Source, kind: str) -> Example:
    """One question, at times after another one."""
    kinds = [kind]
    if source.chance(0.15):
        kinds.insert(0, source.pick(("terms", "commands", "tasks")))
    messages: list[Message] = []
    key = ""
    for one in kinds:
        question, entry = _asked(source, one)
        messages += [question, assistant(entry.answer)]
        key = entry.key
    return Example(family=FAMILY, messages=tuple(messages), key=key)


def make_term(source: Source) -> Example:
    """What a word of fmedge's means; at times the next word is asked for in short."""
    if source.chance(0.12):
        first, second = source.sample(TERMS, 2)
        template = source.phrase(MEANING, MEANING_KEPT_BACK)
        short = source.phrase(
            phrases("And {x}? | And what is {x}? | What about {x}? | and {x} | Then what is {x}?"),
            phrases("And what about {x}? | Then {x}?"),
        )
        messages = (
            user(as_typed(source, template.replace("{x}", source.pick(first.names)))),
            assistant(first.answer),
            user(as_typed(source, short.replace("{x}", source.pick(second.names)))),
            assistant(second.answer),
        )
        return Example(family=FAMILY, messages=messages, key=second.key)
    return _of_kind(source, "terms")


def make_command(source: Source) -> Example:
    """What a command does."""
    return _of_kind(source, "commands")


def make_task(source: Source) -> Example:
    """How something is done."""
    return _of_kind(source, "tasks")


def make_question(source: Source) -> Example:
    """What has a wording of its own."""
    return example(source, FAMILY, QUESTIONS, chain=0.12)


FAMILIES: dict[str, tuple[Callable[[Source], Example], float]] = {
    "about_terms": (make_term, 2.0),
    "about_commands": (make_command, 1.0),
    "about_tasks": (make_task, 2.5),
    "about_questions": (make_question, 2.0),
}
