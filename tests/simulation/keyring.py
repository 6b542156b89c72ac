"""Opens the IKE messages of a world with the keys of whoever has sent them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsecha.crypto.protection import Protection
from ipsecha.ike.message import open_message
from ipsecha.ike.window import inbound_protection, outbound_protection
from ipsecha.model.errors import IpsecHaError
from ipsecha.model.numbers import Notify, Payload
from ipsecha.wire.chain import RawPayload, split_payloads
from ipsecha.wire.header import Header, parse_header
from ipsecha.wire.payloads.notify import parse_notify

if TYPE_CHECKING:
    from ipsecha.model.records import IkeSa
    from simulation.world import World


class Keyring:
    """Keys are known from the first look at them on, for as long as the world lasts."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._protections: dict[tuple[bytes, bytes], tuple[Protection, Protection]] = {}

    def learn(self) -> None:
        for node in (*self.world.members, *self.world.peers):
            for sa in node.endpoint.sas.values() if node.boot else ():
                self.add(sa)

    def add(self, sa: IkeSa) -> None:
        if (sa.spi_i, sa.spi_r) not in self._protections:
            self._protections[sa.spi_i, sa.spi_r] = inbound_protection(sa), outbound_protection(sa)

    def opened(self, header: Header, message: bytes) -> list[RawPayload]:
        """Raises IpsecHaError where nobody has had the keys, and for parts of a message."""
        spis = header.spi_i, header.spi_r
        if spis not in self._protections:
            self.learn()
        for protection in self._protections.get(spis, ()):
            try:
                opened = open_message(protection, header, message)
            except IpsecHaError:
                continue
            if opened.fragments <= 1:
                return split_payloads(opened.first_payload, opened.octets)
        raise IpsecHaError

    def is_synchronisation(self, message: bytes) -> bool:
        """Whether it is one by RFC 6311 section 5.1: authentic, and about message IDs."""
        try:
            payloads = self.opened(parse_header(message), message)
            return any(
                payload.type == Payload.NOTIFY and parse_notify(payload.body).type == Notify.IKEV2_MESSAGE_ID_SYNC
                for payload in payloads
            )
        except IpsecHaError:
            return False
