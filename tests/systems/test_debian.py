"""Programs in a prefix: recorded, verified, whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from djops.errors import DjopsError, InstallError
from djops.systems import debian
from djops.systems.apt import AptError, Package
from djops.systems.progress import Step

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="not a Debian-family machine")


class Notes:
    """A step that remembers."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DJOPS_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache" / "packages").mkdir(parents=True)
    return tmp_path / "cache"


def built(cache: Path, name: str) -> Package:
    """Build a real package with one program, that wants to run as root."""
    tree = cache / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: 1:2.0-3\nArchitecture: all\n"
        "Maintainer: x <x@example.org>\nDescription: x\n"
    )
    (tree / "DEBIAN" / "postinst").write_text(f"#!/bin/sh\ntouch {cache}/ran\n")
    (tree / "DEBIAN" / "postinst").chmod(0o755)
    (tree / "usr" / "bin").mkdir(parents=True)
    (tree / "usr" / "bin" / name).write_text("#!/bin/sh\n")
    (tree / "usr" / "bin" / name).chmod(0o4755)
    path = cache / "packages" / f"{name}_1%3a2.0-3_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, path], check=True, capture_output=True)
    shutil.rmtree(tree)
    content = path.read_bytes()
    return Package(name, "1:2.0-3", path.name, len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def package(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A package that is fetched once and then never again."""
    made = built(cache, "tool")
    again: list[str] = []

    def fetch(wanted: object, suites: object, step: Step) -> list[Package]:
        again.append("fetched")
        if len(again) > 1 or not (cache / "packages" / made.file).exists():
            raise AptError("there is no network")
        return [made]

    monkeypatch.setattr(debian, "_fetch", fetch)
    return made


def install(step: Step | None = None) -> debian.Prefix:
    return debian.install("tools", ["tool"], ["sid"], step or Notes(), instead="install tool")


def test_what_was_fetched_is_recorded(cache: Path, package: Package) -> None:
    prefix = install()
    assert prefix.versions == {"tool": "1:2.0-3"}
    record = json.loads((cache / "programs" / "tools.json").read_text())
    assert record["packages"] == [asdict(package)]
    assert record["directory"] == prefix.path.name


def test_a_second_time_nobody_is_asked(package: Package) -> None:
    first, notes = install(), Notes()
    assert install(notes) == first
    assert notes.texts == []


def test_packages_lose_their_privileges_and_run_nothing(cache: Path, package: Package) -> None:
    program = install().path / "usr" / "bin" / "tool"
    assert not stat.S_IMODE(program.stat().st_mode) & (stat.S_ISUID | stat.S_ISGID)
    assert not (cache / "ran").exists()


def test_the_servers_account_can_read_it_whatever_the_umask(cache: Path, package: Package) -> None:
    before = os.umask(0o077)
    try:
        prefix = install()
    finally:
        os.umask(before)
    for path in (prefix.path, prefix.path / "usr" / "bin", prefix.path / "usr" / "bin" / "tool"):
        assert path.stat().st_mode & 0o005 == 0o005


@pytest.mark.parametrize("damage", ["emptied", "missing", "no record"])
def test_a_damaged_prefix_is_unpacked_again_from_the_cache(damage: str, package: Package) -> None:
    prefix = install()
    program = prefix.path / "usr" / "bin" / "tool"
    if damage == "emptied":
        program.write_bytes(b"")
    elif damage == "missing":
        program.unlink()
    else:
        (prefix.path / "djops-prefix.json").unlink()
    notes = Notes()
    assert install(notes) == prefix
    assert program.read_text() == "#!/bin/sh\n"
    assert notes.texts == ["unpacking 1 packages"]


def test_a_package_in_the_cache_that_is_not_what_was_recorded_is_not_used(
    cache: Path, package: Package
) -> None:
    shutil.rmtree(install().path)
    with (cache / "packages" / package.file).open("ab") as file:
        file.write(b"more")
    with pytest.raises(InstallError) as caught:
        install()
    assert caught.value.hint == "install tool"
    assert not (cache / "packages" / package.file).exists()


def test_what_a_killed_unpacking_left_is_removed(cache: Path, package: Package) -> None:
    leftover = cache / "programs" / ".tools-new-abc"
    (leftover / "usr").mkdir(parents=True)
    install()
    assert not leftover.exists()


def test_other_wishes_are_other_programs(package: Package) -> None:
    install()
    with pytest.raises(InstallError, match="there is no network"):
        debian.install("tools", ["tool", "another"], ["sid"], Notes())


def test_a_prefix_without_a_loader_is_told(package: Package) -> None:
    with pytest.raises(DjopsError, match="no program loader"):
        debian.loader_command(install().path, "usr/bin/tool")


def test_a_program_starts_through_the_prefixs_own_loader(tmp_path: Path) -> None:
    libraries = tmp_path / "usr" / "lib" / "x86_64-linux-gnu"
    (libraries / "ceph").mkdir(parents=True)
    (libraries / "ld-linux-x86-64.so.2").touch()
    command = debian.loader_command(tmp_path, "usr/bin/tool", libraries=["ceph", "none"])
    assert command == [
        str(libraries / "ld-linux-x86-64.so.2"),
        "--library-path",
        f"{libraries}:{libraries / 'ceph'}",
        str(tmp_path / "usr" / "bin" / "tool"),
    ]
