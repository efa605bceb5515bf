"""How people ask for sums. Each pair holds the trained phrasings, then those kept for the test.

The operands stand in the order of the answer wherever English allows it.
"""

from __future__ import annotations

Phrasings = tuple[tuple[str, ...], tuple[str, ...]]

_SIGNS = (
    *("{a}{op}{b}", "{a} {op} {b}", "{a} {op} {b} =", "{a}{op}{b}=", "{a}{op}{b}=?", "{a}{op}{b}?"),
    *("{a} {op} {b}?", "{a} {op} {b} = ?", "What is {a} {op} {b}?", "What is {a}{op}{b}?"),
    *("What's {a} {op} {b}?", "whats {a}{op}{b}", "How much is {a} {op} {b}?"),
    *("how much is {a}{op}{b}", "Calculate {a} {op} {b}.", "Calculate {a}{op}{b}"),
    *(
        "Compute {a} {op} {b}.",
        "Work out {a} {op} {b}.",
        "Solve {a} {op} {b}.",
        "Solve: {a}{op}{b}",
    ),
    *("{a} {op} {b} equals what?", "I need to know {a} {op} {b}.", "{a} {op} {b} is what?"),
    *("Can you calculate {a} {op} {b}?", "Tell me the result of {a} {op} {b}."),
    *("What is the result of {a} {op} {b}?", "What does {a} {op} {b} equal?"),
    *(
        "Please compute {a}{op}{b}",
        "The answer to {a} {op} {b}?",
        "Do you know what {a} {op} {b} is?",
    ),
)
_SIGNS_KEPT_BACK = (
    *("Tell me what {a} {op} {b} is.", "What is the answer to {a} {op} {b}?"),
    *(
        "Can you work out {a} {op} {b}?",
        "Please solve {a} {op} {b}.",
        "Compute the result of {a}{op}{b}.",
    ),
    *(
        "I need the result of {a}{op}{b}.",
        "Do you know the answer to {a}{op}{b}?",
        "And {a} {op} {b} equals what?",
    ),
)


def _with_signs(signs: tuple[str, ...], phrasings: Phrasings) -> Phrasings:
    trained, kept_back = (
        tuple(template.replace("{op}", sign) for sign in signs for template in templates)
        for templates in (_SIGNS, _SIGNS_KEPT_BACK)
    )
    return (*trained, *phrasings[0]), (*kept_back, *phrasings[1])


