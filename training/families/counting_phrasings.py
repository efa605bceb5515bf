"""How people ask for numbers in order: trained phrasings and those kept for the test."""

from __future__ import annotations

Phrasings = tuple[tuple[str, ...], tuple[str, ...]]

COUNT_TO: Phrasings = (
    (
        *("Count to {b}.", "count to {b}", "Can you count to {b}?", "Count up to {b}."),
        *("Please count to {b}.", "Count from one to {b}.", "Write the numbers up to {b}."),
        *(
            "Can you count up to {b} for me?",
            "I want you to count to {b}.",
            "Start at 1 and count to {b}.",
        ),
        *("List the first {b} numbers.", "Numbers up to {b}", "Show me how you count to {b}."),
    ),
    (
        *(
            "Can you count to {b} for me?",
            "I want you to count up to {b}.",
            "List the numbers up to {b}.",
        ),
        *("Show me the numbers up to {b}.", "Please count up to {b}."),
    ),
)
COUNT_UP: Phrasings = (
    (
        *("Count from {a} to {b}.", "count {a} to {b}", "Count up from {a} to {b}."),
        *(
            "List the numbers from {a} to {b}.",
            "Numbers from {a} to {b}",
            "Write all numbers from {a} to {b}.",
        ),
        *("Can you count from {a} to {b}?", "Give me the numbers {a} to {b}."),
        *("Start at {a} and count to {b}.", "What are the numbers from {a} to {b}?"),
        *(
            "Which numbers are there from {a} to {b}?",
            "Show the numbers between {a} and {b}, both included.",
        ),
        *("Begin with {a} and count up to {b}.", "Please write the numbers from {a} up to {b}."),
    ),
    (
        *("Can you list the numbers from {a} to {b}?", "Start with {a} and count up to {b}."),
        *("Give me all numbers from {a} to {b}.", "Please count from {a} up to {b}."),
        *("Write the numbers {a} to {b}.", "Show me the numbers from {a} to {b}."),
    ),
)
COUNT_DOWN: Phrasings = (
    (
        *(
            "Count down from {a} to {b}.",
            "Count backwards from {a} to {b}.",
            "count from {a} down to {b}",
        ),
        *("Countdown from {a} to {b}", "List the numbers from {a} down to {b}."),
        *("Can you count down from {a} to {b}?", "Start at {a} and count down to {b}."),
        *("Write the numbers from {a} to {b} backwards.", "Give me a countdown from {a} to {b}."),
        *("Count from {a} to {b}.", "Begin with {a} and count backwards to {b}."),
    ),
    (
        *("Can you count backwards from {a} to {b}?", "Start at {a} and count backwards to {b}."),
        *("Begin with {a} and count down to {b}.", "Give me the numbers from {a} down to {b}."),
    ),
)
COUNT_BY: Phrasings = (
    (
        *(
            "Count by {n} to {b}.",
            "Count in steps of {n} up to {b}.",
            "Count to {b} in steps of {n}.",
        ),
        *("List the multiples of {n} up to {b}.", "What are the multiples of {n} up to {b}?"),
        *("multiples of {n} up to {b}", "Can you count to {b} by {n}?", "Count by {n}s to {b}."),
        *(
            "Write all multiples of {n} from {n} to {b}.",
            "Start at {n} and count to {b} in steps of {n}.",
        ),
    ),
    (
        *("Can you count in steps of {n} to {b}?", "Count up to {b} by {n}s."),
        *("Write the multiples of {n} up to {b}.", "Can you list all multiples of {n} up to {b}?"),
    ),
)
EVEN_OR_ODD_NUMBERS: Phrasings = (
    (
        *(
            "List the {kind} numbers from {a} to {b}.",
            "What are the {kind} numbers between {a} and {b}?",
        ),
        *("{kind} numbers from {a} to {b}", "Give me all {kind} numbers from {a} to {b}."),
        *(
            "Which numbers from {a} to {b} are {kind}?",
            "I need the {kind} numbers from {a} up to {b}.",
        ),
        *(
            "Write the {kind} numbers from {a} to {b}.",
            "Which {kind} numbers are between {a} and {b}?",
        ),
        *(
            "Show me every {kind} number from {a} to {b}.",
            "Name the {kind} numbers between {a} and {b}.",
        ),
    ),
    (
        *(
            "What are the {kind} numbers from {a} to {b}?",
            "List all {kind} numbers between {a} and {b}.",
        ),
        *(
            "Show me the {kind} numbers from {a} to {b}.",
            "Which {kind} numbers are there from {a} to {b}?",
        ),
        *("Which numbers between {a} and {b} are {kind}?",),
    ),
)
SEQUENCE: Phrasings = (
    (
        *(
            "What comes next: {list}?",
            "{list}, ...",
            "What is the next number: {list}?",
            "{list}, ?",
        ),
        *(
            "Continue: {list}",
            "Which number comes next in {list}?",
            "Continue the sequence {list}.",
        ),
        *("What number comes next after {list}?", "Next number in the sequence {list}"),
        *("What is the next number in this sequence: {list}?", "{list}. What comes next?"),
        *("Find the next number: {list}", "The sequence is {list}. Which number is next?"),
        *("Complete the sequence: {list}, ...", "I count {list}. What is next?"),
    ),
    (
        *("Which number is next: {list}?", "What comes next in the sequence {list}?"),
        *("Find the next number in this sequence: {list}", "{list}. Which number comes next?"),
        *("Continue this sequence: {list}, ...", "The sequence is {list}. What comes next?"),
    ),
)
NUMBER_NEIGHBOUR: dict[int, Phrasings] = {
    1: (
        (
            *("What number comes after {x}?", "Which number comes after {x}?", "number after {x}"),
            *(
                "What is the number after {x}?",
                "Which number follows {x}?",
                "What comes after {x}?",
            ),
            *("What is the next number after {x}?", "I count to {x}. What comes after that?"),
            *("Tell me the number that follows {x}.", "Which number is right after {x}?"),
        ),
        (
            *("Tell me the number after {x}.", "What number follows {x}?"),
            *("Which is the next number after {x}?", "What number comes right after {x}?"),
        ),
    ),
    -1: (
        (
            *(
                "What number comes before {x}?",
                "Which number comes before {x}?",
                "number before {x}",
            ),
            *(
                "What is the number before {x}?",
                "What comes before {x}?",
                "Which number precedes {x}?",
            ),
            *("Tell me the number that comes before {x}.", "Which number is right before {x}?"),
            *("Which number comes just before {x}?",),
        ),
        (
            *("Tell me the number before {x}.", "What number comes right before {x}?"),
            *("What is the number just before {x}?", "Which is the number before {x}?"),
        ),
    ),
}
NEXT: Phrasings = (
    ("And {x}?", "and {x}", "What about {x}?", "And for {x}?", "How about {x}?", "Now {x}."),
    ("And what about {x}?", "And now {x}?", "And how about {x}?"),
)
PARITY: Phrasings = (
    (
        *(
            "Is {x} even or odd?",
            "{x}: even or odd?",
            "Is {x} odd or even?",
            "Is {x} an even number?",
        ),
        *("Is {x} an odd number?", "Tell me if {x} is even or odd.", "even or odd: {x}"),
        *(
            "Is the number {x} even?",
            "Is the number {x} odd?",
            "Do you know if {x} is odd or even?",
        ),
        *("Would you say {x} is odd or even?", "Is {x} even?", "Is {x} odd?"),
    ),
    (
        *(
            "Is the number {x} even or odd?",
            "Tell me if {x} is odd or even.",
            "Would you say {x} is even?",
        ),
        *("Do you know if {x} is an even number?", "The number {x}: odd or even?"),
    ),
)
IN_WORDS: Phrasings = (
    (
        *(
            "Write {x} in words.",
            "How do you write {x} in words?",
            "{x} in words",
            "Spell out {x}.",
        ),
        *(
            "What is {x} in words?",
            "Write the number {x} as words.",
            "How is {x} written in words?",
        ),
        *("Put {x} into words.", "Can you write {x} in words?", "Say the number {x} in words."),
        *("Turn {x} into words.", "Spell out the number {x}."),
    ),
    (
        *("Can you put {x} into words?", "How do you write the number {x} in words?"),
        *(
            "What is the number {x} in words?",
            "Write {x} as words.",
            "Turn the number {x} into words.",
        ),
    ),
)
IN_DIGITS: Phrasings = (
    (
        *("Write {x} in digits.", "How do you write {x} in digits?", "{x} in digits"),
        *("What is {x} in digits?", "Write {x} as a number.", "How is {x} written in digits?"),
        *("Which number is {x}?", "Can you write {x} in digits?", "Turn {x} into digits."),
        *("Turn {x} into a number.", "What number is {x}?", "{x} as a number"),
    ),
    (
        *("Can you write {x} as a number?", "What is {x} as a number?", "Put {x} into digits."),
        *("How do you write {x} as a number?", "Can you turn {x} into digits?"),
    ),
)
EXTREME: Phrasings = (
    (
        *("What is the {kind} of {list_and}?", "Which is the {kind}: {list}?", "{kind} of {list}"),
        *("Which number is the {kind}: {list}?", "What is the {kind} number in {list}?"),
        *("Find the {kind} number: {list}", "Tell me the {kind} of {list_and}."),
        *("Here are some numbers: {list}. Which is the {kind}?", "{list}: which is the {kind}?"),
        *("Of {list_and}, which number is the {kind}?", "Pick the {kind} number from {list}."),
    ),
    (
        *("Which of {list_and} is the {kind}?", "Find the {kind} of {list_and}."),
        *(
            "Here are some numbers: {list}. Tell me the {kind}.",
            "What is the {kind} number: {list}?",
        ),
        *("Tell me which number is the {kind}: {list}",),
    ),
)
LIST_SIZE: Phrasings = (
    (
        *(
            "How many items are in this list: {list}?",
            "How many items: {list}",
            "Count the items: {list}",
        ),
        *("Count these items: {list_and}.", "How many things are these: {list}?"),
        *("How many items does this list have? {list}", "{list}: how many items are these?"),
        *("How many items are in this list?\n{lines}", "Count the items in this list:\n{lines}"),
        *(
            "My list is {list}. How many items does it have?",
            "How many entries has this list: {list}?",
        ),
        *("Here is a list: {list}. How many items are there?", "How long is this list: {list}?"),
    ),
    (
        *("Count the items in this list: {list}", "How many items has this list: {list}?"),
        *(
            "Here is my list: {list}. How many items does it have?",
            "How many entries are in this list? {list}",
        ),
        *("How many things are in this list:\n{lines}",),
    ),
)
NTH: Phrasings = (
    (
        *(
            "What is the {nth} {kind} number?",
            "Which is the {nth} {kind} number?",
            "{nth} {kind} number",
        ),
        *("Tell me the {nth} {kind} number.", "Which {kind} number is the {nth}?"),
        *("Find the {nth} of the {kind} numbers.", "Name the {nth} {kind} number."),
    ),
    (
        *("Find the {nth} {kind} number.", "What is the {nth} of the {kind} numbers?"),
        *("Which number is the {nth} {kind} number?",),
    ),
)
