"""The machine's own apt, asked through a private state of ours: nothing of the machine's is changed.

The mirror is the one the machine already uses; only the suite differs. Signatures are verified by apt
with the distribution's own keyring, whatever the machine's sources say.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from djops.errors import InstallError

NEVER = re.compile(
    r"(debconf(-.*)?|cdebconf.*|dpkg|perl(-.*|api-.*)?|libperl.*|systemd(-.*)?|init-system-helpers|adduser"
    r"|python3?(\.\d+)?(-.*)?|lsb-base|sysvinit-utils|mysql-common|libc-gconv-modules-extra|uuid-runtime"
    r"|sudo|psmisc|passwd|udev|tzdata|ucf|logrotate|login.*|mount|util-linux|bash|coreutils|sensible-utils"
    r"|binutils(-.*)?|ceph-volume|cryptsetup-bin|debianutils|dmeventd|dmidecode|dmsetup|e2fsprogs|gdisk|hdparm"
    r"|logsave|lvm2|media-types|nvme-cli|parted|readline-common|smartmontools|xfsprogs)"
)
"""Packages for the machine's own administration: the programs we run do not need them to run."""

FETCHING = ".fetch-"
"""Beginning of the names of directories that packages are fetched into."""

_TOOLS = ("apt-get", "apt-cache", "dpkg", "dpkg-deb")
_KEYRINGS = {
    "debian": ("debian-archive-keyring.gpg", "debian-archive-keyring.pgp"),
    "ubuntu": ("ubuntu-archive-keyring.gpg",),
}
# Hooks of the machine would act on the machine's own cache; other indexes and pins are not wanted.
_CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons-small;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large;
#clear Acquire::IndexTargets::deb::DEP-11-icons-hidpi;
#clear Acquire::IndexTargets::deb::CNF;
#clear Acquire::IndexTargets::deb::Translations;
Dir::Etc::sourcelist "{state}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{state}/";
Dir::State::lists "{state}/lists/";
Dir::State::status "{state}/status";
Dir::State::extended_states "{state}/extended_states";
Dir::Cache "{state}/cache/";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "";
Debug::NoLocking "1";
APT::Get::AllowUnauthenticated "0";
APT::Update::Error-Mode "any";
Acquire::AllowInsecureRepositories "0";
Acquire::AllowWeakRepositories "0";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"""


_MAIN_INDEX = re.compile(r"^'([^']+?)/*/dists/([^/]+)/main/binary-[^/]+/Packages", re.MULTILINE)


class AptError(Exception):
    """Apt refused; the message is the first error it gave."""


@dataclass(frozen=True)
class Package:
    """A package as a signed index describes it.

    Attributes:
        name: Package name.
        version: Exact version.
        file: File name, version and architecture included.
        size: Bytes.
        sha256: Its digest.
    """

    name: str
    version: str
    file: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Distribution:
    """The machine's distribution.

    Attributes:
        family: ``debian`` or ``ubuntu``.
        codename: The release's own suite, for example ``bookworm``.
        keyring: The keys its archive is signed with.
        architecture: For example ``amd64``.
    """

    family: str
    codename: str
    keyring: Path
    architecture: str


def distribution() -> Distribution:
    """Find out what the machine is.

    Raises:
        AptError: It is not of the Debian family, or apt or its keyring is missing.
    """
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        raise AptError(f"this is not a Debian or Ubuntu machine: there is no {missing[0]}")
    release = _os_release()
    likes = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    family = next((name for name in ("ubuntu", "debian") if name in likes), None)
    if family is None:
        raise AptError(f"this is not a Debian or Ubuntu machine but {release.get('PRETTY_NAME', 'unknown')}")
    names = ("UBUNTU_CODENAME",) if family == "ubuntu" else ("DEBIAN_CODENAME",)
    codename = next((release[key] for key in (*names, "VERSION_CODENAME") if key in release), "sid")
    candidates = [Path("/usr/share/keyrings") / file for file in _KEYRINGS[family]]
    keyring = next((path for path in candidates if path.exists()), None)
    if keyring is None:
        raise AptError(f"the archive's keyring {candidates[0]} is missing: install {family}-archive-keyring")
    return Distribution(family, codename, keyring, _output(["dpkg", "--print-architecture"]).strip())


def mirrors(of: Distribution) -> list[str]:
    """Return the addresses of the distribution's archive in the machine's apt sources, likeliest first.

    Args:
        of: The machine's distribution.

    Raises:
        AptError: The sources cannot be read, or none could be the archive.
    """
    # Apt itself reads its sources, in either of their two formats; so it does on a machine that never
    # fetched its package lists, where `apt-get indextargets` knows nothing.
    answer = _output(["apt-get", "--print-uris", "update"])
    found: dict[str, int] = {}
    for address, release in _MAIN_INDEX.findall(answer):
        if "-" in release or address.startswith("cdrom:"):
            continue
        archive = re.search(rf"/{of.family}(-ports)?/*$", address) is not None
        rank = (release != of.codename) + 2 * (not archive)
        found[address] = min(rank, found.get(address, rank))
    if not found:
        raise AptError(f"the machine's apt sources name no mirror of {of.family}'s main archive")
    return sorted(found, key=lambda address: found[address])


class PrivateApt:
    """Apt over one mirror and suites of our choice.

    Args:
        state: Directory of its state; made when missing.
        of: The machine's distribution.
        mirror: Address of the archive.
        suites: Suites to take packages from.
    """

    def __init__(self, state: Path, of: Distribution, mirror: str, suites: Sequence[str]) -> None:
        self._state = state
        for directory in (state / "lists" / "partial", state / "cache"):
            directory.mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        components = "main" if of.family == "debian" else "main universe"
        options = f"[arch={of.architecture} signed-by={of.keyring}]"
        (state / "sources.list").write_text(
            "".join(f"deb {options} {mirror} {suite} {components}\n" for suite in suites)
        )
        (state / "apt.conf").write_text(_CONFIGURATION.format(state=state))

    def update(self) -> None:
        """Fetch the suites' indexes and verify their signatures.

        Raises:
            AptError: They cannot be had, or are not signed by the distribution.
        """
        self._apt("apt-get", "update")

    def closure(self, wanted: Sequence[str], leave_out: re.Pattern[str] = NEVER) -> list[str]:
        """Name the packages that the wanted ones need to run.

        Args:
            wanted: Package names; ``a|b`` takes the first of them that there is, ``-a`` leaves one out
                that is asked for but not used.
            leave_out: Packages that are not needed, matched in full.

        Raises:
            AptError: A wanted package does not exist in these suites.
        """
        options = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces")]
        known = set(self._apt("apt-cache", "pkgnames").split())
        first = []
        unused = {name[1:] for name in wanted if name.startswith("-")}
        for choice in (name for name in wanted if not name.startswith("-")):
            names = [name for name in choice.split("|") if name in known]
            if not names:
                raise AptError(f"there is no package {choice.replace('|', ' or ')}")
            first.append(names[0])
        listing = self._apt("apt-cache", "depends", "--recurse", *options, "--no-enhances", *first)
        needs = _parse_depends(listing)
        found: dict[str, None] = {}
        pending = list(reversed(first))
        while pending:
            name = pending.pop()
            if name not in found and name not in unused and not leave_out.fullmatch(name):
                found[name] = None
                pending += [need for need in needs.get(name, ()) if need not in found]
        return sorted(found)

    def describe(self, names: Sequence[str]) -> list[Package]:
        """Return what the signed indexes say about packages.

        Args:
            names: Package names.

        Raises:
            AptError: One of them cannot be fetched.
        """
        listing = self._apt("apt-get", "download", "--print-uris", *names)
        packages = []
        for line in listing.splitlines():
            match = re.fullmatch(r"'[^']*' (\S+) (\d+) SHA256:([0-9a-f]{64})", line.strip())
            if match:
                name, version, _ = match[1].split("_")
                packages.append(Package(name, version.replace("%3a", ":"), match[1], int(match[2]), match[3]))
        if len(packages) != len(names):
            raise AptError(f"{len(names)} packages were asked for and apt knows {len(packages)} with SHA256")
        return packages

    def download(self, packages: Collection[Package], directory: Path) -> None:
        """Fetch packages.

        Args:
            packages: What to fetch.
            directory: Where to; apt verifies what it puts there.

        Raises:
            AptError: One cannot be fetched or is not what the index says.
        """
        names = [f"{package.name}={package.version}" for package in packages]
        self._apt("apt-get", "download", *names, directory=directory)

    def _apt(self, tool: str, *arguments: str, directory: Path | None = None) -> str:
        command = [tool, "-c", str(self._state / "apt.conf"), "-q", *arguments]
        return _output(command, directory)


def sandboxed_directory(parent: Path) -> Path:
    """Make an empty directory that apt's unprivileged downloader can write, when root runs apt.

    Args:
        parent: Where to make it.
    """
    directory = Path(tempfile.mkdtemp(prefix=FETCHING, dir=parent))
    if os.geteuid() == 0:
        try:
            shutil.chown(directory, "_apt")
        except LookupError:
            return directory
    return directory


def _parse_depends(listing: str) -> dict[str, list[str]]:
    """Read ``apt-cache depends``: of alternatives the first, of a virtual package the first provider."""
    needs: dict[str, list[str]] = {}
    current: list[str] = []
    provider_wanted = settled = False
    for line in listing.splitlines():
        if not line.startswith((" ", "|")):
            current = needs.setdefault(line.split(":")[0].strip(), [])
            provider_wanted = settled = False
        elif match := re.match(r" ([ |])(?:Pre)?Depends: (\S+)", line):
            more_follow, name = match[1] == "|", match[2]
            if not settled:
                provider_wanted = name.startswith("<")
                if not provider_wanted:
                    current.append(name.split(":")[0])
            settled = more_follow
        elif provider_wanted and line.startswith("    "):
            current.append(line.split(":")[0].strip())
            provider_wanted = False
    return needs


def _os_release() -> dict[str, str]:
    pairs = (line.partition("=") for line in _lines(Path("/etc/os-release")))
    return {key: value.strip("\"'") for key, _, value in pairs}


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text().splitlines()
    except OSError:
        return


def _output(command: Sequence[str], directory: Path | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=900,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AptError(f"{command[0]} could not be run: {error}") from error
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        raise AptError("; ".join(errors[:2]) or f"{command[0]} ended with status {done.returncode}")
    return done.stdout


def not_installable(name: str, reason: str, instead: str) -> InstallError:
    """Say that a server's programs cannot be had here.

    Args:
        name: The server as people call it.
        reason: Why not.
        instead: The one thing to install.
    """
    return InstallError(f"{name} cannot be fetched: {reason}", hint=instead)
