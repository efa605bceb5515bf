"""Words, names and numbers made up so that no two examples need share them."""

from __future__ import annotations

from collections.abc import Callable

from training.conversation import Source


def _listed(text: str) -> list[str]:
    return text.split()


_STARTS = _listed(
    """b bl br c ch cl cr d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu r s sh sk sl sm sn sp
    st str t th tr v w wh y z zh"""
)
_VOWELS = _listed("a e i o u a e i o u ai ee oo ou ia eo")
_ENDS = _listed("b d ck f g k l ll m n nd ng nk p r rk rn rt s sh sk sp st t th x z")
_LANDS = _listed("ia land stan ova istan onia aria esia una ador isle avia ora uria akia ania ea")
_TOWNS = _listed("ville ton burg ford ham grad opolis dorf stad port mouth by holm ona a eva")

COUNTRIES = frozenset(
    _listed(
        """afghanistan albania algeria andorra angola argentina armenia australia austria azerbaijan
    bahamas bahrain bangladesh barbados belarus belgium belize benin bhutan bolivia bosnia botswana
    brazil brunei bulgaria burundi cambodia cameroon canada chad chile china colombia comoros congo
    croatia cuba cyprus czechia denmark djibouti dominica ecuador egypt england eritrea estonia
    eswatini ethiopia fiji finland france gabon gambia georgia germany ghana greece grenada
    guatemala guinea guyana haiti honduras hungary iceland india indonesia iran iraq ireland israel
    italy jamaica japan jordan kazakhstan kenya kiribati kosovo kuwait kyrgyzstan laos latvia
    lebanon lesotho liberia libya liechtenstein lithuania luxembourg madagascar malawi malaysia
    maldives mali malta mauritania mauritius mexico micronesia moldova monaco mongolia montenegro
    morocco mozambique myanmar namibia nauru nepal netherlands nicaragua niger nigeria norway oman
    pakistan palau palestine panama paraguay peru philippines poland portugal qatar romania russia
    rwanda samoa scotland senegal serbia seychelles singapore slovakia slovenia somalia spain sudan
    suriname sweden switzerland syria taiwan tajikistan tanzania thailand togo tonga tunisia turkey
    turkmenistan tuvalu uganda ukraine uruguay uzbekistan vanuatu vatican venezuela vietnam wales
    yemen zambia zimbabwe"""
    )
)
"""Real countries, none of which may be made up by chance."""

RARE = _listed(
    """Texas California Bavaria Catalonia Tuscany Normandy Florida Ohio Atlantis Narnia Mordor
    Gondor Utopia Wonderland Siberia Yorkshire Bahrain Barbados Belize Benin Brunei Burundi Chad
    Comoros Djibouti Eritrea Gabon Grenada Kiribati Lesotho Liberia Malawi Mauritania Micronesia
    Nauru Palau Samoa Togo Tonga Tuvalu Vanuatu Alaska"""
)
"""Real or told-of places about which nothing is taught."""

_FIRST = _listed(
    """Anna Ben Clara David Emma Felix Grace Hugo Ines Jack Karen Liam Maria Noah Olga Paul Quentin
    Rosa Simon Tara Umar Vera Walter Xenia Yusuf Zoe Albert Bella Carlos Diana Edgar Fatima
    Gustav Helen Ivan Julia Kofi Lena Marco Nadia Oscar Priya Ravi Sofia Thomas Ursula Victor
    Wendy Aiko Bruno Chen Dmitri Elif Farid Greta Hanna Igor Jorge Kenji Layla Mateo Nina Omar
    Petra"""
)
_LAST = _listed(
    """Smith Jones Miller Garcia Rossi Novak Schmidt Dubois Silva Kim Tanaka Ivanov Hansen Kowalski
    Murphy Singh Khan Lopez Weber Moreau Costa Larsen Berg Baker Cooper Fischer Walker Young
    King Wright Hill Green Adams Nelson Carter Mitchell Roberts Turner Phillips Campbell Parker
    Evans Edwards Collins Stewart Morris Rogers Reed Cook Morgan Bell Bailey Rivera Ward Torres
    Gray"""
)
SALAD = _listed(
    """table blue running seven window banana quickly under mountain purple coffee never paper
    train orange whisper bottle Tuesday cloud hammer gentle river because yellow engine sleepy
    pencil across garden silver monkey twelve laughing candle between northern spoon thunder
    maybe carpet velvet rocket slowly onion behind mirror golden potato fifty jumping curtain
    salt however bridge tiny elephant tomorrow jacket without copper singing ladder honey square
    winter the of and a to in is it that for on with as at by from or if so not but all very
    more less only just"""
)


