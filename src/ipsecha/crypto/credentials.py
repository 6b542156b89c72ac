"""What the gateway proves its identities with and what it believes of its peers, per connection (the PAD's secrets)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ipsecha.crypto.authentication import PreparedPsk, sign, verify
from ipsecha.crypto.certificates import Certificate
from ipsecha.crypto.identity_binding import check_bound, is_bound
from ipsecha.crypto.keys import SigningKey, load_private_key
from ipsecha.crypto.trust import TrustStore
from ipsecha.model.errors import CryptoError
from ipsecha.model.identity import Identity


class ConnectionSecrets(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Plain data for one connection.

    ``psk``: the shared secret; ``chain``: our certificates in DER, the end entity's first; ``private_key``: PEM or
    DER, not encrypted; ``ca``: certificates in DER that peers are validated against.
    """

    psk: bytes | None = None
    chain: tuple[bytes, ...] = ()
    private_key: bytes | None = None
    ca: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return "ConnectionSecrets(...)"


class Signer:
    """Our certificates and the key that belongs to the first of them."""

    __slots__ = ("_key", "chain", "end_entity")

    def __init__(self, chain: tuple[bytes, ...], key: SigningKey) -> None:
        """``chain``: DER, the end entity's first.  Raises CryptoError where the key is not the certificate's."""
        if not chain:
            raise CryptoError("a private key needs the certificate that belongs to it")
        self.chain = chain
        self.end_entity = Certificate(chain[0])
        self._key = key
        ours, certified = key.public_key(), self.end_entity.public_key
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if ours.public_bytes(*form) != certified.public_bytes(*form):
            raise CryptoError(f"the private key does not belong to the certificate of {self.end_entity.name}")

    def sign(self, octets: bytes, peer_hashes: tuple[int, ...] | None) -> tuple[int, bytes]:
        """AUTH method and data, see ``authentication.sign``; raises CryptoError where the peer leaves no way."""
        return sign(self._key, octets, peer_hashes)

    def has_identity(self, identity: Identity) -> bool:
        """Whether the certificate is for ``identity``: peers refuse us otherwise."""
        return is_bound(self.end_entity, identity)

    def __repr__(self) -> str:
        return f"Signer({self.end_entity.name!r})"


class Credentials:
    """All secrets and trust of the gateway.  Connections with the same CAs share one store and its memory."""

    def __init__(self, connections: Mapping[str, ConnectionSecrets]) -> None:
        """Raises CryptoError, naming the connection, for keys and certificates that cannot be used."""
        self._psks: dict[str, PreparedPsk] = {}
        self._signers: dict[str, Signer] = {}
        self._stores: dict[str, TrustStore] = {}
        read = hashlib.sha256()
        keys: dict[bytes, SigningKey] = {}
        stores: dict[tuple[bytes, ...], TrustStore] = {}
        for name, secrets in sorted(connections.items()):
            read.update(msgspec.msgpack.encode([name, secrets.psk, secrets.chain, secrets.ca]))
            try:
                if secrets.psk is not None:
                    self._psks[name] = PreparedPsk(secrets.psk)
                if secrets.private_key is not None:
                    if secrets.private_key not in keys:
                        keys[secrets.private_key] = load_private_key(secrets.private_key)
                    self._signers[name] = Signer(secrets.chain, keys[secrets.private_key])
                if secrets.ca not in stores:
                    stores[secrets.ca] = TrustStore(secrets.ca)
                self._stores[name] = stores[secrets.ca]
            except CryptoError as error:
                raise CryptoError(f"connection {name!r}: {error}") from None
        self.digest = read.digest()  # of what peers see the effect of; not for anybody's eyes but the members'

    def psk(self, connection: str, remote_id: Identity | None) -> PreparedPsk | None:
        """The shared secret of a connection; every identity that the connection's policy lets in has the same."""
        return self._psks.get(connection)

    def signer(self, connection: str) -> Signer | None:
        """What we sign with, or None where the connection has no private key."""
        return self._signers.get(connection)

    def certreq(self, connection: str) -> tuple[bytes, ...]:
        """The CAs that a connection trusts, as CERTREQ names them: 20 octets each (RFC 7296 section 3.7)."""
        store = self._stores.get(connection)
        return store.authority_hashes if store else ()

    def verify(
        self,
        connection: str,
        remote_id: Identity,
        chain: tuple[bytes, ...],
        method: int,
        auth_data: bytes,
        octets: bytes,
        wall_time: float,
    ) -> None:
        """Checks a peer's signature over its signed octets, its certificates and that they are for its identity.

        ``chain``: DER from the CERT payloads in their order (empty: a pinned certificate of the peer is looked for);
        ``wall_time``: seconds since 1970.  Raises CryptoError with one clear reason.
        """
        store = self._stores.get(connection)
        if store is None or not store.anchors:
            raise CryptoError("no CA is configured for this connection")
        end_entity = store.validate(chain or _pinned(store, remote_id), wall_time)
        check_bound(end_entity, remote_id)
        verify(end_entity.public_key, method, auth_data, octets)

    def __repr__(self) -> str:
        return f"Credentials({len(self._psks)} shared secrets, {len(self._signers)} private keys)"


def _pinned(store: TrustStore, remote_id: Identity) -> tuple[bytes, ...]:
    """A peer need not send a certificate that we have (RFC 7296 section 3.6)."""
    return next(((anchor.der,) for anchor in store.anchors if is_bound(anchor, remote_id)), ())
