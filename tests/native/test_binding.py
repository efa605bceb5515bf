"""Loading of the libraries and the one place where codes become exceptions."""

from __future__ import annotations

import pytest

from fmedge._native.binding import check, check_version, lib
from fmedge._native.pin import LLAMA_CPP_PYTHON_VERSION
from fmedge.errors import (
    KvCacheFullError,
    ModelFileError,
    ModelLoadError,
    NativeError,
    OutOfMemoryError,
    StepAbortedError,
)


def test_another_build_of_llama_cpp_is_refused_with_the_command_that_helps() -> None:
    check_version(LLAMA_CPP_PYTHON_VERSION)
    with pytest.raises(NativeError, match=r"0\.0\.1 is installed.*pip install llama-cpp-python=="):
        check_version("0.0.1")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (lib.FM_ERR, NativeError),
        (lib.FM_ERR_ARGUMENT, NativeError),
        (lib.FM_ERR_MEMORY, OutOfMemoryError),
        (lib.FM_ERR_KV_FULL, KvCacheFullError),
        (lib.FM_ERR_ABORTED, StepAbortedError),
        (lib.FM_ERR_FILE, ModelFileError),
        (lib.FM_ERR_LOAD, ModelLoadError),
    ],
)
def test_each_code_is_its_exception(code: int, kind: type[Exception]) -> None:
    with pytest.raises(kind) as raised:
        check(code)
    assert type(raised.value) is kind


def test_what_is_no_failure_passes_through() -> None:
    assert check(0) == 0
    assert check(17) == 17
