"""Server programs in a private prefix, out of the distribution's own packages.

Packages are fetched by the machine's apt (:mod:`djops.systems.apt`), which verifies their signatures;
what was fetched is recorded with version and SHA256 and kept in a cache, so that the same programs can
be unpacked again without asking anybody. Nothing outside djops' own directories is touched, and no
package's scripts are run. Programs start through the prefix's own loader and libraries, because those of
the machine may be older.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from djops.errors import InstallError
from djops.systems import apt
from djops.systems.apt import AptError, Package, PrivateApt
from djops.systems.files import disk_errors, read_json, require_space, write_json
from djops.systems.lock import locked
from djops.systems.paths import roots
from djops.systems.progress import Step

_UNPACKED = 8  # times the size of the packages; 6.4 was measured for MySQL
_RECORD = "djops-prefix.json"
_LONGEST_FETCH = 3600.0
_INDEX_SECONDS = 3600.0
_RECENT_SECONDS = 60.0
_UNPACK_SECONDS = 900.0


@dataclass(frozen=True)
class Prefix:
    """Unpacked programs with everything they need.

    Attributes:
        path: The directory that takes the place of ``/``.
        versions: Exact version of every package in it.
    """

    path: Path
    versions: Mapping[str, str]

    @property
    def libraries(self) -> Path:
        """The architecture's library directory, ``usr/lib/x86_64-linux-gnu`` for example."""
        return _loader(self.path).parent


def loader_command(prefix: Path, program: str, *, libraries: Sequence[str] = ()) -> list[str]:
    """Return the beginning of an argv that runs a program with its own loader and libraries.

    Args:
        prefix: Where the packages are unpacked.
        program: Path inside the prefix, for example ``usr/sbin/mysqld``.
        libraries: Further library directories, relative to the architecture's, for example ``ceph``.

    Raises:
        InstallError: ``E_INSTALL`` when the prefix holds no loader.
    """
    loader = _loader(prefix)
    directories = [loader.parent, *(loader.parent / name for name in libraries)]
    # Packages of older distributions still split /lib from /usr/lib.
    directories += [prefix / other / loader.parent.name for other in ("usr/lib", "lib")]
    path = ":".join(dict.fromkeys(str(directory) for directory in directories if directory.is_dir()))
    return [str(loader), "--library-path", path, str(prefix / program)]


def install(
    name: str, packages: Sequence[str], suites: Sequence[str], step: Step, *, instead: str | None = None
) -> Prefix:
    """Make sure that programs are there; ask nobody when they are.

    Args:
        name: What the prefix is called, for example ``mysql``.
        packages: Packages wanted; ``a|b`` takes the first that there is. What they need comes along,
            but for ``-a``.
        suites: Debian suites to look in, in this order; Ubuntu takes its own release's.
        step: Hears what is going on.
        instead: The one thing to install by hand, told when the packages cannot be had.

    Returns:
        The prefix.

    Raises:
        InstallError: ``E_INSTALL`` when this machine cannot get them.
        DiskFullError: ``E_DISK`` when there is no room.
    """
    present = _present(name, packages)
    if present is not None:
        return present
    base = roots()
    for directory in (base.cache, base.programs):
        _public_directory(directory)
    with (
        locked(base.programs / f".{name}.lock", f"up (installing {name})", wait=900),
        disk_errors(base.programs),
    ):
        present = _present(name, packages)
        if present is not None:
            return present
        recorded = _recorded(name, packages)
        try:
            if recorded is None or not _cached(recorded, base.cache):
                recorded = _fetch(packages, suites, step)
            return _unpack(name, packages, recorded, step)
        except AptError as error:
            hint = instead or f"install {packages[0].split('|')[0]} yourself"
            raise apt.not_installable(name, str(error), hint) from error


def installed(name: str, packages: Sequence[str]) -> Prefix | None:
    """Return programs that are there already, and fetch nothing.

    Args:
        name: What the prefix is called.
        packages: Packages wanted, as :func:`install` was told.
    """
    return _present(name, packages)


