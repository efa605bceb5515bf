"""Words and names to spell, repeat and sort: common ones, and made-up ones without end."""

from __future__ import annotations

from training.conversation import Source

_WORDS_TEXT = """
    able about above across act add after again age air all almost alone along also always among
    anger angle animal answer apple apron arch area arm army around arrow art ask atom aunt autumn
    avoid awake axe baby back bacon bad bag bake ball balloon banana band bank barn basket bath
    beach beak bean bear beard beauty bed bee beef before begin behind bell below belt bench berry
    best better between bicycle big bird birthday biscuit bite black blanket blue board boat body
    bone book boot border bottle bottom bowl box boy brain branch brave bread break breakfast
    breath brick bridge bright bring broom brother brown brush bucket build bulb bull burn bus
    bush butter butterfly button buy cabbage cable cage cake calm camel camera camp candle candy
    canoe captain car card care carpet carrot carry castle cat catch cave ceiling cellar centre
    chain chair chalk change cheap cheek cheese cherry chess chest chicken child chimney chin
    chocolate choose church circle circus city class clay clean clear clever climb clock close
    cloth cloud clown coach coal coast coat coffee coin cold collar colour comb come comet common
    compass cook cool copper coral corn corner cost cotton couch count country cousin cow crab
    cream crocodile crop cross crowd crown cry cup cupboard curtain curve cushion cycle dad daisy
    damp dance danger dark date daughter day deep deer desert desk diamond dice diet dinner dirt
    dish dive doctor dog doll dolphin donkey door dot double doubt dove down dragon draw drawer
    dream dress drink drive drop drum dry duck dull dust eagle ear early earn earth east easy eat
    edge egg eight elbow elephant empty end engine enjoy enter equal evening every exact exit eye
    face fact factory fair fall family famous far farm farmer fast father feather feed feel fence
    fern field fight fill film find finger fire first fish five flag flame flat float floor flour
    flower flute fly foam fog fold follow food foot forest forget fork forward fox frame free
    fresh friend frog front frost fruit full funny fur future game garage garden garlic gate
    gentle giant gift giraffe girl give glad glass globe glove glue goat gold good goose grain
    grand grape grass gravel great green grey ground group grow guard guess guest guitar habit
    hair half hall hammer hand handle happy harbour hard hare harvest hat hate head hear heart
    heat heavy hedge heel height helmet help hen herb hero hide high hill hint history hobby hold
    hole holiday home honest honey hook hope horn horse hospital hot hotel hour house humour
    hundred hungry hunt hurry ice idea inch ink insect inside iron island ivory jacket jam jar
    jaw jelly jewel job join joke journey joy judge juice jump jungle kangaroo keep kettle key
    kick kind king kitchen kite kitten knee knife knight knock knot know ladder lake lamb lamp
    land language large last late laugh lawn lazy lead leaf learn leather leave left leg lemon
    lend lesson letter lettuce library lid life lift light like lily lime line lion lip listen
    little lizard load lobster lock log lonely long look loose lose loud love low lucky lunch
    machine magic magnet make mango map marble march market mask match meadow meal measure meat
    medal medicine meet melon melt memory message metal middle mile milk mill mind minute mirror
    mist mistake mix model money monkey month moon morning moss moth mother motor mountain mouse
    mouth move mud muffin mushroom music mustard nail name narrow nation nature near neck needle
    neighbour nephew nest net never new news nice niece night nine noble noise noon north nose
    note nothing number nurse nut oak ocean octopus office often oil old olive onion only open
    orange orchard order other otter oven owl oyster page paint pair palace pan pancake paper
    parcel parent park parrot part party pass past paste path pause peace peach peanut pear pearl
    pebble pen pencil penguin people pepper perfect phone photo piano picnic picture piece pig
    pigeon pillow pilot pin pine pink pipe pirate place plain planet plant plate play please plum
    pocket poem poet point polite pond pony poor porridge port potato pound powder power present
    pretty price prince print prize problem promise proud pudding pull pump pumpkin puppet puppy
    purple purse push puzzle quality quarter queen question quick quiet quilt quiz rabbit race
    radio railway rain rainbow raisin raven reach read ready reason recipe record red remember
    repair rest rhythm ribbon rice rich ride right ring ripe river road roast robin robot rock
    rocket roof room root rope rose rough round row rubber rule run sad saddle safe sail salad
    salmon salt same sand sandwich sausage save scarf school science scissors sea seal seat second
    secret see seed seven shade shadow shallow shape shark sharp sheep sheet shelf shell ship
    shirt shoe shop shore short shoulder shout shovel show shower shut side silence silk silver
    simple sing sister skate skin skirt sky sleep sleeve slide slipper slow small smart smell
    smile smoke smooth snail snake snow soap sock sofa soft soil soldier son song soon sound soup
    sour south space spade sparrow speak spell spend spice spider spinach spoon sport spot spring
    square squirrel stable stairs stamp stand star start station steam steel stem step stick still
    stone stool storm story straight strange straw strawberry stream street string strong student
    sugar suit summer sun supper surprise swan sweater sweet swim swing sword table tail take tall
    tap taste taxi tea teacher team tear telephone tell ten tent theatre thick thin thing think
    thirsty thread three throat thumb thunder ticket tide tie tiger time tin tiny tired toad toast
    today toe together tomato tomorrow tongue tool tooth top torch tortoise touch towel tower town
    toy tractor traffic train travel treasure tree triangle trip trouble trousers truck trumpet
    trust truth tulip tunnel turkey turn turnip turtle twelve twin ugly umbrella uncle under
    uniform until useful valley van vase vegetable velvet village vine violin visit voice volcano
    voyage wait walk wall walnut walrus want warm wash wasp watch water wave wax weak wear weather
    week weight west wet whale wheat wheel whisper whistle white whole wide wild wind window wine
    wing winter wire wise wish wolf woman wonder wood wool word work world worm wrap wrist write
    yard yawn year yellow yesterday yogurt young zebra zero zipper zoo
"""
WORDS: tuple[str, ...] = tuple(_WORDS_TEXT.split())

