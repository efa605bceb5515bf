"""`make demo`: serve the embedded model, ask it one question, stream the answer, stop."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
READY_TIMEOUT_S = 60.0
QUESTION = "What is the capital of France?"
EXPECTED = "Paris"


def main() -> int:
    """Returns 0 when the right answer was streamed to its end."""
    with tempfile.TemporaryDirectory(prefix="fmedge-demo-") as folder:
        serve = [sys.executable, "-m", "fmedge", "serve", "--port", "0"]
        # What is set for another server names no model here.
        env = {key: value for key, value in os.environ.items() if not key.startswith("FMEDGE_")}
        log = Path(folder) / "server.log"
        with log.open("wb") as out:
            # its stdout is ours
            server = subprocess.Popen(serve, cwd=ROOT, env=env, stderr=out)
        try:
            return ask(wait_ready(server, log))
        finally:
            stop(server)


def wait_ready(server: subprocess.Popen[bytes], log: Path) -> str:
    """The server's base URL, from its ready line; SystemExit with its log if it does not come."""
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline_s:
        text = log.read_text(errors="replace")
        if found := re.search(r"https?://[\w.\[\]:-]+:\d+", text):
            return found.group(0)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=0.05)
            break
    raise SystemExit(f"demo: the server did not become ready:\n{log.read_text(errors='replace')}")


def ask(base_url: str) -> int:
    """Streams one answer to the terminal and prints its speed."""
    import openai  # the real client: what the demonstration is about

    print(f"Server ready at {base_url}. Asking: {QUESTION}\n", flush=True)
    client = openai.OpenAI(base_url=f"{base_url}/v1", api_key="none", timeout=60, max_retries=0)
    started_s = time.perf_counter()
    ttft_s = None
    usage = None
    answer = finish_reason = ""
    stream = client.chat.completions.create(
        model="embedded",
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=200,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        usage = chunk.usage or usage
        if not chunk.choices:
            continue
        finish_reason = chunk.choices[0].finish_reason or finish_reason
        if text := chunk.choices[0].delta.content:
            ttft_s = ttft_s or time.perf_counter() - started_s
            answer += text
            sys.stdout.write(text)
            sys.stdout.flush()
    elapsed_s = time.perf_counter() - started_s
    if usage is None or ttft_s is None:
        print("demo: the stream ended without an answer", file=sys.stderr)
        return 1
    print(
        f"\n\n{usage.completion_tokens} tokens in {elapsed_s:.2f} s: "
        f"{usage.completion_tokens / elapsed_s:.0f} tokens/s, first token after "
        f"{ttft_s * 1000:.0f} ms."
    )
    if EXPECTED not in answer or finish_reason != "stop":
        print(f"demo: no {EXPECTED!r}, or no end of its own ({finish_reason})", file=sys.stderr)
        return 1
    return 0


def stop(server: subprocess.Popen[bytes]) -> None:
    """Ends the server: politely, then not."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(server.pid, signal.SIGTERM)
    try:
        server.wait(timeout=15)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait(timeout=5)


if __name__ == "__main__":
    sys.exit(main())
