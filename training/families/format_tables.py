"""What to answer in a given form: claims that hold or not, one-word questions, things by kind."""

from __future__ import annotations

from typing import NamedTuple


class Claim(NamedTuple):
    """verb: is, are, can or have; the last two: what holds of the subject, and what does not."""

    verb: str
    subject: str
    true: str
    false: str


_CLAIMS_TEXT = """
is|fire|hot|cold
is|ice|cold|hot
is|snow|white|black
is|grass|green|blue
is|blood|red|green
is|milk|white|black
is|water|wet|dry
is|sugar|sweet|salty
is|honey|sweet|bitter
is|a lemon|sour|salty
is|the Sun|a star|a planet
is|the Earth|a planet|a star
is|the Earth|round|flat
is|Mars|a planet|a star
is|the Moon|smaller than the Earth|larger than the Earth
is|the Sun|larger than the Earth|smaller than the Earth
is|Paris|in France|in Spain
is|London|in England|in Italy
is|Rome|in Italy|in Germany
is|Berlin|in Germany|in France
is|Madrid|in Spain|in Greece
is|Tokyo|in Japan|in China
is|Europe|a continent|a country
is|Africa|a continent|a city
is|Japan|a country|a city
is|gold|a metal|a fruit
is|iron|a metal|a gas
is|oxygen|a gas|a metal
is|a dog|an animal|a plant
is|a cat|an animal|a fruit
is|a rose|a flower|an animal
is|an oak|a tree|a fish
is|a shark|a fish|a bird
is|a whale|a mammal|a fish
is|an eagle|a bird|a fish
is|a penguin|a bird|a fish
is|a bee|an insect|a bird
is|a banana|a fruit|a vegetable
is|an apple|a fruit|a tool
is|a carrot|a vegetable|an animal
is|a hammer|a tool|a fruit
is|a piano|an instrument|an animal
is|a chair|a piece of furniture|an animal
is|a square|a shape|a colour
is|red|a colour|a number
is|blue|a colour|a shape
is|Monday|a day|a month
is|July|a month|a day
is|winter|a season|a colour
is|an elephant|larger than a mouse|smaller than a mouse
is|an ant|smaller than a dog|larger than a dog
is|a kilometre|longer than a metre|shorter than a metre
is|a minute|shorter than an hour|longer than an hour
is|a feather|light|heavy
is|two|an even number|an odd number
is|three|an odd number|an even number
is|ten|larger than five|smaller than five
is|the sea|salty|sweet
is|the night|dark|bright
is|summer|warmer than winter|colder than winter
is|glass|made from sand|made from milk
is|bread|made from flour|made from sand
is|cheese|made from milk|made from wood
is|paper|made from wood|made from milk
is|a car|a vehicle|a plant
are|bananas|yellow|blue
are|tomatoes|red|blue
are|elephants|large|tiny
are|mice|small|huge
are|whales|mammals|birds
are|ants|insects|birds
are|lions|animals|plants
are|roses|flowers|animals
are|snails|slow|fast
are|stones|hard|soft
are|pillows|soft|hard
can|birds|fly|read
can|fish|swim|drive a car
can|dogs|bark|fly
can|cats|climb|fly
can|horses|run|fly
can|bees|fly|talk
can|frogs|jump|read
can|people|think|breathe under water
can|stones|break|think
can|trees|grow|walk
can|cows|walk|fly
have|cats|four legs|two legs
have|dogs|four legs|six legs
have|birds|two legs|four legs
have|spiders|eight legs|six legs
have|insects|six legs|four legs
have|birds|feathers|fur
have|fish|fins|wings
have|elephants|trunks|wings
have|triangles|three sides|five sides
have|squares|four sides|three sides
have|cars|wheels|wings
have|trees|roots|wheels
have|people|two eyes|three eyes
have|zebras|stripes|wings
"""
CLAIMS: tuple[Claim, ...] = tuple(
    Claim(*line.split("|")) for line in _CLAIMS_TEXT.strip().splitlines()
)

