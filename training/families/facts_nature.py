"""Facts about animals, things of nature, chemistry and the sky."""

from __future__ import annotations

from training.families.fact_groups import FactGroup, named_pairs, pairs, table

_COLOURS = table(
    """the sky: blue | grass: green | snow: white | milk: white | salt: white | sugar: white |
    flour: white | cotton: white | a swan: white | a polar bear: white | a banana: yellow |
    a lemon: yellow | a canary: yellow | a sunflower: yellow | butter: yellow | blood: red |
    a tomato: red | a strawberry: red | a cherry: red | a ruby: red | a fire engine: red |
    ketchup: red | coal: black | a crow: black | a raven: black | soot: black |
    a carrot: orange | an orange: orange | a pumpkin: orange | a cucumber: green |
    a lime: green | spinach: green | broccoli: green | a pea: green | a leaf: green |
    a frog: green | an emerald: green | a crocodile: green | the sea: blue | a sapphire: blue |
    a blueberry: blue | chocolate: brown | soil: brown | a chestnut: brown | a flamingo: pink |
    a pig: pink | a plum: purple | an aubergine: purple | lavender: purple | an elephant: grey |
    ash: grey"""
)

COLOURS = FactGroup(
    name="colour_of",
    entries=named_pairs(_COLOURS),
    answer="The colour of {x} is {y}.",
    trained=(
        "What colour is {x}?",
        "What color is {x}?",
        "Which colour is {x}?",
        "Which color does {x} have?",
        "What is the colour of {x}?",
        "What is the color of {x}?",
        "colour of {x}",
        "{x}: which colour?",
        "{n} color",
        "Tell me the colour of {x}.",
        "Name the colour of {x}.",
        "{x} is what colour?",
        "{x} is of which color?",
        "I want to paint {x}. Which colour do I need?",
        "In which colour would you paint {x}?",
        "Do you know the colour of {x}?",
        "What colour does {x} have?",
        "What color is {x} usually?",
    ),
    kept_back=(
        "Which color is {x}?",
        "What colour is {x} usually?",
        "Do you know what colour {x} is?",
        "Tell me which colour {x} has.",
        "{x} is which colour?",
        "I want to know the color of {x}.",
    ),
)

_SOUNDS = table(
    """a dog: barks | a cat: meows | a cow: moos | a horse: neighs | a sheep: bleats |
    a goat: bleats | a pig: oinks | a duck: quacks | a lion: roars | a tiger: roars |
    a bear: growls | a wolf: howls | a snake: hisses | a bee: buzzes | a mosquito: buzzes |
    a frog: croaks | an owl: hoots | a crow: caws | a donkey: brays | a mouse: squeaks |
    a cock: crows | a rooster: crows | a hen: clucks | a pigeon: coos | a cricket: chirps |
    an elephant: trumpets | a turkey: gobbles | a monkey: chatters"""
)

SOUNDS = FactGroup(
    name="animal_sound",
    entries=named_pairs(_SOUNDS),
    answer="{x} {y}.",
    trained=(
        "What sound does {x} make?",
        "Which sound does {x} make?",
        "What noise does {x} make?",
        "How does {x} sound?",
        "What does {x} say?",
        "sound of {x}",
        "{x}: which sound?",
        "{n} sound?",
        "Tell me the sound that {x} makes.",
        "What do you call the sound of {x}?",
        "Name the noise that {x} makes.",
        "My child asks what sound {x} makes.",
        "Do you know the sound of {x}?",
        "What do I hear when {x} is near?",
        "How does {x} go?",
        "What is the typical noise of {x}?",
    ),
    kept_back=(
        "Which noise does {x} make?",
        "What is the sound of {x}?",
        "Do you know what sound {x} makes?",
        "Tell me what noise {x} makes.",
        "Name the sound of {x}.",
    ),
)

_YOUNG = table(
    """a dog: puppy | a cat: kitten | a cow: calf | a horse: foal | a sheep: lamb | a pig: piglet |
    a goat: kid | a lion: cub | a bear: cub | a tiger: cub | a duck: duckling |
    a goose: gosling | a hen: chick | a chicken: chick | a swan: cygnet | a kangaroo: joey |
    a frog: tadpole | a deer: fawn | a butterfly: caterpillar | an owl: owlet |
    an eagle: eaglet | an elephant: calf | a whale: calf | a seal: pup"""
)

YOUNG = FactGroup(
    name="animal_young",
    entries=named_pairs(_YOUNG),
    answer="A young {n} is called a {y}.",
    trained=(
        "What is a young {n} called?",
        "What is a baby {n} called?",
        "What do you call a young {n}?",
        "What do you call a baby {n}?",
        "young of {x}",
        "The young of {x} is called",
        "Which word means a young {n}?",
        "What is the name for a baby {n}?",
        "What is the young of {x} called?",
        "Tell me the word for a young {n}.",
        "{x} has a baby. What is it called?",
        "How do you call the child of {x}?",
        "baby {n} name",
        "Is there a word for a baby {n}?",
        "What's the baby of {x} called?",
    ),
    kept_back=(
        "What is the baby of {x} called?",
        "Tell me what a baby {n} is called.",
        "Which word means a baby {n}?",
        "What is the name for a young {n}?",
        "Is there a word for a young {n}?",
    ),
)