def _present(name: str, wanted: Sequence[str]) -> Prefix | None:
    """Return what is unpacked already, when it is whole."""
    record = read_json(roots().programs / f"{name}.json")
    if record is None or record.get("wanted") != list(wanted):
        return None
    path = roots().programs / str(record.get("directory"))
    try:
        inside = json.loads((path / _RECORD).read_bytes())
        # After a power cut files can be there and empty: sizes tell, and cost nothing.
        if any((path / file).lstat().st_size != size for file, size in inside["files"].items()):
            return None
    except (OSError, ValueError, KeyError):
        return None
    return Prefix(path, {package["name"]: package["version"] for package in record["packages"]})


def _recorded(name: str, wanted: Sequence[str]) -> list[Package] | None:
    record = read_json(roots().programs / f"{name}.json")
    if record is None or record.get("wanted") != list(wanted):
        return None
    return [Package(**package) for package in record["packages"]]


def _fetch(wanted: Sequence[str], suites: Sequence[str], step: Step) -> list[Package]:
    """Bring the newest packages of the first suite that has them into the cache."""
    of = apt.distribution()
    if of.family == "ubuntu":
        choices: list[Sequence[str]] = [(of.codename, f"{of.codename}-updates", f"{of.codename}-security")]
    else:
        choices = [(suite,) for suite in suites]
    reasons: list[str] = []
    for choice in choices:
        for mirror in apt.mirrors(of):
            try:
                return _fetch_from(of, mirror, choice, wanted, step)
            except AptError as error:
                reasons.append(f"{choice[0]}: {error}")
    raise AptError("; ".join(reasons))


def _fetch_from(
    of: apt.Distribution, mirror: str, suites: Sequence[str], wanted: Sequence[str], step: Step
) -> list[Package]:
    private = _indexed(of, mirror, suites, _INDEX_SECONDS, step)
    try:
        return _bring(private, wanted, step)
    except AptError:  # a mirror drops what newer versions replace, also within the hour
        private = _indexed(of, mirror, suites, _RECENT_SECONDS, step)
        return _bring(private, wanted, step)


def _bring(private: PrivateApt, wanted: Sequence[str], step: Step) -> list[Package]:
    cache = roots().cache
    packages = private.describe(private.closure(wanted))
    missing = [package for package in packages if not _cached([package], cache)]
    if missing:
        _download(private, missing, cache, step, len(packages))
    return packages


def _indexed(
    of: apt.Distribution, mirror: str, suites: Sequence[str], oldest: float, step: Step
) -> PrivateApt:
    """Return an apt whose indexes are younger than ``oldest`` seconds.

    They are fetched into a directory that is new each time: apt of a djops that was killed goes on, and
    two of them in one directory spoil it.
    """
    digest = hashlib.sha256(mirror.encode()).hexdigest()[:8]
    base = roots().cache / "apt"
    _public_directory(base)
    current = base / f"{suites[0]}-{of.architecture}-{digest}"
    # Two servers are installed at once and share one download of the index.
    with locked(current.with_suffix(".lock"), "up (fetching packages)", wait=900):
        if current.exists() and _age(current / "lists") < oldest:
            return PrivateApt(current.resolve(), of, mirror, suites)
        state = Path(tempfile.mkdtemp(prefix=f"{current.name}-", dir=base))
        state.chmod(0o755)
        private = PrivateApt(state, of, mirror, suites)
        step.note(f"reading the index of {suites[0]}")
        private.update()
        link = state / "link"
        link.symlink_to(state.name)
        link.replace(current)
        for old in base.glob(f"{current.name}-*"):
            if old != state:
                shutil.rmtree(old, ignore_errors=True)
        return private


def _age(path: Path) -> float:
    # A clock set back makes files of the future: then they are not trusted to be fresh.
    age = time.time() - path.stat().st_mtime
    return age if age >= 0 else float("inf")


