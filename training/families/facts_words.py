"""Facts about words: their opposites, plurals, past tenses and comparatives, and the alphabet."""

from __future__ import annotations

import string

from training.families.fact_groups import FactGroup, pairs

_OPPOSITES_BOTH_WAYS = (
    "hot cold|big small|up down|fast slow|happy sad|rich poor|full empty|open closed|clean dirty|"
    "day night|true false|yes no|good bad|early late|high low|inside outside|loud quiet|"
    "strong weak|thick thin|wet dry|wide narrow|young old|always never|begin end|buy sell|"
    "push pull|win lose|friend enemy|war peace|summer winter|north south|east west|left right|"
    "in out|on off|over under|before after|in front behind|near far|cheap expensive|safe dangerous|"
    "alive dead|black white|boy girl|man woman|father mother|brother sister|king queen|love hate|"
    "question answer|arrive leave|remember forget|everything nothing|everybody nobody|"
    "minimum maximum|positive negative|odd even|import export|upload download|increase decrease|"
    "sweet sour|tall short|heavy light|easy difficult|first last|top bottom|beautiful ugly|"
    "brave cowardly|polite rude|deep shallow|sharp blunt|smooth rough|possible impossible|"
    "visible invisible|entrance exit|success failure|laugh cry|asleep awake"
)
_OPPOSITES_ONE_WAY = "hard soft|dark light|long short|large small|new old|wrong right|sunny rainy"


def _opposites() -> dict[str, str]:
    both = [_two(pair) for pair in _OPPOSITES_BOTH_WAYS.split("|")]
    one_way = [_two(pair) for pair in _OPPOSITES_ONE_WAY.split("|")]
    return {**dict(both), **{second: first for first, second in both}, **dict(one_way)}


def _two(pair: str) -> tuple[str, str]:
    """A word, or the two words "in front", and its opposite."""
    first, second = pair.rsplit(" ", 1)
    return first, second


OPPOSITES = FactGroup(
    name="opposite",
    entries=pairs(_opposites()),
    answer="The opposite of {x} is {y}.",
    trained=(
        "What is the opposite of {x}?",
        "opposite of {x}",
        "What's the opposite of {x}?",
        "What is the opposite of the word {x}?",
        'What is the opposite of "{x}"?',
        "Tell me the opposite of {x}.",
        "Give me the opposite of {x}.",
        "Which word is the opposite of {x}?",
        "Which word means the opposite of {x}?",
        "What is the antonym of {x}?",
        "Give an antonym of {x}.",
        "{x}: opposite?",
        "I am looking for the opposite of {x}.",
        "Name the opposite of {x}.",
        "Do you know the opposite of {x}?",
        "The opposite of {x} is",
        "What word is opposite to {x}?",
        "antonym for {x}",
        "{x} is the opposite of which word?",
    ),
    kept_back=(
        "What is the opposite word to {x}?",
        "Do you know an antonym of {x}?",
        "Give me an antonym for {x}.",
        "Which word is opposite to {x}?",
        "Tell me which word is the opposite of {x}.",
        'Name the opposite of the word "{x}".',
    ),
)

_PLURALS = (
    "mouse mice|child children|man men|woman women|foot feet|tooth teeth|goose geese|person people|"
    "ox oxen|sheep sheep|deer deer|fish fish|wolf wolves|leaf leaves|knife knives|life lives|"
    "wife wives|shelf shelves|half halves|loaf loaves|thief thieves|calf calves|city cities|"
    "baby babies|lady ladies|country countries|story stories|berry berries|fly flies|puppy puppies|"
    "bus buses|box boxes|fox foxes|glass glasses|dish dishes|watch watches|church churches|"
    "brush brushes|class classes|match matches|potato potatoes|tomato tomatoes|hero heroes|"
    "dog dogs|cat cats|house houses|car cars|book books|tree trees|apple apples|bird birds|"
    "day days|key keys|toy toys|boy boys|girl girls|cow cows|horse horses|table tables|"
    "chair chairs|lamp lamps|computer computers|model models|photo photos|piano pianos|"
    "radio radios|crisis crises|analysis analyses|criterion criteria|phenomenon phenomena"
)

