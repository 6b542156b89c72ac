"""A ``Pair`` one message at a time: who sends what is seen, opened, kept back, lost or forged."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ike_agreement import check_agreement
from ike_pair import Packet, Pair, Side
from ipsecha.ike.message import open_message
from ipsecha.ike.window import inbound_protection, start_request
from ipsecha.model.numbers import ExchangeType, Payload, Protocol
from ipsecha.model.policy import Connection
from ipsecha.model.records import ChildSa, Exchange, ExchangeKind, IkeSa
from ipsecha.wire.chain import RawPayload, split_payloads
from ipsecha.wire.header import parse_header
from ipsecha.wire.payloads.delete import parse_delete
from ipsecha.wire.payloads.notify import NotifyPayload, parse_notify


class Steps:
    """An established pair whose messages travel only when told to; ``a`` is the side named first."""

    def __init__(self, a: str = "left", left: Connection | None = None, right: Connection | None = None) -> None:
        self.pair = Pair(left, right)
        self.pair.establish()
        self.a, self.b = self.pair.sides if a == "left" else reversed(self.pair.sides)

    @property
    def now(self) -> float:
        return self.pair.now

    def peer(self, side: Side) -> Side:
        return self.b if side is self.a else self.a

    def do(self, action: Callable[[], object]) -> list[Packet]:
        """The messages that an action yields; they are not delivered."""
        self.take()
        action()
        return self.take()

    def take(self) -> list[Packet]:
        """What both sides want to send by now."""
        self.pair.gather()
        packets, self.pair.queue = self.pair.queue, []
        return packets

    def deliver(self, packet: Packet) -> list[Packet]:
        """Hand over one message; what is sent in consequence."""
        return self.do(lambda: self.pair.deliver(packet))

    def pass_time(self, seconds: float) -> list[Packet]:
        """Let time pass for both sides; what their timers send, in order and not delivered."""
        packets: list[Packet] = []
        end = self.pair.now + seconds
        while self.pair.now < end:
            self.pair.now = min(end, self.pair.now + 0.1)
            for side in self.pair.sides:
                side.endpoint.handle_timer(self.pair.now)
            packets += self.take()
        return packets

    def open(self, packet: Packet) -> list[RawPayload]:
        """The payloads of a message, opened with the keys of the side that it goes to."""
        side = self.pair.side_at(packet.destination)
        assert side is not None
        header = parse_header(packet.data)
        sa = next(sa for sa in side.sas if (sa.spi_i, sa.spi_r) == (header.spi_i, header.spi_r))
        opened = open_message(inbound_protection(sa), header, packet.data)
        return split_payloads(opened.first_payload, opened.octets)

    def forge(self, side: Side, exchange: ExchangeType, payloads: Sequence[tuple[int, bytes]]) -> Packet:
        """An authentic request of ``side`` with any payloads."""
        sa = side.sa
        assert sa.exchange is None

        def send() -> None:
            blank = Exchange(ExchangeKind.NOTIFY, 0, (), self.now)
            start_request(side.endpoint, sa, exchange, list(payloads), blank, self.now)
            side.endpoint.end_step()

        (packet,) = self.do(send)
        return packet

    def finish(self, seconds: float = 400.0) -> None:
        """All that is still said is said, all that is to end ends; then both sides agree."""
        self.pair.advance(seconds)
        check_agreement(self.pair)


def types(payloads: list[RawPayload]) -> list[int]:
    return [payload.type for payload in payloads]


def body(payloads: list[RawPayload], kind: int) -> bytes:
    """The body of the only payload of this type."""
    (found,) = (payload.body for payload in payloads if payload.type == kind)
    return found


def notifies(payloads: list[RawPayload]) -> list[NotifyPayload]:
    return [parse_notify(payload.body) for payload in payloads if payload.type == Payload.NOTIFY]


def only_notify(payloads: list[RawPayload]) -> int:
    """The type of the notification that is all the message says."""
    assert types(payloads) == [Payload.NOTIFY]
    return notifies(payloads)[0].type


def deleted(payloads: list[RawPayload]) -> list[int]:
    """The SPIs of child SAs that a message deletes."""
    deletes = [parse_delete(payload.body) for payload in payloads if payload.type == Payload.DELETE]
    return [int.from_bytes(spi, "big") for delete in deletes for spi in delete.spis]


def rekey_child(side: Side, steps: Steps, child: ChildSa | None = None) -> list[Packet]:
    spi = (child or side.sa.children[0]).spi_in
    return steps.do(lambda: side.endpoint.rekey_child(spi, steps.now))


def delete_child(side: Side, steps: Steps, child: ChildSa | None = None) -> list[Packet]:
    spi = (child or side.sa.children[0]).spi_in
    return steps.do(lambda: side.endpoint.terminate(steps.now, spi_in=spi))


def new_child(side: Side, steps: Steps, name: str = "net") -> list[Packet]:
    return steps.do(lambda: side.endpoint.initiate("site", name, steps.now))


def rekey_ike(side: Side, steps: Steps, sa: IkeSa | None = None) -> list[Packet]:
    return steps.do(lambda: side.endpoint.rekey_ike((sa or side.sa).local_spi, steps.now))


def delete_ike(side: Side, steps: Steps, sa: IkeSa | None = None) -> list[Packet]:
    return steps.do(lambda: side.endpoint.terminate(steps.now, local_spi=(sa or side.sa).local_spi))


def is_ike_delete(steps: Steps, packet: Packet) -> bool:
    """Whether the message is the DELETE of an IKE SA and nothing else."""
    payloads = steps.open(packet)
    return types(payloads) == [Payload.DELETE] and parse_delete(payloads[0].body).protocol == Protocol.IKE
