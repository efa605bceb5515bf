"""The matrix kernels against NumPy, against llama.cpp's own, and within a model."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmedge._native import binding, gemm
from fmedge._native.engine import Engine
from fmedge.errors import NativeError
from tests import synthetic
from tests.native.conftest import _SANITIZED_FOLDER, LoadEngine

KERNELS = ("avx512vnni", "avx2")
ROWS = 16
F32, F16, Q4_0, Q8_0 = 0, 1, 2, 8  # ggml's types
BLOCK = np.dtype([("scale", "<f2"), ("q", "i1", 32)])

Original = ctypes.CFUNCTYPE(
    ctypes.c_bool,
    ctypes.c_void_p,
    *(ctypes.c_int64,) * 3,
    *(ctypes.c_void_p, ctypes.c_int64) * 3,
    *(ctypes.c_int,) * 3,
)


class Params(ctypes.Structure):
    """The head of ggml_compute_params; Q8_0 products read no further in llama.cpp either."""

    _fields_ = [("ith", ctypes.c_int), ("nth", ctypes.c_int)]


def sgemm_of(library: ctypes.CDLL) -> Any:
    function = library.llamafile_sgemm
    function.restype = ctypes.c_bool
    function.argtypes = Original._argtypes_
    return function


@dataclass
class Kernels:
    """A copy of the library with its own state, so that the process' own stays as it is."""

    library: ctypes.CDLL
    calls: list[tuple[int, ...]] = field(default_factory=list)  # what reached the original
    answer: bool = True

    def use(self, name: str) -> None:
        if not self.library.fm_gemm_use(name.encode()):
            pytest.skip(f"this processor has no {name}")


@pytest.fixture
def kernels(tmp_path: Path) -> Iterator[Kernels]:
    copy = tmp_path / "gemm.so"
    shutil.copy(gemm.LIBRARY, copy)
    kernels = Kernels(ctypes.CDLL(str(copy)))

    def original(*arguments: int) -> bool:
        kernels.calls.append(arguments)
        return kernels.answer

    callback = Original(original)
    kernels.library.fm_gemm_install(callback)
    yield kernels
    kernels.library.fm_gemm_install(None)


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest, kernels: Kernels) -> Kernels:
    kernels.use(request.param)
    return kernels


@pytest.fixture(scope="session")
def llama_sgemm() -> Any:
    """llama.cpp's own function, whatever name it goes by elsewhere in the process."""
    spec = importlib.util.find_spec("llama_cpp")
    assert spec is not None
    assert spec.origin is not None
    library = ctypes.CDLL(str(Path(spec.origin).parent / "lib" / "libggml-cpu.so"))
    library.ggml_cpu_init()
    return sgemm_of(library)


def blocks(rng: np.random.Generator, num_rows: int, k: int, extreme: bool = False) -> np.ndarray:
    """[num_rows][k] random blocks with the scales of a model's weights; exactly as much memory."""
    made = np.empty((num_rows, k), BLOCK)
    made["scale"] = rng.uniform(-0.02, 0.02, made.shape)
    shape = (*made.shape, 32)
    made["q"] = rng.choice([-128, 127], shape) if extreme else rng.integers(-128, 128, shape)
    return made


def padded(made: np.ndarray, stride: int) -> np.ndarray:
    """The same rows `stride` blocks apart; what is between would spoil every result."""
    wide = np.empty((made.shape[0], stride), BLOCK)
    wide["scale"] = np.nan
    wide["q"] = 127
    wide[:, : made.shape[1]] = made
    return wide


