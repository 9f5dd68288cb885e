"""Encryption for a named key: age through pyrage, OpenPGP through GnuPG. Nothing plain touches the disk."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from djops.errors import ConfigError, DjopsError, InstallError, UsageError

AGE_HEAD = b"age-encryption.org/"
_GPG_SECONDS = 300.0
"""Its agent may ask somebody for a passphrase."""

_FINGERPRINT = re.compile(r"(0x)?[0-9A-Fa-f]{40}")


def encrypt_age(data: bytes, recipient: str) -> bytes:
    """Encrypt for an age key.

    Args:
        data: What to encrypt.
        recipient: ``age1...``, or an SSH public key of type ed25519 or RSA.

    Returns:
        The encrypted file.

    Raises:
        InstallError: ``E_INSTALL`` without pyrage.
        UsageError: ``E_RECIPIENT`` when that is no such key.
    """
    pyrage = _pyrage()
    try:
        if recipient.startswith("ssh-"):
            known = pyrage.ssh.Recipient.from_str(recipient)
        else:
            known = pyrage.x25519.Recipient.from_str(recipient)
        return bytes(pyrage.encrypt(data, [known]))
    except (pyrage.RecipientError, pyrage.EncryptError, ValueError) as error:
        raise UsageError(
            "that is no age recipient",
            code="E_RECIPIENT",
            hint="give the public key, age1... or ssh-ed25519 ...; `age-keygen -y FILE` shows it",
        ) from error


def encrypt_gpg(data: bytes, key: str) -> bytes:
    """Encrypt for a key of the caller's own GnuPG keyring.

    Args:
        data: What to encrypt.
        key: Its fingerprint; or another name for it, when GnuPG trusts that it is meant.

    Returns:
        The encrypted file.

    Raises:
        InstallError: ``E_INSTALL`` without GnuPG.
        UsageError: ``E_RECIPIENT`` when there is no such key, or it cannot be trusted by name.
    """
    # A whole fingerprint names one key and no other: whose it is, is the caller's to know.
    trust = ["--trust-model", "always"] if _FINGERPRINT.fullmatch(key) else []
    done = _gpg([*trust, "--recipient", key, "--encrypt"], data)
    if done.returncode != 0:
        raise UsageError(
            f"GnuPG does not encrypt for that key: {_last_line(done)}",
            code="E_RECIPIENT",
            hint="give the fingerprint; `gpg --list-keys` shows those that there are",
        )
    return done.stdout


def decrypt(data: bytes, identity: Path | None) -> bytes:
    """Decrypt what :func:`encrypt_age` or :func:`encrypt_gpg` made.

    Args:
        data: The encrypted file.
        identity: File of the age or SSH private key; GnuPG finds its own.

    Returns:
        What was encrypted.

    Raises:
        InstallError: ``E_INSTALL`` without the library or program.
        UsageError: ``E_IDENTITY`` when a key file is lacking.
        DjopsError: ``E_DECRYPT`` when the key is not the right one, or the file was changed.
    """
    if data.startswith(AGE_HEAD):
        return _decrypt_age(data, identity)
    done = _gpg(["--decrypt"], data)
    if done.returncode != 0:
        raise _undecipherable(_last_line(done))
    return done.stdout


def _decrypt_age(data: bytes, identity: Path | None) -> bytes:
    pyrage = _pyrage()
    if identity is None:
        raise UsageError(
            "the file is encrypted for an age key",
            code="E_IDENTITY",
            hint="name its file with --identity FILE",
        )
    try:
        return bytes(pyrage.decrypt(data, _identities(pyrage, identity)))
    except pyrage.DecryptError as error:
        raise _undecipherable(str(error)) from error


def _identities(pyrage: Any, file: Path) -> list[Any]:  # noqa: ANN401  the library has no types
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the key cannot be read: {error.strerror}", where=str(file), code="E_IDENTITY"
        ) from error
    try:
        if b"PRIVATE KEY" in content:
            return [pyrage.ssh.Identity.from_buffer(content)]
        lines = (line.strip() for line in content.decode().splitlines())
        return [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except (pyrage.IdentityError, ValueError):
        # Without its cause: that could repeat a part of the key.
        raise ConfigError(
            "that is no age identity",
            where=str(file),
            code="E_IDENTITY",
            hint="it holds a line AGE-SECRET-KEY-1..., or an SSH private key without passphrase",
        ) from None


def _undecipherable(reason: str) -> DjopsError:
    return DjopsError(
        f"the file cannot be decrypted: {reason}",
        code="E_DECRYPT",
        hint="is it whole, and is this the private key of the one that it was encrypted for?",
    )


def _pyrage() -> Any:  # noqa: ANN401  the library has no types
    try:
        import pyrage  # type: ignore[import-untyped]
    except ImportError as error:
        raise InstallError(
            "age needs the library pyrage", hint="install it: `pip install 'djops[age]'`; or use a GPG key"
        ) from error
    return pyrage


def _gpg(arguments: list[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("gpg")
    if program is None:
        raise InstallError("there is no gpg on PATH", hint="install GnuPG, or use an age key")
    # Through pipes only: neither a file nor the command line ever holds what is secret.
    command = [program, "--batch", "--no-tty", "--quiet", "--output", "-", *arguments]
    try:
        return subprocess.run(command, input=data, capture_output=True, check=False, timeout=_GPG_SECONDS)
    except subprocess.TimeoutExpired:
        silent = f"gpg: it did not end within {_GPG_SECONDS:.0f} s; does its agent wait for a passphrase?"
        return subprocess.CompletedProcess(command, 124, b"", silent.encode())


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("gpg: ") if lines else f"status {done.returncode}"
