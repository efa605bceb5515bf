"""What tools are called with: every value has the form it is said in and the form it is sent in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from training.conversation import Source

Value = tuple[str, Any]
"""(as the user says it, as the call sends it)."""


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def parts(text: str) -> tuple[str, ...]:
    """What stands between bars."""
    return tuple(text.split("|"))


FIRST_NAMES = words(
    "Anna Ben Clara David Emma Felix Greta Hugo Ida Jonas Karla Leon Mia Noah Olga Paul Quinn Rosa "
    "Simon Tara Uma Victor Wanda Xenia Yara Zoe Adam Bella Carlos Diana Elias Fiona George Hanna "
    "Ivan Julia Kevin Lara Marco Nina Oscar Petra Rafael Sofia Thomas Ursula Vera Walter Yusuf "
    "Zara Ahmed Aisha Akira Alice Amir Andrea Arthur Astrid Bruno Camila Chen Chloe Daniel Dmitri "
    "Elena Emil Erik Eva Fatima Finn Frida Gabriel Hassan Helen Henry Ines Isabel Jack James Jana "
    "Joanna John Kai Kate Kenji Lena Liam Lily Louis Lucas Lucy Luis Maria Martin Mary Max Mei "
    "Michael Mohammed Nadia Nora Oliver Omar Pablo Peter Priya Raj Robert Ruth Sam Sarah Stefan "
    "Susan Tim Tom Tomas Vikram William Yuki"
)
LAST_NAMES = words(
    "Adams Baker Carter Dixon Evans Fischer Garcia Hansen Ito Jensen Keller Lopez Meyer Novak "
    "Olsen Patel Quist Rossi Silva Tanaka Ueda Vogel Weber Young Zimmer Abbott Bauer Chavez Dubois "
    "Eriksen Ferrari Gupta Huber Ibrahim Jones Kim Lang Moreau Nguyen Okafor Park Reed Schmidt "
    "Taylor Ulrich Vargas Wood Yilmaz Zhang Brown Clark Davis Green Hall King Lee Moore Roberts "
    "Scott Turner Walker White"
)
CITIES = parts(
    "Paris|London|Rome|Berlin|Madrid|Vienna|Oslo|Tokyo|Lima|Cairo|Delhi|Dublin|Prague|Lisbon|Athens|"
    "Warsaw|Budapest|Helsinki|Stockholm|Copenhagen|Zurich|Geneva|Munich|Hamburg|Milan|Naples|Turin|"
    "Porto|Seville|Valencia|Barcelona|Lyon|Nice|Marseille|Bordeaux|Brussels|Ghent|Amsterdam|Utrecht|"
    "New York|Los Angeles|San Francisco|Chicago|Boston|Seattle|Denver|Dallas|Houston|Miami|Austin|"
    "Toronto|Montreal|Vancouver|Mexico City|Bogota|Quito|Santiago|Buenos Aires|Rio de Janeiro|"
    "Sao Paulo|Montevideo|Lagos|Accra|Nairobi|Cape Town|Tunis|Casablanca|Istanbul|Ankara|Beirut|"
    "Amman|Dubai|Doha|Mumbai|Chennai|Kolkata|Bangkok|Hanoi|Manila|Jakarta|Singapore|Kuala Lumpur|"
    "Hong Kong|Shanghai|Beijing|Seoul|Busan|Osaka|Kyoto|Sydney|Melbourne|Perth|Auckland|Wellington|"
    "Moscow|Kyiv|Riga|Vilnius|Tallinn|Sofia|Bucharest|Belgrade|Zagreb|Split|Graz|Salzburg|Basel|"
    "San Francisco, CA|Boston, MA|Austin, TX|Denver, CO|Portland, OR|Paris, France|Rome, Italy|"
    "Cambridge|Oxford|Leeds|Bristol|York|Bath|Cardiff|Glasgow|Edinburgh|Belfast|Cork|Galway"
)
COUNTRIES = parts(
    "France|Spain|Italy|Germany|Japan|China|India|Brazil|Peru|Chile|Canada|Mexico|Kenya|Ghana|Egypt|"
    "Norway|Sweden|Finland|Denmark|Poland|Austria|Greece|Turkey|Portugal|Ireland|Australia|Vietnam|"
    "Thailand|Nigeria|Morocco|Cuba|Iceland|Hungary|Romania|Ukraine|South Korea|New Zealand"
)
ADJECTIVES = words(
    "silent golden broken hidden lost quiet bright small great last first blue red green dark long "
    "happy strange frozen burning empty secret northern southern wild gentle final modern ancient "
    "yearly weekly monthly urgent simple digital global local open fast"
)
NOUNS = words(
    "river garden house mountain letter road window forest island storm winter summer ocean bridge "
    "report budget meeting project plan market review design survey contract invoice recipe "
    "journey station castle mirror shadow morning engine planet signal harbour library kitchen "
    "history science music health travel sport energy climate training database network robot"
)
ITEMS = words(
    "milk bread eggs butter cheese apples bananas rice pasta coffee tea sugar salt flour tomatoes "
    "onions potatoes carrots soap batteries paper pens candles oranges honey chocolate water juice "
    "yoghurt chicken fish beans lemons pepper garlic cereal nuts mushrooms grapes towels"
)
PRODUCTS = parts(
    "laptop|phone|desk lamp|office chair|keyboard|mouse|monitor|printer|backpack|water bottle|bike|"
    "helmet|tent|camera|tablet|headphones|speaker|coffee machine|"
    "toaster|kettle|jacket|raincoat|"
    "sneakers|boots|scarf|umbrella|notebook|guitar|piano|drum kit|sofa|bookshelf|mattress|pillow"
)
ROOMS = parts(
    "kitchen|bedroom|bathroom|living room|hall|garage|office|garden|cellar|attic|nursery|"
    "guest room|"
    "dining room|study|balcony|workshop|library|laundry room|porch|studio"
)
TASKS = parts(
    "call the dentist|buy milk|water the plants|pay the rent|feed the cat|clean the kitchen|"
    "finish the report|book a table|pick up the parcel|wash the car|send the invoice|walk the dog|"
    "call mum|renew the passport|order new tyres|take out the bins|read chapter two|fix the bike|"
    "charge the phone|cancel the gym|print the tickets|write to the landlord|buy flowers|"
    "repair the door|check the oven|update the slides|back up the laptop|return the books"
)
TEXTS = parts(
    "I will be late|See you at noon|The meeting is cancelled|Dinner is ready|Call me back|"
    "Happy birthday|The package has arrived|Where are you|I am on my way|Thanks for the help|"
    "Please bring the keys|The train is delayed|We won the game|Good luck tomorrow|I miss you|"
    "The server is down|Lunch at one|Can we talk|All is well|The door is open|See you on Monday|"
    "The report is done|Please wait for me|I found your bag|We need more time|Have a nice trip|"
    "The test has passed|The flight is on time|I like the new plan|Remember the tickets"
)
_ONSETS = words("b br c d dr f fl g gr h j k kl l m n p pr qu r s sh sk st t th tr v w x y z")
_VOWELS = words("a e i o u ai ea io oa ou")
_CODAS = ["", "", "", "l", "n", "r", "s", "t", "x", "nd", "rk", "m", "ck", "lt"]
_CAPITALS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_LANGUAGES = words(
    "French Spanish Italian German Japanese Chinese Hindi Portuguese Dutch Polish Greek Turkish "
    "Swedish Danish Norwegian Finnish Arabic Korean Russian Czech Hungarian Welsh"
)
_CURRENCIES = words("EUR USD GBP JPY CHF CNY INR SEK NOK DKK PLN CZK HUF CAD AUD NZD MXN BRL")
_WORDS = words(
    "apple happy table window stone quiet brave cloud silver forest simple danger lucky velvet "
    "orbit candle puzzle anchor feather mirror gentle copper thunder whisper blossom curious"
)
_SKIES = words("sunny cloudy rainy windy snowy foggy clear stormy")
_DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
_MONTHS = words(
    "January February March April May June July August September October November December"
)
_STATES = words("open closed pending ready running stopped shipped delivered paid late active")


def fresh(source: Source, items: Sequence[str]) -> str:
    """An entry this source may see, without sorting through all of them."""
    for _ in range(200):
        item = source.pick(items)
        if source.may_see(item):
            return item
    return source.fresh(items)


def made_up(source: Source) -> str:
    """A name that nobody has heard: what is copied can then not be guessed."""
    syllables = [
        source.pick(_ONSETS) + source.pick(_VOWELS) + source.pick(_CODAS)
        for _ in range(source.pick((1, 2, 2, 3)))
    ]
    return "".join(syllables).capitalize()


def _name(source: Source) -> str:
    first = made_up(source) if source.chance(0.3) else fresh(source, FIRST_NAMES)
    if source.chance(0.3):
        last = made_up(source) if source.chance(0.3) else fresh(source, LAST_NAMES)
        return f"{first} {last}"
    return first


def _city(source: Source) -> str:
    return made_up(source) if source.chance(0.25) else fresh(source, CITIES)


def _country(source: Source) -> str:
    return made_up(source) if source.chance(0.2) else fresh(source, COUNTRIES)


def _title(source: Source) -> str:
    shape = source.rng.random()
    adjective, noun = source.pick(ADJECTIVES).capitalize(), source.pick(NOUNS).capitalize()
    if shape < 0.35:
        return f"The {adjective} {noun}"
    if shape < 0.6:
        return f"{adjective} {noun}"
    if shape < 0.8:
        return f"{made_up(source)} {noun}"
    return made_up(source)


def _topic(source: Source) -> str:
    shape = source.rng.random()
    if shape < 0.5:
        return f"{source.pick(ADJECTIVES)} {source.pick(NOUNS)}"
    return source.pick(NOUNS) if shape < 0.8 else made_up(source).lower()


def _code(source: Source) -> str:
    letters = "".join(source.pick(_CAPITALS) for _ in range(source.pick((1, 2, 2, 3))))
    digits = "".join(source.pick("0123456789") for _ in range(source.pick((2, 3, 4, 5))))
    return source.pick((letters + digits, f"{letters}-{digits}", f"{letters}-{digits}", digits))


def _date(source: Source) -> str:
    rng = source.rng
    if source.chance(0.15):
        return source.pick(_DAYS)
    if source.chance(0.15):
        return f"{rng.randint(1, 28)} {source.pick(_MONTHS)}"
    return f"{rng.randint(2019, 2031)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"


def _time(source: Source) -> str:
    if source.chance(0.15):
        return f"{source.rng.randint(1, 12)} {source.pick(('am', 'pm'))}"
    return f"{source.rng.randint(0, 23):02d}:{source.pick((0, 5, 10, 15, 20, 30, 40, 45, 50)):02d}"


def _email(source: Source) -> str:
    host = source.pick(("example.com", "mail.org", "work.net", f"{made_up(source).lower()}.com"))
    separator = source.pick(("", ".", "_"))
    first = source.pick((fresh(source, FIRST_NAMES), made_up(source))).lower()
    last = f"{separator}{source.pick(LAST_NAMES).lower()}" if source.chance(0.4) else ""
    return f"{first}{last}@{host}"


def _file(source: Source) -> str:
    ending = source.pick(words("txt pdf csv json py md png log"))
    stem = source.pick((source.pick(NOUNS), made_up(source).lower()))
    number = source.pick(("", "", f"_{source.rng.randint(1, 99)}", f"{source.rng.randint(1, 9)}"))
    return f"{stem}{number}.{ending}"


def _url(source: Source) -> str:
    host = made_up(source).lower()
    path = source.pick(("", f"/{source.pick(NOUNS)}", f"/{source.rng.randint(1, 999)}"))
    return f"https://{source.pick(('', 'www.'))}{host}.{source.pick(('com', 'org', 'net'))}{path}"


def _host(source: Source) -> str:
    stem = source.pick(("web", "db", "node", "app", "cache", made_up(source).lower()))
    return f"{stem}-{source.rng.randint(1, 40)}"


def _phone(source: Source) -> str:
    return "".join(source.pick("0123456789") for _ in range(source.rng.randint(6, 9)))


def _sum(source: Source) -> str:
    a, b = source.rng.randint(2, 999), source.rng.randint(2, 99)
    return f"{a} {source.pick('+-*/')} {b}"


def _of(items: Sequence[str]) -> Callable[[Source], str]:
    return lambda source: fresh(source, items)


_STRINGS: Mapping[str, Callable[[Source], str]] = MappingProxyType(
    {
        "name": _name,
        "city": _city,
        "country": _country,
        "title": _title,
        "topic": _topic,
        "code": _code,
        "date": _date,
        "time": _time,
        "email": _email,
        "file": _file,
        "url": _url,
        "host": _host,
        "phone": _phone,
        "sum": _sum,
        "made_up": made_up,
        "item": _of(ITEMS),
        "product": _of(PRODUCTS),
        "room": _of(ROOMS),
        "task": _of(TASKS),
        "text": _of(TEXTS),
        "language": _of(_LANGUAGES),
        "currency": _of(_CURRENCIES),
        "word": _of(_WORDS),
        "sky": lambda source: source.pick(_SKIES),
        "state": lambda source: source.pick(_STATES),
        "colour": lambda source: source.pick(words("red green blue yellow white purple orange")),
        "day": lambda source: source.pick(
            words("today tomorrow Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
        ),
    }
)


def draw(kind: str, source: Source) -> Value:
    """A value of a kind: a pool's name, int:LOW:HIGH, number:LOW:HIGH, enum:A,B, bool:YES,NO
    or list:POOL."""
    name, _, rest = kind.partition(":")
    if name == "int":
        low, high = map(int, rest.split(":"))
        drawn = source.rng.randint(low, high)
        return str(drawn), drawn
    if name == "number":
        low, high = map(int, rest.split(":"))
        if source.chance(0.5):
            whole = source.rng.randint(low, high)
            return str(whole), whole
        part = float(f"{source.rng.randint(low, high)}.{source.pick('123456789')}")
        return str(part), part
    if name == "enum":
        word = source.pick(rest.split(","))
        return word, word
    if name == "bool":
        word = source.pick(rest.split(","))
        return word, word == rest.split(",")[0]
    if name == "list":
        listed: list[str] = []
        num = source.pick((2, 2, 3))
        while len(listed) < num:
            one = _STRINGS[rest](source)
            if one not in listed:
                listed.append(one)
        return f"{', '.join(listed[:-1])} and {listed[-1]}", listed
    said = _STRINGS[name](source)
    return said, said


def schema_of(kind: str) -> dict[str, Any]:
    """The JSON Schema of a kind."""
    name, _, rest = kind.partition(":")
    if name == "enum":
        return {"type": "string", "enum": rest.split(",")}
    if name == "list":
        return {"type": "array", "items": {"type": "string"}}
    return {"type": {"int": "integer", "number": "number", "bool": "boolean"}.get(name, "string")}
