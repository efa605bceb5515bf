"""Questions about fmedge that have wordings of their own."""

from __future__ import annotations

from training.families.topics import Topic, topic

QUESTIONS: tuple[Topic, ...] = (
    topic(
        "fmedge listens on port 8080 by default.",
        "8080",
        """Which port does fmedge use? | What port is it? | What is the default port? | On which
        port does the server listen? | What is fmedge's port? | default port | Which port is
        the API on? | fmedge port? | What port does fmedge serve listen on? | Tell me the
        port.""",
        """Which port is the default? | Tell me the default port. | On which port is the API? |
        What port does the server use?""",
    ),
    topic(
        "The endpoint is http://127.0.0.1:8080/v1 by default.",
        "http://127.0.0.1:8080/v1",
        """What is the endpoint? | What is the URL of the server? | What is the base URL? | Where
        is the API? | What is the address of the API? | Which URL do I use? | What base_url do
        I set? | endpoint URL? | What is the API's URL? | Which address does fmedge listen on?
        | Tell me the endpoint of the server.""",
        """What is the URL of the API? | Which base URL do I use? | What is the address of the
        server? | Tell me the URL of the endpoint.""",
    ),
    topic(
        "fmedge is licensed under Apache-2.0.",
        "Apache-2.0",
        """What is the licence of fmedge? | Which licence does fmedge have? | How is fmedge
        licensed? | What license is it under? | Is fmedge open source? | Is fmedge free? |
        licence? | license | Under which licence is fmedge? | May I use fmedge at work? | What
        is fmedge's license? | Tell me the licence.""",
        """Tell me the license of fmedge. | Which license is it under? | Is fmedge free and open
        source? | Which licence is it?""",
    ),
    topic(
        "/v1/chat/completions, /v1/completions, /v1/embeddings and /v1/models.",
        "/v1/chat/completions",
        """Which endpoints are there? | Which OpenAI endpoints does fmedge have? | What endpoints
        does the API have? | List the endpoints. | Which parts of OpenAI's API does fmedge
        speak? | What does the API offer? | Which APIs does fmedge support? | endpoints? |
        Show me the OpenAI endpoints. | What OpenAI endpoints are supported?""",
        """List the OpenAI endpoints. | Which endpoints does the API have? | What endpoints are
        there? | Show me the endpoints of fmedge.""",
    ),
    topic(
        "Yes, fmedge speaks OpenAI's API: chat completions, completions, embeddings and models.",
        "Yes",
        """Is fmedge compatible with OpenAI? | Does fmedge speak OpenAI's API? | Can I use the
        OpenAI client with fmedge? | Does fmedge work with the OpenAI library? | Is the API
        OpenAI-compatible? | Do OpenAI clients work? | Does fmedge have an OpenAI API? | Will
        my OpenAI code work with fmedge?""",
        """Is fmedge OpenAI-compatible? | Does the OpenAI client work with fmedge? | Will OpenAI
        clients work with fmedge? | Does fmedge have an OpenAI-compatible API?""",
    ),
    topic(
        "fmedge serves GGUF models, on llama.cpp.",
        "GGUF",
        """Which models can fmedge serve? | What models does fmedge support? | Which model format
        does fmedge use? | What file format do models need? | Which models work with fmedge? |
        What kind of models can I load? | Which formats are supported? | What models can I
        run? | Does fmedge run GGUF?""",
        """What models can fmedge run? | Which file format does fmedge support? | What kind of
        models does fmedge serve? | Which models can I load?""",
    ),
    topic(
        "l_est = l_x + l_q + l_r: execution, queueing and what remains.",
        "l_x + l_q + l_r",
        """What is the formula of l_est? | How is l_est computed? | What are the parts of l_est?
        | Which terms does l_est have? | What does l_est consist of? | How do I compute l_est?
        | Give me the formula for l_est. | How does fmedge estimate latency? | What is in
        l_est? | What are l_x, l_q and l_r? | How is latency estimated?""",
        """What terms does l_est consist of? | How does fmedge compute l_est? | Give me the parts
        of l_est. | Which parts does l_est have?""",
    ),
    topic(
        "TTFT is the time to the first token, TPOT the average time for each token after it.",
        "TPOT",
        """What is the difference between TTFT and TPOT? | TTFT or TPOT? | How do TTFT and TPOT
        differ? | Explain TTFT and TPOT. | What are TTFT and TPOT? | Compare TTFT and TPOT. |
        What do TTFT and TPOT mean? | TTFT vs TPOT""",
        """How does TTFT differ from TPOT? | Compare TPOT and TTFT. | What is the difference of
        TTFT and TPOT? | Explain what TTFT and TPOT mean.""",
    ),
    topic(
        "Prefill reads the prompt, decoding writes the answer token by token.",
        "Prefill",
        """What is the difference between prefill and decode? | How do prefill and decode differ?
        | Explain prefill and decode. | What are prefill and decoding? | Compare prefill and
        decode. | prefill vs decode | What do prefill and decode do? | What is the difference
        between prefill and decoding?""",
        """How do prefill and decoding differ? | Compare prefill and decoding. | Explain the
        difference between prefill and decode. | What are prefill and decode?""",
    ),
    topic(
        "It is restarted, and its requests go on from the tokens already sent.",
        "restarted",
        """What happens when a worker crashes? | What happens if a worker dies? | Does a crash
        lose my request? | What if the backend crashes? | Does fmedge survive a crash? | What
        happens in a crash? | What if llama.cpp crashes? | What becomes of a worker that
        hangs? | What happens to requests when a replica dies? | Is a request lost when a
        worker is killed?""",
        """What if a worker dies? | What happens when the backend crashes? | Is my request lost
        in a crash? | What happens if a replica crashes?""",
    ),
    topic(
        "The slowest replica on which the promise holds, so that fast ones stay free.",
        "slowest",
        """Which replica does a request go to? | How does fmedge choose a replica? | How are
        requests routed? | Where does a request go? | How does routing work? | Which replica
        gets a request? | How does the router decide? | How is a replica chosen? | What does
        fmedge route on? | Which replica is taken?""",
        """How does the router choose a replica? | How does fmedge route requests? | Which
        replica does the router choose? | How does the router work?""",
    ),
    topic(
        "A request that would break its promise gets 429 with Retry-After, if its class says "
        "on_miss = refuse.",
        "429",
        """When does fmedge refuse a request? | Why did I get a 429? | What does 429 mean? | When
        do I get 429? | What happens when a promise cannot be kept? | Which status does a
        refused request get? | Why was my request refused? | What does sla_unattainable mean?""",
        """Why do I get a 429? | What happens when a request is refused? | When is a request
        refused? | Why did fmedge refuse my request?""",
    ),
    topic(
        "Linux with Python 3.11 or newer, and a C++ compiler.",
        "Linux",
        """What does fmedge need? | What are the requirements? | Which Python does fmedge need? |
        Which operating system does fmedge run on? | Does fmedge run on Linux? | What must be
        there to install fmedge? | Which version of Python is needed? | requirements? | On
        which systems does fmedge run? | What Python version do I need?""",
        """Which requirements does fmedge have? | Which version of Python does fmedge need? | On
        which operating system does fmedge run? | What are fmedge's requirements?""",
    ),
    topic(
        "fmedge is written in Python, with parts in C.",
        "Python",
        """What is fmedge written in? | Which programming language is fmedge written in? | In
        which language is fmedge written? | Is fmedge written in Python? | What language is
        fmedge in? | Is fmedge a Python program? | What is fmedge made of?""",
        """Which language is fmedge written in? | What programming language is fmedge in? | In
        what language is fmedge written? | Is fmedge in Python?""",
    ),
    topic(
        "No, models read text only: images, audio and files are refused.",
        "text only",
        """Does fmedge support images? | Can I send images? | Can fmedge read pictures? | Does
        fmedge take audio? | Can I send a file? | Does it support vision? | Are image inputs
        supported? | Can I send a picture to the model? | Does fmedge do speech?""",
        """Can I send audio? | Does fmedge support audio? | Are images supported? | Can I send a
        picture to fmedge?""",
    ),
    topic(
        "Models from Hugging Face lie in Hugging Face's own cache.",
        "cache",
        """Where are downloaded models stored? | Where does fmedge keep models? | Where do models
        lie? | In which folder are the models? | Where does fmedge pull store a model? | Where
        are my models? | Where do downloads go?""",
        """Where does fmedge store models? | Where are the downloaded models? | In which folder
        does fmedge keep models? | Where do downloaded models go?""",
    ),
    topic(
        "By default it listens on this machine alone and asks for no API key.",
        "no API key",
        """Do I need an API key? | Does fmedge ask for an API key? | Which API key do I use? | Is
        a key needed? | Is the server protected? | What is the API key? | Does the API need a
        key? | Is authentication on by default? | Who can reach the server?""",
        """Is an API key needed? | Does the server ask for a key? | Do I need a key for the API?
        | Which key does the API need?""",
    ),
    topic(
        "On loopback: 127.0.0.1, port 8080.",
        "127.0.0.1",
        """What address does fmedge bind to? | Which host is the default? | What is the default
        host? | Does fmedge listen on all interfaces? | On which interface does fmedge listen?
        | Is fmedge open to the network? | What is the default address?""",
        """Which address is the default? | What interface does fmedge listen on? | On which host
        does fmedge listen? | What is fmedge's default host?""",
    ),
    topic(
        "Flags win over the environment, and the environment over the file.",
        "Flags",
        """Which setting wins, flag or file? | What wins, the environment or the file? | In which
        order are settings read? | Do flags win over the config file? | What has priority,
        flag or environment? | Which has priority, the file or a flag?""",
        """What wins, a flag or the file? | Which wins, the environment or a flag? | Do flags win
        over the environment?""",
    ),
    topic(
        "0.9: a promise shall hold with that probability.",
        "0.9",
        """What is the default target of an SLA? | With which probability does a promise hold? |
        What is the default of target? | How sure is a promise? | What target does a class
        have by default? | What probability does an SLA have?""",
        """What is the target by default? | Which probability does a class have? | With what
        probability does an SLA hold?""",
    ),
    topic(
        "fmedge, and to compare with it round_robin, least_outstanding, power_of_two, "
        "speed_weighted, highest_load.",
        "round_robin",
        """Which policies are there? | What policies does fmedge have? | Which routing policies
        can I use? | What can policy be? | List the policies. | Which values does --policy
        take? | What other policies are there?""",
        """List the routing policies. | What policies are there? | Which policies does fmedge
        have?""",
    ),
    topic(
        "fmedge serve and fmedge run use the embedded demonstration model when none is given.",
        "embedded",
        """What happens without a model? | Which model is the default? | What does fmedge serve
        without a model? | Which model runs when I give none? | What is the default model? |
        What if I give no model? | Does fmedge run without a model?""",
        """What model is the default? | What happens if I give no model? | Which model does
        fmedge serve without --model?""",
    ),
    topic(
        "Yes, where llama.cpp was built for it; this is reviewed but not yet measured.",
        "llama.cpp",
        """Does fmedge support GPUs? | Can fmedge use a GPU? | Does fmedge run on NVIDIA cards? |
        Is there GPU support? | Does it work with CUDA? | Does fmedge use the graphics card? |
        Are GPUs supported?""",
        """Is CUDA supported? | Does fmedge work with GPUs? | Is there support for NVIDIA? | Can
        it use a GPU?""",
    ),
    topic(
        "Yes, function tools: arguments always follow their schema, as decoding is constrained.",
        "schema",
        """Does fmedge support tools? | Does fmedge support function calling? | Are tools
        supported? | Does tool calling work? | Is function calling supported? | Does fmedge do
        tool calls?""",
        """Does fmedge support tool calling? | Does function calling work? | Are tool calls
        supported?""",
    ),
    topic(
        "No, only downloading models needs the internet.",
        "downloading",
        """Does fmedge need the internet? | Does fmedge work offline? | Can I run fmedge without
        a connection? | Does fmedge send data to the cloud? | Is the internet needed for
        fmedge? | Does fmedge call home?""",
        """Can I run fmedge offline? | Does fmedge need a connection? | Does fmedge work without
        the internet?""",
    ),
    topic(
        "In docs/: api.md, config.md, planning.md, latency.md and more; start with README.md.",
        "README.md",
        """Where is the documentation? | Is there documentation? | Where can I read more about
        fmedge? | Where are the docs? | docs? | How do I learn more about fmedge? | Where do I
        find help on fmedge? | Which documents should I read?""",
        """Where do I find the documentation? | Where can I find the docs? | Where can I learn
        more about fmedge?""",
    ),
    topic(
        "For workstations and on-prem servers with hardware of their own.",
        "workstations",
        """Who is fmedge for? | For whom is fmedge made? | What hardware is fmedge for? | Where
        would I use fmedge? | Why would I use fmedge? | What is fmedge good for? | On what
        machines does fmedge make sense?""",
        """Who would use fmedge? | What machines is fmedge for? | For what hardware is fmedge
        made?""",
    ),
)
