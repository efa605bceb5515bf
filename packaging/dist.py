"""`make dist`: sdist and wheel into dist/, checked, installed into a fresh environment and asked.

The rule: the wheel is built from the sdist and the sdist from what is in the folder now, so that
nothing of an earlier build gets into either.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUESTION, ANSWER = "What is the capital of France?", "Paris"
# llama-cpp-python brings these at run time; the kernels fit that one version of it alone.
OF_LLAMA = ("libllama.so*", "libggml*.so*")


def main() -> int:
    """Builds; ends with what the tool that failed said."""
    parser = argparse.ArgumentParser(description="Builds sdist and wheel into dist/.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="FOLDER")
    parser.add_argument(
        "--no-smoke", action="store_true", help="do not install the wheel and ask it a question"
    )
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fmedge-dist-") as folder:
        made = build(Path(folder))
        if not args.no_smoke:
            smoke(made[1], Path(folder) / "smoke")
        for old in [*args.out.glob("fmedge-*.whl"), *args.out.glob("fmedge-*.tar.gz")]:
            old.unlink()
        for file in made:
            shutil.move(file, args.out / file.name)
            size_mb = (args.out / file.name).stat().st_size / 1e6
            print(f"{args.out / file.name}  {size_mb:.1f} MB")
    return 0


def build(folder: Path) -> list[Path]:
    """The sdist and the wheel, in `folder`."""
    # setuptools would take what an earlier list of sources names, whatever MANIFEST.in says.
    shutil.rmtree(ROOT / "fmedge.egg-info", ignore_errors=True)
    run("build", "--outdir", str(folder / "built"), str(ROOT))
    (sdist,) = (folder / "built").glob("*.tar.gz")
    (wheel,) = (folder / "built").glob("*.whl")
    # Says by its name which systems the wheel is for: those whose C library is new enough.
    excluded = [part for name in OF_LLAMA for part in ("--exclude", name)]
    tag = ["repair", "--patcher", "none", *excluded, "--wheel-dir", str(folder / "tagged")]
    run("auditwheel", *tag, str(wheel))
    (wheel,) = (folder / "tagged").glob("*.whl")
    run("twine", "check", "--strict", str(sdist), str(wheel))
    return [sdist, wheel]


def smoke(wheel: Path, folder: Path) -> None:
    """Installs it as anybody would and asks it something; SystemExit if the answer is wrong."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-q", str(wheel)]
    subprocess.run(install, check=True, cwd=folder)
    subprocess.run([str(python), "-m", "pip", "check"], check=True, cwd=folder)
    # -I: nothing of this folder or of the caller's Python settings
    done = subprocess.run(
        [str(python), "-I", "-m", "fmedge", "run", QUESTION],
        cwd=folder,
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=False,
    )
    print(f"{QUESTION} {done.stdout.strip()}")
    if done.returncode or ANSWER not in done.stdout:
        raise SystemExit(f"the installed wheel did not answer {ANSWER!r} (exit {done.returncode})")


def run(module: str, *args: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, *args], check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{module} failed (exit {done.returncode})")


if __name__ == "__main__":
    sys.exit(main())
