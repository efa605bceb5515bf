#!/usr/bin/env bash
# Builds the C kernels with AddressSanitizer and UndefinedBehaviourSanitizer into a folder of their
# own and runs their tests on that build. ggml and llama.cpp themselves are not instrumented.
#
#     tests/native/sanitize.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

FMEDGE_NATIVE_CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all" \
    "$python" setup.py -q build_ext --build-temp "$folder/temp" --build-lib "$folder/lib"

# Package and tests beside the sanitised extension, where nothing of the checkout's own is found.
git ls-files -z --cached --others --exclude-standard fmedge tests pyproject.toml |
    xargs -0 cp --parents --target-directory "$folder/lib"
mkdir -p .cache
ln -s "$PWD/.cache" "$folder/lib/.cache"
python=$(realpath --no-symlinks "$python")
cd "$folder/lib"

# The sanitisers must come first in the process; libstdc++ beside them, or they miss its throws.
compiler=${CC:-gcc}
preload="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libstdc++.so)"
# Python frees little at exit, and ggml keeps its registry: leaks are not looked for here.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
export UBSAN_OPTIONS=print_stacktrace=1
export FMEDGE_SANITIZED_FOLDER="$folder/lib"
# --capture=sys: a report goes to stderr of a process that dies, and must not die with it.
LD_PRELOAD="$preload" "$python" -m pytest "${@:-tests/native}" -q -p no:cacheprovider \
    --timeout 600 --capture=sys
