"""The Debian package in a bare Debian: installed, upgraded, removed, purged."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fmedge.config import load_config
from tests.packaging.debian_root import DebianRoot, build_package, why_not

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "packaging"))

from conffile import commented, uncommented  # noqa: E402

pytestmark = [
    pytest.mark.xdist_group("deb"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]

# Of what a systemd would say, what the maintainer scripts ask; and a note of what they want of it.
SYSTEMCTL = """#!/bin/sh
echo "$*" >> /var/log/systemctl
for unit; do :; done
case "$*" in
*--preset-mode=enable-only*)
    mkdir -p /etc/systemd/system/multi-user.target.wants
    ln -s "/usr/lib/systemd/system/$unit" /etc/systemd/system/multi-user.target.wants/ ;;
*is-enabled*)
    for link in /etc/systemd/system/*.wants/"$unit"; do
        [ -L "$link" ] && echo enabled && exit 0
    done
    echo disabled
    exit 1 ;;
esac
"""
WANTED = "/etc/systemd/system/multi-user.target.wants/fmedge.service"
CONFIG = "/etc/fmedge/fmedge.toml"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two versions, with a program that says which one it is: what is in it does not matter to how
    a package comes and goes."""
    made = []
    for revision in ("1", "2"):
        folder = tmp_path_factory.mktemp("program") / "fmedge"
        folder.mkdir()
        (folder / "fmedge").write_text(f"#!/bin/sh\necho {revision}\n")
        made.append(build_package(folder, folder.parent, revision))
    return made


@pytest.fixture
def debian(tmp_path: Path, packages: list[Path]) -> DebianRoot:
    """With packages in /root, and a systemd to ask."""
    root = DebianRoot(tmp_path / "debian")
    for package in packages:
        shutil.copy2(package, root.path("/root"))
    root.path("/run/systemd/system").mkdir(parents=True)
    root.path("/usr/bin/systemctl").write_text(SYSTEMCTL)
    root.path("/usr/bin/systemctl").chmod(0o755)
    return root


def asked(root: DebianRoot) -> list[str]:
    """What systemd was told to do since the last time."""
    log = root.path("/var/log/systemctl")
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    words = [line.replace("--system", "").replace("--quiet", "").split() for line in lines]
    return [" ".join(said) for said in words if said[0] in ("daemon-reload", "start", "stop")]


def test_a_package_comes_and_goes(debian: DebianRoot, packages: list[Path]) -> None:
    first, second = (f"/root/{package.name}" for package in packages)
    state = debian.path("/var/lib/private/fmedge/profiles/learned")
    kept = [state, debian.path("/var/cache/private/fmedge/huggingface/model.gguf")]

    debian.dpkg("--install", first)
    assert debian.run("fmedge").stdout == "1\n"
    assert debian.path(WANTED).is_symlink()
    assert asked(debian) == ["daemon-reload", "start fmedge.service"]
    assert debian.path("/etc/fmedge/environment").stat().st_mode & 0o777 == 0o640
    assert debian.path(CONFIG).stat().st_mode & 0o777 == 0o644
    assert load_config(str(debian.path(CONFIG))).server == load_config(None).server

    # what a service with DynamicUser=yes leaves, and what an administrator does
    for file in kept:
        file.parent.mkdir(parents=True)
        file.write_text("precious")
    debian.path("/var/lib/fmedge").symlink_to("private/fmedge")
    debian.path("/var/cache/fmedge").symlink_to("private/fmedge")
    mine = debian.path(CONFIG).read_text().replace("#port = 8080", "port = 8081")
    debian.path(CONFIG).write_text(mine)
    debian.path("/etc/fmedge/keys").write_text("secret\n")

    debian.dpkg("--install", second)
    assert debian.run("fmedge").stdout == "2\n"
    assert asked(debian) == [
        "stop fmedge.socket fmedge.service", "daemon-reload", "daemon-reload",
        "start fmedge.service",
    ]  # fmt: skip
    assert debian.path(CONFIG).read_text() == mine
    assert load_config(str(debian.path(CONFIG))).server.port == 8081
    assert all(file.read_text() == "precious" for file in kept)

    debian.dpkg("--remove", "fmedge")
    assert asked(debian) == ["stop fmedge.socket fmedge.service", "daemon-reload"]
    assert not debian.path("/usr/lib/fmedge").exists()
    assert not debian.path("/usr/bin/fmedge").is_symlink()
    assert debian.path(CONFIG).read_text() == mine
    assert all(file.read_text() == "precious" for file in kept)

    said = debian.dpkg("--purge", "fmedge")
    for name in ("lib", "cache"):
        assert not debian.path(f"/var/{name}/private/fmedge").exists()
        assert not debian.path(f"/var/{name}/fmedge").is_symlink()
    assert not debian.path(WANTED).is_symlink()
    assert not debian.path(CONFIG).exists()
    assert not debian.path("/etc/fmedge/environment").exists()
    # of what is the administrator's dpkg says that it stays
    assert debian.path("/etc/fmedge/keys").read_text() == "secret\n"
    assert "error" not in said.lower()


def test_purged_at_once_nothing_of_it_stays(debian: DebianRoot, packages: list[Path]) -> None:
    def there() -> set[str]:
        files = debian.run("find", "/", "-xdev", "-not", "-path", "/proc/*", "-not", "-path",
                           "/var/lib/dpkg/*", "-not", "-path", "/var/log/*").stdout  # fmt: skip
        return set(files.splitlines())

    debian.run("mkdir", "-p", "/var/lib/systemd", "/etc/systemd/system")
    before = there()
    debian.dpkg("--install", f"/root/{packages[0].name}")
    assert len(there() - before) > 30
    debian.dpkg("--purge", "fmedge")
    folders = ("/etc/systemd/system", "/var/lib/systemd")  # systemd's own helper makes some there
    assert not [name for name in there() - before if not name.startswith(folders)]


def test_what_the_administrator_disabled_stays_so(debian: DebianRoot, packages: list[Path]) -> None:
    first, second = (f"/root/{package.name}" for package in packages)
    debian.dpkg("--install", first)
    debian.path(WANTED).unlink()
    asked(debian)
    debian.dpkg("--install", second)
    assert not debian.path(WANTED).is_symlink()
    assert "start fmedge.service" not in asked(debian)


def test_a_socket_that_the_administrator_enabled_listens_again(
    debian: DebianRoot, packages: list[Path]
) -> None:
    first, second = (f"/root/{package.name}" for package in packages)
    debian.dpkg("--install", first)
    assert "start fmedge.socket" not in asked(debian)
    link = debian.path("/etc/systemd/system/sockets.target.wants/fmedge.socket")
    link.parent.mkdir(parents=True)
    link.symlink_to("/usr/lib/systemd/system/fmedge.socket")
    debian.dpkg("--install", second)
    said = asked(debian)
    assert said[0] == "stop fmedge.socket fmedge.service"
    assert said[-2:] == ["start fmedge.socket", "start fmedge.service"]


def test_a_service_that_does_not_start_does_not_fail_the_installation(
    debian: DebianRoot, packages: list[Path]
) -> None:
    systemctl = debian.path("/usr/bin/systemctl")
    systemctl.write_text(SYSTEMCTL + 'case "$*" in *start*) exit 1 ;; esac\n')
    debian.dpkg("--install", f"/root/{packages[0].name}")
    assert "start fmedge.service" in asked(debian)
    assert "install ok installed" in debian.dpkg("--status", "fmedge")


def test_lintian_has_nothing_to_say(packages: list[Path]) -> None:
    if shutil.which("lintian") is None:
        pytest.skip("no lintian here")
    done = subprocess.run(
        [
            "lintian",
            "--allow-root",
            "--fail-on=error,warning",
            "--tag-display-limit=0",
            str(packages[0]),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_configuration_is_the_example_with_nothing_set() -> None:
    example = (ROOT / "packaging/fmedge.example.toml").read_text()
    assert tomllib.loads(commented(example)) == {"server": {}, "defaults": {}}
    # all of it taken into use says what the example does, and more: some of it is a comment there
    used = tomllib.loads(uncommented(commented(example)))
    for section, values in tomllib.loads(example).items():
        if isinstance(values, dict):
            assert used[section].items() >= values.items(), section
    assert used["rpc"][0]["name"] == "attic"


def test_without_a_binary_the_build_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "packaging/debian/build.py"), "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("deb: error: ")
    assert "make binary" in done.stderr


def test_the_same_input_gives_the_same_package(packages: list[Path], tmp_path: Path) -> None:
    again = build_package(packages[0].parent / "fmedge", tmp_path, "1")
    assert again.read_bytes() == packages[0].read_bytes()
