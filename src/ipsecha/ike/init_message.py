"""What IKE_SA_INIT messages say, in both directions."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from ipsecha.crypto.authentication import SUPPORTED_HASH_ALGORITHMS
from ipsecha.ike.window import check_critical
from ipsecha.model.errors import WireError
from ipsecha.model.numbers import LAST_ERROR_NOTIFY, Notify, Payload
from ipsecha.wire.chain import split_payloads
from ipsecha.wire.header import HEADER_LENGTH, Header
from ipsecha.wire.payloads.ke import parse_ke
from ipsecha.wire.payloads.nonce import parse_nonce
from ipsecha.wire.payloads.notify import build_notify, parse_notify

# plain integers: comparisons with enum members cost more than the parsing
_SA, _KE, _NONCE, _NOTIFY = int(Payload.SA), int(Payload.KE), int(Payload.NONCE), int(Payload.NOTIFY)
_COOKIE = int(Notify.COOKIE)
_SOURCE = int(Notify.NAT_DETECTION_SOURCE_IP)
_DESTINATION = int(Notify.NAT_DETECTION_DESTINATION_IP)
_FRAGMENTATION = int(Notify.IKEV2_FRAGMENTATION_SUPPORTED)
_HASHES = int(Notify.SIGNATURE_HASH_ALGORITHMS)

MAX_PAYLOADS = 64  # vendor IDs included; looked at before anything is known of the sender

FRAGMENTATION_NOTIFY = build_notify(Notify.IKEV2_FRAGMENTATION_SUPPORTED)
HASHES_NOTIFY = build_notify(
    Notify.SIGNATURE_HASH_ALGORITHMS, b"".join(number.to_bytes(2, "big") for number in SUPPORTED_HASH_ALGORITHMS)
)


class InitMessage(msgspec.Struct):
    """The parts of an IKE_SA_INIT message; empty where absent.  ``error`` is the first error notification, 0: none."""

    sa: bytes = b""
    group: int = 0
    public: bytes = b""
    nonce: bytes = b""
    cookie: bytes = b""
    sources: list[bytes] = []
    destinations: list[bytes] = []
    hashes: tuple[int, ...] | None = None
    fragmentation: bool = False
    error: int = 0
    error_data: bytes = b""

    @property
    def complete(self) -> bool:
        """Whether it has what a key exchange needs."""
        return bool(self.sa and self.public and self.nonce)


def parse_init(header: Header, data: bytes) -> InitMessage:
    """Raises WireError for a malformed message, PeerError(UNSUPPORTED_CRITICAL_PAYLOAD) for what that demands."""
    message = InitMessage()
    payloads = split_payloads(header.next_payload, data[HEADER_LENGTH:])
    if len(payloads) > MAX_PAYLOADS:
        raise WireError(f"{len(payloads)} payloads")
    for payload in payloads:
        kind = payload[0]
        if kind == _NOTIFY:
            _take_notify(message, payload[2])
        elif kind == _SA:
            message.sa = payload[2]
        elif kind == _KE:
            message.group, message.public = parse_ke(payload[2])
        elif kind == _NONCE:
            message.nonce = parse_nonce(payload[2])
        elif payload[1]:
            check_critical(payload)
    return message


def _take_notify(message: InitMessage, body: bytes) -> None:
    _, _, kind, data = parse_notify(body)
    if kind == _SOURCE:
        message.sources.append(data)
    elif kind == _DESTINATION:
        message.destinations.append(data)
    elif kind == _FRAGMENTATION:
        message.fragmentation = True
    elif kind == _HASHES:
        message.hashes = parse_hashes(data)
    elif kind == _COOKIE:
        message.cookie = data
    elif kind <= LAST_ERROR_NOTIFY and not message.error:
        message.error, message.error_data = kind, data


@lru_cache(maxsize=64)
def parse_hashes(data: bytes) -> tuple[int, ...]:
    """The hash algorithms of SIGNATURE_HASH_ALGORITHMS (RFC 7427 section 4)."""
    return tuple(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data) - 1, 2))
