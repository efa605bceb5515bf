"""What runs where, end to end: layers over device servers that come and go, models that take
turns, a context that is too large."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from tests.device_servers import device_servers
from tests.e2e.server import ROOT, Server, serve
from tests.synthetic import cached

DEADLINE_S = 90.0
MESSAGES: Any = [{"role": "user", "content": "Tell me a long story"}]


def fmedge(server: Server, *args: str) -> subprocess.CompletedProcess[str]:
    """A client verb against this server."""
    return subprocess.run(
        [sys.executable, "-m", "fmedge", *args, "--url", server.url],
        cwd=server.log.parent,
        env={**psutil.Process().environ(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def status(server: Server) -> dict[str, Any]:
    shown = fmedge(server, "ps", "--json")
    assert shown.returncode == 0, shown.stderr
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def config(folder: Path, *lines: str) -> str:
    path = folder / "fmedge.toml"
    path.write_text("\n".join(['[server]\nprofile = "prior"', *lines]) + "\n")
    return str(path)


def ask(client: openai.OpenAI, model: str, **fields: Any) -> str:
    answer = client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=24, temperature=0, **fields
    )
    return answer.choices[0].message.content or ""


def client_of(server: Server) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=DEADLINE_S
    )


@pytest.fixture
def whole(server: Server) -> str:
    """What the same model says where it lies in one piece."""
    with client_of(server) as client:
        return ask(client, "tiny")


def layer_devices(server: Server, model: str) -> dict[str, list[str]]:
    """By replica that is loaded, the devices that its layers were planned on."""
    return {
        replica["replica"]: [part["device"] for part in replica["placement"] if
                             part["tensors"] == "all"]
        for entry in status(server)["residency"]
        if entry["model"] == model
        for replica in entry["replicas"]
        if replica["state"] == "loaded"
    }  # fmt: skip


def rpc_lines(endpoints: dict[str, str]) -> list[str]:
    return [
        f'[[rpc]]\nname = "{name}"\nendpoint = "{endpoint}"' for name, endpoint in endpoints.items()
    ]


async def until(server: Server, model: str, devices: set[str]) -> None:
    """Wait until the model's layers lie on just these devices."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + DEADLINE_S
    while True:
        found = await asyncio.to_thread(layer_devices, server, model)
        if found and all(set(names) == devices for names in found.values()):
            return
        assert loop.time() < deadline_s, f"{found}\n{server.text()}"


def test_layers_lie_on_device_servers_and_say_what_they_say_in_one_piece(
    tiny_model: Path, tmp_path: Path, whole: str
) -> None:
    with device_servers((1, 1.0), (1, 1.0)) as servers:
        endpoints = {f"box{i}": one.endpoint for i, one in enumerate(servers)}
        file = config(
            tmp_path,
            f'[[model]]\nmodel = "{tiny_model}"\nname = "tiny"\nslots = 2\n'
            'devices = ["box1", "box0"]\ntensor_split = [1, 2]\ngpu_layers = 99',
            *rpc_lines(endpoints),
        )
        with serve(tmp_path, ["--config", file]) as server, client_of(server) as client:
            assert ask(client, "tiny") == whole
            assert layer_devices(server, "tiny") == {"tiny/0": ["box1", "box0"]}
            assert "is not as planned" not in server.text()
            shown = fmedge(server, "ps")
            assert "box1" in shown.stdout


async def test_a_device_server_that_dies_costs_a_pause_and_not_the_stream(
    tiny_model: Path, tmp_path: Path, whole: str
) -> None:
    with device_servers((1, 1.0)) as (box,):
        file = config(
            tmp_path,
            f'[[model]]\nmodel = "{tiny_model}"\nname = "tiny"\nslots = 2\nctx_size = 1024\n'
            "gpu_layers = 99",
            *rpc_lines({"box": box.endpoint}),
        )
        with serve(tmp_path, ["--config", file]) as server:
            await until(server, "tiny", {"box"})
            async with openai.AsyncOpenAI(
                base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=DEADLINE_S
            ) as client:
                stream = await client.chat.completions.create(
                    model="tiny", messages=MESSAGES, max_tokens=400, temperature=0, stream=True,
                    extra_body={"ignore_eos": True}, stream_options={"include_usage": True},
                )  # fmt: skip
                text, num_tokens, is_killed = "", 0, False
                async for chunk in stream:
                    text += "".join(c.delta.content or "" for c in chunk.choices)
                    if len(text) > 40 and not is_killed:
                        is_killed = True
                        box.kill()
                    if chunk.usage:
                        num_tokens = chunk.usage.completion_tokens
            assert is_killed
            assert num_tokens == 400
            assert text.startswith(whole[: len(whole) // 2])
            assert set(layer_devices(server, "tiny").values().__iter__().__next__()) == {"CPU"}
            assert "is gone" in server.text()


def test_models_that_do_not_fit_together_take_turns(tmp_path: Path) -> None:
    models = {name: cached("tiny", n_layers=n) for name, n in (("one", 2), ("two", 3))}
    file = config(
        tmp_path,
        *(
            f'[[model]]\nmodel = "{path}"\nname = "{name}"\nslots = 2\nctx_size = 1024\n'
            'devices = ["box"]\ngpu_layers = 99'
            for name, path in models.items()
        ),
    )
    with device_servers((1, 0.0045)) as (box,):
        with open(file, "a") as out:
            out.write("\n".join(rpc_lines({"box": box.endpoint})))
        with serve(tmp_path, ["--config", file]) as server, client_of(server) as client:
            first = ask(client, "one")
            second = ask(client, "two")
            assert ask(client, "one") == first
            assert ask(client, "two") == second
            assert server.text().count("unloading") >= 2, server.text()
            loaded = fmedge(server, "load", "one")
            assert loaded.returncode == 0, loaded.stderr
            states = {m["model"]: m["state"] for m in status(server)["residency"]}
            assert states == {"one": "loaded", "two": "unloaded"}
            gone = fmedge(server, "unload", "one")
            assert gone.returncode == 0, gone.stderr
            assert fmedge(server, "unload", "three").returncode == 1


def test_what_fits_nowhere_is_refused_with_what_would_help(
    tiny_model: Path, tmp_path: Path
) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "fmedge", "serve", "--port", "0", "--model", str(tiny_model),
         "--ctx-size", "2000000", "--slots", "64"],
        cwd=tmp_path, env={**psutil.Process().environ(), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert refused.returncode == 3
    assert "no plan" in refused.stderr
    assert "would do" in refused.stderr
    assert "Traceback" not in refused.stderr
