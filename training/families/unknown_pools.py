"""What a request may be about."""

from __future__ import annotations

from training.families.topics import phrases

POOLS: dict[str, tuple[str, ...]] = {
    "topic": phrases(
        """love | autumn | the sea | my cat | artificial intelligence | climate change |
        friendship | the future of work | robots | the moon | democracy | a lonely lighthouse
        | dragons | my boss | solar panels | the stock market | space travel | electric cars |
        social media | happiness | ancient Rome | the French Revolution | the Cold War | black
        holes | evolution | jazz music | modern art | chess | football | cricket | gardening |
        yoga | coffee | chocolate | rain | snow in the mountains | a brave knight | a talking
        fish | time travel | pirates | the internet | data privacy | open source software |
        remote work | leadership | school uniforms | homework | vegetarian food | fast fashion
        | plastic waste | nuclear power | wind turbines | the ocean | whales | honey bees |
        migration | poverty | free speech | inflation | taxes | pensions | cryptocurrency |
        blockchain | quantum computers | machine learning | neural networks | cloud computing
        | cyber security | video games | board games | photography | opera | ballet | theatre
        | philosophy | religion | ethics | psychology | dreams | memory | sleep | stress |
        meditation | running a marathon | cycling | sailing | hiking | camping | knitting |
        baking | wine | tea ceremonies | street food | trains | airports | bridges | castles |
        cathedrals | the pyramids | Vikings | samurai | knights | queens | dinosaurs |
        volcanoes | earthquakes | hurricanes | deserts | rainforests | the Arctic | penguins |
        tigers | horses | birthdays | weddings | a new job | moving house | growing old |
        childhood | grandparents | brothers | a lost key | a haunted house | a garden at night
        | the last train | a broken clock"""
    ),
    "text": phrases(
        """poem | short story | haiku | song | essay | limerick | speech | blog post | letter |
        sonnet | fairy tale | rap | play | article | novel | joke | riddle | press release |
        report | diary entry | screenplay | tweet | newsletter | script | review | ballad |
        lullaby | fable | toast"""
    ),
    "language": phrases(
        """French | German | Spanish | Italian | Japanese | Chinese | Russian | Arabic | Latin |
        Dutch | Swedish | Polish | Turkish | Greek | Portuguese | Korean | Hindi | Finnish |
        Danish | Welsh | Swahili | Hebrew | Czech | Norwegian | Klingon"""
    ),
    "sentence": phrases(
        """good morning | I love you | where is the station? | the book is on the table | thank
        you very much | how much does it cost? | I would like a coffee | the weather is nice
        today | see you tomorrow | my name is Bond | I am lost | the cat sleeps | we are going
        home | happy birthday | the train is late | please close the door | I do not
        understand | she reads a newspaper"""
    ),
    "coding": phrases(
        """Python | Java | JavaScript | Rust | Go | C | C++ | Haskell | Ruby | Bash | SQL | HTML
        | CSS | Perl | Kotlin | Swift | TypeScript | Lisp | Fortran | assembly"""
    ),
    "task": phrases(
        """sorts a list | reads a file | reverses a string | computes prime numbers | downloads a
        web page | parses dates | draws a circle | connects to a database | sends an email |
        finds duplicates | checks a password | plays tic-tac-toe | computes Fibonacci numbers
        | counts words | resizes images | renames files | solves a maze | merges two lists |
        trains a neural network | scrapes prices | validates addresses | shuffles cards |
        rolls dice | simulates a bank"""
    ),
    "food": phrases(
        """pancakes | lasagne | apple pie | fried rice | tomato soup | sourdough bread | curry |
        pizza | chocolate cake | pasta carbonara | ramen | paella | goulash | scrambled eggs |
        risotto | hummus | meatballs | cheesecake | tacos | dumplings | an omelette | a good
        steak | sushi"""
    ),
    "illness": phrases(
        """a headache | a sore throat | back pain | a fever | insomnia | diabetes | asthma | a
        cold | high blood pressure | a broken arm | hay fever | migraine | anxiety |
        depression | a cough | toothache | food poisoning | a rash | heartburn | a sprained
        ankle | flu | dizziness"""
    ),
    "celebrity": phrases(
        """Albert Einstein | William Shakespeare | Napoleon | Marie Curie | Mozart | Beethoven |
        Picasso | Isaac Newton | Charles Darwin | Ada Lovelace | Alan Turing | Julius Caesar |
        Cleopatra | Leonardo da Vinci | Galileo | Abraham Lincoln | Nelson Mandela | Gandhi |
        Elvis Presley | the Beatles | Queen Victoria | Genghis Khan | Aristotle | Plato |
        Socrates | Sigmund Freud | Karl Marx | Jane Austen | Charles Dickens | Agatha Christie
        | Mark Twain | Vincent van Gogh | Johann Sebastian Bach | Nikola Tesla | Steve Jobs |
        Bill Gates | Elon Musk | Taylor Swift | the Pope | the president | the king of England
        | the prime minister | Linus Torvalds"""
    ),
    "title": phrases(
        """Hamlet | Star Wars | the Odyssey | Don Quixote | Moby Dick | Faust | the Bible |
        Titanic | The Lord of the Rings | Harry Potter | Casablanca | War and Peace | Carmen |
        Frankenstein | Dracula | Macbeth | The Matrix | Jaws | Bambi | Alice in Wonderland |
        Robinson Crusoe"""
    ),
    "place": phrases(
        """London | New York | Paris | Berlin | Tokyo | Rome | Sydney | Mumbai | Chicago | Munich
        | Madrid | Lisbon | Vienna | Oslo | Toronto | Boston | Cairo | Lima | Seoul | Bangkok
        | Hamburg | Edinburgh | Dublin | Zurich | Prague | Texas | California | my town | the
        Alps | Hawaii"""
    ),
    "event": phrases(
        """the Second World War | the Battle of Hastings | the moon landing | the fall of the
        Berlin Wall | the Olympic Games | the World Cup | the Industrial Revolution | the
        American Civil War | the Black Death | the Renaissance | the Great Fire of London |
        the gold rush | the Russian Revolution | the Thirty Years War | the Boston Tea Party |
        the first flight | the Magna Carta"""
    ),
    "concept": phrases(
        """existentialism | quantum entanglement | photosynthesis | general relativity | string
        theory | supply and demand | game theory | feudalism | stoicism | dark matter |
        mitosis | osmosis | nihilism | surrealism | the Krebs cycle | plate tectonics |
        natural selection | capitalism | gradient descent | backpropagation | a transformer
        network | Bayes' theorem | entropy | the uncertainty principle | a hedge fund | an
        exchange-traded fund | a mortgage | game design | object-oriented programming | a
        monad | a linked list | a binary tree | public key cryptography | the Doppler effect |
        the greenhouse effect | karma | cubism | the Turing test | gerrymandering | the Higgs
        boson | impressionism | utilitarianism | inertia | catalysis | superconductivity"""
    ),
    "category": phrases(
        """opera composers | Norwegian poets | Greek philosophers | science fiction novels |
        board games | startups | French cheeses | Roman emperors | film directors | guitar
        chords | chess openings | yoga poses | wine regions | sorting algorithms | Shakespeare
        plays | Nobel laureates | bands from the eighties | baby names | business ideas | gift
        ideas | beaches in Spain | museums in Rome | restaurants near me | good books | famous
        paintings | diseases of the skin | jazz albums"""
    ),
    "purchase": phrases(
        """laptop | phone | car | bicycle | camera | sofa | guitar | tent | washing machine |
        printer | coffee machine | mattress | pair of shoes | graphics card | television |
        house | watch"""
    ),
    "problem": phrases(
        """my code does not compile | my neighbour is too loud | I cannot sleep | I lost my
        passport | my plant is dying | my computer is slow | my boss is angry with me | I
        failed my exam | my dog does not eat | my car does not start | I am bored | I am
        lonely | my wifi is down | I feel sad"""
    ),
    "function": phrases(
        """x^2 | sin(x) | cos(x) | e^x | ln(x) | x^3 + 2x | 1/x | tan(x) | x sin(x) | sqrt(x) |
        5x^4"""
    ),
    "creature": phrases("animal | creature | monster | beast | bird | insect"),
}
"""What fills a slot of this name. A tenth of each is kept for the test."""