def products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[k][n][m]: what each block adds, rounded to float once (the product of scales)."""
    left = b["q"].astype(np.float32).transpose(1, 0, 2)
    right = a["q"].astype(np.float32).transpose(1, 2, 0)
    dots = np.matmul(left, right).astype(np.float64)  # exact: below 2**24
    a_scales, b_scales = (x["scale"].astype(np.float32).T for x in (a, b))
    with np.errstate(invalid="ignore"):
        return dots * (b_scales[:, :, None] * a_scales[:, None])


def multiply(
    function: Any,
    a: np.ndarray,
    b: np.ndarray,
    k: int,
    nth: int = 1,
    ldc_more: int = 0,
) -> np.ndarray:
    """[n][m] through the exported function, all threads' shares in turn, from the last to 0."""
    m, n = len(a), len(b)
    c = np.full((n, m + ldc_more), np.nan, np.float32)
    for ith in reversed(range(nth)):
        params = Params(ith, nth)
        done = function(
            ctypes.addressof(params),
            *(m, n, k),
            *(a.ctypes.data, a.shape[1], b.ctypes.data, b.shape[1], c.ctypes.data, c.shape[1]),
            *(Q8_0, Q8_0, F32),
        )
        assert done
    assert np.isnan(c[:, m:]).all()
    return c[:, :m]


def assert_close_to_oracle(c: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """Each addition in float may lose half a unit of the sum so far, which the bound covers."""
    terms = products(a, b)
    bound = (len(terms) + 1) * 2.0**-24 * np.abs(terms).sum(0)
    assert (np.abs(c - terms.sum(0)) <= bound).all()


def test_the_library_under_test_is_the_one_that_was_built() -> None:
    if _SANITIZED_FOLDER is not None:
        assert str(gemm.LIBRARY).startswith(_SANITIZED_FOLDER)
        assert b"__asan_" in gemm.LIBRARY.read_bytes()
    assert gemm.kernel() in ("", *KERNELS)


@pytest.mark.parametrize("k", [1, 2, 15, 16, 17, 31, 32, 33, 70])
@pytest.mark.parametrize(("m", "n"), [(16, 2), (16, 8), (48, 4), (64, 3), (32, 7), (112, 13)])
def test_products_are_numpys(kernel: Kernels, m: int, n: int, k: int) -> None:
    rng = np.random.default_rng([m, n, k])
    a, b = blocks(rng, m, k), blocks(rng, n, k)
    assert_close_to_oracle(multiply(sgemm_of(kernel.library), a, b, k), a, b)
    assert not kernel.calls


@pytest.mark.parametrize("k", [260, 515])
def test_long_rows_are_numpys(kernel: Kernels, k: int) -> None:
    rng = np.random.default_rng(k)
    a, b = blocks(rng, 32, k), blocks(rng, 5, k)
    for n in (2, 3, 4, 5):
        c = multiply(sgemm_of(kernel.library), a, b[:n], k)
        assert_close_to_oracle(c, a, b[:n])


@pytest.mark.parametrize("k", [3, 40])
def test_a_result_depends_neither_on_the_number_of_columns_nor_of_threads(
    kernel: Kernels, k: int
) -> None:
    rng = np.random.default_rng(k)
    function = sgemm_of(kernel.library)
    a, b = blocks(rng, 48, k), blocks(rng, 600, k)
    whole = multiply(function, a, b, k)
    assert_close_to_oracle(whole, a, b)
    for n in [*range(2, 20), 63, 64, 65, 66, 67, 127, 128, 129, 136, 255, 257, 599]:
        np.testing.assert_array_equal(multiply(function, a, b[:n], k), whole[:n])
    for nth in (2, 3, 5, 16):
        for n in (2, 8, 70, 600):
            np.testing.assert_array_equal(multiply(function, a, b[:n], k, nth), whole[:n])
    # Nor on where a column or a row is among others.
    np.testing.assert_array_equal(multiply(function, a[16:32], b[5:18], k), whole[5:18, 16:32])


def test_a_single_column_has_the_bits_of_a_column_among_others(kernels: Kernels) -> None:
    kernels.use("avx512vnni")
    rng = np.random.default_rng(1)
    function = sgemm_of(kernels.library)
    for k in (1, 16, 33, 515):
        a, b = blocks(rng, 80, k), blocks(rng, 9, k)
        whole = multiply(function, a, b, k)
        for nth in (1, 3):
            np.testing.assert_array_equal(multiply(function, a, b[4:5], k, nth), whole[4:5])
    assert not kernels.calls


def test_all_kernels_give_the_same_bits(kernels: Kernels) -> None:
    rng = np.random.default_rng(2)
    a, b = blocks(rng, 96, 37), blocks(rng, 77, 37)
    found = []
    for name in KERNELS:
        kernels.use(name)
        found.append(multiply(sgemm_of(kernels.library), a, b, 37))
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("n", [2, 7, 40])
def test_rows_may_lie_apart(kernel: Kernels, n: int) -> None:
    rng = np.random.default_rng(n)
    function = sgemm_of(kernel.library)
    a, b = blocks(rng, 64, 35), blocks(rng, n, 35)
    expected = multiply(function, a, b, 35)
    found = multiply(function, padded(a, 38), padded(b, 36), 35, nth=2, ldc_more=5)
    np.testing.assert_array_equal(found, expected)


def test_extreme_values_are_exact(kernel: Kernels) -> None:
    """Scales of 1 and three blocks: every sum is an integer that a float holds."""
    function = sgemm_of(kernel.library)
    for left in (-128, -127, 0, 127):
        for right in (-128, -127, 0, 127):
            a, b = np.empty((16, 3), BLOCK), np.empty((9, 3), BLOCK)
            a["scale"] = b["scale"] = 1
            a["q"], b["q"] = left, right
            assert (multiply(function, a, b, 3) == 96 * left * right).all()
            assert (multiply(function, a, b[:2], 3) == 96 * left * right).all()
    rng = np.random.default_rng(3)
    a, b = blocks(rng, 64, 3, extreme=True), blocks(rng, 50, 3, extreme=True)
    a["scale"] = b["scale"] = 1
    np.testing.assert_array_equal(multiply(function, a, b, 3), products(a, b).sum(0))


@pytest.mark.parametrize("n", [2, 8, 33])
def test_special_scales_do_what_they_do_in_llama_cpp(
    kernel: Kernels, llama_sgemm: Any, n: int
) -> None:
    """One block, so ours rounds once: zeros, subnormals, the largest, infinities and NaN."""
    rng = np.random.default_rng(n)
    scales = np.array([0, -0.0, 2**-24, 6e-8, -(2**-15), 1, 65504, np.inf, -np.inf, np.nan], "<f2")
    a, b = blocks(rng, 160, 1), blocks(rng, n, 1)
    a["scale"] = np.repeat(scales, 16)[:, None]
    b["scale"] = np.resize(scales, n)[:, None]
    a["q"][::3] = 0
    b["q"] = np.maximum(b["q"], -127)  # llama.cpp negates activations, and makes no -128
    ours = multiply(sgemm_of(kernel.library), a, b, 1)
    np.testing.assert_array_equal(ours, products(a, b)[0].astype(np.float32))
    theirs = multiply(llama_sgemm, a, b, 1)
    # An infinite scale: llama.cpp adds parts of both signs, hence NaN where ours is infinite.
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(theirs))
    finite = np.isfinite(ours)
    a["q"] = b["q"] = 127
    bound = 8 * 2.0**-24 * np.abs(products(a, b)[0])  # it rounds 8 parts, ours one sum
    assert (np.abs(ours[finite] - theirs[finite]) <= bound[finite]).all()


