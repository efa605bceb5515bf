"""One amount in another unit: the answer is "3 kilometres = 3000 metres.", whatever the wording."""

from __future__ import annotations

from collections.abc import Callable

from training.conversation import Example, Source, as_typed
from training.families.numerals import answered, in_words

_PLURALS = {
    "foot": "feet",
    "inch": "inches",
    "century": "centuries",
    "millennium": "millennia",
    "dozen": "dozen",
}
_SHORT = {
    "kilometre": ("km", "kilometer"),
    "metre": ("m", "meter"),
    "centimetre": ("cm", "centimeter"),
    "millimetre": ("mm", "millimeter"),
    "kilogram": ("kg", "kilo"),
    "gram": ("g",),
    "milligram": ("mg",),
    "litre": ("l", "liter"),
    "millilitre": ("ml", "milliliter"),
    "hour": ("h",),
    "minute": ("min",),
    "second": ("s", "sec"),
    "millisecond": ("ms",),
    "kilobyte": ("KB",),
    "megabyte": ("MB",),
    "gigabyte": ("GB",),
    "terabyte": ("TB",),
    "gibibyte": ("GiB",),
    "mebibyte": ("MiB",),
    "kilowatt": ("kW",),
    "watt": ("W",),
    "pound": ("lb",),
    "piece": ("egg", "item"),
}
_SYMBOLS = frozenset(
    name for names in _SHORT.values() for name in names if len(name) <= 3 and name != "egg"
)
# A unit, a smaller one, and how many of these the first one holds.
DECIMAL = (
    ("kilometre", "metre", 1000),
    ("metre", "centimetre", 100),
    ("centimetre", "millimetre", 10),
    ("metre", "millimetre", 1000),
    ("kilogram", "gram", 1000),
    ("gram", "milligram", 1000),
    ("ton", "kilogram", 1000),
    ("litre", "millilitre", 1000),
    ("second", "millisecond", 1000),
    ("megabyte", "kilobyte", 1000),
    ("gigabyte", "megabyte", 1000),
    ("terabyte", "gigabyte", 1000),
    ("kilowatt", "watt", 1000),
    ("euro", "cent", 100),
    ("dollar", "cent", 100),
    ("decade", "year", 10),
    ("century", "year", 100),
    ("millennium", "year", 1000),
)
# The same for other factors, with the largest number of the first unit that is asked for.
OTHER = (
    ("hour", "minute", 60, 12),
    ("minute", "second", 60, 12),
    ("day", "hour", 24, 10),
    ("week", "day", 7, 12),
    ("year", "month", 12, 12),
    ("dozen", "piece", 12, 12),
    ("foot", "inch", 12, 12),
    ("yard", "foot", 3, 12),
    ("hour", "second", 3600, 2),
    ("day", "minute", 1440, 1),
    ("week", "hour", 168, 1),
)
# What one of the first is in the second, as far as an answer should go.
SINGLE = (
    ("inch", "centimetre", "2.54"),
    ("foot", "centimetre", "30.48"),
    ("yard", "centimetre", "91.44"),
    ("mile", "kilometre", "1.609"),
    ("kilometre", "mile", "0.621"),
    ("metre", "foot", "3.281"),
    ("pound", "gram", "453.6"),
    ("ounce", "gram", "28.35"),
    ("kilogram", "pound", "2.205"),
    ("gibibyte", "mebibyte", "1024"),
)
HALVES = (
    ("half an hour", "minute", "30"),
    ("half a minute", "second", "30"),
    ("half a day", "hour", "12"),
    ("half a year", "month", "6"),
    ("half a kilometre", "metre", "500"),
    ("half a metre", "centimetre", "50"),
    ("half a kilogram", "gram", "500"),
    ("half a litre", "millilitre", "500"),
    ("half a dozen", "piece", "6"),
    ("a quarter of an hour", "minute", "15"),
    ("a quarter of a year", "month", "3"),
    ("three quarters of an hour", "minute", "45"),
)
CELSIUS = (-40, -20, -10, 0, 5, 10, 15, 20, 25, 30, 35, 40, 50, 60, 70, 80, 90, 100)

