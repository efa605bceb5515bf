"""How people ask for a list: of how many, in which form, and then for more or for another form."""

from __future__ import annotations

from enum import Enum, auto


class Form(Enum):
    """How a list is written."""

    COMMAS = auto()
    BULLETS = auto()
    NUMBERS = auto()
    LINES = auto()


SEVERAL = (
    "Name {n} {things}.",
    "List {n} {things}.",
    "Give me {n} {things}.",
    "Tell me {n} {things}.",
    "Can you name {n} {things}?",
    "Write down {n} {things}.",
    "I need {n} {things}.",
    "What are {n} {things}?",
    "{n} {things}",
    "{n} {things}, please.",
    "Give me the names of {n} {things}.",
    "Make a list of {n} {things}.",
    "Which {n} {things} do you know?",
    "Give {n} examples of {things}.",
    "I would like {n} {things}.",
    "Show me {n} {things}.",
    "Think of {n} {things}.",
    "Could you list {n} {things}?",
    "Name me {n} {things}.",
    "Mention {n} {things}.",
    "Do you know {n} {things}?",
    "My homework asks for {n} {things}.",
)
SEVERAL_KEPT_BACK = (
    "Can you give me {n} {things}?",
    "Could you name {n} {things}?",
    "Write a list of {n} {things}.",
    "Tell me the names of {n} {things}.",
    "Can you list {n} {things}?",
    "I need a list of {n} {things}.",
    "Give me {n} examples of {things}.",
    "I would like the names of {n} {things}.",
)
SOME = (
    "Name some {things}.",
    "List some {things}.",
    "Give me some {things}.",
    "Give me some examples of {things}.",
    "What {things} are there?",
    "What are some {things}?",
    "a few {things}",
    "I need a few {things}.",
    "Tell me a few {things}.",
    "Can you name a few {things}?",
    "Write a list of {things}.",
    "Make me a list of {things}.",
    "list of {things}",
    "examples of {things}",
)
SOME_KEPT_BACK = (
    "Can you name some {things}?",
    "Tell me some {things}.",
    "Give me a list of {things}.",
    "Name a few {things}.",
    "Give me a few examples of {things}.",
)
ALL = (
    "Name all {things}.",
    "Name the {things}.",
    "List the {things}.",
    "List all the {things}.",
    "What are the {things}?",
    "Which {things} are there?",
    "Give me all {things}.",
    "Tell me the names of all {things}.",
    "all {things}",
    "names of the {things}",
    "What are the names of the {things}?",
    "Write down all the {things}.",
)
ALL_KEPT_BACK = (
    "List all {things}.",
    "Tell me all the {things}.",
    "Give me the names of the {things}.",
    "Name all the {things}.",
    "What are all the {things}?",
)
ONE = (
    "Name {a} {thing}.",
    "Name one {thing}.",
    "Give me {a} {thing}.",
    "Tell me one {thing}.",
    "Give me an example of {a} {thing}.",
    "What is an example of {a} {thing}?",
    "Give one example of {a} {thing}.",
    "Can you name {a} {thing}?",
    "I need {a} {thing}.",
    "Do you know {a} {thing}?",
    "example of {a} {thing}",
    "Think of {a} {thing}.",
    "Tell me the name of {a} {thing}.",
)
ONE_KEPT_BACK = (
    "Can you name one {thing}?",
    "Tell me {a} {thing}.",
    "Give me one example of {a} {thing}.",
    "Do you know one {thing}?",
    "Can you give me an example of {a} {thing}?",
)

FORMS: dict[Form, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Form.COMMAS: (
        (
            "Separate them with commas.",
            "Use commas.",
            "Answer with a comma-separated list.",
            "Put commas between them.",
            "Write them in one line with commas.",
            "As a comma-separated list, please.",
        ),
        (
            "Separate them with commas, please.",
            "Write a comma-separated list.",
            "Use commas between them.",
        ),
    ),
    Form.BULLETS: (
        (
            "Use bullet points.",
            "As a bullet list.",
            "As bullet points, please.",
            "Make it a bulleted list.",
            "Write them as a list with dashes.",
            "Use a bullet for each.",
            "Answer with a Markdown list.",
            "In bullets.",
        ),
        (
            "As a bulleted list, please.",
            "Write them as bullet points.",
            "Answer with bullet points.",
            "Make it a bullet list.",
        ),
    ),
    Form.NUMBERS: (
        (
            "Number them.",
            "As a numbered list.",
            "Use a numbered list.",
            "Make it a numbered list, please.",
            "Put a number before each.",
            "Write them numbered.",
            "Answer with a numbered list.",
        ),
        (
            "As a numbered list, please.",
            "Make it a numbered list.",
            "Write them as a numbered list.",
            "Use a number for each.",
        ),
    ),
    Form.LINES: (
        (
            "One per line.",
            "Put each on its own line.",
            "Write each on a new line.",
            "One per line, please.",
            "Use one line for each.",
            "Each on a line of its own.",
        ),
        (
            "Write one per line.",
            "Put each on a new line.",
            "Each on its own line, please.",
        ),
    ),
}

MORE = (
    "Name {n} more.",
    "{n} more, please.",
    "Give me {n} more.",
    "And {n} more?",
    "I need {n} more.",
    "{n} more",
    "Can you add {n} more?",
    "Now {n} {others}.",
    "Tell me {n} {others}.",
    "List {n} more.",
)
MORE_KEPT_BACK = (
    "Can you name {n} more?",
    "Tell me {n} more.",
    "And {n} {others}?",
    "Give me {n} {others}, please.",
    "Now {n} more.",
)
AGAIN = (
    "Now the same {form}.",
    "The same {form}, please.",
    "Can you write that {form}?",
    "Please write them {form}.",
    "Make that {form}.",
    "Again, but {form}.",
)
AGAIN_KEPT_BACK = (
    "Please write that {form}.",
    "Now write them {form}.",
    "Can you make that {form}?",
    "The same again, but {form}.",
)
FORM_NAMES = {
    Form.COMMAS: ("with commas", "as a comma-separated list", "in one line with commas"),
    Form.BULLETS: ("as a bullet list", "with bullet points", "as bullet points", "with bullets"),
    Form.NUMBERS: ("as a numbered list", "with numbers", "numbered"),
    Form.LINES: ("with one per line", "with each on its own line", "one per line"),
}

SHAPED = (
    "Give me a {form} list of {n} {things}.",
    "Make a {form} list of {n} {things}.",
    "{form} list of {n} {things}",
    "I need a {form} list of {n} {things}.",
    "Can you write a {form} list of {n} {things}?",
    "Name {n} {things} in a {form} list.",
    "List {n} {things} as a {form} list.",
    "Show me {n} {things} as a {form} list.",
    "A {form} list of {n} {things}, please.",
    "Give me {n} {things} as a {form} list.",
)
SHAPED_KEPT_BACK = (
    "Can you make a {form} list of {n} {things}?",
    "Name {n} {things} as a {form} list.",
    "Write a {form} list of {n} {things}.",
    "Give me {n} {things} in a {form} list.",
)
SHAPES = {
    Form.COMMAS: ("comma-separated",),
    Form.BULLETS: ("bullet", "bulleted"),
    Form.NUMBERS: ("numbered",),
}
