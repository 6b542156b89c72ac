"""The state of IKE SAs and child SAs: the live object and the replicated record are one and the same.

Everything the next owner needs to go on in mid-exchange is here (DESIGN section 3, output commit).  The structs are
encoded as MessagePack arrays: new fields go to the end with a default, so that an older member ignores them and a
newer one fills them in.  ``gc=False`` holds because records contain no cycles: parents are found by SPI, not by link.

All times are seconds of the cluster clock, which the members agree on over the synch channel.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

import msgspec

from ipsecha.model.identity import Identity
from ipsecha.model.proposals import ChildSuite, IkeSuite
from ipsecha.model.selectors import TrafficSelector

Address = tuple[str, int]
"""IP address as text and UDP port."""


class IkeFlag(IntFlag):
    """What was found out or negotiated about an IKE SA."""

    LOCAL_NAT = 1  # we are behind a NAT: we send keepalives
    REMOTE_NAT = 2  # the peer is behind a NAT: its address may change
    ENCAPSULATE = 4  # ESP travels in UDP, IKE uses port 4500
    FRAGMENTATION = 8  # RFC 7383 negotiated
    MESSAGE_ID_SYNC = 16  # RFC 6311, both asserted it
    REPLAY_COUNTER_SYNC = 32
    CLOSING = 64  # our DELETE for this IKE SA is on its way
    REKEYED = 128  # another IKE SA has taken over the children; waits for its DELETE
    CLOSED = 256  # answered the peer's DELETE: kept without children, only to repeat that answer
    OPEN = 512  # with commit = "lazy": the peer may have seen steps that this record does not know
    CHANGING = 1024  # as OPEN, and child SAs may have been made or deleted in those steps
    IN_DOUBT = 2048  # taken over while OPEN: the peer's requests may be ahead of ``expected_request_id``


class ChildState(IntEnum):
    ESTABLISHED = 0
    REKEYING = 1  # our CREATE_CHILD_SA with REKEY_SA is on its way
    DELETING = 2  # our DELETE is on its way
    REKEYED = 3  # a newer child SA carries the outbound traffic; still receives until deleted


class ExchangeKind(IntEnum):
    """Why our request in flight was sent: selects the file in ``ipsecha.ike`` that takes the response."""

    NEW_CHILD = 1
    REKEY_CHILD = 2
    REKEY_IKE = 3
    DELETE_CHILD = 4
    DELETE_IKE = 5
    LIVENESS = 6
    NOTIFY = 7
    PROBE = 8  # asks which of our requests the peer expects next, after updates may have been lost
    MESSAGE_ID_SYNC = 9  # RFC 6311, with message ID 0 and outside of the window
    COUNTER_SYNC = 10  # its replay counter part alone


class Task(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A request that waits until the window (RFC 7296 section 2.3) has room; ``spi``: our inbound SPI of a child."""

    kind: int
    spi: int = 0
    child: str = ""
    not_before: float = 0.0
    group: int = 0  # the key exchange that the peer asked for by INVALID_KE_PAYLOAD
    tries: int = 0  # how often the peer has answered TEMPORARY_FAILURE
    packet: tuple[TrafficSelector, ...] = ()  # (local, remote) of the packet that wants the child SA
    orphan: bool = False  # DELETE_CHILD of an SA that the peer has, and we have not
    delta: int = 0  # by how much the peer is asked to raise its outbound sequence numbers (RFC 6311 section 6.4)


class Exchange(msgspec.Struct, array_like=True, gc=False):
    """Our request in flight and all that is needed to take its response, whichever member receives it."""

    kind: int
    message_id: int
    request: tuple[bytes, ...]  # the datagrams as sent (one, or the fragments), for bitwise retransmission
    started_at: float
    tries: int = 1
    child: str = ""  # configuration name of the child SA in question
    old_spi: int = 0  # inbound SPI of the child SA to be rekeyed or deleted
    new_spi: bytes = b""  # SPI offered: 4 octets for a child SA, 8 for an IKE SA
    nonce: bytes = b""
    group: int = 0
    private_key: bytes = b""  # of the key exchange, restored by crypto.key_exchange
    rival_nonce: bytes = b""  # lowest nonce of the peer's colliding exchange (RFC 7296 section 2.8.1)
    rival_spi: bytes = b""  # local SPI of the SA that the colliding exchange made
    local_ts: tuple[TrafficSelector, ...] = ()  # selectors offered
    remote_ts: tuple[TrafficSelector, ...] = ()
    gone_spis: tuple[int, ...] = ()  # unknown SPIs that the peer has deleted while it may have made our child SA
    task: Task | None = None  # what the request was made from, for another try
    last_try: int = 0  # set aside, instead of giving up the peer, after so many; 0: never (ike.message_sync)

    def __repr__(self) -> str:
        return f"Exchange(kind={self.kind}, message_id={self.message_id}, tries={self.tries})"


