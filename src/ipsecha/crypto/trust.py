"""Validation of a peer's certificate chain up to a configured CA (RFC 5280 section 6.1, RFC 4945 section 5.1).

The library's own verifier (``cryptography.x509.verification``) follows the rules of the web: names of TLS servers, TLS
key usages, no Ed25519, and failures without words for an operator.  So the path is built here and each link is
checked with the library's ``verify_directly_issued_by``.  Revocation is not looked up: there is no CRL and no OCSP.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ipsecha.crypto.certificates import Certificate, authority_hash
from ipsecha.model.errors import CryptoError

PATH_LONGEST = 8  # certificates, end entity and trust anchor included
CHAIN_LONGEST = 16  # certificates of a peer that are looked at
_LINKS_TRIED = 32  # signatures that a stranger may make us verify
_REMEMBERED = 512


class _Search:
    """One search for a path: candidates, what is left of the budget, and what went wrong first: ``reason`` is a fault
    of the right issuer, ``dead_end`` says that there was none."""

    __slots__ = ("candidates", "dead_end", "links_left", "reason", "wall_time")

    def __init__(self, candidates: Sequence[Certificate], wall_time: float) -> None:
        self.candidates = candidates
        self.wall_time = wall_time
        self.links_left = _LINKS_TRIED
        self.reason: CryptoError | None = None
        self.dead_end: CryptoError | None = None


class TrustStore:
    """The trust anchors of a connection.  Successful validations are remembered until a certificate of the path
    expires, so that a peer that comes back costs one signature, not three."""

    def __init__(self, anchors: Sequence[bytes]) -> None:
        """``anchors``: DER.  Usually CAs; an end entity's own certificate pins that peer.

        Raises CryptoError where one cannot be read.
        """
        self._anchors = tuple(Certificate(der) for der in anchors)
        self._pinned = frozenset(anchors)
        self._by_der = {anchor.der: anchor for anchor in self._anchors}
        self._remembered: dict[bytes, tuple[Certificate, float, float]] = {}
        self.authority_hashes = tuple(authority_hash(anchor) for anchor in self._anchors if anchor.is_ca)

    @property
    def anchors(self) -> tuple[Certificate, ...]:
        return self._anchors

    def validate(self, chain: tuple[bytes, ...], wall_time: float) -> Certificate:
        """The end entity's certificate, ``chain[0]``, where a valid path leads from it to a trust anchor.

        ``chain``: DER, the other certificates in any order; ``wall_time``: seconds since 1970.
        Raises CryptoError with the one reason that an operator should read first.
        """
        key = _digest(chain)
        known = self._remembered.get(key)
        if known is not None and known[1] <= wall_time <= known[2]:
            return known[0]
        if not chain:
            raise CryptoError("the peer has sent no certificate")
        path = self._find_path(chain[:CHAIN_LONGEST], wall_time)
        if len(self._remembered) >= _REMEMBERED:
            self._remembered.clear()
        not_before, not_after = max(link.not_before for link in path), min(link.not_after for link in path)
        self._remembered[key] = (path[0], not_before, not_after)
        return path[0]

    def _find_path(self, chain: tuple[bytes, ...], wall_time: float) -> list[Certificate]:
        end_entity = Certificate(chain[0])
        end_entity.check_validity(wall_time)
        end_entity.check_extensions()
        end_entity.check_end_entity()
        if end_entity.der in self._pinned:
            return [end_entity]
        search = _Search(self._candidates(chain[1:]), wall_time)
        path = self._extend([end_entity], search)
        if path is None:
            raise search.reason or search.dead_end or CryptoError(f"certificate of {end_entity.name} leads to no CA")
        return path

    def _candidates(self, others: tuple[bytes, ...]) -> list[Certificate]:
        """Trust anchors first; what a peer sends besides and cannot be read is passed over."""
        candidates = list(self._anchors)
        for der in others:
            if der in self._by_der:
                continue
            try:
                candidates.append(Certificate(der))
            except CryptoError:
                continue
        return candidates

    def _extend(self, path: list[Certificate], search: _Search) -> list[Certificate] | None:
        """The path prolonged up to a trust anchor, depth first; None where it leads nowhere."""
        last = path[-1]
        below = sum(not link.is_self_issued for link in path[1:])
        for issuer in search.candidates:
            if issuer.subject != last.issuer or any(issuer.der == link.der for link in path):
                continue
            try:
                if not self._is_link(last, issuer, below, search):
                    search.dead_end = search.dead_end or CryptoError(
                        f"certificate of {last.name} is not signed by CA {issuer.name}"
                    )
                    continue
            except CryptoError as error:
                search.reason = search.reason or error
                continue
            if issuer.der in self._pinned:
                return [*path, issuer]
            found = self._extend([*path, issuer], search) if len(path) < PATH_LONGEST - 1 else None
            if found is not None:
                return found
        search.dead_end = search.dead_end or CryptoError(
            f"certificate of {last.name} is issued by a CA that is not known here"
        )
        return None

    @staticmethod
    def _is_link(last: Certificate, issuer: Certificate, below: int, search: _Search) -> bool:
        """Whether ``issuer`` has signed ``last``; raises CryptoError where it should not have."""
        if search.links_left <= 0:
            raise CryptoError("the certificates of the peer make too many paths")
        search.links_left -= 1
        if not last.is_signed_by(issuer):
            return False
        issuer.check_authority(below)
        issuer.check_extensions()
        issuer.check_validity(search.wall_time)
        return True


def _digest(chain: tuple[bytes, ...]) -> bytes:
    """A name for the chain that takes no more memory than a hash."""
    return hashlib.sha256(b"".join(hashlib.sha256(der).digest() for der in chain)).digest()
