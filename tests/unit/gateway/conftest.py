"""A directory with every secret that the configurations of these tests name, and a short way to load a text."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ipsecha.gateway.config import ConfigError, LoadedPolicy, load_policy
from ipsecha.lab.pki import Authority

Loader = Callable[[str], LoadedPolicy]
Complainer = Callable[[str], list[str]]


def write(path: Path, data: bytes | str, mode: int = 0o600) -> None:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    os.chmod(path, mode)


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """paris.psk; berlin.crt and berlin.key of ca.crt; alpha, beta likewise; other.key; expired.crt and expired.key."""
    folder = tmp_path_factory.mktemp("secrets")
    authority = Authority("Test CA")
    write(folder / "ca.crt", authority.certificate, 0o644)
    write(folder / "paris.psk", "a shared secret of good length\n")
    for name, kind in (("berlin", "ecdsa"), ("alpha", "ecdsa"), ("beta", "ed25519"), ("other", "ed25519")):
        credential = authority.issue(name if name in ("alpha", "beta") else f"{name}.example.net", kind)
        write(folder / f"{name}.crt", credential.certificate, 0o644)
        write(folder / f"{name}.key", credential.private_key)
    expired = authority.issue("expired.example.net", lifetime_days=-1)
    write(folder / "expired.crt", expired.certificate, 0o644)
    write(folder / "expired.key", expired.private_key)
    return folder


@pytest.fixture
def load(secrets: Path) -> Loader:
    """Load a policy from its text, beside the secrets."""

    def loaded(text: str) -> LoadedPolicy:
        path = secrets / "policy.toml"
        write(path, text, 0o644)
        return load_policy(path)

    return loaded


@pytest.fixture
def complaints(secrets: Path, load: Loader) -> Complainer:
    """The problems of a policy's text, without the directory in front; an empty list where it is good."""

    def found(text: str) -> list[str]:
        try:
            problems = load(text).warnings
        except ConfigError as error:
            problems = error.problems
        return [str(problem).replace(f"{secrets}/", "") for problem in problems]

    return found
