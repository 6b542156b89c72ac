"""All sockets towards the peers: for each local address IKE's port, the NAT traversal port, raw ESP and raw AH."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ipsecha.dataplane.plane import OnIke
from ipsecha.dataplane.userspace.outer import BATCH, OuterSocket
from ipsecha.dataplane.userspace.raw import BypassSocket, RawAhSocket, RawEspSocket
from ipsecha.dataplane.userspace.udp import UdpSocket
from ipsecha.ipsec.live import LiveSa
from ipsecha.model.errors import DataPlaneError
from ipsecha.model.numbers import Protocol
from ipsecha.model.records import Address
from ipsecha.wire.esp import ESP_HEADER_LENGTH, NAT_KEEPALIVE, NON_ESP_MARKER

OnEsp = Callable[[list[bytes], Address, Address, int, int], None]
"""``on_esp(datagrams, local, remote, outer traffic class, protocol)``: ESP packets or gathered AH packets, as
``protocol`` (``model.numbers.Protocol``) says."""

Receive = Callable[[OnEsp, OnIke], None]


class OuterSockets:
    """``on_too_long(remote address)`` hears of datagrams with DF that the path does not take."""

    def __init__(self, ike_port: int, nat_port: int, mark: int, on_too_long: Callable[[str], None]) -> None:
        self.ike_port = ike_port
        self.nat_port = nat_port
        self._malformed = 0
        self.unsent = 0  # no socket, or refused by the kernel at one that is closed by now
        self._mark = mark
        self._on_too_long = on_too_long
        self._udp: dict[Address, UdpSocket] = {}
        self._raw: dict[str, RawEspSocket] = {}
        self._ah: dict[str, RawAhSocket] = {}
        self._bypass: BypassSocket | None = None

    def open(self, addresses: Iterable[str], raw: bool) -> Iterable[tuple[OuterSocket, Receive]]:
        """Open what is not open yet, one by one as the caller goes on: each new socket with what reads it when it is
        readable.

        Raises DataPlaneError where one cannot be opened; those that have been yielded by then stay.
        """
        for address in addresses:
            try:
                for port in (self.ike_port, self.nat_port):
                    if (address, port) not in self._udp:
                        sock = UdpSocket((address, port), self._mark, self._on_too_long)
                        self._udp[address, port] = sock
                        yield sock, self._reader(sock, port)
                if raw and address not in self._raw:
                    esp = RawEspSocket(address, self._mark, self._on_too_long)
                    self._raw[address] = esp
                    yield esp, self._raw_reader(esp, Protocol.ESP)
                if raw and address not in self._ah:
                    ah = RawAhSocket(address, self._mark, self._on_too_long)
                    self._ah[address] = ah
                    yield ah, self._raw_reader(ah, Protocol.AH)
            except OSError as error:
                raise DataPlaneError(f"cannot listen at {address}: {error.strerror}") from None

    @property
    def send_failed(self) -> int:
        """Datagrams that did not leave this host."""
        bypass = self._bypass.failed if self._bypass is not None else 0
        return self.unsent + bypass + sum(sock.failed for sock in self.all())

    def all(self) -> Iterator[OuterSocket]:
        yield from self._udp.values()
        yield from self._raw.values()
        yield from self._ah.values()

    @property
    def malformed(self) -> int:
        """Datagrams that were neither IKE, ESP nor AH."""
        return self._malformed + sum(sock.malformed for sock in self._ah.values())

    def close(self) -> None:
        self.unsent, self._malformed = self.send_failed, self.malformed
        for sock in self.all():
            sock.close()
        self._udp.clear()
        self._raw.clear()
        self._ah.clear()
        if self._bypass is not None:
            self._bypass.close()
            self._bypass = None

    def towards(self, live: LiveSa) -> UdpSocket | RawEspSocket | RawAhSocket | None:
        """Where the packets of a child SA leave; None where no socket is open."""
        if live.protocol == Protocol.AH:
            return self._ah.get(live.local[0])
        return self.encapsulated(live.local) if live.encapsulated else self._raw.get(live.local[0])

    def encapsulated(self, local: Address) -> UdpSocket | None:
        """Where UDP-encapsulated ESP leaves: always the NAT traversal port (RFC 3948 section 2.1)."""
        return self._udp.get((local[0], self.nat_port))

    def send_ike(self, datagram: bytes, local: Address, remote: Address) -> None:
        sock = self._udp.get(local)
        if sock is None:
            self.unsent += 1
            return
        sock.prepare(0)
        sock.send(NON_ESP_MARKER + datagram if local[1] == self.nat_port else datagram, remote)

    def send_keepalive(self, local: Address, remote: Address) -> None:
        sock = self.encapsulated(local)
        if sock is not None:
            sock.send(NAT_KEEPALIVE, remote)

    def send_bypass(self, packets: list[bytes]) -> None:
        """Send packets past IPsec; without the privilege they are lost and counted."""
        if self._bypass is None:
            try:
                self._bypass = BypassSocket(self._mark)
            except OSError:
                self.unsent += len(packets)
                return
        self._bypass.send(packets)

    def _reader(self, sock: UdpSocket, port: int) -> Receive:
        return self._nat_reader(sock) if port == self.nat_port else self._ike_reader(sock)

    @staticmethod
    def _ike_reader(sock: UdpSocket) -> Receive:
        def receive(on_esp: OnEsp, on_ike: OnIke) -> None:
            for datagrams, remote, _ in sock.receive(BATCH):
                for datagram in datagrams:
                    on_ike(datagram, sock.local, remote)

        return receive

    def _nat_reader(self, sock: UdpSocket) -> Receive:
        def receive(on_esp: OnEsp, on_ike: OnIke) -> None:
            for datagrams, remote, outer in sock.receive(BATCH):
                packets = [one for one in datagrams if len(one) >= ESP_HEADER_LENGTH and one[:4] != NON_ESP_MARKER]
                if len(packets) < len(datagrams):
                    self._take_ike(datagrams, sock.local, remote, on_ike)
                if packets:
                    on_esp(packets, sock.local, remote, outer, Protocol.ESP)

        return receive

    def _take_ike(self, datagrams: list[bytes], local: Address, remote: Address, on_ike: OnIke) -> None:
        for datagram in datagrams:
            if datagram[:4] == NON_ESP_MARKER and len(datagram) > len(NON_ESP_MARKER):
                on_ike(datagram[len(NON_ESP_MARKER) :], local, remote)
            elif len(datagram) < ESP_HEADER_LENGTH and datagram != NAT_KEEPALIVE:
                self._malformed += 1

    @staticmethod
    def _raw_reader(sock: RawEspSocket | RawAhSocket, protocol: int) -> Receive:
        def receive(on_esp: OnEsp, on_ike: OnIke) -> None:
            for datagrams, remote, outer in sock.receive(BATCH):
                on_esp(datagrams, sock.local, remote, outer, protocol)

        return receive
