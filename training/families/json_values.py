"""Values drawn at random that texts give for JSON properties: as JSON, and as a text says them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from training.conversation import Source
from training.families.json_tables import words

FIRST_NAMES: tuple[str, ...] = words(
    """Ada Adam Agnes Aisha Alan Albert Alice Amir Amy Andrea Anna Anton Arthur Astrid Ben Bella
    Boris Bruno Carla Carlos Cathy Chen Chloe Clara Colin Daniel Daria David Dora Edith Eli Ella
    Emil Emma Eric Esther Eva Farah Felix Fiona Frank Freya George Grace Greta Hana Hannah Hassan
    Hugo Ian Ida Ines Ingrid Ivan Jack James Jana Jane Jonas Josef Julia Kai Karen Karl Kenji Kim
    Laila Lara Lars Laura Lena Leo Lily Lina Louis Lucas Lucy Luis Maja Marco Maria Mark Marta
    Max Maya Mei Mia Milan Mina Mohamed Nadia Nina Noah Nora Olaf Olga Oliver Omar Oscar Pablo
    Paula Pedro Peter Petra Priya Rachel Raj Rita Robert Rosa Ruth Sam Samir Sara Sergei Silvia
    Simon Sofia Stella Sven Tara Theo Thomas Tim Tina Tom Uma Vera Victor Viktor Walter Wendy
    Yara Yuki Yusuf Zoe"""
)
LAST_NAMES: tuple[str, ...] = words(
    """Adams Ahmed Baker Bauer Bell Berg Brown Carter Chen Clark Cole Cook Costa Cruz Davis Diaz
    Evans Fischer Ford Fox Garcia Gray Green Hall Hansen Hill Huber Hughes Ito Jones Kaya Keller
    Khan Kim King Klein Lang Lee Lewis Lopez Marsh Martin Meyer Miller Moore Moreau Nagy Novak
    Olsen Park Patel Perez Reed Rossi Santos Sato Silva Singh Smith Stone Suzuki Tanaka Taylor
    Turner Walker Wang Weber West White Wong Wood Young"""
)
CITIES: tuple[str, ...] = words(
    """Accra Amsterdam Ankara Athens Austin Bangkok Barcelona Basel Beirut Bergen Berlin Bern
    Bilbao Bogota Bologna Bonn Boston Bremen Brussels Budapest Cairo Chicago Cologne Copenhagen
    Dakar Dallas Delhi Denver Dresden Dublin Durban Edinburgh Florence Geneva Genoa Glasgow Graz
    Hamburg Hanoi Havana Helsinki Istanbul Jakarta Karachi Kiev Kyoto Lagos Leeds Leipzig Lima
    Linz Lisbon Liverpool London Lyon Madrid Malaga Manchester Manila Marseille Melbourne Miami
    Milan Montreal Moscow Mumbai Munich Nairobi Naples Nice Osaka Oslo Ottawa Oxford Palermo Paris
    Perth Porto Prague Quito Riga Rome Rotterdam Salzburg Seattle Seoul Seville Shanghai Sofia
    Stockholm Sydney Tallinn Tokyo Toronto Toulouse Tunis Turin Utrecht Valencia Venice Verona
    Vienna Vilnius Warsaw York Zagreb Zurich"""
)
COUNTRIES: tuple[str, ...] = words(
    """Argentina Australia Austria Belgium Brazil Bulgaria Canada Chile China Colombia Croatia
    Cuba Cyprus Denmark Ecuador Egypt Estonia Finland France Germany Ghana Greece Hungary Iceland
    India Ireland Israel Italy Japan Kenya Latvia Malta Mexico Morocco Nepal Norway Peru Poland
    Portugal Romania Serbia Slovakia Spain Sweden Switzerland Thailand Tunisia Turkey Ukraine
    Vietnam"""
)
JOBS: tuple[str, ...] = words(
    """baker butcher carpenter chef cook dancer dentist designer doctor driver farmer
    firefighter florist gardener guide hairdresser journalist judge lawyer librarian mechanic
    musician nurse painter pharmacist photographer pilot plumber potter reporter sailor scientist
    singer soldier surgeon tailor teacher translator waiter writer"""
)
COLORS: tuple[str, ...] = words(
    "red green blue yellow black white brown grey pink orange purple silver golden"
)
THINGS: tuple[str, ...] = words(
    """backpack ball basket bed bell belt bench bicycle blanket book boots bottle bowl box bracelet
    brush bucket camera candle cap carpet chair clock coat couch cup curtain desk doll door drum
    fan flute fork glove guitar hammer hat helmet jacket jar kettle keyboard knife ladder lamp
    laptop lock mask mattress mirror monitor mug necklace needle oven pan pen pencil phone piano
    pillow plate pot printer puzzle radio ring rope rug ruler saddle scarf scooter shelf shirt
    shoes shovel skirt sofa spoon stool stove suitcase sweater table teapot tent towel toaster toy
    tray umbrella vase violin wallet watch wheel whistle window"""
)
WORDS: tuple[str, ...] = words(
    """apple autumn bread breeze bright butter candle canyon castle cherry cloud coral crystal
    desert dragon dream eagle echo ember falcon feather field fire flame forest frost garden ghost
    gold grape harbor hawk hill honey horizon island ivory jade jungle kite lake lemon lion maple
    marble meadow melon mint mirror moon mountain night oak ocean olive orbit orchid owl palm
    panther paper pearl pepper pine planet plum pond prairie quartz rain raven river rocket rose
    sail salt sand shadow shell silk silver sky snow spark star stone storm sugar summer sun
    thunder tiger timber tulip valley velvet violet wave whale willow wind winter wolf"""
)
_STARTS = words("b br c ch d dr f fl g gr h j k kl l m n p pl qu r s sh sk sl st t tr v w z")
_VOWELS = words("a e i o u ai ea oo")
_ENDS = words("b ck d g l ll m n nd ng p r rt s st t x") + ("",) * 6


def pseudo_word(source: Source) -> str:
    """A word that does not exist, of one to three syllables."""
    syllables = (
        source.pick(_STARTS) + source.pick(_VOWELS) + source.pick(_ENDS)
        for _ in range(source.pick((1, 2, 2, 3)))
    )
    return "".join(syllables)


def first_name(source: Source) -> str:
    return pseudo_word(source).title() if source.chance(0.25) else source.fresh(FIRST_NAMES)


def full_name(source: Source) -> str:
    return f"{first_name(source)} {source.fresh(LAST_NAMES)}"


def person(source: Source) -> str:
    return full_name(source) if source.chance(0.3) else first_name(source)


def city(source: Source) -> str:
    return pseudo_word(source).title() if source.chance(0.2) else source.fresh(CITIES)


def country(source: Source) -> str:
    return source.pick(COUNTRIES)


def job(source: Source) -> str:
    return source.fresh(JOBS)


def color(source: Source) -> str:
    return source.pick(COLORS)


def thing(source: Source) -> str:
    return pseudo_word(source) if source.chance(0.15) else source.fresh(THINGS)


def title(source: Source) -> str:
    """A title of a book or film: one to three words."""
    words = [source.fresh(WORDS).title() for _ in range(source.pick((1, 2, 2, 3)))]
    return " ".join((["The"] if source.chance(0.4) else []) + words)


def company(source: Source) -> str:
    return pseudo_word(source).title() if source.chance(0.6) else source.fresh(WORDS).title()


def email(source: Source) -> str:
    who = first_name(source).lower()
    place = source.pick(("example", "mail", "test", source.fresh(WORDS), pseudo_word(source)))
    return f"{who}@{place}.{source.pick(('com', 'org', 'net', 'io'))}"


def date(source: Source) -> str:
    rng = source.rng
    return f"{rng.randint(1950, 2035)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"


def clock(source: Source) -> str:
    return f"{source.rng.randint(0, 23):02d}:{source.rng.randint(0, 11) * 5:02d}"


def hostname(source: Source) -> str:
    return f"{pseudo_word(source)}.{source.pick(('com', 'org', 'net', 'io'))}"


def ip_address(source: Source) -> str:
    return ".".join(str(source.rng.randint(1, 254)) for _ in range(4))


def uuid(source: Source) -> str:
    digits = f"{source.rng.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def code(source: Source) -> str:
    """Letters and digits, as order numbers and gates have."""
    letters = "".join(source.pick("ABCDEFGHKLMNPRSTUVWXZ") for _ in range(source.pick((1, 2, 3))))
    dash = source.pick(("", "-"))
    return f"{letters}{dash}{source.rng.randint(1, 10 ** source.pick((1, 2, 3, 4)) - 1)}"


def any_string(source: Source) -> str:
    makers = (person, city, thing, title, color, code, email, date, job, pseudo_word, pseudo_word)
    return source.pick(makers)(source)


def integer(source: Source) -> int:
    """Mostly small."""
    return source.rng.randint(0, 10 ** source.pick((1, 2, 2, 3, 3, 4, 5)) - 1)


def number(source: Source) -> float:
    """With one or two decimals, never whole: so that it looks as JSON writes it."""
    num_decimals = source.pick((1, 1, 2))
    whole = source.rng.randint(0, 10 ** source.pick((1, 2, 2, 3)) - 1)
    digits = source.rng.randint(1, 10**num_decimals - 1)
    return float(f"{whole}.{digits:0{num_decimals}d}")


def typed_value(source: Source, schema: Mapping[str, Any]) -> Any:
    """A value that fulfils a property's schema (no object)."""
    if "anyOf" in schema:
        return typed_value(source, schema["anyOf"][0])
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return source.pick(schema["enum"])
    name = schema["type"][0] if isinstance(schema["type"], list) else schema["type"]
    if name == "array":
        num = max(schema.get("minItems", 0), source.pick((1, 2, 2, 3)))
        return [typed_value(source, schema["items"]) for _ in range(num)]
    if name == "boolean":
        return source.chance(0.5)
    if "minimum" in schema or "maximum" in schema:
        low = schema.get("minimum", 0)
        whole = source.rng.randint(low, schema.get("maximum", low + 51) - 1)
        return whole if name == "integer" else whole + source.rng.randint(1, 9) / 10
    if name == "string" and "format" in schema:
        return _FORMAT_MAKERS[schema["format"]](source)
    makers: Mapping[str, Callable[[Source], Any]] = {
        "string": any_string,
        "integer": integer,
        "number": number,
    }
    return makers[name](source)


_FORMAT_MAKERS: Mapping[str, Callable[[Source], str]] = {
    "email": email,
    "date": date,
    "date-time": lambda source: f"{date(source)}T{clock(source)}:00Z",
    "time": lambda source: f"{clock(source)}:00Z",
    "uri": lambda source: f"https://{hostname(source)}",
    "ipv4": ip_address,
    "hostname": hostname,
    "uuid": uuid,
}


def as_said(value: Any) -> str:
    """A value as a list of properties in plain text has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(as_said(item) for item in value)
    return str(value)