_LEGS = table(
    """a dog: 4 | a cat: 4 | a horse: 4 | a cow: 4 | a sheep: 4 | a pig: 4 | a lion: 4 |
    a mouse: 4 | an elephant: 4 | a giraffe: 4 | a frog: 4 | a lizard: 4 | a spider: 8 |
    a scorpion: 8 | an insect: 6 | an ant: 6 | a bee: 6 | a fly: 6 | a beetle: 6 |
    a butterfly: 6 | a ladybird: 6 | a mosquito: 6 | a crab: 10 | a bird: 2 | a hen: 2 |
    a chicken: 2 | a duck: 2 | an eagle: 2 | an ostrich: 2 | a penguin: 2 | a human: 2 |
    a snake: 0 | a worm: 0 | a fish: 0"""
)

LEGS = FactGroup(
    name="legs",
    entries=named_pairs(_LEGS),
    answer="{x} has {y} legs.",
    trained=(
        "How many legs does {x} have?",
        "How many legs has {x}?",
        "How many legs has {x} got?",
        "legs of {x}",
        "{x} has how many legs?",
        "{n}: how many legs?",
        "What is the number of legs of {x}?",
        "Tell me how many legs {x} has.",
        "On how many legs does {x} walk?",
        "Count the legs of {x}.",
        "Do you know how many legs {x} has got?",
        "I want to draw {x}. How many legs do I need?",
        "The number of legs of {x} is",
    ),
    kept_back=(
        "Do you know how many legs {x} has?",
        "Tell me the number of legs of {x}.",
        "How many legs does {x} need?",
        "{x} has got how many legs?",
        "Do I know how many legs {x} has?",
    ),
)

_HOMES = table(
    """a bee: hive | a bird: nest | a spider: web | a lion: den | a horse: stable | a pig: sty |
    a rabbit: burrow | a dog: kennel | a hen: coop | a squirrel: nest | a goldfish: bowl |
    a beaver: lodge | an eagle: nest | a bat: cave | a cow: barn"""
)

HOMES = FactGroup(
    name="animal_home",
    entries=named_pairs(_HOMES),
    answer="{x} lives in a {y}.",
    trained=(
        "Where does {x} live?",
        "What does {x} live in?",
        "What is the home of {x} called?",
        "home of {x}",
        "{x} lives in",
        "In what does {x} live?",
        "What do you call the home of {x}?",
        "Where is the home of {x}?",
        "Which home does {x} have?",
        "Tell me where {x} lives.",
        "Name the home of {x}.",
        "Do you know where {x} has its home?",
        "{n} home?",
    ),
    kept_back=(
        "Do you know where {x} lives?",
        "Tell me what {x} lives in.",
        "Where does {x} have its home?",
        "What is the home of {x}?",
        "Tell me the home of {x}.",
    ),
)

_SYMBOLS = table(
    """hydrogen: H | helium: He | lithium: Li | beryllium: Be | boron: B | carbon: C |
    nitrogen: N | oxygen: O | fluorine: F | neon: Ne | sodium: Na | magnesium: Mg |
    aluminium: Al | silicon: Si | phosphorus: P | sulphur: S | chlorine: Cl | argon: Ar |
    potassium: K | calcium: Ca | titanium: Ti | chromium: Cr | manganese: Mn | iron: Fe |
    cobalt: Co | nickel: Ni | copper: Cu | zinc: Zn | bromine: Br | silver: Ag | tin: Sn |
    iodine: I | platinum: Pt | gold: Au | mercury: Hg | lead: Pb | uranium: U"""
)

SYMBOLS = FactGroup(
    name="chemical_symbol",
    entries=pairs(_SYMBOLS),
    answer="The chemical symbol of {x} is {y}.",
    trained=(
        "What is the chemical symbol of {x}?",
        "What is the chemical symbol for {x}?",
        "chemical symbol of {x}",
        "symbol for {x}",
        "{x}: chemical symbol?",
        "Which symbol does {x} have in chemistry?",
        "Which chemical symbol stands for {x}?",
        "How is {x} written in chemistry?",
        "Tell me the symbol of the element {x}.",
        "What is the symbol of {x} in the periodic table?",
        "Name the chemical symbol for {x}.",
        "In the periodic table, what is the symbol for {x}?",
        "Do you know the chemical symbol of {x}?",
        "{x}'s chemical symbol?",
        "The chemical symbol of {x} is",
        "What's the symbol of {x}?",
    ),
    kept_back=(
        "Which chemical symbol does {x} have?",
        "What is the symbol for the element {x}?",
        "Tell me the chemical symbol of {x}.",
        "Do you know the symbol for {x}?",
        "What is {x}'s symbol in the periodic table?",
        "Which symbol stands for {x} in chemistry?",
    ),
)

