"""What the IKE core asks the ring outside to do, in this order: replicate, install, transmit.

Effects form one ordered list.  Whatever stands behind a ``Replicate`` or ``Withdraw`` is carried out only after the
backup has acknowledged it (output commit), except a ``Transmit`` that is ``stateless``.
"""

from __future__ import annotations

import msgspec

from ipsecha.model.records import Address, ChildSa, IkeSa


class Replicate(msgspec.Struct, frozen=True, gc=False):
    """The IKE SA is new or has changed: its record goes to the backups."""

    sa: IkeSa


class Withdraw(msgspec.Struct, frozen=True, gc=False):
    """The IKE SA with this local SPI is gone."""

    local_spi: bytes


class ReplicateInitiation(msgspec.Struct, frozen=True, gc=False):
    """Our handshake with this initiator's SPI has sent, or is about to send, an authenticated request; ``record``: as
    encoded by ``model.handshakes``, None: it is over.  Replicated like an IKE SA."""

    spi_i: bytes
    record: bytes | None

    def __repr__(self) -> str:  # the record holds keys
        return f"ReplicateInitiation({self.spi_i.hex()}_i)"


class Share(msgspec.Struct, frozen=True, gc=False):
    """A peer's half-open IKE SA for the backup, as encoded by ``model.handshakes``.  Nothing waits for it."""

    state: bytes

    def __repr__(self) -> str:  # the state holds keys
        return f"Share({len(self.state)} octets)"


class InstallChild(msgspec.Struct, frozen=True, gc=False):
    sa: IkeSa
    child: ChildSa


class UpdateChild(msgspec.Struct, frozen=True, gc=False):
    """The peer's address, encapsulation, state or ``use_outbound`` of an installed child SA, or its IKE SA, changed."""

    sa: IkeSa
    child: ChildSa


class RemoveChild(msgspec.Struct, frozen=True, gc=False):
    spi_in: int


class RaiseOutbound(msgspec.Struct, frozen=True, gc=False):
    """The peer, a cluster that has failed over, asks for a jump of our outbound sequence numbers (RFC 6311 section
    5.2).  ``delta`` is the peer's word: the data plane decides whether there is room for it."""

    spi_in: int
    delta: int


class Transmit(msgspec.Struct, frozen=True, gc=False):
    """IKE messages, without the non-ESP marker: the socket's owner adds it on port 4500."""

    datagrams: tuple[bytes, ...]
    local: Address
    remote: Address
    stateless: bool = False  # depends on no replicated state (IKE_SA_INIT, unprotected errors): need not wait


class Keepalive(msgspec.Struct, frozen=True, gc=False):
    """A NAT keepalive (RFC 3948 section 2.3): the octet 0xFF, sent as it is, without a non-ESP marker.  Stateless."""

    local: Address
    remote: Address


class Report(msgspec.Struct, frozen=True, gc=False):
    """Something the operator may want to know.  ``event`` is a short stable name (``child-rekeyed``,
    ``authentication-failed``), ``text`` one clear line without secrets."""

    event: str
    text: str
    connection: str = ""
    level: int = 20  # as in logging: 20 info, 30 warning, 40 error


Effect = (
    Replicate
    | Withdraw
    | ReplicateInitiation
    | Share
    | InstallChild
    | UpdateChild
    | RemoveChild
    | RaiseOutbound
    | Transmit
    | Keepalive
    | Report
)
