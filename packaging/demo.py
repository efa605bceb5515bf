"""`make demo`: write a demonstration model, serve it, ask one question, stream the answer, stop."""

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


def main() -> int:
    """Returns 0 when an answer was streamed to its end."""
    with tempfile.TemporaryDirectory(prefix="fmedge-demo-") as folder:
        model = Path(folder) / "demo.gguf"
        print(
            "No trained model is embedded yet: this demonstration serves a GGUF that it writes\n"
            "itself, with random weights and a real tokenizer. The answer will be word salad;\n"
            "everything between the question and the answer is real.\n",
            flush=True,
        )
        writer = [sys.executable, "-m", "tests.synthetic", "--preset", "demo", "-o", str(model)]
        subprocess.run(writer, cwd=ROOT, check=True, timeout=300)
        serve = [sys.executable, "-m", "fmedge", "serve", "--model", str(model)]
        serve += ["--alias", "demo", "--port", "0"]
        log = Path(folder) / "server.log"
        with log.open("wb") as out:
            server = subprocess.Popen(serve, cwd=ROOT, stderr=out)  # its stdout is ours
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
    stream = client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=64,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        usage = chunk.usage or usage
        if chunk.choices and (text := chunk.choices[0].delta.content):
            ttft_s = ttft_s or time.perf_counter() - started_s
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
