"""Handshakes that are not finished, as they travel to the backup.

Two kinds, for two reasons.  What a stranger has begun (``HalfOpenRecord``) is shared within a budget and waited for by
nobody.  What we have begun (``InitiationRecord``) is replicated like an IKE SA, before our IKE_AUTH request leaves: its
peer may hold an IKE SA from then on.  Encoded as MessagePack arrays: new fields go to the end with a default.
"""

from __future__ import annotations

import msgspec

from ipsecha.model.proposals import IkeSuite, Proposal
from ipsecha.model.records import Address


class HalfOpenRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The responder's side between IKE_SA_INIT and IKE_AUTH.  SPIs and nonces are those of the two messages; ``keys``
    is SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr."""

    request: bytes
    response: bytes
    keys: bytes
    suite: IkeSuite
    flags: int
    peer_hashes: tuple[int, ...] | None
    local: Address
    remote: Address
    created_at: float

    @property
    def spi_i(self) -> bytes:
        return self.response[:8]

    @property
    def spi_r(self) -> bytes:
        return self.response[8:16]

    def __repr__(self) -> str:
        return f"HalfOpenRecord({self.spi_i.hex()}_i {self.spi_r.hex()}_r)"


class InitiationRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The initiator's side from the IKE_AUTH request on; ``keys`` as above."""

    connection: str
    children: tuple[str, ...]
    spi_i: bytes
    spi_r: bytes
    local: Address
    remote: Address
    suite: IkeSuite
    keys: bytes
    ni: bytes
    nr: bytes
    response: bytes  # to IKE_SA_INIT: the peer's AUTH payload covers it
    flags: int
    refused: bool  # we do not believe the peer who it is; ``request`` tells it so
    message_id: int
    request: tuple[bytes, ...]  # the datagrams as sent, for bitwise repetition
    started_at: float
    iv_counter: int
    child_spi: int  # offered by us, reserved; 0: none
    child_offer: tuple[Proposal, ...]

    def __repr__(self) -> str:
        return f"InitiationRecord({self.connection!r}, {self.spi_i.hex()}_i {self.spi_r.hex()}_r)"


_encoder = msgspec.msgpack.Encoder()
_half_open_decoder = msgspec.msgpack.Decoder(HalfOpenRecord)
_initiation_decoder = msgspec.msgpack.Decoder(InitiationRecord)


def encode_handshake(record: HalfOpenRecord | InitiationRecord) -> bytes:
    """The record as it travels to the backup."""
    return _encoder.encode(record)


def decode_half_open(data: bytes) -> HalfOpenRecord:
    """Raises msgspec.DecodeError or UnicodeDecodeError for anything else."""
    return _half_open_decoder.decode(data)


def decode_initiation(data: bytes) -> InitiationRecord:
    """Raises msgspec.DecodeError or UnicodeDecodeError for anything else."""
    return _initiation_decoder.decode(data)