_ONE_WORD_TEXT = """
What is the capital of France?|Paris
What is the capital of Germany?|Berlin
What is the capital of Italy?|Rome
What is the capital of Spain?|Madrid
What is the capital of Japan?|Tokyo
What is the capital of Portugal?|Lisbon
What is the capital of Austria?|Vienna
What is the capital of Poland?|Warsaw
What is the capital of Egypt?|Cairo
What is the capital of Greece?|Athens
What is the capital of Norway?|Oslo
What is the capital of Sweden?|Stockholm
What is the capital of Canada?|Ottawa
What is the capital of Kenya?|Nairobi
What is the capital of Peru?|Lima
What colour is grass?|Green
What colour is the sky on a clear day?|Blue
What colour is snow?|White
What colour is blood?|Red
What colour is a ripe banana?|Yellow
What colour is coal?|Black
What is the opposite of hot?|Cold
What is the opposite of big?|Small
What is the opposite of up?|Down
What is the opposite of black?|White
What is the opposite of day?|Night
What is the opposite of open?|Closed
What is the opposite of old?|Young
What is the opposite of fast?|Slow
What is the opposite of wet?|Dry
What is the opposite of left?|Right
What is the opposite of early?|Late
What is a young dog called?|Puppy
What is a young cat called?|Kitten
What is a young sheep called?|Lamb
What is the largest planet?|Jupiter
Which planet do we live on?|Earth
What is the largest ocean?|Pacific
What is the largest animal?|Whale
What is the fastest land animal?|Cheetah
What is the tallest animal?|Giraffe
What is frozen water called?|Ice
What do bees make?|Honey
What do cows give?|Milk
What day comes after Monday?|Tuesday
What day comes after Friday?|Saturday
What day comes before Thursday?|Wednesday
What month comes after March?|April
What month comes after June?|July
What month comes before December?|November
What season comes after winter?|Spring
What season comes after summer?|Autumn
What letter comes after A?|B
What is the first month of the year?|January
What is the last month of the year?|December
What is the plural of mouse?|Mice
What is the plural of child?|Children
What is the plural of foot?|Feet
What is the past tense of go?|Went
What is the past tense of see?|Saw
What language do people speak in France?|French
What language do people speak in Germany?|German
What language do people speak in Italy?|Italian
What continent is Egypt in?|Africa
What continent is Spain in?|Europe
What continent is Japan in?|Asia
How many legs does a spider have?|Eight
How many legs does a dog have?|Four
How many days does a week have?|Seven
How many months does a year have?|Twelve
How many sides does a triangle have?|Three
"""
ONE_WORD: tuple[tuple[str, str], ...] = tuple(
    (question, answer)
    for question, _, answer in (line.partition("|") for line in _ONE_WORD_TEXT.strip().splitlines())
)

_KINDS_TEXT = """
fruit: apple banana pear cherry plum peach grape mango melon strawberry
animal: dog cat horse cow lion tiger sheep goat rabbit elephant
colour: red blue green yellow purple brown black white grey
vehicle: car bus train bicycle lorry tractor tram van
tool: hammer saw drill pliers spanner screwdriver
musical instrument: piano guitar violin flute drum trumpet cello
city: Paris London Rome Berlin Madrid Tokyo Vienna Cairo Oslo
country: France Spain Italy Germany Japan Brazil Egypt Norway Kenya
drink: water milk tea coffee juice lemonade
piece of furniture: table chair bed sofa desk wardrobe
part of the body: arm nose knee elbow shoulder chin
piece of clothing: shirt hat coat scarf jacket jumper
day: Monday Tuesday Wednesday Thursday Friday Saturday Sunday
month: January February April June July August October December
vegetable: carrot onion potato cabbage lettuce spinach leek
metal: iron gold silver copper tin zinc
number: two three five seven eight eleven twenty
flower: rose tulip daisy lily daffodil
building: house church castle school hospital tower
sport: football tennis hockey golf rugby
"""
KINDS: dict[str, tuple[str, ...]] = {
    kind: tuple(names.split())
    for kind, _, names in (line.partition(": ") for line in _KINDS_TEXT.strip().splitlines())
}
