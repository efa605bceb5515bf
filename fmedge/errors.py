"""One exception tree. Every error a user can cause says what was wrong and what to do.

`FmedgeError` subclasses are the only exceptions that cross a layer on purpose. `http/errors.py`
alone maps them to HTTP statuses; `cli` alone maps them to exit codes.
"""

from __future__ import annotations


class FmedgeError(Exception):
    """Base of all errors that fmedge raises on purpose."""


class ConfigError(FmedgeError):
    """A config file, environment variable or flag is wrong; the message names it."""


class NativeError(FmedgeError):
    """llama.cpp or one of our kernels reported a failure."""


class ModelLoadError(NativeError):
    """A model could not be loaded; carries llama.cpp's last log lines in the message."""


class OutOfMemoryError(NativeError):
    """A device could not hold what was asked of it."""


class KvCacheFullError(NativeError):
    """No KV cells for the batch: free or preempt sequences, then step again."""


class StepAbortedError(NativeError):
    """The step in flight was aborted on request; KV of its ubatches may be partly written."""


class DeviceError(FmedgeError):
    """A device cannot be used: its server is down, is none, or says what cannot be."""


class ModelFileError(FmedgeError):
    """A model file is missing, broken, truncated or not a GGUF."""


class ModelNotFoundError(FmedgeError):
    """No model of that name is served or stored."""


class DownloadError(FmedgeError):
    """A model could not be fetched; nothing that looks whole was left behind."""


class RequestError(FmedgeError):
    """The client's request is wrong: HTTP 400 unless a subclass says otherwise.

    param: the offending field (OpenAI's `param`), or None.
    code: OpenAI's machine-readable `code`.
    """

    def __init__(
        self, message: str, *, param: str | None = None, code: str = "invalid_request"
    ) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class ContextLengthError(RequestError):
    """The prompt (plus the least output) does not fit the context; both numbers are in the text."""

    def __init__(self, num_prompt_tokens: int, ctx_size: int) -> None:
        super().__init__(
            f"The prompt has {num_prompt_tokens} tokens, but this model serves at most "
            f"{ctx_size} tokens of prompt and output together (at least 1 is needed for output). "
            "Shorten the prompt, or start the server with a larger --ctx-size.",
            param="messages",
            code="context_length_exceeded",
        )
        self.num_prompt_tokens = num_prompt_tokens
        self.ctx_size = ctx_size


class ConflictError(RequestError):
    """The request names what belongs to another API key: HTTP 409."""


class UnavailableError(FmedgeError):
    """Not now: loading, draining, or full. HTTP 503, or 429 where `is_overload`.

    retry_after_s: what `Retry-After` shall say. request_id: of a refusal with a decision that can
    be looked up; 0 none.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float,
        code: str,
        is_overload: bool = False,
        request_id: int = 0,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.code = code
        self.is_overload = is_overload
        self.request_id = request_id


class GenerationFailedError(FmedgeError):
    """This request alone failed on the replica's side: HTTP 500 with the reason."""


class ReplicaLostError(FmedgeError):
    """A worker process ended or hung; its requests resume elsewhere."""