_NAMES_TEXT = """
    Aaron Abigail Ada Adam Adele Ahmed Aisha Alan Alba Albert Alex Alice Amelia Amir Amy Ana
    Andrea Andrew Angela Anita Anna Anton Arthur Astrid Ava Barbara Beatrice Ben Bernard Bianca
    Boris Brian Bruno Camille Carla Carlos Carmen Caroline Cecilia Charles Chloe Chris Clara
    Claire Colin Cora Daisy Dan Daniel David Deborah Denis Diana Diego Dmitri Dora Edith Edward
    Elena Eli Elias Elif Elise Ella Emil Emily Emma Eric Erika Ernest Esther Ethan Eva Fatima
    Felix Finn Fiona Flora Frank Freya Gabriel George Gina Giulia Grace Greta Hana Hannah Harry
    Hassan Heidi Helen Henry Hugo Ian Ida Igor Ines Ingrid Irene Isaac Isabel Ivan Ivy Jack Jacob
    James Jan Jane Jasmine Javier Jean Jenny Joan Johan John Jonas Jorge Joseph Julia Julian June
    Kai Karim Karl Kate Keiko Kenji Kevin Kim Klara Lars Laura Lea Leila Lena Leo Leon Liam Lily
    Lina Linda Lisa Louis Lucas Lucy Luis Luna Mara Marco Maria Mario Mark Marta Martin Mary Matteo
    Maya Mia Michael Milan Mina Mira Mohamed Mona Monica Nadia Nancy Naomi Nico Nina Noah Nora Olga
    Oliver Olivia Omar Oscar Otto Paul Paula Pedro Peter Petra Philip Priya Rachel Raj Ravi Rita
    Robert Rosa Rose Ruben Ruth Ryan Sam Samira Sandra Sara Sasha Sean Simon Sofia Sonia Stella
    Sven Tara Theo Thomas Tim Tina Tom Uma Ursula Vera Victor Viola Walter Wendy William Xavier
    Yara Yasmin Yuki Yusuf Zara Zoe
"""
NAMES: tuple[str, ...] = tuple(_NAMES_TEXT.split())

_ONSETS_TEXT = """
    b c d f g h j k l m n p r s t v w z bl br ch cl cr dr fl fr gl gr pl pr qu sh sk sl sm sn sp
    st str sw th tr tw
"""
_VOWELS_TEXT = "a e i o u a e i o u ai ea ee ie oa oo ou"
_ENDINGS_TEXT = "b d g k l m n p r s t x ck ft ld ll mp nd ng nk nt rd rk rn sh ss st th y"
_ONSETS = tuple(_ONSETS_TEXT.split())
_VOWELS = tuple(_VOWELS_TEXT.split())
_ENDINGS = tuple(_ENDINGS_TEXT.split())
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def known_word(source: Source, *, longest: int = 99) -> str:
    """A common word, the same ones in training and in the test."""
    while len(word := source.pick(WORDS)) > longest:
        pass
    return word


def made_up_word(source: Source, *, longest: int = 99) -> str:
    """A word that does not exist; those of the test never occur in training.

    Of syllables, of the halves of two common words, or of letters without any order, so that
    each part that a tokeniser cuts words into is met next to any other.
    """
    while True:
        kind = source.rng.random()
        if kind < 0.45:
            word = "".join(
                source.pick(_ONSETS) + source.pick(_VOWELS) for _ in range(source.rng.randint(1, 2))
            ) + source.pick(_ENDINGS)
        elif kind < 0.85:
            head, tail = source.pick(WORDS), source.pick(WORDS)
            word = head[: source.rng.randint(2, 5)] + tail[-source.rng.randint(2, 5) :]
        else:
            word = "".join(source.pick(_ALPHABET) for _ in range(source.rng.randint(2, 6)))
        if 2 <= len(word) <= longest and source.may_see(word):
            return word


def any_word(source: Source, *, longest: int = 99, made_up: float = 0.4) -> str:
    """A common word or a made-up one."""
    if source.chance(made_up):
        return made_up_word(source, longest=longest)
    return known_word(source, longest=longest)


def different_words(source: Source, num: int, *, longest: int = 99) -> list[str]:
    """num words, no two equal, common ones and made-up ones."""
    words: list[str] = []
    while len(words) < num:
        word = any_word(source, longest=longest, made_up=0.25)
        if word not in words:
            words.append(word)
    return words
