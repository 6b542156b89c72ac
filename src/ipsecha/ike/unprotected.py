"""Answers outside of an IKE SA (RFC 7296 section 2.21.4): never to a response, at a limited rate, without state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsecha.model.numbers import ExchangeType, Notify, Payload
from ipsecha.model.records import Address
from ipsecha.wire.chain import join_payloads
from ipsecha.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, HEADER_LENGTH, Header, build_header
from ipsecha.wire.payloads.notify import build_notify

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint


MAJOR_VERSION = 2


def response_with_notify(header: Header, notify: int, data: bytes = b"") -> bytes:
    """An unprotected response to the request ``header``: same SPIs, exchange type and message ID, one notification."""
    first, octets = join_payloads([(Payload.NOTIFY, build_notify(notify, data))])
    # the I flag is set by the original initiator, which the sender of the request is or is not
    flags = FLAG_RESPONSE if header.flags & FLAG_INITIATOR else FLAG_RESPONSE | FLAG_INITIATOR
    length = HEADER_LENGTH + len(octets)
    return build_header(header.spi_i, header.spi_r, first, header.exchange, flags, header.message_id, length) + octets


def refuse_version(endpoint: IkeEndpoint, header: Header, local: Address, remote: Address, now: float) -> None:
    """A message of a later major version (section 2.5): the highest that we speak is in the header of the answer."""
    if header.version > MAJOR_VERSION:
        refuse(endpoint, header, Notify.INVALID_MAJOR_VERSION, b"", local, remote, now)
    else:
        endpoint.count("old-version")


def refuse(
    endpoint: IkeEndpoint, header: Header, notify: int, data: bytes, local: Address, remote: Address, now: float
) -> None:
    """Answer a request with an unprotected error, if the rate allows it."""
    endpoint.count(f"refused-{Notify(notify).name.lower().replace('_', '-')}")
    # what is said to strangers' octets must not use up what peers that begin wait for, as INVALID_KE_PAYLOAD
    init = header.exchange == ExchangeType.IKE_SA_INIT
    answers = endpoint.init_answers if init else endpoint.unprotected_answers
    if not header.flags & FLAG_RESPONSE and answers.take(now):
        endpoint.transmit((response_with_notify(header, notify, data),), local, remote, stateless=True)
