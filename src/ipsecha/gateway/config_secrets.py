"""Files with secrets and certificates: whose they are, who may read them, and whether they fit together.

Each file is read once, however many connections name it.  No content ever gets into a message.
"""

from __future__ import annotations

import base64
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from ipsecha.crypto.certificates import Certificate, load_certificates
from ipsecha.crypto.keys import load_private_key
from ipsecha.gateway.config_source import read_regular_file, reason_of
from ipsecha.gateway.config_table import Table
from ipsecha.gateway.config_values import Wrong, path_below
from ipsecha.model.errors import CryptoError

MAX_SECRET_FILE = 1024 * 1024
SHORT_PSK = 16
SHORT_SEAL_KEY = 32
EXPIRES_SOON_S = 14 * 86400.0

T = TypeVar("T")


class PrivateKey(NamedTuple):
    octets: bytes  # as in the file
    public_der: bytes

    def __repr__(self) -> str:
        return "PrivateKey(...)"


Chain = tuple[Certificate, ...]
"""The certificates of one file, at least one."""


class SecretFiles:
    """Reads the files that one configuration names; problems go to the table that names them."""

    def __init__(self, base: Path, wall_time: float, *, skip: bool = False) -> None:
        """``base``: where relative paths begin; ``skip``: look at no file at all, as when a policy is checked away
        from its gateway."""
        self._path = path_below(base)
        self._now = wall_time
        self._cache: dict[tuple[str, Path], object] = {}
        self.skip = skip

    def psk(self, table: Table, key: str) -> bytes | None:
        """A pre-shared key: the text of the file without the line's end, or ``0x`` hexadecimal, or ``0s`` base64."""
        secret = self._read(table, key, "a file with the pre-shared key", _parse_psk, secret=True)
        if secret is not None and len(secret) < SHORT_PSK:
            table.warn(key, f"a pre-shared key of {len(secret)} octets can be guessed: take {SHORT_PSK} random ones")
        return secret

    def seal_key(self, table: Table, key: str) -> bytes | None:
        """What saved state is sealed with, written as a pre-shared key is."""
        secret = self._read(table, key, "a file with the key for the seal", _parse_psk, secret=True)
        if secret is not None and len(secret) < SHORT_SEAL_KEY:
            table.problem(key, f"expected at least {SHORT_SEAL_KEY} octets that nobody can guess, found {len(secret)}")
        return secret

    def private_key(self, table: Table, key: str) -> PrivateKey | None:
        return self._read(table, key, "a file with the private key (PEM)", _parse_private_key, secret=True)

    def chain(self, table: Table, key: str) -> Chain | None:
        """Our own certificate, then any intermediate ones.  An expired one is a warning: the clock may be wrong."""
        chain = self._read(table, key, "a file with the certificate (PEM)", _parse_certificates)
        if chain is not None:
            self._check_validity(table, key, chain[0])
            try:
                chain[0].check_end_entity()
            except CryptoError as error:
                table.problem(key, str(error))
        return chain

    def authorities(self, table: Table, key: str) -> Chain | None:
        """The certificates of the authorities (CA) that may vouch for the peer, or the peer's own."""
        chain = self._read(table, key, "a file with the CA's certificate (PEM)", _parse_certificates)
        for certificate in chain or ():
            self._check_validity(table, key, certificate)
        return chain

    def check_pair(self, table: Table, chain: Chain | None, private: PrivateKey | None) -> None:
        """Note a problem where the private key does not belong to the certificate."""
        if chain is None or private is None:
            return
        certified = chain[0].public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if certified != private.public_der:
            table.problem("private_key", f'does not belong to the certificate of "{chain[0].name}"')

    def _check_validity(self, table: Table, key: str, certificate: Certificate) -> None:
        try:
            certificate.check_validity(self._now)
        except CryptoError as error:
            table.warn(key, str(error))
            return
        if certificate.not_after - self._now < EXPIRES_SOON_S:
            day = time.strftime("%Y-%m-%d", time.gmtime(certificate.not_after))
            table.warn(key, f"certificate of {certificate.name} expires on {day}")

    def _read(
        self, table: Table, key: str, what: str, parse: Callable[[bytes], T], *, secret: bool = False
    ) -> T | None:
        path = table.require(key, self._path, what)
        if path is None or self.skip:
            return None
        cache_key = (parse.__name__, path)
        if cache_key not in self._cache:
            try:
                check_permissions(path, secret=secret)
                self._cache[cache_key] = parse(read_regular_file(path, MAX_SECRET_FILE))
            except Wrong as wrong:
                self._cache[cache_key] = wrong
            except CryptoError as error:
                self._cache[cache_key] = Wrong(f"{path}: {error}")
            except (OSError, ValueError) as error:
                self._cache[cache_key] = Wrong(f"cannot read {path}: {reason_of(error)}")
        found = self._cache[cache_key]
        if isinstance(found, Wrong):
            table.problem(key, found.text)
            return None
        return found  # type: ignore[return-value]  # what this very function made of this very path


def check_permissions(path: Path, *, secret: bool) -> None:
    """Raises Wrong where others than the owner may read a secret or change a certificate; OSError without the file."""
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()):
        raise Wrong(f"{path} belongs to user {status.st_uid}: expected root or the user that runs the gateway")
    mode = stat.S_IMODE(status.st_mode)
    if secret and mode & (0o037 if _is_credential(path) else 0o077):
        raise Wrong(f"{path} may be accessed by others (mode {mode:04o}): expected 0600 (chmod 600 {path})")
    if mode & 0o002:
        raise Wrong(f"{path} may be changed by everybody (mode {mode:04o}): expected 0644 (chmod 644 {path})")


def _is_credential(path: Path) -> bool:
    """Whether systemd has handed the file over: that may be mode 0440 of root's, with an ACL for the unit's user, in
    a directory which is that user's alone."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
    return directory != "" and path.parent == Path(directory)


def common_name(certificate: Certificate) -> str:
    """The common name of the subject; empty where it has none."""
    names = certificate.x509.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _parse_psk(data: bytes) -> bytes:
    text = data.removesuffix(b"\n").removesuffix(b"\r")
    try:
        if text[:2].lower() == b"0x":
            text = bytes.fromhex(text[2:].decode("ascii"))
        elif text[:2] == b"0s":
            text = base64.b64decode(text[2:], validate=True)
    except ValueError:
        raise Wrong("the pre-shared key begins like hexadecimal (0x) or base64 (0s), but does not go on so") from None
    if not text:
        raise Wrong("the pre-shared key is empty")
    if b"\n" in text and data[:2].lower() not in (b"0x", b"0s"):
        raise Wrong("the pre-shared key has more than one line: expected one, or 0x and hexadecimal digits")
    return text


def _parse_certificates(data: bytes) -> Chain:
    return tuple(Certificate(der) for der in load_certificates(data))


def _parse_private_key(data: bytes) -> PrivateKey:
    public = load_private_key(data).public_key()
    return PrivateKey(data, public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
