# `make demo` installs and runs; `make test` passes the tests. The rest is for developers.
VENV ?= .venv
PYTHON ?= python3
PY := $(VENV)/bin/python
STAMP := $(VENV)/.fmedge-installed
NATIVE := $(wildcard fmedge/_native/*.c fmedge/_native/*.cpp fmedge/_native/*.h fmedge/_native/*.cdef fmedge/_native/gemm/*.c fmedge/_native/gemm/*.h fmedge/_native/handover/*.c) fmedge/_native/build.py
PIN := $(shell sed -n 's/^ *"\(llama-cpp-python==[0-9.]*\)",*$$/\1/p' pyproject.toml | head -n 1)
C_FILES := $(wildcard fmedge/_native/fm_*.c fmedge/_native/fm_*.cpp fmedge/_native/fm_*.h fmedge/_native/gemm/*.c fmedge/_native/gemm/*.h fmedge/_native/handover/*.c packaging/binary/launcher/*.[ch] tests/native/*.c)

# llama.cpp's RPC backend lets one model's layers lie on several machines.
export CMAKE_ARGS ?= -DGGML_RPC=ON

.PHONY: install demo test check check-native check-units dist binary deb bench bench-sla bench-plan bench-cluster bench-cluster-full format clean

install: $(STAMP)

$(STAMP): pyproject.toml setup.py $(NATIVE)
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "Building llama.cpp if pip has no wheel of it yet: about 6 minutes on 2 cores."
	$(PY) -m pip install --disable-pip-version-check -q "setuptools>=80" "cffi==2.1.1" "$(PIN)"
	$(PY) -m pip install --disable-pip-version-check -q --no-build-isolation -e ".[dev]"
	@echo "Compiling the scheduler's kernels: about 40 seconds, once."
	$(PY) -c "import fmedge.sched.kernels, fmedge.sched.provision.kernels, fmedge.sim.kernels"
	touch $@

demo: install
	$(PY) packaging/demo.py

test: install
	$(PY) -c "import fmedge.sched.kernels, fmedge.sched.provision.kernels, fmedge.sim.kernels"
	$(PY) -m pytest -n 2 --dist loadgroup

check: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/clang-format --dry-run --Werror $(C_FILES)
	packaging/systemd/check.sh

# systemd's own tools on our units, and how exposed the service is.
check-units:
	packaging/systemd/check.sh

check-native: install
	PYTHON=$(PY) tests/native/sanitize.sh

bench: install
	$(PY) -m bench

bench-sla: install
	$(PY) -m bench estimates foreign decisions attainment chains

bench-plan: install
	$(PY) -m bench plan-restore plan-swap plan-optimal plan-speed plan-memory plan-split

# Ray Serve and matplotlib beside what fmedge needs: see bench/ray_serve/requirements.txt.
bench-cluster: install
	$(PY) -m pip install --disable-pip-version-check -q -r bench/ray_serve/requirements.txt
	$(PY) -m bench cluster-simulated cluster-speed cluster

bench-cluster-full: install
	$(PY) -m pip install --disable-pip-version-check -q -r bench/ray_serve/requirements.txt
	$(PY) -m bench cluster cluster-agents cluster-fidelity cluster-speed cluster-regression cluster-scaling cluster-simulated --full

# sdist and wheel in dist/, checked, installed and asked a question.
dist: install
	$(PY) packaging/dist.py

# One file that needs no Python and runs on any processor; `apt install libzstd-dev` first.
binary: install
	$(PY) packaging/binary/llama.py
	$(PY) packaging/binary/build.py --llama build/llama/llama_cpp

# dist/fmedge_VERSION_ARCH.deb of the folder that `make binary` built.
deb: install
	$(PY) packaging/debian/build.py

format: install
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $(C_FILES)

clean:
	rm -rf build dist *.egg-info fmedge/_native/_fm.* fmedge/_native/_gemm.* fmedge/_native/_handover.*
