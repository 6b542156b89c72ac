"""Protected messages: SK payloads sealed and opened, cut into SKF fragments where too long (RFC 7383).

Associated data is everything before the IV: 32 octets with SK, 36 with SKF (fragment number and total included).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ipsecha.crypto.protection import Protection
from ipsecha.model.errors import CryptoError
from ipsecha.model.spi import Entropy
from ipsecha.wire.chain import join_payloads
from ipsecha.wire.header import Header
from ipsecha.wire.sk import SK_PREFIX_LENGTH, SKF_PREFIX_LENGTH, build_sk_prefix, build_skf_prefix, find_encrypted

IPV4_UDP_OVERHEAD = 20 + 8 + 4  # IP and UDP headers and the non-ESP marker
IPV6_UDP_OVERHEAD = 40 + 8 + 4
IV_COUNTER_BITS = 40


def message_limit(fragment_size: int, remote_ip: str) -> int:
    """The octets that an IKE message may have in an IP datagram of ``fragment_size`` octets."""
    return fragment_size - (IPV6_UDP_OVERHEAD if ":" in remote_ip else IPV4_UDP_OVERHEAD)


class Opened(NamedTuple):
    """An authentic message's inner octets; ``fragment`` and ``fragments`` are 0 for an SK payload."""

    first_payload: int
    octets: bytes
    fragment: int
    fragments: int


class Envelope(NamedTuple):
    """The header's fields of a message to be sealed."""

    spi_i: bytes
    spi_r: bytes
    exchange: int
    flags: int
    message_id: int


def seal_message(
    protection: Protection,
    envelope: Envelope,
    payloads: Sequence[tuple[int, bytes]],
    *,
    first_iv: int,
    entropy: Entropy,
    limit: int = 0,
) -> tuple[bytes, ...]:
    """The datagrams that carry ``payloads``: one, or fragments where it would exceed ``limit`` octets (0: no limit).

    With an AEAD the IVs are ``first_iv``, ``first_iv + 1``, ...: as many as there are datagrams; the caller never
    passes one of them again for the same key (invariant I1).  CBC takes its IVs from ``entropy``.
    """
    first, inner = join_payloads(payloads)
    length = protection.sealed_length(len(inner))
    if limit and SK_PREFIX_LENGTH + length > limit:
        return _seal_fragments(protection, envelope, first, inner, first_iv, entropy, limit)
    prefix = build_sk_prefix(*envelope, first, length)
    iv = first_iv.to_bytes(8, "big") if protection.explicit_counter_iv else entropy(protection.iv_length)
    return (prefix + protection.seal(prefix, iv, inner),)


def _seal_fragments(
    protection: Protection, envelope: Envelope, first: int, inner: bytes, first_iv: int, entropy: Entropy, limit: int
) -> tuple[bytes, ...]:
    chunk = _chunk_length(protection, limit - SKF_PREFIX_LENGTH)
    total = -(-len(inner) // chunk)
    datagrams: list[bytes] = []
    for index in range(total):
        part = inner[index * chunk : (index + 1) * chunk]
        prefix = build_skf_prefix(*envelope, first, protection.sealed_length(len(part)), index + 1, total)
        iv = (first_iv + index).to_bytes(8, "big") if protection.explicit_counter_iv else entropy(protection.iv_length)
        datagrams.append(prefix + protection.seal(prefix, iv, part))
    return tuple(datagrams)


def _chunk_length(protection: Protection, room: int) -> int:
    """The most octets (at least 16) that fit into a fragment whose sealed part has ``room`` octets."""
    length = max(room - protection.iv_length - protection.icv_length - 1, 16)
    while length > 16 and protection.sealed_length(length) > room:
        length -= 1
    return length


def open_message(protection: Protection, header: Header, data: bytes) -> Opened:
    """Check and decrypt the SK or SKF payload of ``data``.

    Raises CryptoError for a message that is not authentic, WireError for one without a sound SK or SKF payload.
    Unprotected payloads before it are ignored: nothing that we negotiate puts any there.
    """
    found = find_encrypted(data, header.next_payload)
    body = data[found.body_offset :]
    if len(body) < protection.iv_length + protection.icv_length:
        raise CryptoError("the encrypted payload is too short for its IV and ICV")
    octets = protection.open(data[: found.body_offset], body)
    return Opened(found.first_inner, octets, found.fragment, found.total)
