"""What people want to do with fmedge, and how it is done."""

from __future__ import annotations

from training.families.topics import Entry, entry

TASKS: tuple[Entry, ...] = (
    entry(
        """load a real model | load a real model | use a real model | get a real model | run a
        real model | serve a real model | load a better model | get a bigger model | use a
        better model | load another model | serve a model | use a model from Hugging Face |
        serve a model from Hugging Face | load a model from Hugging Face | switch to a real
        model | replace the demonstration model""",
        "fmedge serve --model hf:ORG/REPO serves a model from Hugging Face, fmedge serve "
        "--model ./FILE.gguf one from a file.",
        "hf:ORG/REPO",
    ),
    entry(
        """load a GGUF file | serve a GGUF file | use a local model | use a model file | load a
        model from a file | use my own GGUF | serve a local file""",
        "Give its path: fmedge serve --model ./FILE.gguf",
        "./FILE.gguf",
    ),
    entry(
        "choose a quantisation | load a Q4_K_M file | pick the quantisation",
        "Name it after the repository: fmedge serve --model hf:ORG/REPO:Q4_K_M",
        "hf:ORG/REPO:Q4_K_M",
    ),
    entry(
        """chat in the terminal | talk to a model in the terminal | chat with a model | ask a
        model from the shell | ask one question | run a model without a server""",
        "fmedge run MODEL chats in the terminal; fmedge run MODEL PROMPT asks once.",
        "fmedge run MODEL",
    ),
    entry(
        "download a model | fetch a model | pull a model | download a model without serving it",
        "fmedge pull hf:ORG/REPO downloads it into Hugging Face's cache.",
        "fmedge pull",
    ),
    entry(
        """list my models | see which models I have | see the downloaded models | list the models
        on this machine""",
        "fmedge list lists the models on this machine.",
        "fmedge list",
    ),
    entry(
        "remove a model | delete a model | get rid of a downloaded model",
        "fmedge rm MODEL removes a downloaded model.",
        "fmedge rm",
    ),
    entry(
        """see what is running | see which models are in memory | check a running server | see
        the status of the server""",
        "fmedge ps shows what is running on a server, what is in memory, where and why.",
        "fmedge ps",
    ),
    entry(
        "load a model into a running server | load a model now",
        "fmedge load MODEL has a running server load it now.",
        "fmedge load",
    ),
    entry(
        "unload a model | free the memory of a model",
        "fmedge unload MODEL has a running server unload it.",
        "fmedge unload",
    ),
    entry(
        "see my devices | see how fast my hardware is | list the devices",
        "fmedge devices shows what models can run on here, and how fast it is.",
        "fmedge devices",
    ),
    entry(
        """see where a model would run | plan a model | know whether a model fits | see how fast
        a model would be""",
        "fmedge plan --model MODEL shows where it would run, how fast, and why not otherwise.",
        "fmedge plan",
    ),
    entry(
        """see why a request was slow | find out why a request went where it went | explain a
        decision | understand a routing decision""",
        "fmedge why ID shows the numbers behind the decision; the ID is in the header "
        "x-fmedge-request-id.",
        "fmedge why",
    ),
    entry(
        "benchmark a server | measure a server | measure an endpoint | put load on a server",
        "fmedge bench --url URL measures any OpenAI-compatible endpoint.",
        "fmedge bench",
    ),
    entry(
        "compare two benchmarks | find regressions | compare two runs",
        "fmedge bench diff BASE NEW finds what got worse.",
        "fmedge bench diff",
    ),
    entry(
        """simulate a cluster | try hardware before I buy it | know what a second card would
        bring""",
        "fmedge simulate --cluster FILE --workload WORKLOAD plays it in virtual time.",
        "fmedge simulate",
    ),
    entry(
        "emulate a cluster | serve a cluster that is not here",
        "fmedge serve --emulate FILE serves a described cluster in real time.",
        "--emulate",
    ),
    entry(
        "measure the speed of a model | profile a model | measure step times",
        "fmedge profile MODEL measures how long its engine steps take here.",
        "fmedge profile",
    ),
    entry(
        "check my configuration | check a config file | test my configuration",
        "fmedge config check FILE checks it.",
        "fmedge config check",
    ),
    entry(
        "see the version | find the version of fmedge | check which version I have",
        "fmedge version shows the versions of fmedge and its llama.cpp.",
        "fmedge version",
    ),
    entry(
        """use the devices of another machine | use a GPU in another machine | spread a model
        over two machines""",
        "Start fmedge device-server there, and add an [[rpc]] block with its endpoint to the "
        "configuration here.",
        "[[rpc]]",
    ),
    entry(
        "promise a latency | set an SLA | define an SLA class | promise a time to first token",
        "Add a section [sla.NAME] with ttft_ms or e2e_ms to the configuration.",
        "[sla.NAME]",
    ),
    entry(
        "promise a latency for one request | set an SLA for a single request",
        "Put sla with ttft_ms, tpot_ms or e2e_ms into the request's body.",
        "body",
    ),
    entry(
        "refuse requests that would be late | get 429 instead of a late answer",
        'Write on_miss = "refuse" into the class of service.',
        "on_miss",
    ),
    entry(
        "change the port | use another port | serve on port 9000",
        "Use --port: fmedge serve --port 9000",
        "--port",
    ),
    entry(
        "listen on all addresses | change the host | reach the server from another machine",
        "Use --host: fmedge serve --host 0.0.0.0",
        "--host",
    ),
    entry(
        "set an API key | protect the server with a key | ask for API keys",
        "Set api_key_file in [server] to a file with one API key a line.",
        "api_key_file",
    ),
    entry(
        """use the OpenAI client | connect with Python | connect the OpenAI library | use fmedge
        from Python | call the API""",
        "Set base_url to http://127.0.0.1:8080/v1 in the OpenAI client.",
        "http://127.0.0.1:8080/v1",
    ),
    entry(
        "give a model another name | set an alias | name a model",
        "Use --alias: fmedge serve --model MODEL --alias NAME",
        "--alias",
    ),
    entry(
        "serve several models | serve two models | use more than one model",
        "Repeat the option: fmedge serve --model A --model B",
        "--model A --model B",
    ),
    entry(
        "run more replicas | run a model twice | set the number of replicas",
        "Use --replicas: fmedge serve --model MODEL --replicas 2",
        "--replicas",
    ),
    entry(
        "set the context size | get a longer context | change the context length",
        "Use --ctx-size: fmedge serve --model MODEL --ctx-size 8192",
        "--ctx-size",
    ),
    entry(
        "use a config file | configure fmedge | set options in a file",
        "Write a TOML file and start fmedge serve --config FILE",
        "--config",
    ),
    entry(
        "use tools | call functions | give the model tools",
        "Send tools in the request to /v1/chat/completions, as with OpenAI.",
        "tools",
    ),
    entry(
        "force a JSON schema | get structured output | enforce a JSON schema",
        "Send response_format with your json_schema; decoding is then constrained to it.",
        "response_format",
    ),
    entry(
        "stream an answer | stream the tokens | get streaming",
        "Send stream: true in the request.",
        "stream: true",
    ),
    entry(
        "see the metrics | monitor fmedge | get Prometheus metrics",
        "GET /metrics gives them in Prometheus format.",
        "/metrics",
    ),
    entry(
        """check whether the server is healthy | do a health check | know that the server is
        ready""",
        "GET /health answers 200 when every model is ready.",
        "/health",
    ),
    entry(
        "estimate a request without running it | get an estimate of a request",
        "POST /v1/estimate tells what would be decided, and runs nothing.",
        "/v1/estimate",
    ),
    entry(
        "get embeddings | compute embeddings",
        "POST /v1/embeddings gives them.",
        "/v1/embeddings",
    ),
    entry(
        "install fmedge | try fmedge | start the demonstration",
        "make demo installs it into .venv, starts a server and asks one question.",
        "make demo",
    ),
    entry(
        "run the tests | test the source code",
        "make test runs them.",
        "make test",
    ),
    entry(
        "use a GPU | use my graphics card | run on CUDA",
        "Install llama-cpp-python with CMake options for your GPU before fmedge, such as "
        "-DGGML_CUDA=ON.",
        "-DGGML_CUDA=ON",
    ),
    entry(
        "record the requests | log requests for a replay | record a workload",
        "Use --record: fmedge serve --record requests.jsonl; texts are not written.",
        "--record",
    ),
    entry(
        "keep a model in memory | keep a model always loaded | pin a model",
        "Set pinned = true for the model.",
        "pinned",
    ),
    entry(
        "use workflows | mark the calls of an agent | send a workflow",
        "Send the headers x-fmedge-workflow and x-fmedge-workflow-id with every call.",
        "x-fmedge-workflow",
    ),
    entry(
        "switch off planning | place layers myself | decide the placement myself",
        'Set placement = "manual" in [server].',
        "manual",
    ),
)