PLURALS = FactGroup(
    name="plural",
    entries=pairs(dict(_two(pair) for pair in _PLURALS.split("|"))),
    answer="The plural of {x} is {y}.",
    trained=(
        "What is the plural of {x}?",
        "plural of {x}",
        "What's the plural of {x}?",
        "What is the plural form of {x}?",
        'What is the plural of "{x}"?',
        "Tell me the plural of {x}.",
        "Give me the plural of the word {x}.",
        "{x}: plural?",
        "One {x}, two",
        "One {x}, two what?",
        "How do you write the plural of {x}?",
        "How do you say more than one {x}?",
        "What do you call more than one {x}?",
        "Which word is the plural of {x}?",
        "Name the plural of {x}.",
        "I forgot the plural of {x}.",
        "Do you know the plural of {x}?",
        "The plural of {x} is",
    ),
    kept_back=(
        "What is the plural of the word {x}?",
        "Give me the plural form of {x}.",
        "Tell me the plural of the word {x}.",
        "Do you know the plural form of {x}?",
        "How do you say the plural of {x}?",
        "Which word is the plural form of {x}?",
    ),
)

_PAST = (
    "go went|be was|have had|do did|say said|make made|get got|know knew|think thought|"
    "take took|see saw|come came|give gave|find found|tell told|become became|leave left|"
    "feel felt|put put|bring brought|begin began|keep kept|hold held|write wrote|stand stood|"
    "hear heard|let let|mean meant|set set|meet met|run ran|pay paid|sit sat|speak spoke|"
    "lead led|grow grew|lose lost|fall fell|send sent|build built|understand understood|"
    "draw drew|break broke|spend spent|cut cut|rise rose|drive drove|buy bought|wear wore|"
    "choose chose|eat ate|drink drank|sleep slept|swim swam|fly flew|sing sang|win won|"
    "teach taught|catch caught|fight fought|throw threw|ride rode|steal stole|forget forgot|"
    "sell sold|hide hid|bite bit|blow blew|walk walked|talk talked|play played|work worked|"
    "stop stopped|cry cried|try tried|love loved|live lived|want wanted|help helped|ask asked|"
    "call called|look looked|open opened|close closed"
)

PAST_TENSES = FactGroup(
    name="past_tense",
    entries=pairs(dict(_two(pair) for pair in _PAST.split("|"))),
    answer="The past tense of {x} is {y}.",
    trained=(
        "What is the past tense of {x}?",
        "past tense of {x}",
        "What's the past tense of {x}?",
        "What is the past of {x}?",
        'What is the past tense of "{x}"?',
        "What is the simple past of {x}?",
        "simple past of to {x}",
        "Tell me the past tense of the verb {x}.",
        "Give me the past tense of to {x}.",
        "{x}: past tense?",
        "Put {x} into the past tense.",
        "Put the verb {x} in the simple past.",
        "What is the past form of {x}?",
        "Which word is the past tense of {x}?",
        "I forgot the past tense of {x}.",
        "How do you write {x} in the past tense?",
        "The past tense of {x} is",
        "Do you know the simple past of {x}?",
    ),
    kept_back=(
        "What is the past tense of the verb {x}?",
        "Give me the simple past of {x}.",
        "Do you know the past tense of {x}?",
        "Put the verb {x} into the past tense.",
        "What is the past tense of to {x}?",
        "Tell me the past form of {x}.",
    ),
)

_COMPARATIVES = (
    "good better|bad worse|far further|big bigger|small smaller|fast faster|slow slower|hot hotter|"
    "cold colder|happy happier|easy easier|tall taller|long longer|short shorter|old older|"
    "young younger|cheap cheaper|strong stronger|early earlier|late later|nice nicer|large larger|"
    "high higher|low lower|heavy heavier|thin thinner|rich richer|busy busier"
)

COMPARATIVES = FactGroup(
    name="comparative",
    entries=pairs(dict(_two(pair) for pair in _COMPARATIVES.split("|"))),
    answer="The comparative of {x} is {y}.",
    trained=(
        "What is the comparative of {x}?",
        "comparative of {x}",
        "What is the comparative form of {x}?",
        "Tell me the comparative of {x}.",
        "Give me the comparative of the word {x}.",
        "{x}: comparative?",
        "Which word is the comparative of {x}?",
        "What's the comparative of {x}?",
        "How do you write the comparative of {x}?",
        "I forgot the comparative of {x}.",
        "The comparative of {x} is",
        "Do you know the comparative of {x}?",
    ),
    kept_back=(
        "What is the comparative of the word {x}?",
        "Give me the comparative form of {x}.",
        "Tell me the comparative of the word {x}.",
        "Do you know the comparative form of {x}?",
        "Which word is the comparative form of {x}?",
    ),
)

