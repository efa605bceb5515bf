"""Embeddings: forms, norms, batches."""

from __future__ import annotations

import base64
import math
import struct

import pytest

from tests.fakes import unpack
from tests.http.conftest import Endpoint, error_of


async def embed(endpoint: Endpoint, **fields):
    return await endpoint.post("/v1/embeddings", {"model": "tiny", **fields})


async def test_floats_have_length_one(endpoint: Endpoint):
    body = await (await embed(endpoint, input=["ab", "c"])).json()
    assert body["object"] == "list"
    assert [item["index"] for item in body["data"]] == [0, 1]
    for item in body["data"]:
        assert math.isclose(math.fsum(x * x for x in item["embedding"]), 1, rel_tol=1e-5)
    assert body["data"][0]["embedding"] != body["data"][1]["embedding"]
    assert body["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


async def test_base64_is_the_same_vector(endpoint: Endpoint):
    plain = await (await embed(endpoint, input="ab", encoding_format="float")).json()
    coded = await (await embed(endpoint, input="ab", encoding_format="base64")).json()
    raw = base64.b64decode(coded["data"][0]["embedding"])
    values = struct.unpack(f"<{len(raw) // 4}f", raw)
    assert values == pytest.approx(plain["data"][0]["embedding"], abs=1e-6)


async def test_dimensions_are_cut_and_normalised_again(endpoint: Endpoint):
    body = await (await embed(endpoint, input="ab", dimensions=2)).json()
    first, second = body["data"][0]["embedding"]
    assert math.isclose(math.hypot(first, second), 1, rel_tol=1e-5)
    assert second / first == pytest.approx((97 + 98) / 2, rel=1e-4)


@pytest.mark.parametrize("given", [[65, 66], [[65, 66]]])
async def test_token_arrays(endpoint: Endpoint, given):
    await embed(endpoint, input=given)
    assert unpack(endpoint.replica.embedded[-1].tokens) == [65, 66]


async def test_more_inputs_than_the_queue_holds(start):
    endpoint = await start(max_waiting=64)
    body = await (await embed(endpoint, input=["x"] * 500)).json()
    assert len(body["data"]) == 500


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a" * 600}, "input"),
        ({"input": "a", "dimensions": 5}, "dimensions"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({}, "input"),
    ],
)
async def test_bad_requests_name_the_field(endpoint: Endpoint, fields, param):
    assert (await error_of(await embed(endpoint, **fields), 400))["param"] == param
