"""Facts about words: opposites, plurals, past tenses, letters, short forms and what words mean."""

from __future__ import annotations

import string

from training.families.fact_groups import FactGroup, named_pairs, pairs

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
    "go went|be was|have had|do did|say said|make made|get got|know knew|think thought|take took|"
    "see saw|come came|give gave|find found|tell told|become became|leave left|feel felt|put put|"
    "bring brought|begin began|keep kept|hold held|write wrote|stand stood|hear heard|let let|"
    "mean meant|set set|meet met|run ran|pay paid|sit sat|speak spoke|lead led|grow grew|"
    "lose lost|fall fell|send sent|build built|understand understood|draw drew|break broke|"
    "spend spent|cut cut|rise rose|drive drove|buy bought|wear wore|choose chose|eat ate|"
    "drink drank|sleep slept|swim swam|fly flew|sing sang|win won|teach taught|"
    "catch caught|fight fought|throw threw|ride rode|steal stole|forget forgot|sell sold|hide hid|bite bit|"
    "blow blew|walk walked|talk talked|play played|work worked|stop stopped|cry cried|try tried|"
    "love loved|live lived|want wanted|help helped|ask asked|call called|look looked|open opened|close closed"
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

_SHORT_FORMS = {
    "CPU": "central processing unit",
    "GPU": "graphics processing unit",
    "RAM": "random access memory",
    "ROM": "read-only memory",
    "API": "application programming interface",
    "LLM": "large language model",
    "AI": "artificial intelligence",
    "JSON": "JavaScript Object Notation",
    "HTML": "HyperText Markup Language",
    "HTTP": "Hypertext Transfer Protocol",
    "URL": "uniform resource locator",
    "USB": "Universal Serial Bus",
    "PDF": "Portable Document Format",
    "SQL": "Structured Query Language",
    "CSS": "Cascading Style Sheets",
    "XML": "Extensible Markup Language",
    "CSV": "comma-separated values",
    "DNS": "Domain Name System",
    "IP": "Internet Protocol",
    "TCP": "Transmission Control Protocol",
    "UDP": "User Datagram Protocol",
    "SSH": "Secure Shell",
    "FTP": "File Transfer Protocol",
    "VPN": "virtual private network",
    "LAN": "local area network",
    "OS": "operating system",
    "PC": "personal computer",
    "SSD": "solid-state drive",
    "GUI": "graphical user interface",
    "CLI": "command-line interface",
    "SDK": "software development kit",
    "IDE": "integrated development environment",
    "WWW": "World Wide Web",
    "LED": "light-emitting diode",
    "GPS": "Global Positioning System",
    "FAQ": "frequently asked questions",
    "DIY": "do it yourself",
    "ASAP": "as soon as possible",
    "EU": "European Union",
    "UN": "United Nations",
    "USA": "United States of America",
    "UK": "United Kingdom",
    "TV": "television",
    "ID": "identification",
    "CD": "compact disc",
}

SHORT_FORMS = FactGroup(
    name="stands_for",
    entries=pairs(_SHORT_FORMS),
    answer="{x} stands for {y}.",
    trained=(
        "What does {x} stand for?",
        "{x} stands for",
        "What is {x} short for?",
        "What is the long form of {x}?",
        "What do the letters {x} stand for?",
        "What is the full form of {x}?",
        "{x} full form",
        "Spell out the abbreviation {x}.",
        "Which words does {x} stand for?",
        "What does the abbreviation {x} mean?",
        "Tell me what {x} is short for.",
        "I read {x} everywhere. What does it stand for?",
        "{x} is short for what?",
        "{x} is an abbreviation of",
        "Expand the abbreviation {x}.",
        "Do you know what {x} is short for?",
        "meaning of the abbreviation {x}",
    ),
    kept_back=(
        "Do you know what {x} stands for?",
        "Tell me what {x} stands for.",
        "What does the abbreviation {x} stand for?",
        "{x} is short for which words?",
        "What are the letters {x} short for?",
        "Tell me the full form of {x}.",
    ),
)

