"""Facts about numbers of parts, shapes, uses, work and the body."""

from __future__ import annotations

from training.families.fact_groups import FactGroup, pairs, table

_COUNTS = (
    ("bits", "in a byte", "8"),
    ("letters", "in the English alphabet", "26"),
    ("vowels", "in the English alphabet", "5"),
    ("continents", "on the Earth", "7"),
    ("oceans", "on the Earth", "5"),
    ("planets", "in the solar system", "8"),
    ("moons", "around the Earth", "1"),
    ("colours", "in a rainbow", "7"),
    ("fingers", "on one hand", "5"),
    ("fingers", "on two hands", "10"),
    ("toes", "on one foot", "5"),
    ("toes", "on two feet", "10"),
    ("bones", "in an adult human body", "206"),
    ("teeth", "in an adult's mouth", "32"),
    ("chambers", "in the human heart", "4"),
    ("wheels", "on a bicycle", "2"),
    ("wheels", "on a tricycle", "3"),
    ("wheels", "on a car", "4"),
    ("wheels", "on a unicycle", "1"),
    ("strings", "on a guitar", "6"),
    ("strings", "on a violin", "4"),
    ("keys", "on a piano", "88"),
    ("squares", "on a chessboard", "64"),
    ("pieces", "on a chessboard at the start", "32"),
    ("cards", "in a deck without jokers", "52"),
    ("sides", "on a coin", "2"),
    ("players", "in a football team", "11"),
    ("players", "in a basketball team", "5"),
    ("players", "in a volleyball team", "6"),
    ("degrees", "in a circle", "360"),
    ("degrees", "in a right angle", "90"),
    ("degrees", "in a triangle", "180"),
    ("faces", "on a cube", "6"),
    ("edges", "on a cube", "12"),
    ("corners", "on a cube", "8"),
    ("rings", "in the Olympic flag", "5"),
    ("stars", "on the flag of the USA", "50"),
    ("stripes", "on the flag of the USA", "13"),
    ("states", "in the USA", "50"),
    ("eyes", "in a human face", "2"),
    ("noses", "in a human face", "1"),
    ("musicians", "in a trio", "3"),
    ("musicians", "in a quartet", "4"),
    ("events", "in a decathlon", "10"),
)

COUNTS = FactGroup(
    name="how_many",
    entries=tuple(
        {
            "x": f"{what} {where}",
            "what": what,
            "where": where,
            "y": number,
            "answer": f"There is {number} {what.removesuffix('s')} {where}."
            if number == "1"
            else f"There are {number} {what} {where}.",
        }
        for what, where, number in _COUNTS
    ),
    answer="{answer}",
    trained=(
        "How many {what} are there {where}?",
        "How many {what} {where}?",
        "number of {x}",
        "What is the number of {what} {where}?",
        "Tell me how many {what} there are {where}.",
        "How many {what} will I find {where}?",
        "Do you know how many {what} there are {where}?",
        "The number of {what} {where} is",
        "If I count the {what} {where}, how many do I get?",
        "{x}: how many?",
        "Count the {what} {where}.",
        "I forgot how many {what} there are {where}.",
        "How many {what} can I count {where}?",
    ),
    kept_back=(
        "Tell me the number of {what} {where}.",
        "How many {what} do I find {where}?",
        "Do you know the number of {what} {where}?",
        "How many {what} can I find {where}?",
        "Tell me how many {what} I will find {where}.",
    ),
)

_SHAPES = table(
    """a triangle: 3 | a square: 4 | a rectangle: 4 | a rhombus: 4 | a pentagon: 5 | a hexagon: 6 |
    a heptagon: 7 | an octagon: 8 | a nonagon: 9 | a decagon: 10 | a dodecagon: 12"""
)

SIDES = FactGroup(
    name="sides",
    entries=pairs(_SHAPES),
    answer="{x} has {y} sides.",
    trained=(
        "How many sides does {x} have?",
        "How many sides has {x}?",
        "How many corners does {x} have?",
        "sides of {x}",
        "What is the number of sides of {x}?",
        "{x} has how many sides?",
        "{x}: how many sides?",
        "Tell me how many sides {x} has.",
        "Count the sides of {x}.",
        "I want to draw {x}. How many sides do I need?",
        "Do you know how many sides {x} has got?",
        "The number of sides of {x} is",
    ),
    kept_back=(
        "Do you know how many sides {x} has?",
        "Tell me the number of sides of {x}.",
        "How many sides has {x} got?",
        "How many sides do I draw for {x}?",
        "{x} has got how many sides?",
    ),
)

SHAPES = FactGroup(
    name="shape_of_sides",
    entries=tuple(
        {"x": number, "y": shape, "key": shape.split()[1]}
        for shape, number in _SHAPES.items()
        if number != "4"
    ),
    answer="A shape with {x} sides is {y}.",
    key="{key}",
    trained=(
        "Which shape has {x} sides?",
        "What shape has {x} sides?",
        "What is a shape with {x} sides called?",
        "shape with {x} sides",
        "What do you call a shape with {x} sides?",
        "Name the shape with {x} sides.",
        "A polygon with {x} sides is",
        "Which polygon has {x} sides?",
        "Tell me the name of a shape with {x} sides.",
        "What is the name of a polygon with {x} sides?",
        "{x} sides: which shape?",
        "I draw a shape with {x} sides. What is it called?",
    ),
    kept_back=(
        "What is a polygon with {x} sides called?",
        "What do you call a polygon with {x} sides?",
        "Name the polygon with {x} sides.",
        "What is the name of the shape with {x} sides?",
        "Tell me which shape has {x} sides.",
    ),
)