def test_llama_cpp_agrees(kernel: Kernels, llama_sgemm: Any) -> None:
    rng = np.random.default_rng(4)
    a, b = blocks(rng, 64, 40), blocks(rng, 21, 40)
    b["q"] = np.maximum(b["q"], -127)
    bound = 2 * 41 * 2.0**-24 * np.abs(products(a, b)).sum(0)
    theirs = multiply(llama_sgemm, a, b, 40)
    assert (np.abs(multiply(sgemm_of(kernel.library), a, b, 40) - theirs) <= bound).all()


@pytest.mark.parametrize("answer", [True, False])
@pytest.mark.parametrize(
    ("m", "n", "k", "types"),
    [
        (16, 4, 2, (Q4_0, Q8_0, F32)),
        (16, 4, 2, (Q8_0, F32, F32)),
        (16, 4, 2, (F16, F16, F32)),
        (16, 4, 2, (F32, F32, F32)),
        (16, 4, 2, (Q8_0, Q8_0, F16)),
        (24, 4, 2, (Q8_0, Q8_0, F32)),
        (16, 4, 0, (Q8_0, Q8_0, F32)),
    ],
)
def test_everything_else_is_handed_on(
    kernels: Kernels, m: int, n: int, k: int, types: tuple[int, ...], answer: bool
) -> None:
    """Also on processors that have no kernel of ours. The addresses are never read here."""
    kernels.answer = answer
    arguments = (64, m, n, k, 128, k + 1, 256, k + 2, 512, m + 3, *types)
    assert sgemm_of(kernels.library)(*arguments) is answer
    assert kernels.calls == [arguments]