_MEANINGS = {
    "a dog": ("an animal", "that many people keep as a pet"),
    "a cat": ("an animal", "that purrs and catches mice"),
    "a horse": ("an animal", "that people can ride"),
    "a cow": ("an animal", "that gives milk"),
    "a bird": ("an animal", "with feathers and wings"),
    "a fish": ("an animal", "that lives in water"),
    "an insect": ("an animal", "with six legs"),
    "a bee": ("an insect", "that makes honey"),
    "a spider": ("an animal", "with eight legs that spins webs"),
    "a whale": ("a mammal", "that lives in the sea"),
    "an elephant": ("an animal", "with a trunk"),
    "a giraffe": ("an animal", "with a very long neck"),
    "a mammal": ("an animal", "that feeds its young with milk"),
    "a tree": ("a plant", "with a trunk of wood"),
    "a flower": ("a part", "of a plant that often smells sweet"),
    "a rose": ("a flower", "with thorns"),
    "an apple": ("a fruit", "that grows on a tree"),
    "a banana": ("a fruit", "that is long and yellow"),
    "a carrot": ("a vegetable", "that grows under the ground"),
    "bread": ("a food", "that is baked from flour"),
    "cheese": ("a food", "that is made from milk"),
    "water": ("a liquid", "that all living things need"),
    "ice": ("frozen water", "and is cold and hard"),
    "a house": ("a building", "that people live in"),
    "a school": ("a place", "where children learn"),
    "a hospital": ("a place", "where sick people are treated"),
    "a library": ("a place", "where people can borrow books"),
    "a museum": ("a place", "where people look at old or beautiful things"),
    "a bakery": ("a shop", "that makes and sells bread"),
    "a city": ("a place", "where very many people live"),
    "a village": ("a place", "where few people live"),
    "an island": ("a piece of land", "with water all around it"),
    "a mountain": ("a part of the land", "that is much higher than the rest"),
    "a river": ("a stream of water", "that flows to the sea or a lake"),
    "a lake": ("a body of water", "with land all around it"),
    "an ocean": ("a very large body", "of salt water"),
    "a desert": ("a dry place", "where it hardly ever rains"),
    "a forest": ("a place", "where many trees grow"),
    "a planet": ("a large ball", "that goes around a star"),
    "a star": ("a ball of hot gas", "that shines in the sky"),
    "a volcano": ("a mountain", "that can throw out hot rock"),
    "a car": ("a vehicle", "with four wheels and a motor"),
    "a bicycle": ("a vehicle", "with two wheels and pedals"),
    "a train": ("a vehicle", "that runs on rails"),
    "a ship": ("a large boat", "that crosses the sea"),
    "an aeroplane": ("a vehicle", "that flies"),
    "a chair": ("a piece of furniture", "to sit on"),
    "a table": ("a piece of furniture", "with a flat top and legs"),
    "a bed": ("a piece of furniture", "to sleep in"),
    "a knife": ("a tool", "to cut with"),
    "a hammer": ("a tool", "to drive nails with"),
    "a clock": ("a device", "that shows the time"),
    "a thermometer": ("a device", "that measures temperature"),
    "a telescope": ("a device", "that makes far things look near"),
    "a camera": ("a device", "that takes pictures"),
    "a telephone": ("a device", "to talk to people far away"),
    "a computer": ("a machine", "that follows programs"),
    "a keyboard": ("a device", "to type with"),
    "a printer": ("a device", "that puts text on paper"),
    "a robot": ("a machine", "that can do work on its own"),
    "a program": ("a list of instructions", "for a computer"),
    "a byte": ("a group", "of 8 bits"),
    "a bit": ("the smallest unit", "of information, 0 or 1"),
    "a triangle": ("a shape", "with three sides"),
    "a square": ("a shape", "with four equal sides and four right angles"),
    "a circle": ("a round shape", "whose edge is everywhere equally far from its centre"),
    "a verb": ("a word", "for what somebody does"),
    "a noun": ("a word", "for a person, a place or a thing"),
    "an adjective": ("a word", "that describes a noun"),
    "a vowel": ("one of the letters", "a, e, i, o and u"),
    "a week": ("a time", "of seven days"),
    "a century": ("a time", "of one hundred years"),
    "a decade": ("a time", "of ten years"),
    "a guitar": ("an instrument", "with six strings"),
    "a piano": ("an instrument", "with black and white keys"),
    "a teacher": ("a person", "who teaches others"),
    "a doctor": ("a person", "who treats sick people"),
    "a king": ("a man", "who rules a country"),
}

MEANINGS = FactGroup(
    name="meaning",
    entries=tuple(
        {**entry, "key": _MEANINGS[entry["x"]][0].split(" ", 1)[-1]}
        for entry in named_pairs({noun: " ".join(words) for noun, words in _MEANINGS.items()})
    ),
    answer="{x} is {y}.",
    key="{key}",
    trained=(
        "What is {x}?",
        "What's {x}?",
        "what is {n}",
        "Define {n}.",
        "Explain what {x} is.",
        "What does the word {n} mean?",
        'What does "{n}" mean?',
        "Tell me what {x} is.",
        "What do you call {n}? I mean, what is it?",
        "meaning of {n}",
        "definition of {n}",
        "Give me a short definition of {n}.",
        "Explain the word {n} in one sentence.",
        "Can you explain what {x} is?",
        "In one sentence, what is {x}?",
        "I am learning English. What is {x}?",
        "My child asks what {x} is.",
        "Do you know what {x} is?",
        "{x} is",
    ),
    kept_back=(
        "What is the meaning of {n}?",
        "Tell me in one sentence what {x} is.",
        "Can you tell me what {x} is?",
        "Give me a definition of {x}.",
        "Explain {x} in one sentence.",
        "What is the definition of {n}?",
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
    (SHORT_FORMS, 1.6),
    (MEANINGS, 2.2),
)
