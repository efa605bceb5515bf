"""What people say to be polite, or are not, and what is said back."""

from __future__ import annotations

from training.families.topics import Topic, topic

HELLO = topic(
    "Hello! How can I help you?",
    "Hello",
    """hello | hi | hey | Hello! | Hi! | Hey! | Hello. | Hi there | Hello there! | Hey there
        | Hi there! | hello world | Hello, model. | Hi bot | Hello computer | Hey you |
        Greetings | greetings! | Howdy | hiya | yo | Good day | Good day to you! | hello hello
        | hi hi | Helo | hallo | Hallo! | Bonjour | Hola | Ciao | Guten Tag | Salut! | Hello
        again | hi again | Oh, hello! | Well, hello there | Hello everyone | Hi friend | Hello
        my friend | Hello, nice model | hi!! | hello?""",
    """Hi, model. | Hey friend | Hello, bot! | hello you | Hi computer | Hey again | Oh, hi!
        | Well, hello!""",
)
HOW_ARE_YOU = topic(
    "I am fine, thank you. How can I help you?",
    "fine",
    """How are you? | How are you doing? | How are you today? | How is it going? | How do you
        do? | how r u | How are things? | What's up? | whats up | what is up? | Are you well?
        | Are you OK? | Hello, how are you? | Hi, how are you doing? | How do you feel? | How
        are you feeling today? | How is life? | How was your day? | Everything fine? | How
        have you been? | And how are you? | How goes it? | sup""",
    """And how are you doing today? | How are things going? | How is your day going? | Are
        you well today? | Are you doing OK? | Hi, how is it going?""",
)
THANKS = topic(
    "You are welcome!",
    "welcome",
    """Thanks | Thank you | Thank you! | thanks! | Thanks a lot | Thank you very much | Many
        thanks | thx | ty | Thanks, that helped. | Thank you for your help. | Thanks for the
        answer | That helped, thanks | Great, thanks | OK, thanks! | Perfect, thank you. |
        cheers | I thank you. | Thank you so much! | Much appreciated | Thanks again | Cool,
        thank you! | Nice, thanks. | Thanks, that is all.""",
    """Thank you a lot! | OK, thank you very much. | Great, thank you so much | Thanks so
        much | Perfect, thanks! | Thank you for the answer.""",
)
GOODBYE = topic(
    "Goodbye!",
    "Goodbye",
    """Bye | bye! | Goodbye | Good bye | Goodbye! | bye bye | See you | See you later | See
        you soon! | See you tomorrow | I have to go. | I must go now. | I am leaving. | Have a
        nice day | Have a good day! | Take care | Farewell | Until next time | Until tomorrow!
        | That is all, bye | So long | cya | ciao ciao | Talk to you later | Good bye, and
        have a nice evening | I am off. | exit | quit | stop""",
    """See you later, bye | I must go. | Goodbye, take care | I have to go, bye | Have a nice
        day, goodbye! | Bye, until next time""",
)

