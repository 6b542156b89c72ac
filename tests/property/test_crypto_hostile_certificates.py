"""Spoiled certificates, identities and signatures of strangers: CryptoError, without a warning, and nothing else."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator

import pytest

from certificates import WALL_TIME, Authority
from ipsecha.crypto.credentials import ConnectionSecrets, Credentials
from ipsecha.model.errors import CryptoError
from ipsecha.model.identity import Identity, parse_identity

OCTETS = b"what the AUTH payload signs"
HASHES = (2, 3, 4, 5)
TRIES = 1500
TELLING = (0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x30, 0x31, 0x80, 0x81, 0x82, 0xA0, 0xA3, 0xFF)
"""Octets that mean something in DER."""


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    """A warning would be a line of log for each certificate that a stranger sends."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def spoiled(rng: random.Random, data: bytes) -> bytes:
    octets = bytearray(data)
    for _ in range(rng.randrange(1, 3)):
        at, kind = rng.randrange(len(octets)), rng.randrange(4)
        if kind < 2:
            octets[at] = rng.choice((*TELLING, rng.randrange(256)))
        elif kind == 2:
            del octets[at : at + rng.randrange(1, 20)]
            octets += b"\x00"
        else:
            octets[at:at] = rng.randbytes(rng.randrange(1, 9))
    return bytes(octets)


@pytest.mark.parametrize("kind", ["rsa", "p256", "ed25519"])
def test_spoiled_chains_and_signatures(kind: str) -> None:
    """RFC 7296 section 2.21.2: failures of authentication are answered, whatever the certificates look like."""
    root = Authority("Root", kind)
    holder = Authority("Below", kind, root).issue("peer.example.org", kind)
    theirs = Credentials({"site": ConnectionSecrets(chain=holder.chain, private_key=holder.private_key)})
    ours = Credentials({"site": ConnectionSecrets(ca=(root.certificate,))})
    signer = theirs.signer("site")
    assert signer is not None
    method, signature = signer.sign(OCTETS, HASHES)
    peer = parse_identity("peer.example.org")
    ours.verify("site", peer, holder.chain, method, signature, OCTETS, WALL_TIME)
    rng = random.Random(kind)
    for _ in range(TRIES):
        chain = [spoiled(rng, der) if rng.random() < 0.7 else der for der in holder.chain]
        proof = spoiled(rng, signature) if rng.random() < 0.5 else signature
        claimed = peer if rng.random() < 0.5 else Identity(rng.randrange(12), rng.choice(chain)[: rng.randrange(90)])
        reason = ""
        try:
            ours.verify("site", claimed, tuple(chain), rng.choice((method, 1, 9, 14)), proof, OCTETS, WALL_TIME)
        except CryptoError as error:
            reason = str(error)
        assert reason.isprintable()
        assert len(reason) < 500
        assert reason or (claimed == peer and chain[0] == holder.certificate)


@pytest.mark.parametrize("version", [1, 3, 9, 255])
def test_certificates_of_versions_that_do_not_exist(version: int) -> None:
    """RFC 5280 section 4.1.2.1: version 2 and those to come are refused like anything that cannot be read."""
    root = Authority("Root")
    holder = root.issue("peer.example.org")
    ours = Credentials({"site": ConnectionSecrets(ca=(root.certificate,))})
    der = holder.certificate.replace(b"\xa0\x03\x02\x01\x02", bytes((0xA0, 3, 2, 1, version)), 1)
    assert der != holder.certificate
    with pytest.raises(CryptoError, match="cannot be read"):
        ours.verify("site", parse_identity("peer.example.org"), (der,), 14, b"", OCTETS, WALL_TIME)
