"""A root with the C library and nothing else, Python least of all."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

# What glibc is; everything else a program has to bring along.
C_LIBRARY = (
    "ld-linux-*", "libc.so.*", "libdl.so.*", "libm.so.*", "libpthread.so.*", "librt.so.*",
    "libutil.so.*",
)  # fmt: skip
FOLDERS = (Path("/lib64"), Path("/lib") / f"{os.uname().machine}-linux-gnu")


@cache
def namespaces() -> tuple[str, ...] | None:
    """The command that gives a program mounts and processes of its own; None where it may not."""
    ways = ((), ("--user", "--map-root-user"))
    for way in ways[os.geteuid() != 0 :]:
        command = ("unshare", "--mount", "--pid", "--fork", "--kill-child", *way)
        try:
            done = subprocess.run([*command, "true"], capture_output=True, timeout=30)
        except OSError:
            return None
        if done.returncode == 0:
            return command
    return None


class BareRoot:
    """A folder that is the root of what runs in it; programs see the network and nothing else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.chmod(0o755)
        for name in ("proc", "dev", "etc", "home", "bin", "small"):
            (path / name).mkdir()
        (path / "tmp").mkdir()
        (path / "tmp").chmod(0o1777)
        for folder in FOLDERS:
            target = path / folder.relative_to("/")
            target.mkdir(parents=True)
            for pattern in C_LIBRARY:
                for library in folder.glob(pattern):
                    shutil.copy(library, target)  # what a link points to

    def command(self, *arguments: str, mounts: str = "true", after: str = "true") -> list[str]:
        """Runs ARGUMENTS in it; mounts and after: shell commands around it, with $ROOT."""
        namespace = namespaces()
        assert namespace is not None
        inner = shlex.join(arguments)
        # The last is replaced by the program, so that signals reach it.
        run = f'chroot "$ROOT" {inner}'
        run = f"exec {run}" if after == "true" else f"{run}; status=$?; {after}; exit $status"
        script = (
            f"ROOT={shlex.quote(str(self.path))}; set -e; "
            'mount --rbind /dev "$ROOT/dev"; mount -t proc proc "$ROOT/proc"; '
            f"{mounts}; set +e; {run}"
        )
        return [*namespace, "sh", "-c", script]

    def run(
        self, *arguments: str, env: Mapping[str, str], timeout_s: float = 60.0,
        mounts: str = "true", after: str = "true",
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        return subprocess.run(
            self.command(*arguments, mounts=mounts, after=after), env=environment(env),
            capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def start(self, *arguments: str, env: Mapping[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments), env=environment(env), text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """None of ours; the shell needs to find its programs."""
    return {"PATH": os.environ.get("PATH", os.defpath), **given}