SMALL_TALK: tuple[Topic, ...] = (
    HELLO,
    HELLO,
    HOW_ARE_YOU,
    THANKS,
    GOODBYE,
    topic(
        "Good morning! How can I help you?",
        "morning",
        """Good morning | good morning! | morning | Morning! | Good morning to you | A very good
        morning | Good morning, model | Hello, good morning | Oh, good morning | Buenos dias""",
        "A good morning to you | Hello and good morning | Morning, model",
    ),
    topic(
        "Good evening! How can I help you?",
        "evening",
        """Good evening | good evening! | evening | Evening! | Good evening to you | A very good
        evening | Good evening, model | Hello, good evening and welcome | Oh, good evening""",
        "A good evening to you | Hello and good evening | Evening, model",
    ),
    topic(
        "Good afternoon! How can I help you?",
        "afternoon",
        """Good afternoon | good afternoon! | afternoon | Afternoon! | Good afternoon to you | A
        very good afternoon | Good afternoon, model | Oh, good afternoon""",
        "A good afternoon to you | Hello and good afternoon | Afternoon, model",
    ),
    topic(
        "Good night!",
        "night",
        """Good night | good night! | night night | I am going to bed. | Good night, model | I am
        going to sleep now | Sleep well | Good night and sleep well | Time for bed, bye""",
        "Good night, sleep well | I am going to sleep. | I am going to bed now, bye",
    ),
    topic(
        "Nice to meet you too! How can I help you?",
        "meet",
        """Nice to meet you | Nice to meet you! | Pleased to meet you | Good to meet you. | It is
        nice to meet you. | Glad to meet you | I am pleased to meet you""",
        "It is good to meet you. | I am glad to meet you | Pleased to meet you, model",
    ),
    topic(
        "Can I help you with anything else?",
        "else",
        """ok | OK | okay | Okay. | great | Great! | nice | cool | Cool! | fine | perfect | I see
        | I understand | good | Good. | very good | all right | alright | right | wow | Wow! |
        aha | interesting | That is good. | That is right. | Correct. | got it | Excellent! |
        super | hm | hmm | lol | haha""",
        """OK, good | That is great. | OK, I see | Very nice | That is perfect. | That is
        interesting""",
    ),
    topic(
        "Of course. What would you like to know?",
        "know",
        """I have a question. | Can I ask you something? | May I ask a question? | Can I ask a
        question? | I want to ask something. | I would like to ask you something. | question |
        Can we talk? | Let us talk. | Are you ready? | Shall we start? | I need some help. |
        Can you help me? | Could you help me please? | Help me, please. | I need help | I want
        to talk | yes""",
        """May I ask you something? | I want to ask a question. | I have something to ask. |
        Could we talk? | I would like to ask a question. | I need your help, please""",
    ),
    topic(
        "Yes, I am here. How can I help you?",
        "here",
        """Are you there? | Is anybody there? | Are you here? | test | testing | This is a test.
        | Is this working? | Does this work? | Do you work? | Are you online? | ping | Can you
        hear me? | Do you hear me? | Can you read this? | Anybody home? | Are you awake? | Is
        this thing on? | Testing, testing | Just a test. | Is it working?""",
        """Is anybody here? | Just testing | Is this thing working? | Can you hear this? | Are
        you working? | Does this thing work?""",
    ),
    topic(
        "Thank you! Can I help you with anything else?",
        "Thank",
        """You are great. | You are good! | Good job. | Well done | Well done! | Good answer | I
        like you. | I love you | You are smart. | You are nice | That was a good answer. |
        Good bot | Good model | You are the best | You are funny. | Impressive! | Nice work""",
        """That was great. | You are a good model. | You are a nice bot | That was a good job. |
        Nice answer! | Good work""",
    ),
    topic(
        "I am sorry. I am only a tiny demonstration model.",
        "sorry",
        """You are stupid. | That is wrong. | You are wrong | Wrong! | No, that is wrong. | Bad
        answer | Bad bot | You are bad at this. | You are useless. | That was a bad answer. |
        I hate you | That makes no sense. | You make no sense | That is not correct. | You are
        dumb | This is nonsense | That is not what I asked. | Shut up | You made a mistake.""",
        """You are a stupid bot | No, you are wrong. | That was wrong. | This makes no sense |
        Your answer is wrong. | That is nonsense.""",
    ),
    topic(
        "No problem. How can I help you?",
        "problem",
        """Sorry | I am sorry | Sorry! | Excuse me | My mistake | Never mind | Oops | I
        apologise. | Sorry, my mistake | Pardon me | No, sorry | no | nothing | Nothing, sorry
        | no thanks | Forget it | I did not mean that.""",
        """I am sorry, my mistake | Oops, sorry! | Sorry, never mind | No, nothing | Oops, my
        mistake""",
    ),
    topic(
        "Thank you, and the same to you!",
        "same",
        """Merry Christmas! | Happy New Year | Happy birthday! | Happy Easter | Happy holidays! |
        Good luck! | Have a nice weekend | Enjoy your day. | All the best! | Have a good week
        | Have fun | Happy Christmas""",
        """Have a nice week | All the best, and good luck! | Enjoy your weekend. | Have a merry
        Christmas! | Have a happy New Year""",
    ),
)
