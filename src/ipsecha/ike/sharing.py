"""Half-open IKE SAs, shared with the backup within a budget (invariant I7): a peer whose IKE_AUTH arrives after a
takeover then need not start over.

Theory of operation.  The owner offers each half-open IKE SA that it makes.  One that is shared leaves at once, in the
channel's order; nothing waits for it, and if it is lost the peer starts over.  What a stranger can cause that way is
bounded three times: by a token bucket, whose unit is a kibibyte; by what the backup holds at the same time; by a share
of that for each source.  The more half-open IKE SAs there are, the more of the bucket is kept for sources that have
returned a cookie, all of it once cookies are demanded: a spoofed flood uses up a part of one burst and then nothing.

The owner's account of what the backup holds is exact: an entry ends there by its age, or by the IKE SA's own record,
which IKE_AUTH makes; both are known here as well.

The backup keeps the states as they come.  A takeover touches none of them: one is put to use when its IKE_AUTH arrives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ipsecha.crypto.key_derivation import pack_ike_keys, unpack_ike_keys
from ipsecha.ike.half_open import HalfOpen, source_of
from ipsecha.ike.init_message import parse_init
from ipsecha.ike.limits import TokenBucket
from ipsecha.ike.window import digest_of
from ipsecha.model.effects import Share
from ipsecha.model.errors import CryptoError, PeerError, WireError
from ipsecha.model.handshakes import HalfOpenRecord, decode_half_open, encode_handshake
from ipsecha.model.policy import IkeLimits
from ipsecha.model.records import Address
from ipsecha.wire.header import parse_header

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

UNIT = 1024
"""Octets that count as one half-open IKE SA; a larger one counts as more."""

LEAST_BURST = 8
"""Room for the largest request, however small the rate."""

HELD_S = 10
"""The backup holds as many as the budget lets through in so long."""

SOURCE_SHARE = 8
"""No source may hold more than this part of what the backup holds."""


class Sharing:
    """The budget, at the owner."""

    def __init__(self, limits: IkeLimits) -> None:
        self.listening = False  # a backup is there, in sync or about to be
        self.configure(limits)

    def configure(self, limits: IkeLimits) -> None:
        """A reload: the budget begins anew."""
        self.rate = limits.shared_half_open_per_s
        self.burst = max(self.rate, LEAST_BURST)
        self.limit = HELD_S * self.burst if self.rate else 0
        self._threshold = max(1, limits.cookie_threshold)
        self._lifetime_s = limits.half_open_s
        self._bucket = TokenBucket(self.rate, self.burst)
        self._shared: dict[bytes, tuple[str, float]] = {}  # source and expiry, by our SPI, oldest first
        self._sources: dict[str, int] = {}

    def held(self, now: float) -> int:
        """How many the backup holds now."""
        while self._shared:
            spi = next(iter(self._shared))
            if self._shared[spi][1] > now:
                break
            self.release(spi)
        return len(self._shared)

    def used(self, now: float) -> float:
        """How much of the burst is used up now, 0 to 1."""
        return 1.0 - self._bucket.level(now) / self.burst if self.rate else 0.0

    def allows(self, half_open: HalfOpen, octets: int, crowd: int, verified: bool, now: float) -> bool:
        """Whether a half-open IKE SA of so many octets may be shared; it is then accounted for.

        ``crowd``: how many half-open IKE SAs there are; ``verified``: its source has returned a cookie.
        """
        source = half_open.source
        if self.held(now) >= self.limit or self._sources.get(source, 0) >= self.limit // SOURCE_SHARE:
            return False
        reserve = 0.0 if verified else self.burst * min(1.0, crowd / self._threshold)
        if not self._bucket.take(now, max(1.0, octets / UNIT), reserve):
            return False
        self._shared[half_open.spi_r] = source, now + self._lifetime_s
        self._sources[source] = self._sources.get(source, 0) + 1
        return True

    def release(self, spi_r: bytes) -> None:
        """The backup has no half-open IKE SA with this SPI any more."""
        if spi_r not in self._shared:
            return
        source, _ = self._shared.pop(spi_r)
        left = self._sources.pop(source) - 1
        if left:
            self._sources[source] = left


class HeldHalfOpens:
    """What the owner has shared, at the backup; and after a takeover what nobody has asked for yet."""

    def __init__(self) -> None:
        self._records: dict[bytes, HalfOpenRecord] = {}  # by our SPI, oldest first
        self._spis: dict[bytes, bytes] = {}  # by the digest of the IKE_SA_INIT request

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, spi_r: bytes) -> bool:
        return spi_r in self._records

    def add(self, record: HalfOpenRecord, limit: int) -> None:
        self.pop(record.spi_r)
        while len(self._records) >= limit:
            self.pop(next(iter(self._records)))
        self._records[record.spi_r] = record
        self._spis[digest_of(record.request)] = record.spi_r

    def pop(self, spi_r: bytes) -> HalfOpenRecord | None:
        record = self._records.pop(spi_r, None)
        if record is not None:
            digest = digest_of(record.request)
            if self._spis.get(digest) == spi_r:  # the same request may have made another one since
                del self._spis[digest]
        return record

    def response_to(self, digest: bytes) -> bytes | None:
        """The answer to an IKE_SA_INIT request that comes again."""
        spi = self._spis.get(digest)
        return self._records[spi].response if spi is not None else None

    def next_timer(self, lifetime_s: float) -> float | None:
        for oldest in self._records.values():
            return oldest.created_at + lifetime_s
        return None

    def expire(self, now: float, lifetime_s: float) -> None:
        while (when := self.next_timer(lifetime_s)) is not None and when <= now:
            self.pop(next(iter(self._records)))

    def clear(self) -> None:
        self._records.clear()
        self._spis.clear()


def offer(
    endpoint: IkeEndpoint, half_open: HalfOpen, local: Address, remote: Address, now: float, *, verified: bool
) -> None:
    """Share a half-open IKE SA that has just been made, if the budget allows it."""
    sharing = endpoint.sharing
    if not sharing.listening or not sharing.rate:
        return
    state = encode_handshake(
        HalfOpenRecord(
            half_open.request,
            half_open.response,
            pack_ike_keys(half_open.keys),
            half_open.suite,
            half_open.flags,
            half_open.peer_hashes,
            local,
            remote,
            now,
        )
    )
    if not sharing.allows(half_open, len(state), len(endpoint.half_open), verified, now):
        endpoint.count("half-open-withheld")
        return
    endpoint.count("half-open-shared")
    endpoint.counters["half-open-shared-octets"] += len(state)
    endpoint.emit(Share(state))


def hold(endpoint: IkeEndpoint, state: bytes) -> None:
    """A state that the owner has shared: kept as it is, within the same bounds as there."""
    limit = endpoint.sharing.limit
    try:
        record = decode_half_open(state)
    except (msgspec.DecodeError, UnicodeDecodeError):
        endpoint.count("half-open-malformed")
        return
    if limit and record.spi_r not in endpoint.sas:
        endpoint.held_half_opens.add(record, limit)


def find(endpoint: IkeEndpoint, spi_r: bytes, now: float) -> HalfOpen | None:
    """The half-open IKE SA with this SPI of ours; one that a predecessor has shared is put to use."""
    half_open = endpoint.half_open.by_spi.get(spi_r)
    if half_open is None and spi_r in endpoint.held_half_opens:
        record = endpoint.held_half_opens.pop(spi_r)
        if record is not None:
            half_open = _continue(endpoint, record, now)
    return half_open


def _continue(endpoint: IkeEndpoint, record: HalfOpenRecord, now: float) -> HalfOpen | None:
    """What the predecessor had; its connections are found anew, since both members read one configuration."""
    candidates = endpoint.candidates.find(record.local[0], record.remote[0])
    if candidates is None:
        return None
    request, response = record.request, record.response
    try:
        ni = parse_init(parse_header(request), request).nonce
        nr = parse_init(parse_header(response), response).nonce
        keys = unpack_ike_keys(record.suite, record.keys)
    except (WireError, PeerError, CryptoError):
        endpoint.count("half-open-malformed")
        return None
    half_open = HalfOpen(
        record.spi_i,
        record.spi_r,
        candidates.names,
        record.suite,
        keys,
        request,
        response,
        digest_of(request),
        ni,
        nr,
        record.flags,
        record.peer_hashes,
        now,
        source_of(record.remote[0]),
    )
    endpoint.half_open.add(half_open, endpoint.policy.limits.half_open_s)
    endpoint.count("half-open-continued")
    return half_open