TRAINED = (
    *(
        "How many {to} are {x}?",
        "How many {to} are in {x}?",
        "How many {to} is {x}?",
        "{x} in {to}",
    ),
    *("Convert {x} to {to}.", "What is {x} in {to}?", "How much is {x} in {to}?", "{x} to {to}"),
    *("{x} is how many {to}?", "Express {x} in {to}.", "{x} = ? {to}", "Turn {x} into {to}."),
    *("Can you convert {x} to {to}?", "I have {x}. How many {to} is that?", "{x} in {to}?"),
    *("How many {to} make {x}?", "Write {x} in {to}.", "Tell me how many {to} are in {x}."),
    *("How many {to} does {x} have?", "Convert {x} into {to}.", "convert {x} {to}"),
    *("What's {x} in {to}?", "I need {x} in {to}.", "How many {to} are there in {x}?"),
    *("{to} in {x}?", "number of {to} in {x}", "Do you know how many {to} are in {x}?"),
)
KEPT_BACK = (
    *(
        "Tell me what {x} is in {to}.",
        "Can you express {x} in {to}?",
        "I need to convert {x} to {to}.",
    ),
    *("What is the number of {to} in {x}?", "Do you know what {x} is in {to}?"),
    *(
        "Can you turn {x} into {to}?",
        "How many {to} do you have in {x}?",
        "I have {x}. Convert that to {to}.",
    ),
)
NEXT_TRAINED = (
    *(
        "And {x}?",
        "and {x}",
        "What about {x}?",
        "And in {x}?",
        "Now {x}.",
        "{x}?",
        "And what is {x}?",
    ),
    *("How about {x}?", "Then {x}?", "The same for {x}."),
)
NEXT_KEPT_BACK = (
    "And now {x}?",
    "And what about {x}?",
    "Now the same for {x}.",
    "Then what is {x}?",
)
FAHRENHEIT_TRAINED = (
    *("What is {c} degrees Celsius in Fahrenheit?", "{c} C in F", "{c} Celsius in Fahrenheit"),
    *("Convert {c} degrees Celsius to Fahrenheit.", "How many degrees Fahrenheit are {c} Celsius?"),
    *("How much is {c} C in Fahrenheit?", "{c} degrees C to F?", "Convert {c} C to F."),
    *("{c} Celsius is how many degrees Fahrenheit?", "What's {c} Celsius in F?"),
)
FAHRENHEIT_KEPT_BACK = (
    *("How much is {c} degrees Celsius in Fahrenheit?", "Convert {c} Celsius to Fahrenheit."),
    *("What is {c} C in F?", "How many degrees F are {c} degrees C?"),
)


def plural(unit: str) -> str:
    return _PLURALS.get(unit, f"{unit}s")


def _amount(number: int, unit: str) -> str:
    return f"{number} {unit if number == 1 else plural(unit)}"


def _called(source: Source, unit: str) -> tuple[str, str]:
    """One name of a unit, for one and for many."""
    names = _SHORT.get(unit, ())
    if names and source.chance(0.4):
        name = source.pick(names)
        return (name, name) if name in _SYMBOLS else (name, f"{name}s")
    return unit, plural(unit)


def _asked_amount(source: Source, number: int, unit: str) -> str:
    one, many = _called(source, unit)
    if number == 1:
        article = "an" if one in ("hour", "inch", "ounce", "item", "egg") else "a"
        text = source.pick((f"1 {one}", f"{article} {one}", f"{article} {one}", f"one {one}"))
        return f"1 {one}" if one in _SYMBOLS else text
    if one in _SYMBOLS:
        return f"{number} {one}" if source.chance(0.7) else f"{number}{one}"
    return (
        f"{in_words(number)} {many}" if number <= 12 and source.chance(0.12) else f"{number} {many}"
    )


