"""fmedge's terms and commands, and what is to be said of each."""

from __future__ import annotations

from training.families.topics import Entry, entry

TERMS: tuple[Entry, ...] = (
    entry(
        "fmedge | fmedge | fmedge | this program | the fmedge server",
        "fmedge serves foundation models from your own hardware, behind an OpenAI-compatible "
        "endpoint.",
        "OpenAI-compatible",
    ),
    entry(
        "l_est | l_est | l_est | L_EST | the latency estimate l_est",
        "l_est is fmedge's estimate of a request's latency: l_est = l_x + l_q + l_r "
        "(execution, queueing, remaining).",
        "l_x + l_q + l_r",
    ),
    entry(
        "l_x | l_x | L_X | the term l_x",
        "l_x is execution: the prefill of what is not cached, then decoding.",
        "execution",
    ),
    entry(
        "l_q | l_q | L_Q | the term l_q",
        "l_q is queueing: the time until a replica starts the request's prefill.",
        "queueing",
    ),
    entry(
        "l_r | l_r | L_R | the term l_r",
        "l_r is what remains beside this call: the rest of its workflow, and the load of a "
        "model that is not in memory.",
        "remains",
    ),
    entry(
        "TTFT | TTFT | ttft | the time to first token",
        "TTFT is the time to the first token of an answer.",
        "first token",
    ),
    entry(
        "TPOT | TPOT | tpot | the time per output token",
        "TPOT is the average time for each token after the first.",
        "after the first",
    ),
    entry(
        "ttft_ms | the setting ttft_ms",
        "ttft_ms is the promised time to the first token, in milliseconds.",
        "first token",
    ),
    entry(
        "tpot_ms | the setting tpot_ms",
        "tpot_ms is the promised average time for each further token, in milliseconds.",
        "further token",
    ),
    entry(
        "e2e_ms | the setting e2e_ms",
        "e2e_ms is the promised time to the last token, in milliseconds.",
        "last token",
    ),
    entry(
        "an SLA | SLA | SLAs | an SLA promise | a latency promise",
        "An SLA is a promise about latency: to the first token, per token, or to the end of "
        "the answer.",
        "promise",
    ),
    entry(
        "a class of service | an SLA class | a service class",
        "A class of service promises times to its requests; [sla.NAME] in the configuration "
        "defines it.",
        "[sla.NAME]",
    ),
    entry(
        "best effort | a best-effort request",
        "A best-effort request has no promise: it gets what the promises leave, shared fairly"
        " between API keys.",
        "fairly",
    ),
    entry(
        "prefill | prefill | the prefill phase | prompt processing",
        "Prefill is the phase in which the model reads the prompt, before the first token "
        "comes out.",
        "prompt",
    ),
    entry(
        "decode | decoding | the decode phase",
        "Decoding is the phase in which the model writes the answer, token by token.",
        "token by token",
    ),
    entry(
        "chunked prefill",
        "Chunked prefill splits a long prompt, so that it does not stall the streams beside it.",
        "long prompt",
    ),
    entry(
        "the KV cache | KV cache | a KV cache | the kv cache",
        "The KV cache holds the attention keys and values of tokens, so that they need not be"
        " computed again.",
        "keys and values",
    ),
    entry(
        "a shared prefix | prefix caching | the prefix cache",
        "A prefix that prompts share is computed once and copied, across running and finished"
        " requests.",
        "once",
    ),
    entry(
        "a replica | replica | replicas | a model's replica",
        "A replica is one running copy of a model, in a worker process of its own.",
        "copy",
    ),
    entry(
        "a worker | the worker process | a worker process",
        "A worker is the process that runs one replica of a model on llama.cpp.",
        "process",
    ),
    entry(
        "the front | fmedge's front",
        "The front is fmedge's main process: it takes requests and owns every decision.",
        "decision",
    ),
    entry(
        "goodput | goodput | the goodput",
        "Goodput is how many promises are kept per unit of time.",
        "kept",
    ),
    entry(
        "attainment | SLA attainment",
        "Attainment is the share of promises that held.",
        "share",
    ),
    entry(
        "the profiler | a profile | profiling | the fmedge profiler",
        "The profiler measures how long a replica's engine steps take on this hardware; "
        "estimates are made from it.",
        "measures",
    ),
    entry(
        "the provisioner | the Resource Provisioner | fmedge's provisioner",
        "The Resource Provisioner plans which models are loaded, as how many replicas, and "
        "which layers lie on which device.",
        "layers",
    ),
    entry(
        "the router | fmedge's router | the request router",
        "The router sends a request to the slowest replica on which its promise holds, so "
        "that fast ones stay free.",
        "slowest",
    ),
    entry(
        "the scheduler | fmedge's scheduler",
        "The scheduler estimates each request on each replica, and places, orders, moves or "
        "refuses it so that promises hold.",
        "estimates",
    ),
    entry(
        "continuous batching",
        "Continuous batching lets requests join and leave the running batch at any step.",
        "join and leave",
    ),
    entry(
        "constrained decoding",
        "Constrained decoding lets the model write only what a JSON schema, regular "
        "expression or grammar allows.",
        "grammar",
    ),
    entry(
        "a workflow | workflows | an fmedge workflow",
        "A workflow is one promise for a task of several calls, such as an agent's.",
        "several calls",
    ),
    entry(
        "a device server | the device server",
        "A device server offers a machine's devices to a fmedge elsewhere; fmedge "
        "device-server starts one.",
        "device-server",
    ),
    entry(
        "a slot | slots | the setting slots",
        "Slots are how many sequences a replica decodes at once.",
        "sequences",
    ),
    entry(
        "GGUF | a GGUF file | the GGUF format",
        "GGUF is the file format of llama.cpp for models: weights, vocabulary and settings in"
        " one file.",
        "llama.cpp",
    ),
    entry(
        "quantisation | quantization | a quantised model",
        "Quantisation stores a model's weights in fewer bits, such as Q8_0 or Q4_K_M, to save"
        " memory.",
        "fewer bits",
    ),
    entry(
        "Q8_0 | the quantisation Q8_0",
        "Q8_0 is a quantisation with between 8 and 9 bits per weight.",
        "8 and 9",
    ),
    entry(
        "Q4_K_M | the quantisation Q4_K_M",
        "Q4_K_M is a quantisation with between 4 and 5 bits per weight.",
        "4 and 5",
    ),
    entry(
        "llama.cpp | llama cpp",
        "llama.cpp is the library on which fmedge runs GGUF models.",
        "library",
    ),
    entry(
        "ctx_size | the setting ctx_size | the context size",
        "ctx_size is the longest request, prompt and output together, in tokens.",
        "longest request",
    ),
    entry(
        "a pinned model | pinned | the setting pinned",
        "A pinned model is always loaded and never unloaded for another one.",
        "never unloaded",
    ),
    entry(
        "keep_alive_s | the setting keep_alive_s",
        "keep_alive_s is how many seconds an unused model stays loaded; 0 means until its "
        "memory is needed.",
        "loaded",
    ),
    entry(
        "on_miss | the setting on_miss",
        "on_miss says what becomes of a request whose promise cannot be kept: best_effort, or"
        " refuse with 429.",
        "429",
    ),
    entry(
        "residency",
        "Residency decides which models are in memory.",
        "memory",
    ),
    entry(
        "a cluster file | the cluster file",
        "A cluster file describes devices and models that need not be here, for fmedge "
        "simulate and fmedge serve --emulate.",
        "simulate",
    ),
    entry(
        "emulation | an emulated replica | --emulate",
        "Emulation serves a described cluster in real time: its answers mean nothing, its "
        "times do.",
        "real time",
    ),
    entry(
        "the embedded model | --model embedded | the demonstration model",
        "The embedded model is the tiny demonstration that fmedge serves when no other model "
        "is given.",
        "demonstration",
    ),
    entry(
        "x-fmedge-request-id | the request id",
        "x-fmedge-request-id is the answer's header that names the request; fmedge why takes it.",
        "header",
    ),
)

