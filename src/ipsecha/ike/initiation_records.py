"""Our own handshakes as records: from the IKE_AUTH request on, the next owner goes on where this one ended.

Before that nothing needs to be known of them: the responder has a half-open IKE SA at most, which goes by itself, and
the next owner begins afresh what is to be up.  From the IKE_AUTH request on the responder may hold an IKE SA and a
child SA: whoever owns then has to repeat the request octet for octet and to take its answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsecha.crypto.key_derivation import pack_ike_keys, unpack_ike_keys
from ipsecha.ike.half_open import Initiation, Stage
from ipsecha.model.effects import ReplicateInitiation
from ipsecha.model.handshakes import InitiationRecord, decode_initiation, encode_handshake

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint


def replicate(endpoint: IkeEndpoint, initiation: Initiation) -> None:
    """The initiation has changed: its record goes to the backups before anything that follows leaves."""
    record = encoded(initiation)
    if record is not None:
        endpoint.replicate_initiation(ReplicateInitiation(initiation.spi_i, record))


def withdraw(endpoint: IkeEndpoint, initiation: Initiation) -> None:
    """The initiation is over."""
    if initiation.stage is not Stage.INIT:
        endpoint.replicate_initiation(ReplicateInitiation(initiation.spi_i, None))


def encoded(initiation: Initiation) -> bytes | None:
    """The record of an initiation; None before its IKE_AUTH request."""
    if initiation.stage is Stage.INIT or initiation.suite is None or initiation.keys is None:
        return None
    return encode_handshake(
        InitiationRecord(
            initiation.connection,
            initiation.children,
            initiation.spi_i,
            initiation.spi_r,
            initiation.local,
            initiation.remote,
            initiation.suite,
            pack_ike_keys(initiation.keys),
            initiation.ni,
            initiation.nr,
            initiation.response,
            initiation.flags,
            initiation.stage is Stage.REFUSED,
            initiation.message_id,
            initiation.request,
            initiation.started_at,
            initiation.iv_counter,
            initiation.child_spi,
            initiation.child_offer,
        )
    )


def adopt(endpoint: IkeEndpoint, octets: bytes) -> None:
    """Take in the record of an initiation of the owner's, new or changed: the SPI that it offers is reserved.

    Raises msgspec.DecodeError, UnicodeDecodeError, CryptoError for a record that makes no sense.
    """
    record = decode_initiation(octets)
    initiation = Initiation(
        connection=record.connection,
        children=record.children,
        spi_i=record.spi_i,
        local=record.local,
        remote=record.remote,
        proposals=(),
        ni=record.ni,
        key_exchange=None,
        started_at=record.started_at,
        stage=Stage.REFUSED if record.refused else Stage.AUTH,
        request=record.request,
        spi_r=record.spi_r,
        nr=record.nr,
        suite=record.suite,
        keys=unpack_ike_keys(record.suite, record.keys),
        response=record.response,
        flags=record.flags,
        message_id=record.message_id,
        iv_counter=record.iv_counter,
        child_spi=record.child_spi,
        child_offer=record.child_offer,
    )
    forget(endpoint, record.spi_i)
    endpoint.initiations[record.spi_i] = initiation
    if record.child_spi:
        endpoint.child_index.setdefault(record.child_spi, record.spi_i)


def forget(endpoint: IkeEndpoint, spi_i: bytes) -> None:
    """The owner's initiation is over, or its IKE SA stands."""
    initiation = endpoint.initiations.pop(spi_i, None)
    if initiation is not None and initiation.child_spi:
        endpoint.release_child_spi(initiation.child_spi)