_PLUS = (
    *("{a} plus {b}", "What is {a} plus {b}?", "What's {a} plus {b}?", "How much is {a} plus {b}?"),
    *("What does {a} plus {b} make?", "Add {a} and {b}.", "Add {a} to {b}.", "add {a}, {b}"),
    *("sum of {a} and {b}", "What is the sum of {a} and {b}?", "Can you add {a} and {b}?"),
    *("What do you get when you add {a} and {b}?", "What do {a} and {b} make together?"),
    *("Increase {a} by {b}.", "What do {a} and {b} add up to?", "What is {a} more than {b}?"),
    *(
        "Find the total of {a} and {b}.",
        "Tell me the result of {a} plus {b}.",
        "{a} and {b} in total?",
    ),
    *("Start with {a} and add {b}.", "Sum {a} and {b}.", "What is {a} and {b} added together?"),
    *("Which number is {a} plus {b}?", "Let me know what {a} plus {b} is."),
)
_PLUS_KEPT_BACK = (
    *(
        "Calculate the sum of {a} and {b}.",
        "What is the total of {a} and {b}?",
        "Compute {a} plus {b}.",
    ),
    *("How much do {a} and {b} make together?", "What do I get when I add {a} to {b}?"),
    *("Tell me the sum of {a} and {b}.", "Which number do you get when you add {a} and {b}?"),
)
_MINUS = (
    *(
        "{a} minus {b}",
        "What is {a} minus {b}?",
        "What's {a} minus {b}?",
        "How much is {a} minus {b}?",
    ),
    *("Subtract {b} from {a}.", "Take {b} away from {a}.", "Take {b} from {a}."),
    *("What do you get when you subtract {b} from {a}?", "What is {b} less than {a}?"),
    *("What is left when you take {b} away from {a}?", "{a} take away {b}", "Decrease {a} by {b}."),
    *("What is {a} take away {b}?", "Reduce {a} by {b}.", "Can you subtract {b} from {a}?"),
    *("Start with {a} and subtract {b}.", "Start with {a} and take away {b}.", "{a} less {b}"),
    *("Tell me the result of {a} minus {b}.", "Which number is {a} minus {b}?"),
    *("Let me know what {a} minus {b} is.", "How much is {a} less {b}?"),
)
_MINUS_KEPT_BACK = (
    *("Compute {a} minus {b}.", "Calculate {a} minus {b}.", "Can you take {b} away from {a}?"),
    *("What do I get when I subtract {b} from {a}?", "How much is {a} take away {b}?"),
    *("Which number is {b} less than {a}?", "What is left when you subtract {b} from {a}?"),
)
_TIMES = (
    *(
        "{a} times {b}",
        "What is {a} times {b}?",
        "What's {a} times {b}?",
        "How much is {a} times {b}?",
    ),
    *("Multiply {a} by {b}.", "Multiply {a} and {b}.", "{a} multiplied by {b}"),
    *(
        "What is {a} multiplied by {b}?",
        "What is the product of {a} and {b}?",
        "product of {a} and {b}",
    ),
    *("Can you multiply {a} by {b}?", "What do you get when you multiply {a} by {b}?"),
    *("Tell me the result of {a} times {b}.", "Find the product of {a} and {b}."),
)
_TIMES_KEPT_BACK = (
    *(
        "Compute {a} times {b}.",
        "Calculate the product of {a} and {b}.",
        "Can you multiply {a} and {b}?",
    ),
    *("How much is {a} multiplied by {b}?", "What do I get when I multiply {a} by {b}?"),
)
_DIVIDED = (
    *("{a} divided by {b}", "What is {a} divided by {b}?", "What's {a} divided by {b}?"),
    *("Divide {a} by {b}.", "How much is {a} divided by {b}?", "Can you divide {a} by {b}?"),
    *("What do you get when you divide {a} by {b}?", "Tell me the result of {a} divided by {b}."),
    *("How many times does {b} go into {a}?", "Split {a} into {b} equal parts.", "{a} over {b}"),
)
_DIVIDED_KEPT_BACK = (
    *(
        "Compute {a} divided by {b}.",
        "Calculate {a} divided by {b}.",
        "Divide {a} into {b} equal parts.",
    ),
    *("What do I get when I divide {a} by {b}?", "Which number is {a} divided by {b}?"),
)
BY_OPERATION: dict[str, Phrasings] = {
    "+": _with_signs(("+",), (_PLUS, _PLUS_KEPT_BACK)),
    "-": _with_signs(("-",), (_MINUS, _MINUS_KEPT_BACK)),
    "*": _with_signs(("*", "x"), (_TIMES, _TIMES_KEPT_BACK)),
    "/": _with_signs(("/",), (_DIVIDED, _DIVIDED_KEPT_BACK)),
}