COMMANDS: tuple[Entry, ...] = (
    entry(
        "fmedge serve | fmedge serve | `fmedge serve` | serve",
        "fmedge serve serves models through an OpenAI-compatible API, on port 8080.",
        "8080",
    ),
    entry(
        "fmedge run | fmedge run | `fmedge run`",
        "fmedge run chats with a model in the terminal, or asks it once.",
        "terminal",
    ),
    entry(
        "fmedge pull | fmedge pull | `fmedge pull`",
        "fmedge pull downloads a model from Hugging Face.",
        "downloads",
    ),
    entry(
        "fmedge list | `fmedge list`",
        "fmedge list lists the models on this machine.",
        "lists",
    ),
    entry(
        "fmedge rm | `fmedge rm`",
        "fmedge rm removes a downloaded model.",
        "removes",
    ),
    entry(
        "fmedge ps | `fmedge ps`",
        "fmedge ps shows what is running on a server, what is in memory, where and why.",
        "running",
    ),
    entry(
        "fmedge load | `fmedge load`",
        "fmedge load has a running server load a model now.",
        "load a model",
    ),
    entry(
        "fmedge unload | `fmedge unload`",
        "fmedge unload has a running server unload a model.",
        "unload a model",
    ),
    entry(
        "fmedge why | fmedge why | `fmedge why` | fmedge why ID",
        "fmedge why shows why a request went where it went, with the estimated and the "
        "observed times.",
        "observed",
    ),
    entry(
        "fmedge workflows | `fmedge workflows`",
        "fmedge workflows shows how workflows keep their promise, and what would help.",
        "would help",
    ),
    entry(
        "fmedge profile | `fmedge profile`",
        "fmedge profile measures how long a model's engine steps take here.",
        "steps",
    ),
    entry(
        "fmedge simulate | fmedge simulate | `fmedge simulate` | simulate",
        "fmedge simulate plays a workload to a described cluster, in virtual time.",
        "virtual time",
    ),
    entry(
        "fmedge bench | fmedge bench | `fmedge bench` | bench",
        "fmedge bench puts load on an OpenAI-compatible server and measures it.",
        "measures",
    ),
    entry(
        "fmedge bench diff | `fmedge bench diff`",
        "fmedge bench diff compares two runs of fmedge bench and finds regressions.",
        "regressions",
    ),
    entry(
        "fmedge plan | fmedge plan | `fmedge plan` | plan",
        "fmedge plan shows which model would run where, how fast, and why not otherwise.",
        "why not otherwise",
    ),
    entry(
        "fmedge devices | `fmedge devices`",
        "fmedge devices shows what models can run on here, and how fast it is.",
        "how fast",
    ),
    entry(
        "fmedge device-server | `fmedge device-server`",
        "fmedge device-server offers this machine's devices to a fmedge elsewhere.",
        "elsewhere",
    ),
    entry(
        "fmedge config check | `fmedge config check`",
        "fmedge config check checks a configuration file.",
        "configuration",
    ),
    entry(
        "fmedge doctor | `fmedge doctor`",
        "fmedge doctor finds what keeps fmedge from serving well here, and says what to do.",
        "what to do",
    ),
    entry(
        "fmedge completion | `fmedge completion`",
        "fmedge completion prints what a shell needs to complete fmedge's commands.",
        "shell",
    ),
    entry(
        "fmedge version | `fmedge version`",
        "fmedge version shows the versions of fmedge and its llama.cpp.",
        "versions",
    ),
)