ELEMENTS = FactGroup(
    name="element_of_symbol",
    entries=tuple({"x": symbol, "y": name} for name, symbol in _SYMBOLS.items()),
    answer="{x} is the chemical symbol of {y}.",
    trained=(
        "Which element has the symbol {x}?",
        "What element is {x}?",
        "Which element is {x}?",
        "{x} is the symbol of which element?",
        "What does {x} stand for in chemistry?",
        "In the periodic table, what is {x}?",
        "What is {x} in chemistry?",
        "Name the element with the symbol {x}.",
        "element {x}",
        "The chemical symbol {x} stands for",
        "Tell me which element is written {x}.",
        "Which chemical element is written as {x}?",
        "{x} is which element?",
        "Do you know the element with the symbol {x}?",
    ),
    kept_back=(
        "What element has the symbol {x}?",
        "Which element does {x} stand for?",
        "What does the chemical symbol {x} stand for?",
        "Tell me which element is {x}.",
        "{x} is the chemical symbol of which element?",
    ),
)

_ATOMIC_NUMBERS = {
    name: str(number)
    for number, name in enumerate(list(_SYMBOLS)[: list(_SYMBOLS).index("calcium") + 1], 1)
}

ATOMIC_NUMBERS = FactGroup(
    name="atomic_number",
    entries=pairs(_ATOMIC_NUMBERS),
    answer="The atomic number of {x} is {y}.",
    trained=(
        "What is the atomic number of {x}?",
        "atomic number of {x}",
        "Which atomic number does {x} have?",
        "{x}: atomic number?",
        "How many protons does {x} have?",
        "How many protons are in an atom of {x}?",
        "Tell me the atomic number of {x}.",
        "What number is {x} in the periodic table?",
        "{x}'s atomic number?",
        "The atomic number of {x} is",
        "Which number has {x} in the periodic table?",
        "Do you know the atomic number of {x}?",
    ),
    kept_back=(
        "What atomic number does {x} have?",
        "Which number is {x} in the periodic table?",
        "Tell me how many protons {x} has.",
        "What is {x}'s atomic number?",
        "How many protons has an atom of {x}?",
    ),
)

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_PLANETS = ("Mercury", "Venus", "the Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune")

PLANETS = FactGroup(
    name="nth_planet",
    entries=tuple(
        {"x": ordinal, "digits": digits, "y": planet, "key": planet.removeprefix("the ")}
        for ordinal, digits, planet in zip(
            _ORDINALS,
            ("1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th"),
            _PLANETS,
            strict=True,
        )
    ),
    answer="The {x} planet from the Sun is {y}.",
    key="{key}",
    trained=(
        "Which planet is the {x} from the Sun?",
        "What is the {x} planet from the Sun?",
        "What is the {digits} planet of the solar system?",
        "{x} planet from the Sun",
        "{digits} planet",
        "Name the {x} planet.",
        "Which planet comes {x} from the Sun?",
        "Which one is the {digits} planet from the Sun?",
        "Counted from the Sun, which planet is {x}?",
        "What is the {x} planet in the solar system?",
        "Tell me the {digits} planet from the Sun.",
        "Do you know the {x} planet?",
        "The {x} planet from the Sun is",
    ),
    kept_back=(
        "Name the {x} planet from the Sun.",
        "Which one is the {x} planet?",
        "What is the {digits} planet from the Sun?",
        "Which planet is the {digits} in the solar system?",
        "Tell me which planet is the {x} from the Sun.",
    ),
)

PLANET_PLACES = FactGroup(
    name="planet_place",
    entries=tuple(
        {"x": planet, "y": ordinal} for planet, ordinal in zip(_PLANETS, _ORDINALS, strict=True)
    ),
    answer="{x} is the {y} planet from the Sun.",
    trained=(
        "Which planet from the Sun is {x}?",
        "Counted from the Sun, which number is {x}?",
        "What number is {x} among the planets?",
        "Where does {x} come in the order of the planets?",
        "Which place does {x} have among the planets?",
        "{x}: which planet from the Sun?",
        "What is the place of {x} in the solar system?",
        "Tell me the place of {x} in the order of the planets.",
        "At which place from the Sun is {x}?",
        "{x} is which planet from the Sun?",
        "Is {x} the first, second or which planet from the Sun?",
        "In the order of the planets, where is {x}?",
    ),
    kept_back=(
        "Which place does {x} have in the solar system?",
        "Tell me which planet from the Sun {x} is.",
        "Which number is {x} among the planets?",
        "Where is {x} in the order of the planets?",
        "What is the place of {x} among the planets?",
    ),
)

GROUPS = (
    (COLOURS, 1.5),
    (SOUNDS, 1.0),
    (YOUNG, 0.8),
    (LEGS, 1.0),
    (HOMES, 0.5),
    (SYMBOLS, 1.2),
    (ELEMENTS, 0.9),
    (ATOMIC_NUMBERS, 0.6),
    (PLANETS, 0.6),
    (PLANET_PLACES, 0.4),
)
