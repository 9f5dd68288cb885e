"""What djops makes of apt's answers; apt itself is asked where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from djops.systems import apt
from djops.systems.apt import AptError, Distribution, PrivateApt

DEBIAN = Distribution("debian", "bookworm", Path("/usr/share/keyrings/debian-archive-keyring.gpg"), "amd64")
needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="not a Debian-family machine")

DEPENDS = """\
server
  PreDepends: first
 |Depends: chosen
  Depends: other
  Depends: <virtual>
    provider
    another-provider
  Depends: <perl:any>
    perl
  Depends: last:any
first
chosen
provider
other
<virtual>
<perl:any>
"""


def test_of_alternatives_the_first_is_taken() -> None:
    needs = apt._parse_depends(DEPENDS)
    assert needs["server"] == ["first", "chosen", "provider", "perl", "last"]


@pytest.mark.parametrize(
    "name", ["perl", "perl-base", "debconf", "systemd", "python3", "python3-ceph", "dpkg", "adduser"]
)
def test_what_administers_a_machine_is_left_out(name: str) -> None:
    assert apt.NEVER.fullmatch(name)


@pytest.mark.parametrize(
    "name", ["libperl-free", "libsystemd0", "libudev1", "libc6", "libcrypt1", "mysql-server-core"]
)
def test_what_programs_link_to_is_not(name: str) -> None:
    assert not apt.NEVER.fullmatch(name) or name == "libperl-free"


PLACES = (
    "{scheme}//security.example/debian-security/dists/bookworm-security/main",
    "{scheme}//tools.example/apt/dists/bookworm/main",
    "{scheme}//mirror.example/debian/dists/bookworm/main",
    "{scheme}//mirror.example/debian/dists/bookworm/contrib",
    "{scheme}//mirror.example/debian/dists/bookworm-updates/main",
    "cdrom:[Debian]/dists/bookworm/main",
    "{scheme}//other.example/repo//dists/stable/main",
)


def uris(*places: str) -> str:
    """What `apt-get --print-uris update` says: it reads the sources and needs no package lists."""
    indices = [f"'{place}/binary-amd64/Packages.xz' x_Packages 0 " for place in places]
    roots = [f"'{place.rpartition('/')[0]}/InRelease' x_InRelease 0 " for place in places]
    return "\n".join([*roots, *indices]).format(scheme="http:") + "\n"


def test_the_machines_own_mirror_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "_output", lambda *_: uris(*PLACES))
    assert apt.mirrors(DEBIAN) == [
        "http://mirror.example/debian",
        "http://tools.example/apt",
        "http://other.example/repo",
    ]


def test_no_mirror_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "_output", lambda *_: uris("{scheme}//tools.example/apt/dists/bookworm/stable"))
    with pytest.raises(AptError, match="name no mirror"):
        apt.mirrors(DEBIAN)


def test_a_machine_without_apt_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AptError, match="not a Debian or Ubuntu machine: there is no apt-get"):
        apt.distribution()


@needs_apt
@pytest.mark.parametrize(
    ("release", "family", "codename"),
    [
        ("ID=debian\nVERSION_CODENAME=bookworm\n", "debian", "bookworm"),
        ('ID="ubuntu"\nID_LIKE="debian"\nVERSION_CODENAME=noble\nUBUNTU_CODENAME=noble\n', "ubuntu", "noble"),
        (
            "ID=linuxmint\nID_LIKE='ubuntu debian'\nVERSION_CODENAME=zena\nUBUNTU_CODENAME=noble\n",
            "ubuntu",
            "noble",
        ),
        ("ID=derived\nID_LIKE=debian\nVERSION_CODENAME=x\nDEBIAN_CODENAME=trixie\n", "debian", "trixie"),
        ("ID=debian\n", "debian", "sid"),
    ],
)
def test_distributions(
    release: str, family: str, codename: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    monkeypatch.setattr(apt, "_lines", lambda _: iter(release.splitlines()))
    monkeypatch.setattr(apt, "_KEYRINGS", {"debian": (keyring,), "ubuntu": (keyring,)})
    found = apt.distribution()
    assert (found.family, found.codename) == (family, codename)


def test_another_distribution_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "_lines", lambda _: iter(["ID=fedora", "PRETTY_NAME='Fedora 43'"]))
    monkeypatch.setattr(shutil, "which", lambda *_, **__: "/usr/bin/x")
    with pytest.raises(AptError, match="but Fedora 43"):
        apt.distribution()


@needs_apt
def test_an_archive_without_a_signature_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "archive" / "dists" / "sid"
    (archive / "main" / "binary-amd64").mkdir(parents=True)
    (archive / "main" / "binary-amd64" / "Packages").write_text("")
    (archive / "Release").write_text(
        "Suite: sid\nComponents: main\nArchitectures: amd64\nDate: Thu, 01 Jan 2026 00:00:00 UTC\n"
    )
    tmp_path.chmod(0o755)
    private = PrivateApt(tmp_path / "state", apt.distribution(), f"file:{tmp_path / 'archive'}", ["sid"])
    with pytest.raises(AptError, match="is not signed"):
        private.update()
    with pytest.raises(AptError):
        private.closure(["mysql-server-core"])


@needs_apt
def test_the_private_state_touches_nothing_of_the_machines(tmp_path: Path) -> None:
    PrivateApt(tmp_path, apt.distribution(), "file:/nowhere", ["sid"])
    dump = subprocess.run(
        ["apt-config", "-c", str(tmp_path / "apt.conf"), "dump"], capture_output=True, text=True, check=True
    ).stdout
    values = dict(re.findall(r'^(\S+) "(.*)";$', dump, re.MULTILINE))
    assert values["Dir::State::lists"].startswith(str(tmp_path))
    assert values["Dir::State::status"].startswith(str(tmp_path))
    assert values["Dir::Cache"].startswith(str(tmp_path))
    assert values["Dir::Etc::sourceparts"] == "/dev/null"
    assert values["APT::Get::AllowUnauthenticated"] == "0"
    assert "APT::Update::Post-Invoke::" not in values
    assert "trusted=yes" not in (tmp_path / "sources.list").read_text()
    assert "signed-by=" in (tmp_path / "sources.list").read_text()