def test_switched_off_everything_is_handed_on(kernels: Kernels) -> None:
    arguments = (64, 16, 4, 2, 128, 2, 256, 2, 512, 16, Q8_0, Q8_0, F32)
    kernels.library.fm_gemm_enable(0)
    assert sgemm_of(kernels.library)(*arguments)
    assert kernels.calls == [arguments]


def test_without_an_original_the_caller_is_told_to_do_it(kernels: Kernels) -> None:
    kernels.library.fm_gemm_install(None)
    arguments = (64, 16, 4, 2, 128, 2, 256, 2, 512, 16, Q4_0, Q8_0, F32)
    assert not sgemm_of(kernels.library)(*arguments)


def test_an_unknown_kernel_changes_nothing(kernels: Kernels) -> None:
    name = kernels.library.fm_gemm_kernel
    name.restype = ctypes.c_char_p
    before = name()
    assert not kernels.library.fm_gemm_use(b"abacus")
    assert name() == before


def test_a_missing_library_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm, "LIBRARY", tmp_path / "absent.so")
    with pytest.raises(NativeError, match=r"matrix kernels are missing.*absent\.so.*setup\.py"):
        gemm.load()


# Within a model


@pytest.fixture
def q8_engine(load_engine: LoadEngine) -> Iterator[Engine]:
    assert binding.lib is not None
    yield load_engine(model_path=str(synthetic.cached("tiny", quant="q8_0")))
    gemm.enable(True)


def both_ways(work: Callable[[], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    gemm.enable(True)
    ours = work()
    gemm.enable(False)
    return ours, work()


def all_logits(engine: Engine, tokens: list[int], num_at_once: int) -> np.ndarray:
    """[token][vocab], the prompt decoded `num_at_once` tokens a step, each in its own sequence."""
    rows = []
    for seq in range(num_at_once):
        engine.seq_remove(seq)
    for pos, token in enumerate(tokens):
        engine.batch.clear()
        for seq in range(num_at_once):
            engine.batch.add(seq, pos, array("i", [token]).tobytes(), True)
        engine.step()
        rows.append(np.array(engine.logits(num_at_once - 1)))
    return np.stack(rows)


@pytest.mark.parametrize("num_at_once", [1, 4])
def test_a_model_decodes_as_with_llama_cpps_kernels(q8_engine: Engine, num_at_once: int) -> None:
    """A last bit may round an activation to its other neighbour, hence not to the last bits."""
    tokens = [int(t) for t in np.random.default_rng(5).integers(0, 400, 60)]
    ours, theirs = both_ways(lambda: all_logits(q8_engine, tokens, num_at_once))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert (ours.argmax(1) == theirs.argmax(1)).mean() >= 0.95
    gemm.enable(True)
    if gemm.kernel() == "avx512vnni":
        assert not np.array_equal(ours, theirs), "our kernel was not called"


def test_a_model_prefills_as_with_llama_cpps_kernels(q8_engine: Engine) -> None:
    tokens = array("i", [int(t) for t in np.random.default_rng(6).integers(0, 400, 200)])

    def last_logits() -> np.ndarray:
        q8_engine.seq_remove(0)
        q8_engine.batch.clear()
        row = q8_engine.batch.add(0, 0, tokens.tobytes(), True)
        q8_engine.step()
        return np.array(q8_engine.logits(row))

    ours, theirs = both_ways(last_logits)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    gemm.enable(True)
    if gemm.kernel():
        assert not np.array_equal(ours, theirs), "our kernel was not called"
    else:
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(last_logits(), ours)
