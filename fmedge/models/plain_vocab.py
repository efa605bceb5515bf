"""A vocabulary for models that are only described: about a token for each common English word, and
for every three letters of any other.

The rule: nothing is learned and nothing read, so that a vocabulary of a size is the same on every
machine. Its tokenizer is RWKV's, which takes the longest token that fits: it needs no merges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, product
from string import ascii_letters, ascii_lowercase, digits

from msgspec import Struct

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)

_VOWELS = "aeiou"
_CONSONANTS = "".join(letter for letter in ascii_lowercase if letter not in _VOWELS)
_WORDS = """
a about above across act add after again against age ago air all almost alone along already also
although always am among amount an and animal another answer any anything appear are area arm around
arrive art as ask assistant at attack away back bad bank base be bear beautiful became because
become bed been before began begin behind being believe below best better between big bird black
blood blue board boat body book both bottom box boy bring brother brought brown build building built
business but buy by call came can cannot car care carry case cat catch cause cell center century
certain chair chance change character check child children church circle city class clean clear
close cloud coast code cold color come common community company compare complete computer condition
consider contain continue control cook cool copy corn corner cost could count country couple course
cover create cross cry cup current cut dance dark data daughter day dead deal death decide decision
deep degree depend describe design detail develop did die difference different difficult dinner
direct direction discover discuss distance do doctor does dog dollar done door down draw dream dress
drink drive drop dry during each ear early earth east easy eat economy edge education effect effort
egg eight either electric else employ end enemy energy engine enjoy enough enter entire equal error
especially even evening event ever every everyone everything exact example except exercise expect
experience explain eye face fact factor fall family famous far farm fast father fear feel feet felt
few field fight figure file fill film final financial find fine finger finish fire first fish five
floor flow flower fly follow food foot for force foreign forest forget form forward found four free
fresh friend from front fruit full function future game garden gas gave general get girl give glass
go gold gone good got govern government great green grew ground group grow growth guess had hair
half hand happen happy hard has hat have he head health hear heard heart heat heavy held help her
here high him himself his history hit hold home hope horse hospital hot hotel hour house how however
huge human hundred husband ice idea if image important in include increase indeed industry
information inside instead interest into iron is island issue it item its itself job join just keep
key kill kind king knew know known lake land language large last late later laugh law lay lead learn
least leave left leg less let letter level lie life light like likely line list listen little live
local long look lose loss lost lot love low machine made main major make man manage many map mark
market matter may maybe me mean measure meat media medical meet member memory men message metal
method middle might mile milk million mind minute miss model modern moment money month moon more
morning most mother mountain mouth move much music must my name nation natural nature near necessary
need network never new news next night nine no nor north nose not note nothing notice now number
object ocean of off offer office often oil old on once one only open operate opportunity or order
other our out outside over own page paint pair paper parent part particular party pass past path
pattern pay peace people perhaps period person phone picture piece place plain plan plane plant play
please point police political poor popular position possible power practice prepare present
president press pretty price print private probably problem process produce product program project
proper protect prove provide public pull purpose push put quality question quick quiet quite race
radio rain raise ran rather reach read ready real really reason receive recent record red region
relate remain remember remove repeat reply report require research rest result return rich ride
right ring rise risk river road rock role roll room round row rule run safe said sail same sand sat
save saw say scale school science sea season seat second secret section see seed seem seen self sell
send sense sent sentence separate serve service set seven several shall shape share she ship short
should shoulder show side sign similar simple since sing single sister sit site six size skill skin
sky sleep slow small snow so social society soft soil soldier solution solve some someone something
son song soon sort sound source south space speak special speed spell spend spoke sport spring
square staff stage stand standard star start state station stay step still stone stood stop store
story straight strange street strong student study subject success such sudden suggest summer sun
support sure surface surprise system table take talk tall task teach teacher team technology tell
ten term test than thank that the their them themselves then theory there these they thick thin
thing think third this those though thought thousand three through throughout throw thus time tiny
to today together told tomorrow tone too took tool top total touch toward town trade train travel
treat tree trial trip trouble true trust truth try turn two type under understand unit until up upon
us use user users usual value various very view village visit voice wait walk wall want war warm was
wash watch water wave way we wear weather week weight well went were west what wheel when where
whether which while white who whole whose why wide wife wild will win wind window winter wish with
within without woman women wonder wood word work world worry would write written wrong year yellow
yes yesterday yet you young your
"""


class PlainVocab(Struct, frozen=True):
    r"""tokens: in id order, as GGUF writes RWKV's (bytes that are not printed as \xNN).
    num_text: so many of them are text; then come CONTROL_TOKENS, and others that nobody writes."""

    tokens: tuple[str, ...]
    num_text: int


def plain_vocab(size: int) -> PlainVocab:
    """Of `size` tokens: bytes first, then words, then letters by twos, threes and fours; control
    tokens that nobody writes fill up a very large one. ValueError for less than 259."""
    num_text = size - len(CONTROL_TOKENS)
    if num_text < 256:
        raise ValueError(f"a vocabulary has at least {256 + len(CONTROL_TOKENS)} tokens")
    texts = tuple(islice(_distinct(_texts()), num_text))
    filler = (f"<|reserved_{n}|>" for n in range(num_text - len(texts)))
    return PlainVocab((*texts, *CONTROL_TOKENS, *filler), len(texts))


def _distinct(texts: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for text in texts:
        if text not in seen:
            seen.add(text)
            yield text


def _texts() -> Iterator[str]:
    yield from (_escaped(byte) for byte in range(256))
    yield from ("\\n\\n", *(" " * n for n in (2, 3, 4, 8, 16)))
    yield from (mark + " " for mark in ",.;:!?")
    yield from (" " + mark for mark in "(\"'-=")
    yield from (" " + letter for letter in ascii_letters + digits)
    words = _WORDS.split()
    yield from (form for word in words for form in (" " + word, word))
    for n in (2, 3):
        yield from _parts([ascii_lowercase] * n)
    yield from (" " * is_first + word.capitalize() for word in words for is_first in (1, 0))
    yield from ("".join(figures) for n in (2, 3) for figures in product(digits, repeat=n))
    for pattern in ("cvcv", "cvvc", "vcvc", "vccv", "cvcc", "ccvc"):
        yield from _parts([_VOWELS if kind == "v" else _CONSONANTS for kind in pattern])


def _parts(letters: Sequence[str]) -> Iterator[str]:
    for part in product(*letters):
        yield "".join(part)
        yield " " + "".join(part)


def _escaped(byte: int) -> str:
    character = chr(byte)
    if character == "\\":
        return "\\\\"
    return (
        character
        if 32 <= byte < 127
        else {9: "\\t", 10: "\\n", 13: "\\r"}.get(byte, f"\\x{byte:02x}")
    )