PROBLEMS: dict[str, Phrasings] = {
    "+": (
        (
            "I have {a} {things} and buy {b} more. How many {things} do I have now?",
            "I have {a} {things}. I get {b} more. How many do I have?",
            "{name} has {a} {things} and finds {b} more. How many does {name} have?",
            "{name} has {a} {things}. {other} gives {name} {b} more. How many are there now?",
            "{name} has {a} {things} and {other} has {b}. How many do they have together?",
            "There are {a} {things} on the table and {b} in the box. How many {things} in total?",
            "A box holds {a} {things}. We put {b} more in. How many are in the box?",
            "{name} bought {a} {things} on Monday and {b} on Tuesday. How many in all?",
            "If I have {a} {things} and you give me {b}, how many {things} do I have?",
            "A bus carries {a} people and {b} more get on. How many people are on the bus?",
            "{a} children are outside. {b} more come. How many children are there?",
            "We need {a} {things} today and {b} tomorrow. How many {things} do we need?",
            "A shop sold {a} {things} in the morning and {b} in the evening. How many in all?",
            "{name} is {a} years old. How old will {name} be in {b} years?",
            "The book costs {a} euros and the bag costs {b} euros. How much do they cost together?",
            "{name} walked {a} metres and then {b} metres. How far did {name} walk?",
        ),
        (
            "{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?",
            "There are {a} {things} in the bag and {b} on the table. How many are there in total?",
            "{name} buys {a} {things} and {other} buys {b}. How many do they have together?",
            "If {name} has {a} {things} and you give {name} {b} more, how many are there?",
            "A shop sold {a} {things} on Monday and {b} on Tuesday. How many {things} in all?",
        ),
    ),
    "-": (
        (
            "I have {a} {things} and give away {b}. How many {things} are left?",
            "I have {a} {things}. I lose {b}. How many do I have left?",
            "{name} has {a} {things} and gives {b} to {other}. How many does {name} have now?",
            "{name} has {a} {things} but loses {b} of them. How many are left?",
            "There are {a} {things} in the box. We take out {b}. How many {things} remain?",
            "There were {a} {things} on the table, and {b} are gone. How many are left?",
            "A shop has {a} {things} and sells {b}. How many {things} are left in the shop?",
            "If I have {a} {things} and you take {b}, how many {things} do I have left?",
            "A bus carries {a} people and {b} get off. How many people are still on the bus?",
            "{a} children play outside. {b} go home. How many stay?",
            "{name} has {a} {things}. {other} takes {b} of them. How many remain?",
            "I had {a} euros and spent {b} euros. How much money is left?",
            "A book has {a} pages and {name} read {b}. How many pages are left?",
            "We need {a} {things} and have {b}. How many more do we need?",
            "{name} has {a} {things} and {other} has {b}. How many more does {name} have?",
            "Of {a} {things}, {b} are broken. How many are not broken?",
        ),
        (
            "{name} has {a} {things} and loses {b}. How many {things} are left?",
            "There are {a} {things} on the table. {name} takes {b}. How many remain?",
            "{name} had {a} euros and spent {b}. How much is left?",
            "If {name} has {a} {things} and sells {b}, how many does {name} have left?",
            "A box holds {a} {things}. I take out {b}. How many {things} are still in the box?",
        ),
    ),
    "*": (
        (
            "There are {a} boxes with {b} {things} each. How many {things} in total?",
            "{name} buys {a} bags. Each bag holds {b} {things}. How many {things} is that?",
            "I buy {a} packs of {b} {things}. How many {things} do I have?",
            "{a} friends have {b} {things} each. How many {things} do they have together?",
            "A room has {a} rows of {b} chairs. How many chairs are there?",
            "{name} reads {a} pages a day for {b} days. How many pages is that?",
            "{a} tickets cost {b} euros each. How much do they cost together?",
            "Each of {a} children gets {b} {things}. How many {things} do we need?",
        ),
        (
            "{name} buys {a} boxes with {b} {things} each. How many {things} is that in total?",
            "There are {a} bags. Each bag holds {b} {things}. How many {things} are there?",
            "Each of {a} friends has {b} {things}. How many do they have together?",
        ),
    ),
    "/": (
        (
            "{a} {things} are shared equally by {b} children. How many does each child get?",
            "{name} shares {a} {things} with friends, {b} people in all. How many does each get?",
            "{name} puts {a} {things} into {b} boxes equally. How many are in each box?",
            "Share {a} {things} among {b} friends. How many does each friend get?",
            "{a} children form {b} equal teams. How many children are in each team?",
            "{a} {things} fit into {b} equal bags. How many {things} are in each bag?",
            "{b} friends pay {a} euros together, in equal parts. How much does each pay?",
        ),
        (
            "{name} puts {a} {things} into {b} bags equally. How many are in each bag?",
            "{a} {things} are shared equally by {b} friends. How many does each friend get?",
            "Share {a} {things} among {b} children equally. How many does each child get?",
        ),
    ),
}

