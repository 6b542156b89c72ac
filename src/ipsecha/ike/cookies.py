"""Stateless cookies against floods of IKE_SA_INIT requests (RFC 7296 section 2.6).

Cookie = version | HMAC-SHA256(secret, Ni | IPi | SPIi), cut to 16 octets.  Secrets are replaced every minute while
cookies are in use; the one before is still accepted.
"""

from __future__ import annotations

import hmac

from ipsecha.model.spi import Entropy

SECRET_LENGTH = 32
COOKIE_LENGTH = 17
ROTATE_S = 60.0


class Cookies:
    """Makes cookies and recognises its own, without state per request."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._version = 0
        self._secrets: dict[int, bytes] = {}
        self._rotate_at = 0.0

    def make(self, now: float, nonce: bytes, remote_ip: str, spi_i: bytes) -> bytes:
        """The cookie that the initiator has to return."""
        if now >= self._rotate_at or not self._secrets:
            self._rotate(now)
        return self._cookie(self._version, nonce, remote_ip, spi_i)

    def check(self, now: float, cookie: bytes, nonce: bytes, remote_ip: str, spi_i: bytes) -> bool:
        """Whether ``cookie`` is one that we made for this request not long ago."""
        if len(cookie) != COOKIE_LENGTH or cookie[0] not in self._secrets or now >= self._rotate_at + ROTATE_S:
            return False
        return hmac.compare_digest(cookie, self._cookie(cookie[0], nonce, remote_ip, spi_i))

    def _rotate(self, now: float) -> None:
        before = self._secrets.get(self._version)
        keep = before is not None and now < self._rotate_at + ROTATE_S
        secrets = {self._version: before} if keep and before is not None else {}
        self._version = (self._version + 1) & 0xFF
        secrets[self._version] = self._entropy(SECRET_LENGTH)
        self._secrets = secrets
        self._rotate_at = now + ROTATE_S

    def _cookie(self, version: int, nonce: bytes, remote_ip: str, spi_i: bytes) -> bytes:
        octets = nonce + remote_ip.encode() + b"|" + spi_i
        return bytes((version,)) + hmac.digest(self._secrets[version], octets, "sha256")[: COOKIE_LENGTH - 1]
