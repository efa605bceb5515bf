"""Kinds of things, each with examples in the one order in which they are listed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of things by its names in the plural, its name in the singular and its examples.

    is_whole: the examples are all that there are.
    """

    plurals: tuple[str, ...]
    singular: str
    examples: tuple[str, ...]
    is_whole: bool = False


_WHOLE = (
    "planets, planets of the solar system | planet | "
    "Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus, Neptune",
    "continents | continent | "
    "Africa, Antarctica, Asia, Australia, Europe, North America, South America",
    "oceans | ocean | Pacific, Atlantic, Indian, Southern, Arctic",
    "colours of the rainbow, rainbow colors | colour of the rainbow | "
    "red, orange, yellow, green, blue, indigo, violet",
    "vowels | vowel | a, e, i, o, u",
    "senses | sense | sight, hearing, smell, taste, touch",
    "primary colours, primary colors | primary colour | red, yellow, blue",
    "Scandinavian countries | Scandinavian country | Denmark, Norway, Sweden",
)

_EXAMPLES = (
    "fruits, kinds of fruit | fruit | "
    "apple, banana, orange, pear, grape, cherry, strawberry, lemon, mango, plum",
    "vegetables, kinds of vegetables | vegetable | "
    "carrot, potato, onion, cabbage, spinach, broccoli, pea, bean, cucumber, leek",
    "colours, colors | colour | "
    "red, blue, green, yellow, orange, purple, black, white, brown, pink",
    "animals | animal | dog, cat, horse, cow, lion, elephant, bear, rabbit, monkey, tiger",
    "wild animals | wild animal | "
    "lion, tiger, bear, wolf, fox, deer, elephant, giraffe, zebra, hippo",
    "farm animals | farm animal | cow, pig, sheep, goat, hen, horse, duck, goose, donkey, turkey",
    "pets | pet | dog, cat, hamster, rabbit, goldfish, parrot, guinea pig, canary, mouse, tortoise",
    "birds | bird | robin, eagle, owl, sparrow, swan, duck, pigeon, crow, parrot, penguin",
    "fishes, kinds of fish | kind of fish | "
    "salmon, tuna, cod, trout, herring, carp, pike, eel, mackerel, sardine",
    "insects | insect | ant, bee, butterfly, beetle, fly, wasp, mosquito, moth, dragonfly, cricket",
    "mammals | mammal | dog, cat, whale, horse, elephant, bat, mouse, bear, dolphin, lion",
    "reptiles | reptile | snake, lizard, crocodile, turtle, tortoise, alligator, gecko, iguana",
    "sea animals, animals that live in the sea | sea animal | "
    "whale, shark, dolphin, octopus, crab, seal, squid, jellyfish, lobster, starfish",
    "flowers | flower | rose, tulip, daisy, lily, sunflower, violet, orchid, daffodil, poppy, iris",
    "trees | tree | oak, pine, birch, maple, beech, willow, ash, fir, chestnut, palm",
    "countries | country | "
    "France, Germany, Italy, Spain, Japan, China, India, Brazil, Canada, Egypt",
    "European countries, countries in Europe | European country | "
    "France, Germany, Italy, Spain, Portugal, Poland, Greece, Sweden, Norway, Austria",
    "African countries, countries in Africa | African country | "
    "Egypt, Kenya, Nigeria, Ghana, Morocco, Ethiopia, Senegal, Tunisia, Uganda, Zambia",
    "Asian countries, countries in Asia | Asian country | "
    "China, Japan, India, Thailand, Vietnam, Nepal, Indonesia, Malaysia, Pakistan, Mongolia",
    "South American countries, countries in South America | South American country | "
    "Brazil, Argentina, Chile, Peru, Colombia, Venezuela, Ecuador, Uruguay, Paraguay, Guyana",
    "cities | city | Paris, London, Rome, Berlin, Madrid, Tokyo, New York, Cairo, Sydney, Vienna",
    "European cities, cities in Europe | European city | "
    "Paris, London, Rome, Berlin, Madrid, Vienna, Prague, Lisbon, Athens, Oslo",
    "capitals, capital cities | capital city | "
    "Paris, London, Rome, Berlin, Madrid, Tokyo, Cairo, Vienna, Lisbon, Ottawa",
    "German cities, cities in Germany | German city | "
    "Berlin, Hamburg, Munich, Cologne, Frankfurt, Stuttgart, Leipzig, Dresden, Bremen, Hanover",
    "languages | language | "
    "English, French, German, Spanish, Italian, Chinese, Arabic, Russian, Japanese, Hindi",
    "rivers | river | "
    "Nile, Amazon, Danube, Rhine, Thames, Seine, Volga, Ganges, Mississippi, Congo",
    "mountains | mountain | "
    "Mount Everest, K2, Mont Blanc, Kilimanjaro, Mount Fuji, Matterhorn, Ben Nevis, Denali",
    "currencies | currency | euro, dollar, pound, yen, yuan, rupee, franc, peso, krona, real",
    "musical instruments, instruments | musical instrument | "
    "piano, violin, guitar, flute, drum, trumpet, cello, harp, clarinet, organ",
    "sports, kinds of sport | sport | "
    "football, tennis, basketball, swimming, running, cycling, hockey, boxing, golf, rugby",
    "hobbies | hobby | "
    "reading, painting, cooking, gardening, dancing, singing, fishing, knitting, hiking, chess",
    "tools | tool | hammer, saw, screwdriver, drill, pliers, spanner, axe, file, chisel, spade",
    "body parts, parts of the body | part of the body | "
    "head, arm, leg, hand, foot, knee, shoulder, back, neck, elbow",
    "organs | organ | heart, lung, liver, kidney, stomach, brain, skin, bladder",
    "clothes, pieces of clothing | piece of clothing | "
    "shirt, trousers, dress, skirt, jacket, coat, hat, sock, scarf, glove",
    "drinks | drink | water, milk, tea, coffee, juice, lemonade, cocoa, beer, wine, cider",
    "dairy products | dairy product | milk, cheese, butter, yoghurt, cream, ice cream",
    "spices | spice | pepper, cinnamon, ginger, paprika, nutmeg, saffron, cumin, turmeric",
    "herbs | herb | basil, parsley, mint, thyme, rosemary, sage, oregano, dill",
    "nuts | nut | walnut, hazelnut, almond, cashew, pecan, pistachio, chestnut, macadamia",
    "berries | berry | strawberry, raspberry, blueberry, blackberry, cranberry, gooseberry",
    "desserts | dessert | ice cream, cake, pudding, pie, pancake, waffle, trifle, brownie",
    "jobs, professions | job | "
    "teacher, doctor, nurse, baker, farmer, pilot, cook, carpenter, lawyer, painter",
    "school subjects | school subject | "
    "maths, English, history, geography, biology, chemistry, physics, music, art, sport",
    "vehicles | vehicle | car, bus, train, bicycle, lorry, ship, aeroplane, tram, motorbike, van",
    "car makers, car brands | car maker | "
    "Toyota, Ford, Volkswagen, Honda, Fiat, Renault, Volvo, Nissan, Mazda, BMW",
    "metals | metal | iron, gold, silver, copper, tin, lead, zinc, nickel, aluminium, platinum",
    "chemical elements, elements | chemical element | "
    "hydrogen, helium, carbon, nitrogen, oxygen, sodium, iron, copper, silver, gold",
    "gases | gas | oxygen, nitrogen, hydrogen, helium, carbon dioxide, argon, neon, methane",
    "gemstones, precious stones | gemstone | "
    "diamond, ruby, emerald, sapphire, amethyst, topaz, opal, garnet",
    "programming languages | programming language | "
    "Python, Java, C, C++, JavaScript, Go, Rust, Ruby, Swift, Kotlin",
    "operating systems | operating system | Linux, Windows, macOS, Android, iOS",
    "shapes | shape | circle, square, triangle, rectangle, oval, pentagon, hexagon, star",
    "pieces of furniture, furniture items | piece of furniture | "
    "table, chair, bed, sofa, shelf, desk, wardrobe, cupboard, bench, stool",
    "rooms, rooms in a house | room | "
    "kitchen, bedroom, bathroom, living room, dining room, hall, cellar, attic",
    "family members, relatives | family member | "
    "mother, father, sister, brother, grandmother, grandfather, aunt, uncle, cousin, niece",
    "feelings, emotions | feeling | joy, anger, fear, sadness, love, pride, hope, envy",
    "toys | toy | ball, doll, kite, puzzle, teddy bear, yo-yo, spinning top, skipping rope",
    "computer parts, parts of a computer | part of a computer | "
    "processor, memory, disk, keyboard, screen, mouse, fan, graphics card",
    "school things, things in a school bag | thing in a school bag | "
    "pen, pencil, ruler, eraser, book, notebook, scissors, glue",
    "adjectives | adjective | big, small, happy, sad, fast, slow, old, young, good, bad",
    "verbs | verb | go, run, eat, sleep, read, write, see, play, think, work",
    "nouns | noun | house, tree, dog, car, book, table, child, river, city, bread",
)


def _kind(line: str, *, is_whole: bool) -> Kind:
    plurals, singular, examples = line.split(" | ")
    return Kind(tuple(plurals.split(", ")), singular, tuple(examples.split(", ")), is_whole)


KINDS = (
    *(_kind(line, is_whole=True) for line in _WHOLE),
    *(_kind(line, is_whole=False) for line in _EXAMPLES),
)