def _download(private: PrivateApt, missing: list[Package], cache: Path, step: Step, total: int) -> None:
    size = sum(package.size for package in missing)
    require_space(cache, size * (1 + _UNPACKED))
    step.note(f"fetching {len(missing)} of {total} packages, {size / 1e6:.0f} MB")
    for leftover in cache.glob(f"{apt.FETCHING}*"):
        if _age(leftover) > _LONGEST_FETCH:  # of a djops that was killed
            shutil.rmtree(leftover, ignore_errors=True)
    directory = apt.sandboxed_directory(cache)
    try:
        private.download(missing, directory)
        for package in missing:
            fetched = directory / package.file
            if not fetched.exists() or _sha256(fetched) != package.sha256:
                raise AptError(f"{package.file} is not what the signed index says")
            if os.geteuid() == 0:
                os.chown(fetched, 0, 0)
            fetched.chmod(0o644)
            fetched.replace(cache / package.file)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _cached(packages: Sequence[Package], cache: Path) -> bool:
    """Tell whether all packages are in the cache and still what was recorded; remove what is not."""
    whole = True
    for package in packages:
        path = cache / package.file
        if not path.exists():
            whole = False
        elif _sha256(path) != package.sha256:
            path.unlink()
            whole = False
    return whole


def _unpack(name: str, wanted: Sequence[str], packages: Sequence[Package], step: Step) -> Prefix:
    programs = roots().programs
    for leftover in programs.glob(f".{name}-new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    require_space(programs, sum(package.size for package in packages) * _UNPACKED)
    step.note(f"unpacking {len(packages)} packages")
    digests = "".join(sorted(package.sha256 for package in packages))
    final = programs / f"{name}-{hashlib.sha256(digests.encode()).hexdigest()[:16]}"
    beside = Path(tempfile.mkdtemp(prefix=f".{name}-new-", dir=programs))
    try:
        _extract(packages, beside)
        files = _settle(beside)
        write_json(beside / _RECORD, {"files": files, "packages": _as_data(packages)}, mode=0o644)
        if final.exists():  # it was found damaged
            final.rename(programs / f".{name}-new-{final.name}-damaged-{os.getpid()}")
        beside.rename(final)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    record = {"directory": final.name, "wanted": list(wanted), "packages": _as_data(packages)}
    write_json(programs / f"{name}.json", record, mode=0o644)
    return Prefix(final, {package.name: package.version for package in packages})


def _extract(packages: Sequence[Package], into: Path) -> None:
    def extract(package: Package) -> None:
        try:
            done = subprocess.run(
                ["dpkg-deb", "--extract", str(roots().cache / package.file), str(into)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_UNPACK_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise InstallError(
                f"{package.file} was not unpacked within {_UNPACK_SECONDS:.0f} s",
                where=str(into),
                hint="is the disk there, and does it write?",
            ) from error
        if done.returncode != 0:
            if "No space left" in done.stderr:
                require_space(into, package.size * 2 * _UNPACKED)
            raise InstallError(f"{package.file} cannot be unpacked: {done.stderr.strip()[:200]}")

    largest_first = sorted(packages, key=lambda package: -package.size)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        list(pool.map(extract, largest_first))


def _settle(prefix: Path) -> dict[str, int]:
    """Take privileges from what was unpacked, make it readable to the servers, and list its files."""
    files = {}
    prefix.chmod(0o755)
    for directory, _, names in os.walk(prefix):
        for file in names:
            path = Path(directory) / file
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
                    path.chmod(status.st_mode & 0o755)
                files[str(path.relative_to(prefix))] = status.st_size
    return files


def _as_data(packages: Sequence[Package]) -> list[dict[str, Any]]:
    return [asdict(package) for package in packages]


def _loader(prefix: Path) -> Path:
    for pattern in ("usr/lib/*-linux-gnu*/ld-linux*.so.*", "lib/*-linux-gnu*/ld-linux*.so.*"):
        found = sorted(prefix.glob(pattern))
        if found:
            return found[0]
    raise InstallError(f"{prefix} holds no program loader", hint="remove it and run `djops up` again")


def _public_directory(path: Path) -> None:
    """Make a directory that the servers' account can enter: programs are no secret."""
    missing = [part for part in (path, *path.parents) if not part.exists()]
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    for part in missing:
        part.chmod(0o755)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
