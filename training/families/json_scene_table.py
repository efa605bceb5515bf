"""Kinds of things that sentences tell of: what each is called, and how each property is said.

A boolean's clause has both sides: "is a student|is not a student".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from training.conversation import Source
from training.families import json_values as values


@dataclass(frozen=True)
class Field:
    """A property: what it may be called in JSON, and how a sentence says its value."""

    names: tuple[str, ...]
    kind: str
    clauses: tuple[str, ...]
    draw: Callable[[Source], Any] = values.any_string


@dataclass(frozen=True)
class Scene:
    """A kind of thing: its name, which opens each sentence, and its other properties."""

    subject: Field
    fields: tuple[Field, ...]


def _field(names: str, kind: str, clauses: str, draw: Callable[[Source], Any]) -> Field:
    return Field(tuple(names.split()), kind, tuple(clauses.split("; ")), draw)


def _text(names: str, draw: Callable[[Source], str], clauses: str) -> Field:
    return _field(names, "string", clauses, draw)


def _integer(names: str, low: int, high: int, clauses: str) -> Field:
    return _field(names, "integer", clauses, lambda source: source.rng.randint(low, high))


def _number(names: str, low: int, high: int, clauses: str) -> Field:
    def draw(source: Source) -> float:
        return source.rng.randint(low, high) + source.rng.randint(1, 9) / 10

    return _field(names, "number", clauses, draw)


def _boolean(names: str, clauses: str) -> Field:
    return _field(names, "boolean", clauses, values.any_string)


def _enum(name: str, clauses: str) -> Field:
    return _field(name, "enum", clauses, values.any_string)


def _new_city(source: Source) -> str:
    """A city that does not exist: whatever is told of it, nothing false is learned."""
    return values.pseudo_word(source).title()


_HOBBIES = (
    *("reading", "chess", "tennis", "football", "swimming", "cooking", "painting", "dancing"),
    *("hiking", "singing", "cycling", "fishing", "gardening", "skiing", "golf", "yoga", "running"),
)
_GENRES = ("comedy", "drama", "thriller", "romance", "mystery", "western", "satire", "tragedy")
_PETS = ("cat", "dog", "rabbit", "hamster", "parrot", "horse", "turtle", "goldfish", "pony")
_PERSON = (
    _integer("age years", 1, 99, "is {} years old; is {}; is aged {}"),
    _text("city town location", values.city, "lives in {}; is from {}; comes from {}"),
    _text("country", values.country, "was born in {}; grew up in {}"),
    _text("job occupation profession job_title", values.job, "works as a {}; has a job as a {}"),
    _text("company employer", values.company, "works for {}; works at {}; is employed by {}"),
    _text("email email_address", values.email, "has the email {}; can be reached at {}"),
    _text("favorite_color color", values.color, "likes the colour {}; loves the colour {}"),
    _text("hobby sport", lambda source: source.pick(_HOBBIES), "enjoys {}; likes {}; loves {}"),
    _integer("children num_children", 2, 9, "has {} children"),
    _integer("birth_year year", 1930, 2020, "was born in the year {}; was born in {}"),
    _integer("height height_cm", 120, 210, "is {} cm tall; measures {} cm"),
    _integer("weight weight_kg", 30, 120, "weighs {} kg"),
    _boolean("is_student student", "is a student|is not a student; studies|does not study"),
    _boolean("married is_married", "is married|is not married"),
    _boolean("vegetarian is_vegetarian", "is vegetarian|is not vegetarian; eats no meat|eats meat"),
    _boolean("has_car", "has a car|has no car; owns a car|does not own a car"),
)
_PRODUCT = (
    _number("price cost", 0, 200, "costs {} euros; costs ${}; has a price of {}; sells for {}"),
    _integer("price", 1, 2000, "costs {} euros; costs ${}; is sold for {} dollars"),
    _integer("stock quantity", 0, 500, "has {} pieces in stock; is there {} times"),
    _text("color colour", values.color, "is {}; comes in {}; has the colour {}"),
    _enum("size", "is {} in size; comes in size {}; has the size {}"),
    _text("brand maker", values.company, "is made by {}; is from {}; comes from {}"),
    _text("sku code", values.code, "has the code {}; has the number {}"),
    _number("rating", 0, 4, "is rated {}; has a rating of {}; got {} stars"),
    _number("weight weight_kg", 0, 40, "weighs {} kg"),
    _boolean("in_stock available", "is in stock|is not in stock; is available|is not available"),
    _boolean("is_new new", "is new|is not new"),
)
_BOOK = (
    _text("author writer", values.full_name, "was written by {}; is by {}; is a book by {}"),
    _integer("year", 1850, 2030, "came out in {}; was published in {}; is from {}"),
    _integer("pages page_count", 20, 1200, "has {} pages; is {} pages long"),
    _text("genre", lambda source: source.pick(_GENRES), "is a {}; belongs to the genre {}"),
    _number("rating", 0, 4, "is rated {}; has a rating of {}"),
    _text("publisher", values.company, "was published by {}"),
)
_FILM = (
    _text("director", values.full_name, "was directed by {}; is by {}"),
    _integer("year", 1920, 2030, "came out in {}; was made in {}; is from {}"),
    _integer("duration minutes", 60, 200, "lasts {} minutes; is {} minutes long; runs {} minutes"),
    _text("genre", lambda source: source.pick(_GENRES), "is a {}; belongs to the genre {}"),
    _number("rating score", 0, 9, "is rated {}; has a rating of {}; got a score of {}"),
)
_EVENT = (
    _text("date", values.date, "is on {}; takes place on {}; happens on {}"),
    _text("time start_time", values.clock, "starts at {}; begins at {}"),
    _text("city place location", values.city, "takes place in {}; is held in {}; is in {}"),
    _integer("attendees guests people", 2, 900, "has {} guests; expects {} people"),
    _text("host organizer", values.person, "is organised by {}; is hosted by {}; is led by {}"),
    _enum("weekday", "is on {}; takes place on {}"),
    _boolean("online is_online", "is online|is not online; happens online|does not happen online"),
)
_CITY = (
    _text("country", values.country, "is in {}; lies in {}; is a city in {}"),
    _integer("population", 1000, 9000000, "has {} inhabitants; has a population of {}"),
    _text("mayor", values.full_name, "has the mayor {}; is led by {}"),
    _integer("founded year", 800, 1950, "was founded in {}; has existed since {}"),
    _integer("temperature", -20, 42, "has a temperature of {} degrees; is at {} degrees"),
    _enum("weather", "is {} today; has {} weather"),
    _boolean("is_capital", "is the capital|is not the capital"),
)
_ORDER = (
    _text("customer buyer", values.person, "was placed by {}; is for {}; comes from {}"),
    _integer("quantity items", 2, 90, "has {} items; is for {} pieces"),
    _number("total amount", 1, 900, "costs {} in total; has a total of {}; comes to {}"),
    _text("date order_date", values.date, "was made on {}; is dated {}; is from {}"),
    _enum("status", "is {}; has the status {}"),
    _enum("payment", "is paid by {}; was paid by {}"),
    _boolean("paid is_paid", "is paid|is not paid; has been paid|has not been paid"),
    _boolean("shipped", "has been shipped|has not been shipped"),
)
_PET = (
    _text("species animal kind", lambda source: source.pick(_PETS), "is a {}"),
    _integer("age", 1, 20, "is {} years old; is {}; is aged {}"),
    _text("color colour", values.color, "is {}; has {} fur"),
    _text("owner", values.person, "belongs to {}; lives with {}; is owned by {}"),
    _number("weight", 1, 40, "weighs {} kg"),
    _boolean("vaccinated", "is vaccinated|is not vaccinated"),
)
_SERVER = (
    _text("city location region", values.city, "is in {}; stands in {}; runs in {}"),
    _integer("port", 80, 65000, "listens on port {}; uses port {}"),
    _integer("cores cpus", 2, 128, "has {} cores; has {} CPU cores"),
    _integer("memory memory_gb", 2, 512, "has {} GB of memory; has {} GB of RAM"),
    _number("load cpu", 0, 99, "has a load of {}; is at {} percent"),
    _enum("status", "is {}; has the status {}"),
    _boolean("online is_online", "is online|is not online; is up|is down"),
)
_FLIGHT = (
    _text("origin departure", values.city, "leaves from {}; starts in {}; departs from {}"),
    _text("destination arrival", values.city, "goes to {}; flies to {}; lands in {}"),
    _text("time departure_time", values.clock, "leaves at {}; departs at {}"),
    _text("gate", values.code, "leaves from gate {}; boards at gate {}"),
    _integer("seats passengers", 2, 400, "has {} seats; carries {} passengers"),
    _integer("price", 20, 2000, "costs {} euros; costs ${}"),
    _boolean("delayed", "is delayed|is not delayed; is late|is on time"),
)
_MESSAGE = (
    _enum("sentiment", "was {} about it; sounded {}"),
    _enum("priority", "has a {} priority; set the priority to {}"),
    _text("product item", values.thing, "bought a {}; ordered a {}; asked for a {}"),
    _text("phone", lambda source: f"555-{source.rng.randint(100, 9999):04d}", "has the phone {}"),
    _integer("quantity count", 2, 90, "wants {} of them; needs {} of them"),
    _text("city", values.city, "wrote from {}; called from {}"),
)

SCENES: tuple[Scene, ...] = (
    *(Scene(_text("name name first_name person", values.person, "{}; {}; My friend {}"), _PERSON),)
    * 3,
    Scene(_text("name full_name", values.full_name, "{}"), _PERSON),
    *(Scene(_text("name product item product_name", values.thing, "the {}"), _PRODUCT),) * 2,
    Scene(_text("title book", values.title, "{}; the book {}"), _BOOK),
    Scene(_text("title movie film", values.title, "{}; the film {}; the movie {}"), _FILM),
    Scene(_text("title event name", values.title, "the event {}; the meeting {}; {}"), _EVENT),
    Scene(_text("name city", _new_city, "{}; the city of {}"), _CITY),
    Scene(_text("order_id id order", values.code, "order {}; the order {}"), _ORDER),
    Scene(_text("name pet", values.first_name, "{}; our pet {}; my pet {}"), _PET),
    Scene(_text("name server host", values.pseudo_word, "server {}; the server {}"), _SERVER),
    Scene(_text("flight flight_number", values.code, "flight {}; the flight {}"), _FLIGHT),
    Scene(_text("customer name", values.person, "{}; the customer {}"), _MESSAGE),
)
