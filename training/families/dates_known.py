"""What the calendar always says: how long a year is, which months are short, feasts by date."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """One thing that is always the same, and how it is asked for."""

    answer: str
    key: str
    trained: tuple[str, ...]
    kept_back: tuple[str, ...]


KNOWN = (
    Known(
        "A year has 365 days, or 366 in a leap year.",
        "365",
        (
            *("How many days are in a year?", "How many days does a year have?", "days in a year"),
            *("A year has how many days?", "How many days are there in one year?"),
            *("What is the number of days in a year?", "How long is a year in days?"),
        ),
        ("How many days are in one year?", "What is the number of days in one year?"),
    ),
    Known(
        "A leap year has 366 days.",
        "366",
        (
            *("How many days are in a leap year?", "How many days does a leap year have?"),
            *("days in a leap year", "A leap year has how many days?", "How long is a leap year?"),
        ),
        ("How many days are there in a leap year?", "How long is a leap year in days?"),
    ),
    Known(
        "A year has 52 weeks.",
        "52",
        (
            *(
                "How many weeks are in a year?",
                "How many weeks does a year have?",
                "weeks in a year",
            ),
            *("A year has how many weeks?", "What is the number of weeks in a year?"),
        ),
        ("How many weeks are there in a year?", "How many weeks are in one year?"),
    ),
    Known(
        "A leap year comes every 4 years.",
        "4",
        (
            *("How often is there a leap year?", "How often does a leap year come?"),
            *("Every how many years is there a leap year?", "How often do we have a leap year?"),
        ),
        ("How often do leap years come?", "How often are there leap years?"),
    ),
    Known(
        "The days of the week are Monday, Tuesday, Wednesday, Thursday, Friday, Saturday "
        "and Sunday.",
        "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday",
        (
            *(
                "What are the days of the week?",
                "List the days of the week.",
                "Name the days of the week.",
            ),
            *("days of the week", "Tell me all days of the week.", "Which days does a week have?"),
            *("Give me the seven days of the week.", "Name all the days of the week, please."),
        ),
        (
            "List all the days of the week.",
            "Which are the days of the week?",
            "Name the seven days.",
        ),
    ),
    Known(
        "The months of the year are January, February, March, April, May, June, July, August, "
        "September, October, November and December.",
        "January, February, March, April, May, June, July, August, September, October, November "
        "and December",
        (
            *(
                "What are the months of the year?",
                "List the months of the year.",
                "Name all months.",
            ),
            *(
                "months of the year",
                "Tell me all months of the year.",
                "Which months does a year have?",
            ),
            *("Give me the twelve months of the year.", "Name the months of the year."),
        ),
        (
            "List all the months of the year.",
            "Which are the months of the year?",
        ),
    ),
    Known(
        "The seasons are spring, summer, autumn and winter.",
        "spring, summer, autumn and winter",
        (
            *("What are the seasons?", "Name the four seasons.", "List the seasons of the year."),
            *("What are the four seasons of the year?", "Which seasons are there?", "four seasons"),
        ),
        ("List the four seasons.", "Name the seasons of the year.", "Which are the four seasons?"),
    ),
    Known(
        "A year has 4 seasons.",
        "4",
        (
            *("How many seasons are there?", "How many seasons does a year have?"),
            *("How many seasons are in a year?", "A year has how many seasons?"),
        ),
        ("How many seasons are there in a year?", "What is the number of seasons in a year?"),
    ),
    Known(
        "The weekend is Saturday and Sunday.",
        "Saturday and Sunday",
        (
            *(
                "Which days are the weekend?",
                "What days are on the weekend?",
                "When is the weekend?",
            ),
            *("Name the days of the weekend.", "Which days does a weekend have?"),
        ),
        ("What are the days of the weekend?", "Which days are on the weekend?"),
    ),
    Known(
        "February is the shortest month.",
        "February",
        (
            *("Which month is the shortest?", "What is the shortest month?", "shortest month"),
            *("Which month has the fewest days?", "Name the shortest month of the year."),
            *("Which month has 28 days?", "What is the shortest month of the year?"),
        ),
        ("Which month is the shortest of the year?", "Which is the month with the fewest days?"),
    ),
    Known(
        "7 months have 31 days: January, March, May, July, August, October and December.",
        "January, March, May, July, August, October and December",
        (
            *("Which months have 31 days?", "How many months have 31 days?", "months with 31 days"),
            *("Name the months with 31 days.", "What months have 31 days?"),
        ),
        ("List the months with 31 days.", "Tell me which months have 31 days."),
    ),
    Known(
        "4 months have 30 days: April, June, September and November.",
        "April, June, September and November",
        (
            *("Which months have 30 days?", "How many months have 30 days?", "months with 30 days"),
            *("Name the months with 30 days.", "What months have 30 days?"),
        ),
        ("List the months with 30 days.", "Tell me which months have 30 days."),
    ),
    Known(
        "Christmas Day is 25 December.",
        "25 December",
        (
            *("When is Christmas?", "What date is Christmas?", "On which day is Christmas?"),
            *("When is Christmas Day?", "date of Christmas", "On what date is Christmas Day?"),
        ),
        ("What date is Christmas Day?", "On which date is Christmas?"),
    ),
    Known(
        "New Year's Day is 1 January.",
        "1 January",
        (
            *("When is New Year's Day?", "What date is New Year's Day?", "date of New Year's Day"),
            *("On which day does the year begin?", "What is the first day of the year?"),
        ),
        ("On which date is New Year's Day?", "On what date does the year begin?"),
    ),
    Known(
        "New Year's Eve is 31 December.",
        "31 December",
        (
            *("When is New Year's Eve?", "What date is New Year's Eve?", "date of New Year's Eve"),
            *("What is the last day of the year?", "On which day does the year end?"),
        ),
        ("On which date is New Year's Eve?", "On what date does the year end?"),
    ),
)
