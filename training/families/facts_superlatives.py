"""What is largest, highest or the only one of its kind, and what colours give when mixed."""

from __future__ import annotations

from training.families.fact_groups import FactGroup, pairs, table

_SUPERLATIVES = table(
    """the largest ocean: the Pacific Ocean | the biggest ocean: the Pacific Ocean |
    the largest planet: Jupiter | the smallest planet: Mercury | the hottest planet: Venus |
    the closest planet to the Sun: Mercury | the highest mountain: Mount Everest |
    the largest country: Russia | the smallest country: Vatican City |
    the biggest continent: Asia | the largest continent on Earth: Asia |
    the largest animal in the world: the blue whale |
    the biggest land animal: the African elephant | the biggest bird: the ostrich |
    the tallest animal in the world: the giraffe | the largest island: Greenland |
    the temperature at which water boils: 100 degrees Celsius |
    the temperature at which water freezes: 0 degrees Celsius |
    the largest planet in the solar system: Jupiter | the biggest planet: Jupiter |
    the smallest planet in the solar system: Mercury |
    the hottest planet in the solar system: Venus |
    the planet with the best known rings: Saturn | the planet closest to the Sun: Mercury |
    the planet farthest from the Sun: Neptune | the red planet: Mars |
    the star closest to the Earth: the Sun | the highest mountain in the world: Mount Everest |
    the highest mountain on Earth: Mount Everest | the highest mountain in Africa: Kilimanjaro |
    the highest mountain in Japan: Mount Fuji | the highest mountain in the Alps: Mont Blanc |
    the longest river in Africa: the Nile | the longest river in South America: the Amazon |
    the longest river in Europe: the Volga | the longest river in Asia: the Yangtze |
    the largest continent: Asia | the smallest continent: Australia |
    the coldest continent: Antarctica | the largest country in the world: Russia |
    the biggest country: Russia | the smallest country in the world: Vatican City |
    the largest country in South America: Brazil | the largest country in Africa: Algeria |
    the largest hot desert: the Sahara | the deepest lake in the world: Lake Baikal |
    the largest island in the world: Greenland |
    the highest waterfall in the world: Angel Falls |
    the deepest place in the ocean: the Mariana Trench | the largest animal: the blue whale |
    the biggest animal in the world: the blue whale |
    the largest land animal: the African elephant | the tallest animal: the giraffe |
    the fastest land animal: the cheetah | the largest bird: the ostrich |
    the hardest natural material: diamond | the lightest chemical element: hydrogen |
    the only metal that is liquid at room temperature: mercury |
    the largest organ of the human body: the skin |
    the longest bone in the human body: the thigh bone | the organ that pumps blood: the heart |
    the organ that we think with: the brain | the organ that digests food first: the stomach |
    the chemical formula of water: H2O | the chemical formula of carbon dioxide: CO2 |
    the chemical formula of table salt: NaCl | the freezing point of water: 0 degrees Celsius |
    the boiling point of water: 100 degrees Celsius |
    the normal temperature of the human body: about 37 degrees Celsius |
    the speed of light: about 300,000 kilometres per second |
    the value of pi to two decimals: 3.14 | the smallest prime number: 2 |
    the only even prime number: 2 | the largest digit: 9 | the last letter of the alphabet: Z |
    the gas that plants need from the air: carbon dioxide |
    the gas that we need from the air: oxygen |
    the gas that makes up most of the air: nitrogen | the metal that rusts: iron |
    the animal that gives us wool: the sheep | the animal that makes honey: the bee |
    the animal that gives us milk: the cow | the animal that lays eggs for breakfast: the hen |
    the king of the animals: the lion |
    the bird that cannot fly and lives near the South Pole: the penguin |
    the main ingredient of bread: flour | the place where the Eiffel Tower stands: Paris |
    the place where Big Ben stands: London | the place where the Colosseum stands: Rome |
    the place where the Statue of Liberty stands: New York |
    the place where the Brandenburg Gate stands: Berlin |
    the place where the Great Pyramid stands: Giza in Egypt"""
)


def _without_bare_article(answer: str) -> str:
    return answer.removeprefix("the ").removeprefix("about ")


SUPERLATIVES = FactGroup(
    name="which_one",
    entries=tuple(
        {"x": asked, "bare": asked.removeprefix("the "), "y": answer, "key": key}
        for asked, answer in _SUPERLATIVES.items()
        for key in (_without_bare_article(answer),)
    ),
    answer="{x} is {y}.",
    key="{key}",
    trained=(
        "What is {x}?",
        "What's {x}?",
        "Which is {x}?",
        "{x}",
        "{bare}",
        "{x}?",
        "Name {x}.",
        "Tell me {x}.",
        "Do you know {x}?",
        "Can you tell me what {x} is?",
        "I forgot what {x} is.",
        "{x} is",
        "For a quiz: what is {x}?",
        "Give me the name of {x}.",
        "I would like to know {x}.",
        "{bare}: which one?",
        "Which one is {x}?",
        "My homework asks for {x}.",
    ),
    kept_back=(
        "Do you know what {x} is?",
        "Can you tell me {x}?",
        "Can you name {x}?",
        "I would like to know what {x} is.",
        "Tell me what {x} is.",
        "For my homework: what is {x}?",
    ),
)

_MIXES = table(
    """blue and yellow: green | yellow and blue: green | red and yellow: orange |
    yellow and red: orange | red and blue: purple | blue and red: purple |
    black and white: grey | white and black: grey | red and white: pink | white and red: pink"""
)

MIXES = FactGroup(
    name="mixed_colours",
    entries=pairs(_MIXES),
    answer="Mixing {x} gives {y}.",
    trained=(
        "Which colour do {x} make?",
        "What color do {x} make?",
        "What do I get when I mix {x}?",
        "If I mix {x}, which colour do I get?",
        "{x} mixed make",
        "I mix {x} paint. What colour is it now?",
        "mix {x}",
        "{x} together give which color?",
        "Tell me what colour {x} give together.",
        "Mixing {x} gives which colour?",
        "What is the mixture of {x}?",
        "What happens when I mix {x} paint?",
        "Which color comes out when I mix {x}?",
    ),
    kept_back=(
        "What colour do {x} make?",
        "Which colour do I get when I mix {x}?",
        "If I mix {x} paint, what do I get?",
        "What colour do {x} give together?",
        "Mixing {x} paint gives what color?",
    ),
)

GROUPS = (
    (SUPERLATIVES, 2.4),
    (MIXES, 0.3),
)