class ChildSa(msgspec.Struct, array_like=True, gc=False):
    """A pair of ESP or AH SAs.  ``keys`` is inbound encryption | inbound integrity | outbound encryption | outbound
    integrity, salts included (RFC 7296 section 2.17)."""

    name: str
    spi_in: int
    spi_out: int
    suite: ChildSuite
    keys: bytes
    local_ts: tuple[TrafficSelector, ...]
    remote_ts: tuple[TrafficSelector, ...]
    created_at: float
    rekey_at: float
    expires_at: float
    state: int = ChildState.ESTABLISHED
    use_outbound: bool = True  # False: receive only, until the peer shows that it is ready (RFC 7296 section 2.8)
    in_ceiling: int = 0  # highest inbound sequence number that may have been delivered (acknowledged lease)
    out_ceiling: int = 0  # highest outbound sequence number that may have been used (acknowledged lease)
    replaces: int = 0  # inbound SPI of the child SA that this one is the rekey of
    in_known: int = 0  # with inbound policy "learn": nobody accepts a number up to this one any more

    def __repr__(self) -> str:
        return f"ChildSa({self.name!r}, in={self.spi_in:#010x}, out={self.spi_out:#010x})"


class AnsweredSync(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last RFC 6311 message ID synchronisation that we have answered as the peer of a cluster.

    ``message_id`` is the value M1 in it: whatever comes later bears a higher one.  ``responses`` are the datagrams of
    the answer, until the cluster shows that it has it.
    """

    message_id: int
    digest: bytes = b""
    responses: tuple[bytes, ...] = ()


class IkeSa(msgspec.Struct, array_like=True, gc=False):
    """An established IKE SA.  ``keys`` is SK_d | SK_ai | SK_ar | SK_ei | SK_er, cut by the lengths of the suite."""

    spi_i: bytes
    spi_r: bytes
    initiator: bool  # we are the original initiator: our SPI is spi_i
    connection: str
    suite: IkeSuite
    keys: bytes
    local: Address
    remote: Address
    local_id: Identity
    remote_id: Identity
    flags: int
    created_at: float
    rekey_at: float
    expires_at: float
    next_request_id: int  # message ID of our next request
    expected_request_id: int  # message ID of the peer's next request
    iv_counter: int = 0  # under the incarnation of the present owner
    responses: tuple[bytes, ...] = ()  # the datagrams that answered expected_request_id - 1
    children: tuple[ChildSa, ...] = ()
    exchange: Exchange | None = None
    queue: tuple[Task, ...] = ()
    last_inbound_at: float = 0.0
    request_digest: bytes = b""  # of the request that ``responses`` answered
    predecessor: bytes = b""  # local SPI of the IKE SA that a collided rekey is to replace, while that is undecided
    refused_since: float = 0.0  # first and last TEMPORARY_FAILURE in a row
    refused_at: float = 0.0
    answered_sync: AnsweredSync | None = None  # we are the peer of a cluster that has failed over

    @property
    def local_spi(self) -> bytes:
        """Our own SPI: the key under which every table holds this IKE SA."""
        return self.spi_i if self.initiator else self.spi_r

    def child_by_inbound_spi(self, spi: int) -> ChildSa | None:
        """The child SA that receives under ``spi`` (an IKE SA has few children: a short walk)."""
        for child in self.children:
            if child.spi_in == spi:
                return child
        return None

    def child_by_outbound_spi(self, spi: int) -> ChildSa | None:
        """The child SA that sends under ``spi``: how the peer names it in DELETE and REKEY_SA."""
        for child in self.children:
            if child.spi_out == spi:
                return child
        return None

    def __repr__(self) -> str:
        return f"IkeSa({self.connection!r}, {self.spi_i.hex()}_i {self.spi_r.hex()}_r, {len(self.children)} children)"


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(IkeSa)


def encode_record(sa: IkeSa) -> bytes:
    """The record as it travels to the backups."""
    return _encoder.encode(sa)


def decode_record(data: bytes) -> IkeSa:
    """The inverse of encode_record; raises msgspec.DecodeError for anything else."""
    return _decoder.decode(data)


class LeaseEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Ceilings of one child SA's counter leases; ``spi_in`` names the child SA."""

    spi_in: int
    in_ceiling: int
    out_ceiling: int
    lowers: bool = False  # the owner gives inbound numbers back: ``in_ceiling`` replaces a higher one
    known: int = 0  # as in ``ChildSa.in_known``
    serial: int = 0  # of the request, for the owner alone: it does not travel


def keep_ceilings(child: ChildSa, before: ChildSa) -> None:
    """``child`` is a newer record of ``before``, but may have been encoded before a lease that was acknowledged since:
    ceilings never fall by a record."""
    child.in_ceiling = max(child.in_ceiling, before.in_ceiling)
    child.out_ceiling = max(child.out_ceiling, before.out_ceiling)
    child.in_known = max(child.in_known, before.in_known)