THREE_TRAINED = (
    *("{a} + {b} + {c}", "{a}+{b}+{c}", "What is {a} + {b} + {c}?", "{a} plus {b} plus {c}"),
    *("What is {a} plus {b} plus {c}?", "Add {a}, {b} and {c}.", "Calculate {a} + {b} + {c}."),
    *("What is the sum of {a}, {b} and {c}?", "How much is {a} + {b} + {c}?", "{a}+{b}+{c}=?"),
    *("Find the total of {a}, {b} and {c}.", "Add up {a}, {b}, {c}.", "Sum {a}, {b} and {c}."),
)
THREE_KEPT_BACK = (
    *(
        "Compute {a} + {b} + {c}.",
        "Work out {a} + {b} + {c}.",
        "What's the sum of {a}, {b} and {c}?",
    ),
    *("How much is {a} plus {b} plus {c}?", "What is the total of {a}, {b} and {c}?"),
)
DOUBLE_TRAINED = (
    *("Double {a}.", "What is double {a}?", "What is twice {a}?", "twice {a}", "double {a}"),
    *("What is the double of {a}?", "How much is twice {a}?", "Can you double {a}?"),
    *("What do you get when you double {a}?", "Tell me what twice {a} is."),
)
DOUBLE_KEPT_BACK = (
    *("How much is double {a}?", "Tell me the double of {a}.", "What's twice {a}?"),
    *("Calculate the double of {a}.", "Compute twice {a}."),
)
HALF_TRAINED = (
    *("Half of {a}", "What is half of {a}?", "What's half of {a}?", "Halve {a}.", "halve {a}"),
    *("How much is half of {a}?", "What is a half of {a}?", "Can you halve {a}?"),
    *("What do you get when you halve {a}?", "Tell me what half of {a} is."),
)
HALF_KEPT_BACK = (
    *("How much is a half of {a}?", "Tell me half of {a}.", "Calculate half of {a}."),
    *("What do I get when I halve {a}?", "Compute half of {a}."),
)
LARGER_TRAINED = (
    *(
        "Which is larger, {a} or {b}?",
        "Which is bigger, {a} or {b}?",
        "Which is greater: {a} or {b}?",
    ),
    *("What is larger, {a} or {b}?", "What is more, {a} or {b}?", "Is {a} or {b} larger?"),
    *("Which number is larger, {a} or {b}?", "Which number is bigger: {a} or {b}?", "{a} or {b}?"),
    *(
        "larger: {a} or {b}",
        "Tell me the larger of {a} and {b}.",
        "Which of {a} and {b} is larger?",
    ),
    *(
        "Compare {a} and {b}.",
        "the bigger number of {a} and {b}",
        "What's the larger number, {a} or {b}?",
    ),
)
LARGER_KEPT_BACK = (
    *("What is bigger, {a} or {b}?", "Is {a} or {b} bigger?", "Which of {a} and {b} is bigger?"),
    *("Tell me which number is larger, {a} or {b}.", "Which number is greater, {a} or {b}?"),
)
SMALLER_TRAINED = (
    *(
        "Which is smaller, {a} or {b}?",
        "Which is less, {a} or {b}?",
        "What is smaller, {a} or {b}?",
    ),
    *("Is {a} or {b} smaller?", "Which number is smaller, {a} or {b}?", "smaller: {a} or {b}"),
    *("Tell me the smaller of {a} and {b}.", "Which of {a} and {b} is smaller?"),
    *("What is less: {a} or {b}?", "the smaller number of {a} and {b}"),
)
SMALLER_KEPT_BACK = (
    *("Which number is less, {a} or {b}?", "What's the smaller number, {a} or {b}?"),
    *("Is {a} or {b} the smaller number?", "Tell me which number is smaller, {a} or {b}."),
)
NEXT: dict[str, Phrasings] = {
    "+": (
        (
            *(
                "And plus {b}?",
                "Plus {b}?",
                "Now add {b}.",
                "Add {b} to that.",
                "+ {b}",
                "And + {b}?",
            ),
            *("And {b} more?", "plus {b}", "Then add {b} to the result.", "Now plus {b}?"),
            *("What if I add {b}?", "And if I add {b} more?"),
        ),
        (
            *(
                "Now add {b} to that.",
                "And now plus {b}?",
                "Then add {b}.",
                "What if I add {b} more?",
            ),
            *("Now add {b} to the result.",),
        ),
    ),
    "-": (
        (
            *(
                "And minus {b}?",
                "Minus {b}?",
                "Now subtract {b}.",
                "Subtract {b} from that.",
                "- {b}",
            ),
            *("And - {b}?", "Take away {b}.", "minus {b}", "Then take {b} from the result."),
            *("Now minus {b}?", "What if I take away {b}?", "And if I subtract {b}?"),
        ),
        (
            *("Now subtract {b} from that.", "And now minus {b}?", "Then subtract {b}."),
            *("What if I subtract {b}?", "Now take {b} from the result."),
        ),
    ),
}
INSTEAD: Phrasings = (
    (
        *(
            "And {a} {op} {b}?",
            "And what is {a} {op} {b}?",
            "What about {a} {op} {b}?",
            "{a} {op} {b}?",
        ),
        *("Now {a} {op} {b}.", "And {a}{op}{b}?", "then {a}{op}{b}", "Next: {a} {op} {b}"),
    ),
    ("And now what is {a}{op}{b}?", "And now {a} {op} {b}?", "Then what is {a} {op} {b}?"),
)
