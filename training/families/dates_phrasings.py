"""How people ask about days, months and years: trained phrasings and those kept for the test."""

from __future__ import annotations

Phrasings = tuple[tuple[str, ...], tuple[str, ...]]


NEIGHBOUR: dict[int, Phrasings] = {
    1: (
        (
            *("What {kind} comes after {x}?", "Which {kind} comes after {x}?", "after {x}"),
            *(
                "What is the {kind} after {x}?",
                "Which {kind} follows {x}?",
                "What comes after {x}?",
            ),
            *("{kind} after {x}", "Name the {kind} after {x}.", "What follows {x}?"),
            *("What is the next {kind} after {x}?", "Tell me the {kind} that follows {x}."),
            *("Which {kind} is after {x}?", "{x} comes before which {kind}?"),
            *("Which is the {kind} right after {x}?", "What {kind} is next after {x}?"),
        ),
        (
            *(
                "What {kind} follows {x}?",
                "Tell me the {kind} after {x}.",
                "Which is the {kind} after {x}?",
            ),
            *("Which {kind} comes right after {x}?", "Name the {kind} that comes after {x}."),
        ),
    ),
    -1: (
        (
            *("What {kind} comes before {x}?", "Which {kind} comes before {x}?", "before {x}"),
            *("What is the {kind} before {x}?", "What comes before {x}?", "{kind} before {x}"),
            *("Name the {kind} before {x}.", "Which {kind} is before {x}?"),
            *("Which {kind} comes just before {x}?", "Tell me the {kind} that comes before {x}."),
            *("{x} comes after which {kind}?", "Which is the {kind} right before {x}?"),
            *("Which {kind} precedes {x}?",),
        ),
        (
            *("Tell me the {kind} before {x}.", "Which is the {kind} before {x}?"),
            *("What {kind} comes just before {x}?", "Name the {kind} that comes before {x}."),
        ),
    ),
}
TODAY: dict[int, Phrasings] = {
    1: (
        (
            *("Today is {x}. What day is tomorrow?", "If today is {x}, what day is tomorrow?"),
            *("Today is {x}. Which day is it tomorrow?", "It is {x}. What is tomorrow?"),
            *("If it is {x} today, what day will it be tomorrow?", "{x} today, so tomorrow is?"),
            *("Today is {x}, so which day is tomorrow?", "When today is {x}, what is tomorrow?"),
        ),
        (
            *(
                "If today is {x}, which day is it tomorrow?",
                "It is {x} today. What day is tomorrow?",
            ),
            *("Today is {x}, so what is tomorrow?", "If it is {x} today, which day is tomorrow?"),
        ),
    ),
    -1: (
        (
            *("Today is {x}. What day was yesterday?", "If today is {x}, what day was yesterday?"),
            *("Today is {x}. Which day was it yesterday?", "It is {x}. What was yesterday?"),
            *("If it is {x} today, what day was it yesterday?", "{x} today, so yesterday was?"),
            *(
                "Today is {x}, so which day was yesterday?",
                "When today is {x}, what was yesterday?",
            ),
        ),
        (
            *(
                "If today is {x}, which day was it yesterday?",
                "It is {x} today. What day was yesterday?",
            ),
            *(
                "Today is {x}, so what was yesterday?",
                "If it is {x} today, which day was yesterday?",
            ),
        ),
    ),
}
NEXT_TRAINED = (
    *("And {where} {x}?", "and {where} {x}", "What about {x}?", "And what comes {where} {x}?"),
    *("Now {x}.", "And {x}?", "And which is {where} {x}?"),
)
NEXT_KEPT_BACK = ("And what about {x}?", "And what is {where} {x}?", "What comes {where} {x} now?")
DISTANCE: Phrasings = (
    (
        *("What {kind} is {n} {kind}s {where} {x}?", "Which {kind} is {n} {kind}s {where} {x}?"),
        *(
            "{n} {kind}s {where} {x}",
            "What is {n} {kind}s {where} {x}?",
            "{n} {kind}s {where} {x}?",
        ),
        *("Which {kind} comes {n} {kind}s {where} {x}?", "{n} {kind}s {where} {x} is what {kind}?"),
        *(
            "Tell me the {kind} {n} {kind}s {where} {x}.",
            "Which {kind} is it {n} {kind}s {where} {x}?",
        ),
        *(
            "What {kind} do we have {n} {kind}s {where} {x}?",
            "{n} {kind}s {where} {x} is which {kind}?",
        ),
    ),
    (
        *(
            "What {kind} comes {n} {kind}s {where} {x}?",
            "What {kind} is it {n} {kind}s {where} {x}?",
        ),
        *("Tell me what {kind} is {n} {kind}s {where} {x}.", "{n} {kind}s {where} {x} is it what?"),
    ),
)
TODAY_DISTANCE: dict[int, Phrasings] = {
    1: (
        (
            *(
                "Today is {x}. What day is it in {n} days?",
                "If today is {x}, what day is it in {n} days?",
            ),
            *(
                "Today is {x}. Which day will it be in {n} days?",
                "It is {x}. What day is in {n} days?",
            ),
            *("If it is {x} today, what day will it be in {n} days?",),
        ),
        (
            *(
                "If today is {x}, which day is it in {n} days?",
                "Today is {x}. What day will it be in {n} days?",
            ),
            *("It is {x} today. Which day is it in {n} days?",),
        ),
    ),
    -1: (
        (
            *(
                "Today is {x}. What day was it {n} days ago?",
                "If today is {x}, what day was it {n} days ago?",
            ),
            *("Today is {x}. Which day was {n} days ago?", "It is {x}. What day was {n} days ago?"),
            *("If it is {x} today, what day was it {n} days ago?",),
        ),
        (
            *(
                "If today is {x}, which day was it {n} days ago?",
                "Today is {x}. What day was {n} days ago?",
            ),
            *("It is {x} today. Which day was it {n} days ago?",),
        ),
    ),
}
NTH_MONTH: Phrasings = (
    (
        *("What is the {nth} month of the year?", "Which month is the {nth}?", "the {nth} month"),
        *("Name the {nth} month of the year.", "What is the {nth} month?", "month {n}"),
        *(
            "Which month is number {n}?",
            "Which is the {nth} month in a year?",
            "What is month number {n}?",
        ),
        *("{nth} month of the year", "Which month comes {nth} in the year?"),
        *("Tell me the name of the {nth} month.", "What month is month {n}?"),
    ),
    (
        *(
            "Which month is the {nth} of the year?",
            "Name the {nth} month.",
            "Which is month number {n}?",
        ),
        *("What is the name of the {nth} month?", "Tell me the {nth} month of the year."),
    ),
)
MONTH_NUMBER: Phrasings = (
    (
        *(
            "What number is {x} among the months?",
            "Which number has the month {x}?",
            "number of {x}",
        ),
        *("What is the number of the month {x}?", "Which month of the year is {x}?"),
        *(
            "{x} is which month of the year?",
            "{x} is month number what?",
            "What month number is {x}?",
        ),
        *("The month {x} has which number?", "Tell me the month number of {x}."),
    ),
    (
        *("What is the month number of {x}?", "Which number is {x} among the months?"),
        *("Which month number has {x}?", "Tell me the number of the month {x}."),
    ),
)
LENGTH: Phrasings = (
    (
        *(
            "How many days are in {x}?",
            "How many days does {x} have?",
            "How many days are there in {x}?",
        ),
        *(
            "days in {x}",
            "How many days has {x}?",
            "How long is {x}?",
            "How long is the month of {x}?",
        ),
        *("Number of days in {x}?", "What is the number of days in {x}?", "Days in {x}?"),
        *(
            "How many days are in the month of {x}?",
            "{x} has how many days?",
            "length of {x} in days",
        ),
        *(
            "Tell me how many days {x} has.",
            "How many days long is {x}?",
            "Does {x} have 30 or 31 days?",
        ),
    ),
    (
        *("Tell me how many days are in {x}.", "How many days does the month of {x} have?"),
        *("What is the length of {x} in days?", "Tell me the number of days in {x}."),
        *("The month of {x} has how many days?",),
    ),
)
NEXT_LENGTH_TRAINED = (
    *("And {x}?", "and {x}", "And in {x}?", "What about {x}?", "And how many does {x} have?"),
    *("How about {x}?", "Now {x}.", "And how many days are in {x}?"),
)
NEXT_LENGTH_KEPT_BACK = ("And what about {x}?", "And how many in {x}?", "And now {x}?")
LEAP: Phrasings = (
    (
        *("Is {y} a leap year?", "Was {y} a leap year?", "{y} leap year?", "is {y} leap"),
        *("Is the year {y} a leap year?", "Tell me if {y} is a leap year.", "leap year {y}"),
        *("Was the year {y} a leap year or not?", "Do you know if {y} is a leap year?"),
        *(
            "Does February {y} have 29 days?",
            "Does the year {y} have 366 days?",
            "{y}: leap year or not?",
        ),
        *("Is there a 29 February in {y}?", "I want to know whether {y} is a leap year."),
    ),
    (
        *("Is {y} a leap year or not?", "Do you know whether {y} is a leap year?"),
        *(
            "Tell me whether {y} is a leap year.",
            "Does {y} have 366 days?",
            "Year {y}: is it leap?",
        ),
        *("Does {y} have a 29 February?",),
    ),
)
BETWEEN: Phrasings = (
    (
        *("Which {kind} is between {x} and {y}?", "What {kind} comes between {x} and {y}?"),
        *("What is between {x} and {y}?", "{kind} between {x} and {y}", "between {x} and {y}"),
        *("Name the {kind} between {x} and {y}.", "What {kind} lies between {x} and {y}?"),
        *("Which {kind} comes after {x} and before {y}?",),
    ),
    (
        *("Which {kind} comes between {x} and {y}?", "What comes between {x} and {y}?"),
        *("Which {kind} lies between {x} and {y}?", "What {kind} is after {x} and before {y}?"),
    ),
)
