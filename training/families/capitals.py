"""Countries: their capitals, continents, currencies and main languages."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from training.conversation import Example, Source, as_typed, assistant, user
from training.families.capitals_table import ALIASES, COUNTRIES, Country
from training.families.fact_groups import FactGroup, capitalised, without_article


def _entry(asked: str, country: Country, answer: str) -> Mapping[str, str]:
    return {"x": asked, "name": country.name, "y": answer}


def _entries(of: Callable[[Country], str]) -> tuple[Mapping[str, str], ...]:
    """One entry for each name that a country goes by, with or without its article."""
    found = []
    for country in COUNTRIES:
        if not of(country):
            continue
        names = [country.name, *(alias for alias, name in ALIASES if name == country.name)]
        bare = [without_article(name) for name in names if name.startswith("the ")]
        found += [_entry(name, country, of(country)) for name in (*names, *bare)]
    return tuple(found)


_NOT_ASKED_FOR = ("London", "Luxembourg", "Monaco", "Singapore")
"""London is the capital of two in the table; the others are named as their country is."""

CAPITALS = FactGroup(
    name="capital",
    entries=_entries(lambda country: country.capital),
    answer="The capital of {name} is {y}.",
    trained=(
        "What is the capital of {x}?",
        "What's the capital of {x}?",
        "capital of {x}",
        "{x}'s capital?",
        "Which city is the capital of {x}?",
        "Name the capital of {x}.",
        "Tell me the capital of {x}.",
        "Can you tell me the capital of {x}?",
        "I forgot which city is the capital of {x}.",
        "Do you know the capital of {x}?",
        "What is the capital city of {x}?",
        "What is {x}'s capital?",
        "The capital of {x} is",
        "The capital of {x} is ...",
        "I need the name of the capital of {x}.",
        "What city is {x}'s capital?",
        "{x}: capital?",
        "{x} capital",
        "Give me the capital city of {x}.",
        "Which city serves as capital of {x}?",
        "Could you name the capital of {x}, please?",
        "My homework asks for the capital of {x}.",
        "For a quiz: what is the capital of {x}?",
        "In {x}, which city is the capital?",
        "Complete: the capital of {x} is",
        "I'd like to know the capital of {x}.",
        "what is capital of {x}",
        "What is the name of the capital of {x}?",
        "Capital {x}?",
        "Remind me what the capital of {x} is.",
    ),
    kept_back=(
        "Which city is {x}'s capital?",
        "Can you name the capital city of {x}?",
        "Do you know what the capital of {x} is?",
        "Tell me which city is the capital of {x}.",
        "What city is the capital of {x}?",
        "Give me the name of the capital of {x}.",
        "Could you tell me what the capital of {x} is?",
        "I need to know the capital of {x}.",
    ),
)

COUNTRIES_OF_CAPITALS = FactGroup(
    name="country_of_capital",
    entries=tuple(
        {"x": country.capital, "y": country.name}
        for country in COUNTRIES
        if country.capital not in _NOT_ASKED_FOR
    ),
    answer="{x} is the capital of {y}.",
    trained=(
        "Which country has the capital {x}?",
        "{x} is the capital of which country?",
        "What country is {x} the capital of?",
        "{x} is the capital of",
        "Which country's capital is {x}?",
        "Of which country is {x} the capital?",
        "Name the country whose capital is {x}.",
        "Tell me the country whose capital is {x}.",
        "In which country is {x}?",
        "Which country is {x} in?",
        "What country is {x} in?",
        "{x} is in which country?",
        "Where is {x}?",
        "I know {x} is a capital, but of which country?",
        "The capital is {x}. Which country is it?",
        "{x}: capital of what country?",
        "Do you know which country has {x} as its capital?",
        "To which country does {x} belong?",
    ),
    kept_back=(
        "Which country has {x} as its capital?",
        "{x} is the capital of what country?",
        "Tell me which country {x} is the capital of.",
        "Do you know in which country {x} is?",
        "What country has the capital {x}?",
        "Name the country that {x} is the capital of.",
    ),
)

CONTINENTS = FactGroup(
    name="continent",
    entries=_entries(lambda country: country.continent),
    answer="{name} is in {y}.",
    trained=(
        "Which continent is {x} in?",
        "On which continent is {x}?",
        "What continent is {x} on?",
        "{x} is on which continent?",
        "{x}: continent?",
        "continent of {x}",
        "Name the continent of {x}.",
        "Tell me which continent {x} is on.",
        "To which continent does {x} belong?",
        "In what part of the world is {x}? Name the continent.",
        "{x} belongs to which continent?",
        "What is the continent of {x}?",
        "Do you know the continent that {x} is in?",
        "I forgot which continent {x} is in.",
        "Where in the world is {x}? The continent is enough.",
        "On what continent do I find {x}?",
        "On which continent would I find {x}?",
    ),
    kept_back=(
        "On what continent is {x}?",
        "What continent does {x} belong to?",
        "Which continent is {x} on?",
        "{x} is in which continent?",
        "Do you know which continent {x} belongs to?",
        "Tell me the continent of {x}.",
    ),
)

CURRENCIES = FactGroup(
    name="currency",
    entries=_entries(lambda country: country.currency),
    answer="The currency of {name} is the {y}.",
    trained=(
        "What is the currency of {x}?",
        "What currency is used in {x}?",
        "currency of {x}",
        "{x}'s currency?",
        "Which currency does {x} use?",
        "What money do they use in {x}?",
        "What do people pay with in {x}?",
        "Name the currency of {x}.",
        "Tell me the currency of {x}.",
        "I am going to {x}. Which currency do I need?",
        "{x}: currency?",
        "In {x}, what is the currency?",
        "What kind of money is used in {x}?",
        "Which money do people use in {x}?",
        "Do you know the currency of {x}?",
        "What is {x}'s currency called?",
        "Which currency will I need in {x}?",
        "I forgot what the currency of {x} is.",
    ),
    kept_back=(
        "Which currency is used in {x}?",
        "What currency do people use in {x}?",
        "Do you know which currency they use in {x}?",
        "What is the currency in {x}?",
        "What is {x}'s currency?",
        "Tell me which currency is used in {x}.",
    ),
)

LANGUAGES = FactGroup(
    name="language",
    entries=_entries(lambda country: country.language),
    answer="The main language of {name} is {y}.",
    trained=(
        "What language is spoken in {x}?",
        "Which language do people speak in {x}?",
        "What is the language of {x}?",
        "language of {x}",
        "{x}: language?",
        "Which language is used in {x}?",
        "What is the main language of {x}?",
        "Name the main language of {x}.",
        "Tell me the language of {x}.",
        "What do they speak in {x}?",
        "In {x}, which language is spoken?",
        "What language does {x} use?",
        "I am going to {x}. Which language do they speak there?",
        "What language should I learn before going to {x}?",
        "Do you know what people speak in {x}?",
        "Which language would I hear in {x}?",
        "{x}'s language?",
    ),
    kept_back=(
        "Which language is spoken in {x}?",
        "What language do people speak in {x}?",
        "What is {x}'s main language?",
        "Do you know which language they speak in {x}?",
        "Tell me which language is spoken in {x}.",
        "What language do they speak in {x}?",
    ),
)

_CHECKS = (
    "Is {city} the capital of {x}?",
    "Is {x}'s capital {city}?",
    "Is the capital of {x} {city}?",
    "{city} is the capital of {x}, right?",
    "The capital of {x} is {city}, isn't it?",
    "I think {city} is the capital of {x}. Is that right?",
    "Am I right that {city} is the capital of {x}?",
    "True or false: {city} is the capital of {x}.",
    "Is it true that the capital of {x} is {city}?",
    "Would you say that {city} is the capital of {x}?",
    "Is {city} or some other city the capital of {x}?",
    "Someone said that {city} is the capital of {x}. Is that true?",
)
_KEPT_BACK_CHECKS = (
    "Is it true that {city} is the capital of {x}?",
    "The capital of {x} is {city}, right?",
    "Someone said that the capital of {x} is {city}. Is that right?",
    "I think the capital of {x} is {city}. Is that true?",
    "Am I right that the capital of {x} is {city}?",
)

_ITS = {
    "capital": (
        ("What is its capital?", "And its capital?", "Which city is its capital?"),
        ("And what is its capital?", "And which city is its capital?"),
    ),
    "continent": (
        ("Which continent is it on?", "And its continent?", "What continent is it in?"),
        ("And which continent is it on?", "And what continent is it in?"),
    ),
    "currency": (
        ("What is its currency?", "And the currency?", "Which currency do they use there?"),
        ("And what is its currency?", "And which currency do they use there?"),
    ),
    "language": (
        ("What is its language?", "And the language?", "Which language do they speak there?"),
        ("And what is its language?", "And which language do they speak there?"),
    ),
}


def make_capital_check(source: Source) -> Example:
    """Whether a city is the capital: yes, or no and the right one."""
    entry = source.pick(CAPITALS.entries)
    name, capital = entry["name"], entry["y"]
    others = [country.capital for country in COUNTRIES if country.capital != capital]
    is_right = source.chance(0.5)
    city = capital if is_right else source.pick(others)
    asked = source.phrase(_CHECKS, _KEPT_BACK_CHECKS).format(city=city, x=entry["x"])
    answer = (
        f"Yes, {capital} is the capital of {name}."
        if is_right
        else f"No, the capital of {name} is {capital}."
    )
    messages = (user(as_typed(source, capitalised(asked))), assistant(answer))
    return Example(family="capital_check", messages=messages, key="Yes" if is_right else capital)


_COMPLETE = tuple(
    entry["x"]
    for entry in CAPITALS.entries
    if all(
        any(entry["x"] == other["x"] for other in group.entries)
        for group in (CONTINENTS, CURRENCIES, LANGUAGES)
    )
)
"""The names of countries of which all is known that a conversation asks about."""


def make_country_talk(source: Source) -> Example:
    """Two or three questions about one country, which only the first of them names."""
    groups = source.sample((CAPITALS, CONTINENTS, CURRENCIES, LANGUAGES), 4)
    asked_for = source.pick(_COMPLETE)
    first, *later = groups[: 3 if source.chance(0.3) else 2]
    entry = _by_name(first, asked_for)
    messages = [first.question(source, entry), first.reply(entry)]
    for group in later:
        entry = _by_name(group, asked_for)
        question = as_typed(source, source.phrase(*_ITS[group.name]))
        messages += [user(question), group.reply(entry)]
    return Example(family="country_talk", messages=tuple(messages), key=entry["y"])


def _by_name(group: FactGroup, asked: str) -> Mapping[str, str]:
    return next(entry for entry in group.entries if entry["x"] == asked)


GROUPS = (CAPITALS, COUNTRIES_OF_CAPITALS, CONTINENTS, CURRENCIES, LANGUAGES)

FAMILIES: dict[str, tuple[Callable[[Source], Example], float]] = {
    "capital": (CAPITALS.make, 4.0),
    "country_of_capital": (COUNTRIES_OF_CAPITALS.make, 2.0),
    "continent": (CONTINENTS.make, 1.2),
    "currency": (CURRENCIES.make, 1.2),
    "language": (LANGUAGES.make, 1.2),
    "capital_check": (make_capital_check, 1.6),
    "country_talk": (make_country_talk, 0.8),
}