_USES = table(
    """cut paper: scissors | cut bread: a knife | eat soup: a spoon | write a letter: a pen |
    draw a straight line: a ruler | drive in a nail: a hammer | turn a screw: a screwdriver |
    open a door: a key | stay dry in the rain: an umbrella | brush your teeth: a toothbrush |
    comb your hair: a comb | sweep the floor: a broom | cut wood: a saw | dig a hole: a spade |
    tell the time: a clock | measure temperature: a thermometer | find north: a compass |
    look at the stars: a telescope | take a picture: a camera | wash your hands: soap |
    dry your hands: a towel | sew a button: a needle | cook soup: a pot | fry an egg: a pan |
    catch a fish: a fishing rod | rub out a pencil line: an eraser | see in the dark: a torch |
    weigh yourself: a scale | type a text: a keyboard | climb onto a roof: a ladder"""
)

USES = FactGroup(
    name="use",
    entries=tuple({**entry, "key": entry["y"].split(" ", 1)[-1]} for entry in pairs(_USES)),
    answer="You use {y} to {x}.",
    key="{key}",
    trained=(
        "What do you use to {x}?",
        "What do I need to {x}?",
        "Which tool do I use to {x}?",
        "I want to {x}. What do I need?",
        "With what do you {x}?",
        "What do people use to {x}?",
        "What can I {x} with?",
        "Which thing helps you to {x}?",
        "Name a thing to {x} with.",
        "To {x}, I need",
        "To {x}, what should I use?",
        "tool to {x}",
        "Tell me what I need to {x}.",
        "How can I {x}? With what?",
    ),
    kept_back=(
        "What should I use to {x}?",
        "Which thing do I need to {x}?",
        "Tell me what people use to {x}.",
        "I want to {x}. What should I use?",
        "To {x}, what do I need?",
    ),
)

_WORK = table(
    """bakes bread: a baker | teaches children: a teacher | treats sick people: a doctor |
    treats sick animals: a vet | treats teeth: a dentist | puts out fires: a firefighter |
    flies an aeroplane: a pilot | drives a bus: a bus driver | sells meat: a butcher |
    grows crops: a farmer | catches fish: a fisherman | cuts hair: a hairdresser |
    repairs cars: a mechanic | repairs water pipes: a plumber |
    builds walls of brick: a bricklayer | makes furniture from wood: a carpenter |
    designs buildings: an architect | writes books: a writer | paints pictures: a painter |
    cooks in a restaurant: a cook | brings letters: a postman |
    catches thieves: a police officer | writes programs: a programmer |
    works in a library: a librarian | looks after gardens: a gardener |
    plays in a theatre: an actor | sews clothes: a tailor | travels into space: an astronaut"""
)

WORK = FactGroup(
    name="who_does",
    entries=tuple({**entry, "key": entry["y"].split(" ", 1)[-1]} for entry in pairs(_WORK)),
    answer="{y} {x}.",
    key="{key}",
    trained=(
        "Who {x}?",
        "What do you call somebody who {x}?",
        "What is a person called who {x}?",
        "Which job has somebody who {x}?",
        "Name for a person who {x}?",
        "a person who {x}",
        "Somebody who {x} is",
        "What is the name of the job of somebody who {x}?",
        "Tell me who {x}.",
        "Do you know who {x}?",
        "My uncle {x}. What is his job?",
        "My aunt {x}. What is her job?",
        "Whose job is it? This person {x}.",
    ),
    kept_back=(
        "What do you call a person who {x}?",
        "What is somebody called who {x}?",
        "Tell me the job of a person who {x}.",
        "What is the job of somebody who {x}?",
        "Do you know the name for a person who {x}?",
    ),
)

_BODY = table(
    """see: eyes | hear: ears | smell: nose | taste: tongue | walk: legs | bite: teeth |
    breathe: lungs | think: brain | touch things: fingers | chew: teeth | grab things: hands |
    kick a ball: feet | digest food: stomach | speak: mouth"""
)

BODY = FactGroup(
    name="body",
    entries=pairs(_BODY),
    answer="We {x} with our {y}.",
    trained=(
        "What do we {x} with?",
        "With what do we {x}?",
        "Which part of the body do we {x} with?",
        "What part of the body do you use to {x}?",
        "What do you {x} with?",
        "With which part of the body do people {x}?",
        "Which body part helps us to {x}?",
        "We {x} with our",
        "What does a human {x} with?",
        "Name the part of the body that we {x} with.",
        "body part to {x}",
        "Tell me what we {x} with.",
        "Which part of my body lets me {x}?",
    ),
    kept_back=(
        "What part of the body do we {x} with?",
        "Which part of the body helps us to {x}?",
        "Tell me which part of the body we {x} with.",
        "With which body part do we {x}?",
        "What do people {x} with?",
    ),
)

GROUPS = (
    (COUNTS, 1.6),
    (SIDES, 0.6),
    (SHAPES, 0.4),
    (USES, 0.9),
    (WORK, 0.9),
    (BODY, 0.5),
)
