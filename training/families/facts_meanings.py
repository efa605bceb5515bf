"""What short forms stand for, and what common words mean in one sentence."""

from __future__ import annotations

from training.families.fact_groups import FactGroup, named_pairs, pairs, table

_SHORT_FORMS = table(
    """CPU: central processing unit | GPU: graphics processing unit | RAM: random access memory |
    ROM: read-only memory | API: application programming interface | LLM: large language model |
    AI: artificial intelligence | JSON: JavaScript Object Notation |
    HTML: HyperText Markup Language | HTTP: Hypertext Transfer Protocol |
    URL: uniform resource locator | USB: Universal Serial Bus | PDF: Portable Document Format |
    SQL: Structured Query Language | CSS: Cascading Style Sheets |
    XML: Extensible Markup Language | CSV: comma-separated values | DNS: Domain Name System |
    IP: Internet Protocol | TCP: Transmission Control Protocol | UDP: User Datagram Protocol |
    SSH: Secure Shell | FTP: File Transfer Protocol | VPN: virtual private network |
    LAN: local area network | OS: operating system | PC: personal computer |
    SSD: solid-state drive | GUI: graphical user interface | CLI: command-line interface |
    SDK: software development kit | IDE: integrated development environment |
    WWW: World Wide Web | LED: light-emitting diode | GPS: Global Positioning System |
    FAQ: frequently asked questions | DIY: do it yourself | ASAP: as soon as possible |
    EU: European Union | UN: United Nations | USA: United States of America |
    UK: United Kingdom | TV: television | ID: identification | CD: compact disc"""
)

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
    (SHORT_FORMS, 1.6),
    (MEANINGS, 2.2),
)
