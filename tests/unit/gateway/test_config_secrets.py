"""Secret files and certificates that a policy names: who may read them, what they must hold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from config_texts import CONNECTION, GOOD, edited

SECRETS: list[tuple[str, bytes, int, list[str]]] = [
    ("psk_file", b"x" * 20, 0o640, ["may be accessed by others (mode 0640): expected 0600 (chmod 600 FILE)"]),
    ("psk_file", b"x" * 20, 0o604, ["may be accessed by others (mode 0604): expected 0600 (chmod 600 FILE)"]),
    ("psk_file", b"", 0o600, ["the pre-shared key is empty"]),
    ("psk_file", b"\n", 0o600, ["the pre-shared key is empty"]),
    (
        "psk_file",
        b"two\nlines\n",
        0o600,
        ["the pre-shared key has more than one line: expected one, or 0x and hexadecimal digits"],
    ),
    (
        "psk_file",
        b"0xnothex",
        0o600,
        ["the pre-shared key begins like hexadecimal (0x) or base64 (0s), but does not go on so"],
    ),
    (
        "psk_file",
        b"short",
        0o600,
        ["warning: connections.paris.psk_file: a pre-shared key of 5 octets can be guessed: take 16 random ones"],
    ),
    ("psk_file", b"x" * (1024 * 1024 + 1), 0o600, ["cannot read FILE: it is larger than 1048576 octets"]),
    ("psk_file", bytes(range(14, 46)), 0o400, []),
    (
        "private_key",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        0o600,
        ["FILE: the private key cannot be read (expected PEM or DER; is the password right?)"],
    ),
    ("private_key", b"", 0o600, ["FILE: the private key cannot be read (expected PEM or DER; is the password right?)"]),
    ("ca", b"nothing", 0o644, ["FILE: "]),
    ("ca", b"nothing", 0o666, ["FILE may be changed by everybody (mode 0666): expected 0644 (chmod 644 FILE)"]),
]
CERTIFICATE = 'remote_id = "paris.example.net"\ncertificate = "berlin.crt"\nprivate_key = "berlin.key"\nca = "ca.crt"'


@pytest.mark.parametrize(("key", "content", "mode", "expected"), SECRETS)
def test_files_with_secrets(
    complaints: Any, secrets: Path, key: str, content: bytes, mode: int, expected: list[str]
) -> None:
    path = secrets / f"broken-{key}"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    os.chmod(path, mode)
    good = {"psk_file": '"paris.psk"', "private_key": '"berlin.key"', "ca": '"ca.crt"'}[key]
    text = GOOD if key == "psk_file" else edited(CONNECTION, CERTIFICATE)
    found = complaints(text.replace(f"{key} = {good}", f'{key} = "{path.name}"'))
    assert len(found) == len(expected)
    for line, wanted in zip(found, expected, strict=True):
        assert wanted.replace("FILE", path.name) in line
        assert b"x" * 20 not in line.encode()
    path.unlink()


def test_secret_of_another_user(complaints: Any, secrets: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    path = secrets / "foreign.psk"
    path.write_bytes(b"x" * 20)
    os.chmod(path, 0o600)
    os.chown(path, 12345, -1)
    found = complaints(edited("paris.psk", "foreign.psk"))
    expected = "foreign.psk belongs to user 12345: expected root or the user that runs the gateway"
    assert found == [f"policy.toml:4: connections.paris.psk_file: {expected}"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "", []),
        (
            "berlin.key",
            "other.key",
            ['6: connections.paris.private_key: does not belong to the certificate of "berlin.example.net"'],
        ),
        (
            '"paris.example.net"',
            '"any"\nlocal_id = "rome.example.net"',
            [
                '5: warning: connections.paris.local_id: is not in the certificate of "berlin.example.net": '
                "peers will refuse it"
            ],
        ),
        ('"paris.example.net"', '"any"\nlocal_id = "C=CH, O=ipsecha lab, CN=berlin.example.net"', []),
        ('"paris.example.net"', '"any"\nlocal_id = "Berlin.example.net"', []),
        (
            "berlin.crt",
            "ca.crt",
            [
                "5: connections.paris.certificate: certificate of Test CA is not for signatures (key usage)",
                '6: connections.paris.private_key: does not belong to the certificate of "Test CA"',
            ],
        ),
    ],
)
def test_certificates(complaints: Any, old: str, new: str, expected: list[str]) -> None:
    text = edited(CONNECTION, CERTIFICATE.replace(old, new, 1))
    assert complaints(text) == [f"policy.toml:{line}" for line in expected]


def test_expired_certificate_is_a_warning(complaints: Any) -> None:
    """The clock may be wrong, and an old certificate is better than no tunnel: the peer decides."""
    (found,) = complaints(edited(CONNECTION, CERTIFICATE.replace("berlin", "expired")))
    assert found.startswith("policy.toml:5: warning: connections.paris.certificate: certificate of expired.example.net")
    assert "expired on 20" in found