def _made(source: Source, num_syllables: int) -> str:
    word = ""
    for _ in range(num_syllables):
        word += source.pick(_STARTS) + source.pick(_VOWELS)
    return word


def made_up_word(source: Source) -> str:
    """A word of one to three syllables that nobody has heard of, of the test's own in the test."""
    while True:
        word = _made(source, source.pick((1, 1, 2))) + source.pick(_ENDS)
        if len(word) > 3 and source.may_see(word):
            return word


def _name(source: Source, endings: list[str]) -> str:
    while True:
        stem = _made(source, source.pick((1, 1, 2))) + source.pick(_ENDS)
        if source.chance(0.3):
            stem = source.pick(_STARTS) + source.pick(_VOWELS) + source.pick(_ENDS)
        name = stem + source.pick(endings)
        if name not in COUNTRIES and source.may_see(name):
            return name.capitalize()


def land(source: Source) -> str:
    """A country that does not exist, or at times a place that is not among the known ones."""
    if source.chance(0.12):
        return source.fresh(RARE)
    name = _name(source, _LANDS)
    if source.chance(0.12):
        kind = source.pick(("Republic of", "Kingdom of", "New", "North", "South", "East", "Upper"))
        name = f"the {kind} {name}" if kind.endswith("of") else f"{kind} {name}"
    return name


def town(source: Source) -> str:
    """A city that does not exist."""
    return _name(source, _TOWNS)


def person(source: Source) -> str:
    """A first and a last name."""
    if source.chance(0.2):
        return f"{source.pick(_FIRST)} {made_up_word(source).capitalize()}"
    while True:
        name = f"{source.pick(_FIRST)} {source.pick(_LAST)}"
        if source.may_see(name):
            return name


def first_name(source: Source) -> str:
    """A first name, at times one that nobody bears."""
    return made_up_word(source).capitalize() if source.chance(0.3) else source.pick(_FIRST)


def small(source: Source) -> str:
    return str(source.rng.randint(2, 30))


def middling(source: Source) -> str:
    """A number just too large for the multiplication table."""
    return str(source.rng.randint(23, 999))


def large(source: Source) -> str:
    """A number of five digits or more."""
    return str(source.rng.randint(10_000, 10 ** source.rng.randint(5, 9)))


def decimal(source: Source) -> str:
    return f"{source.rng.randint(1, 99)}.{source.rng.randint(11, 9999)}"


def year(source: Source) -> str:
    return str(source.rng.randint(1000, 2040))


def mash(source: Source) -> str:
    """Keys hit at random."""
    rows = ("asdfghjkl", "qwertyuiop", "zxcvbnm", "asdfjkl", "abcdefghijklmnopqrstuvwxyz")
    parts = []
    for _ in range(source.pick((1, 1, 1, 2, 3))):
        row = source.pick(rows)
        if source.chance(0.25):
            parts.append(row[: source.rng.randint(4, len(row))])
        else:
            parts.append("".join(source.pick(row) for _ in range(source.rng.randint(5, 12))))
    return " ".join(parts)


def made_up_words(source: Source) -> str:
    """Words that nobody has heard of, at times with a question mark."""
    parts = [made_up_word(source) for _ in range(source.rng.randint(1, 6))]
    return " ".join(parts) + source.pick(("", "", "?", ".", "!"))


def salad(source: Source) -> str:
    """Real words in no order."""
    parts = source.sample(SALAD, source.rng.randint(3, 10))
    if source.chance(0.2):
        parts.insert(1, made_up_word(source))
    text = " ".join(parts)
    if source.chance(0.3):
        text = text[:1].upper() + text[1:]
    return text + source.pick(("", "", "?", "."))


def symbols(source: Source) -> str:
    """Punctuation, or digits and letters mixed."""
    pool = source.pick(("?!.", "#$%&*@^~", "abcxyz0123456789", "()[]{}<>", ":;-)(", "=+-/_"))
    return "".join(source.pick(pool) for _ in range(source.rng.randint(2, 12)))


MAKERS: dict[str, Callable[[Source], str]] = {
    "land": land,
    "town": town,
    "person": person,
    "first_name": first_name,
    "word": made_up_word,
    "small": small,
    "middling": middling,
    "large": large,
    "decimal": decimal,
    "year": year,
}
"""What fills a slot of this name."""