_ENDINGS = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd"}
_PLACES = tuple(f"{number}{_ENDINGS.get(number, 'th')}" for number in range(1, 27))
_IN_WORDS = (
    *("first", "second", "third", "fourth", "fifth"),
    *("sixth", "seventh", "eighth", "ninth", "tenth"),
)

LETTERS = FactGroup(
    name="nth_letter",
    entries=tuple(
        {"x": spelled, "digits": digits, "y": letter}
        for place, (digits, letter) in enumerate(zip(_PLACES, string.ascii_uppercase, strict=True))
        for spelled in (digits, *_IN_WORDS[place : place + 1])
    ),
    answer="The {digits} letter of the alphabet is {y}.",
    trained=(
        "What is the {x} letter of the alphabet?",
        "Which letter is the {x} in the alphabet?",
        "{x} letter of the alphabet",
        "{x} letter in the English alphabet?",
        "Name the {x} letter of the alphabet.",
        "Tell me the {x} letter of the English alphabet.",
        "In the alphabet, which letter comes {x}?",
        "Which letter comes {x} in the alphabet?",
        "What letter is the {x} one of the alphabet?",
        "What's the {x} letter in the alphabet?",
        "The {x} letter of the alphabet is",
        "Do you know the {x} letter of the alphabet?",
    ),
    kept_back=(
        "What is the {x} letter in the alphabet?",
        "Which letter of the alphabet is the {x}?",
        "Tell me the {x} letter of the alphabet.",
        "What letter comes {x} in the alphabet?",
        "Name the {x} letter in the English alphabet.",
    ),
)

LETTER_PLACES = FactGroup(
    name="letter_place",
    entries=tuple(
        {"x": letter, "y": digits}
        for digits, letter in zip(_PLACES, string.ascii_uppercase, strict=True)
    ),
    answer="{x} is the {y} letter of the alphabet.",
    trained=(
        "Which letter of the alphabet is {x}?",
        "What position has {x} in the alphabet?",
        "position of {x} in the alphabet",
        "Where is {x} in the alphabet?",
        "What number is the letter {x} in the alphabet?",
        "At which place of the alphabet is {x}?",
        "Which place does the letter {x} have in the alphabet?",
        "Tell me the position of the letter {x} in the alphabet.",
        "Where does the letter {x} come in the alphabet?",
        "{x} is which letter of the alphabet?",
        "What is the position of {x} in the English alphabet?",
        "In the alphabet, at which position is {x}?",
    ),
    kept_back=(
        "Where is the letter {x} in the alphabet?",
        "Which position does {x} have in the alphabet?",
        "What is the position of the letter {x} in the alphabet?",
        "At which position of the alphabet is {x}?",
        "Where in the alphabet does {x} come?",
    ),
)

NEXT_LETTERS = FactGroup(
    name="next_letter",
    entries=pairs(dict(zip(string.ascii_uppercase, string.ascii_uppercase[1:], strict=False))),
    answer="After {x} comes {y}.",
    trained=(
        "Which letter comes after {x}?",
        "What letter comes after {x}?",
        "What comes after the letter {x}?",
        "letter after {x}",
        "Which letter follows {x}?",
        "What is the letter after {x}?",
        "In the alphabet, what comes after {x}?",
        "Tell me the letter that comes after {x}.",
        "Which letter is next after {x}?",
        "What is the next letter after {x}?",
        "The letter after {x} is",
        "Name the letter that follows {x} in the alphabet.",
    ),
    kept_back=(
        "Which letter follows {x} in the alphabet?",
        "What letter is next after {x}?",
        "In the alphabet, which letter comes after {x}?",
        "Name the letter after {x}.",
        "Tell me which letter comes after {x}.",
    ),
)

GROUPS = (
    (OPPOSITES, 2.5),
    (PLURALS, 1.5),
    (PAST_TENSES, 1.5),
    (COMPARATIVES, 0.6),
    (LETTERS, 0.7),
    (LETTER_PLACES, 0.6),
    (NEXT_LETTERS, 0.5),
)
