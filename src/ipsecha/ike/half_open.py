"""IKE SAs before IKE_AUTH: half-open ones of the responder, initiations of the initiator.

They are types of their own: nonces and whole messages live here and vanish when the IKE SA stands.  What the backup
hears of them is in ``sharing`` and ``initiation_records``.
"""

from __future__ import annotations

import ipaddress
from enum import Enum
from typing import TYPE_CHECKING

import msgspec

from ipsecha.crypto.key_derivation import IkeKeys
from ipsecha.crypto.key_exchange import KeyExchange
from ipsecha.model.proposals import IkeSuite, Proposal
from ipsecha.model.records import Address

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint


class HalfOpen(msgspec.Struct, gc=False):
    """The responder's side between IKE_SA_INIT and IKE_AUTH."""

    spi_i: bytes
    spi_r: bytes
    candidates: tuple[str, ...]  # connections that the addresses allow, best first
    suite: IkeSuite
    keys: IkeKeys
    request: bytes
    response: bytes
    digest: bytes  # of the request
    ni: bytes
    nr: bytes
    flags: int
    peer_hashes: tuple[int, ...] | None  # SIGNATURE_HASH_ALGORITHMS; None: not sent
    created_at: float
    source: str = ""  # whose share of the table this takes


def source_of(address: str) -> str:
    """What counts as one source: an IPv4 address, or an IPv6 network of 64 bits, which one host can fill."""
    if ":" not in address:
        return address
    return ipaddress.IPv6Address(address.partition("%")[0]).packed[:8].hex()


class HalfOpenTable:
    """Half-open IKE SAs by our SPI, and by the whole request: a colliding SPIi blocks nobody (RFC 7296 section 2.1)."""

    def __init__(self) -> None:
        self.by_spi: dict[bytes, HalfOpen] = {}
        self._by_request: dict[bytes, bytes] = {}
        self._sources: dict[str, int] = {}
        self._lifetime_s = 30.0

    def __len__(self) -> int:
        return len(self.by_spi)

    def find_request(self, digest: bytes) -> HalfOpen | None:
        spi = self._by_request.get(digest)
        return self.by_spi[spi] if spi is not None else None

    def add(self, half_open: HalfOpen, lifetime_s: float) -> None:
        self._lifetime_s = lifetime_s
        self.by_spi[half_open.spi_r] = half_open
        self._by_request[half_open.digest] = half_open.spi_r
        self._sources[half_open.source] = self._sources.get(half_open.source, 0) + 1

    def remove(self, half_open: HalfOpen) -> None:
        if self.by_spi.pop(half_open.spi_r, None) is None:
            return
        self._by_request.pop(half_open.digest, None)
        left = self._sources.pop(half_open.source, 0) - 1
        if left > 0:
            self._sources[half_open.source] = left

    def of_source(self, address: str) -> int:
        """How many half-open IKE SAs the source of ``address`` holds."""
        return self._sources.get(source_of(address), 0)

    def next_timer(self) -> float | None:
        """When the oldest expires: all live equally long, so the first in the table is the oldest."""
        for oldest in self.by_spi.values():
            return oldest.created_at + self._lifetime_s
        return None

    def expire(self, endpoint: IkeEndpoint, now: float) -> None:
        """Drop those whose IKE_AUTH has not come in time."""
        while (when := self.next_timer()) is not None and when <= now:
            half_open = next(iter(self.by_spi.values()))
            self.remove(half_open)
            endpoint.reassembly.forget(half_open.spi_r + b"q")
            endpoint.count("half-open-expired")

    def clear(self) -> None:
        self.by_spi.clear()
        self._by_request.clear()
        self._sources.clear()


class Stage(Enum):
    """How far an initiation has come."""

    INIT = "IKE_SA_INIT"
    AUTH = "IKE_AUTH"
    REFUSED = "refusal"  # the responder took itself to be authenticated; we tell it that it is not


class Initiation(msgspec.Struct):
    """The initiator's side until IKE_AUTH has succeeded."""

    connection: str
    children: tuple[str, ...]  # to be made; the first in IKE_AUTH
    spi_i: bytes
    local: Address
    remote: Address
    proposals: tuple[Proposal, ...]
    ni: bytes
    key_exchange: KeyExchange | None  # None: a predecessor has derived the keys
    started_at: float
    stage: Stage = Stage.INIT
    request: tuple[bytes, ...] = ()
    tries: int = 1
    rounds: int = 0  # requests made anew for a COOKIE or INVALID_KE_PAYLOAD
    cookie: bytes = b""
    failure: str = ""  # what an unauthenticated answer says, believed only if no better one comes
    fails_at: float = 0.0
    spi_r: bytes = bytes(8)
    nr: bytes = b""
    suite: IkeSuite | None = None
    keys: IkeKeys | None = None
    response: bytes = b""
    flags: int = 0
    peer_hashes: tuple[int, ...] | None = None
    message_id: int = 0
    iv_counter: int = 0
    child_spi: int = 0
    child_offer: tuple[Proposal, ...] = ()