def _question(source: Source, amount: str, to: str) -> str:
    target = _called(source, to)[1]
    phrase = source.phrase(TRAINED, KEPT_BACK)
    if "any {to}" in phrase and target in _SYMBOLS and source.chance(0.7):
        target = plural(to)
    return as_typed(source, _capital(phrase.format(x=amount, to=target)))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if text[:1].isalpha() and " " in text else text


def _number(source: Source, large: str, small: str, most: int, *, is_fresh: bool) -> int:
    while True:
        number = source.rng.randint(1, 12 if source.chance(0.6) else 99)
        if number > most or (source.chance(0.15) and not is_fresh):
            number = 1
        if not is_fresh or source.may_see(f"{number} {large} {small}"):
            return number
        if number == 1 and not source.is_test:
            return number  # what one of a unit holds is known, not generalised to


def _conversion(source: Source) -> tuple[str, str, Callable[[], tuple[int, int]]]:
    """From which unit to which, and a way to draw an amount in both."""
    is_decimal = source.chance(0.5)
    if is_decimal:
        large, small, factor = source.pick(DECIMAL)
        most = 99
    else:
        large, small, factor, most = source.pick(OTHER)
    is_back = source.chance(0.25) and large != "dozen"

    def draw() -> tuple[int, int]:
        number = _number(source, large, small, most, is_fresh=is_decimal)
        return (number * factor, number) if is_back else (number, number * factor)

    return (small, large, draw) if is_back else (large, small, draw)


def make_conversion(source: Source) -> Example:
    unit, to, draw = _conversion(source)
    given, result = draw()
    answer = f"{_amount(given, unit)} = {_amount(result, to)}."
    question = _question(source, _asked_amount(source, given, unit), to)
    return answered("conversion", (question, answer), key=str(result))


def make_follow_up(source: Source) -> Example:
    amounts = [(1, 1), (1, 1)]
    while amounts[0] == amounts[1]:
        unit, to, draw = _conversion(source)
        amounts = [draw(), draw()]
    turns = []
    for given, result in amounts:
        amount = _asked_amount(source, given, unit)
        phrase = source.phrase(NEXT_TRAINED, NEXT_KEPT_BACK).format(x=amount)
        question = as_typed(source, phrase) if turns else _question(source, amount, to)
        turns.append((question, f"{_amount(given, unit)} = {_amount(result, to)}."))
    return answered("conversion_follow_up", *turns, key=str(amounts[-1][1]))


def make_known_amount(source: Source) -> Example:
    """What cannot be calculated, or is said in words: an inch, half an hour."""
    if source.chance(0.5):
        unit, to, result = source.pick(SINGLE)
        question = _question(source, _asked_amount(source, 1, unit), to)
        return answered(
            "known_amount", (question, f"1 {unit} = {result} {plural(to)}."), key=result
        )
    amount, to, result = source.pick(HALVES)
    answer = f"{_capital(amount)} = {result} {plural(to)}."
    return answered("known_amount", (_question(source, amount, to), answer), key=result)


def make_temperature(source: Source) -> Example:
    celsius = source.pick(CELSIUS)
    fahrenheit = celsius * 9 // 5 + 32
    phrase = source.phrase(FAHRENHEIT_TRAINED, FAHRENHEIT_KEPT_BACK)
    answer = f"{celsius} degrees Celsius = {fahrenheit} degrees Fahrenheit."
    question = as_typed(source, phrase.format(c=celsius))
    return answered("temperature", (question, answer), key=str(fahrenheit))


FAMILIES: dict[str, tuple[Callable[[Source], Example], float]] = {
    "conversion": (make_conversion, 2.5),
    "conversion_follow_up": (make_follow_up, 0.6),
    "known_amount": (make_known_amount, 0.6),
    "temperature": (make_temperature, 0.3),
}
