"""No key material in what is shown, logged or represented (invariant I6)."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from ike_pair import LEFT_IP, PSK, RIGHT_IP, Packet, Pair, Side, child_policy, connection, proposal
from in_steps import completed
from ipsecha.cluster import effects as fx
from ipsecha.cluster import frames
from ipsecha.cluster.detector import BeatListener
from ipsecha.crypto.credentials import ConnectionSecrets
from ipsecha.crypto.esp_transforms import esp_transform
from ipsecha.crypto.key_derivation import RecordKeys, unpack_record_keys
from ipsecha.gateway.faults import Faults
from ipsecha.gateway.status import sas_view
from ipsecha.gateway.views import as_answer
from ipsecha.ike import auth_message
from ipsecha.ike.window import inbound_protection, outbound_protection
from ipsecha.lab import stage
from ipsecha.model.policy import Authentication
from ipsecha.model.records import encode_record
from needles import Needles

BEAT_KEY = bytes(range(100, 132))


class Looking:
    """Collects, while a pair talks, every secret that comes into being and everything that could be logged."""

    def __init__(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pair = pair
        self.needles = Needles()
        self.texts: list[str] = []
        pair.network = self._on_the_way
        real = auth_message.Signed.octets

        def octets(signed: auth_message.Signed) -> bytes:
            self.needles.add("SK_p", signed.sk_p)
            self.show(signed)
            return real(signed)

        monkeypatch.setattr(auth_message.Signed, "octets", octets)

    def show(self, *things: object) -> None:
        for thing in things:
            self.texts += [repr(thing), str(thing), f"{thing}"]

    def _on_the_way(self, packet: Packet) -> list[Packet]:
        self.look()
        return [packet]

    def look(self) -> None:
        for side in self.pair.sides:
            endpoint = side.endpoint
            for half_open in endpoint.half_open.by_spi.values():
                self._keys(half_open.keys)
                self.show(half_open, half_open.keys)
            for initiation in endpoint.initiations.values():
                self.needles.add("private key of the exchange", initiation.key_exchange.private)
                if initiation.keys is not None:
                    self._keys(initiation.keys)
                self.show(initiation, initiation.key_exchange)
            for sa in side.sas:
                self._sa(side, sa)
            self.show(endpoint, endpoint.credentials, endpoint.policy, endpoint.reassembly, *side.effects)
            self.texts += [report.text for report in side.reports]
            side.effects.clear()

    def _keys(self, keys: Any) -> None:
        for name, key in zip(keys._fields, keys, strict=True):
            self.needles.add(name.upper(), key)

    def _sa(self, side: Side, sa: Any) -> None:
        keys = unpack_record_keys(sa.suite, sa.keys)
        assert isinstance(keys, RecordKeys)
        self._keys(keys)
        self.show(sa, keys, sa.exchange, sa.queue, inbound_protection(sa), outbound_protection(sa))
        if sa.exchange is not None:
            self.needles.add("private key of the exchange", sa.exchange.private_key)
        for child in sa.children:
            self.needles.add("child keys", child.keys)
            half = len(child.keys) // 2
            self.show(child, child.suite, esp_transform(child.suite, child.keys[:half]))
        record = encode_record(sa)
        commit = frames.Commit(1, 2, ((sa.local_spi, record), (b"gone", None)))
        encoded = frames.encode_frame(commit)
        self.show(commit, fx.Apply(commit.changes), fx.SendFrame(encoded))
        self.show(frames.decode_frame(encoded))
        self.texts.append(json.dumps(as_answer(completed(sas_view(_gateway(side), {})))))


def _gateway(side: Side) -> Any:
    """What the views ask of a gateway."""
    return SimpleNamespace(
        endpoint=side.endpoint,
        clock=SimpleNamespace(now=lambda: 0.0),
        plane=SimpleNamespace(traffic=lambda spi: None),
        cluster=None,
    )


def by_secret() -> tuple[Pair, list[tuple[str, bytes]]]:
    return Pair(), [("PSK", PSK)]


def by_certificate() -> tuple[Pair, list[tuple[str, bytes]]]:
    made = stage.make_certificates("ecdsa")
    roots = _ders(made.root)
    secrets = [
        ConnectionSecrets(chain=_ders(one.certificate), private_key=one.private_key, ca=roots)
        for one in (made.gateway, made.peer)
    ]
    how = {"local_auth": Authentication.CERTIFICATE, "remote_auth": Authentication.CERTIFICATE}
    suite = {"proposals": (proposal("aes256-sha256-prfsha384-ecp256"),)}
    left = connection(LEFT_IP, RIGHT_IP, stage.GATEWAY_ID, stage.PEER_ID, **how, **suite)
    child = child_policy(local="10.2.0.0/16", remote="10.1.0.0/16")
    right = connection(RIGHT_IP, LEFT_IP, stage.PEER_ID, stage.GATEWAY_ID, children=(child,), **how, **suite)
    pair = Pair(left, right, left_secrets=secrets[0], right_secrets=secrets[1])
    private: list[tuple[str, bytes]] = []
    for one in (made.gateway, made.peer):
        key: Any = load_pem_private_key(one.private_key, None)
        number = key.private_numbers().private_value.to_bytes(32, "big")
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        private += [("private key", number), ("private key", der[-100:-70]), ("private key", one.private_key)]
    for side in pair.sides:
        side.wall_time = x509.load_pem_x509_certificate(made.peer.certificate).not_valid_after_utc.timestamp() - 1
    return pair, private


def _ders(pem: bytes) -> tuple[bytes, ...]:
    return tuple(one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(pem))


@pytest.mark.parametrize("make", [by_secret, by_certificate])
def test_a_whole_life_without_a_leak(
    make: Callable[[], tuple[Pair, list[tuple[str, bytes]]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handshake, rekeys, deletes: representations, reports, views, effects, frames of the synch channel."""
    pair, secrets = make()
    looking = Looking(pair, monkeypatch)
    for name, secret in secrets:
        looking.needles.add(name, secret)
    pair.establish()
    assert len(pair.left.sas) == len(pair.right.sas) == 1
    for side in pair.sides:
        for sa in [sa for sa in side.sas if sa.children]:
            side.endpoint.rekey_child(sa.children[0].spi_in, pair.now)
            pair.run()
            side.endpoint.rekey_ike(sa.local_spi, pair.now)
            pair.run()
    looking.look()
    pair.left.endpoint.terminate(pair.now, connection="site")
    pair.run()
    looking.look()
    assert len(looking.needles) > 200
    assert looking.needles.found(looking.texts) == set()


def test_secrets_of_the_cluster_are_not_shown() -> None:
    needles = Needles()
    needles.add("beat key", BEAT_KEY)
    hello = frames.Hello(1, "lab", 0, bytes(16), True, 16, 2, BEAT_KEY, 1.0)
    listener = BeatListener(3)
    listener.expect(bytes(16), BEAT_KEY)
    assert (
        needles.found([repr(hello), str(hello), repr(fx.SendFrame(frames.encode_frame(hello))), repr(listener)])
        == set()
    )
    assert needles.found([repr({"a": hello})]) == set()


def test_credentials_as_plain_data_are_not_shown() -> None:
    needles = Needles()
    needles.add("PSK", PSK)
    secrets = ConnectionSecrets(psk=PSK, private_key=PSK)
    assert needles.found([repr(secrets), str(secrets), repr([secrets]), f"{secrets}"]) == set()


def test_faults_are_logged_without_their_text(caplog: pytest.LogCaptureFixture) -> None:
    """An exception may quote what it could not digest: its kind and place must do."""
    needles = Needles()
    needles.add("PSK", PSK)
    faults = Faults(lambda: 0.0)
    for fault in _faults():
        faults.note("a test", fault)
        faults.from_loop(None, {"message": PSK.decode(), "exception": fault})
    assert needles.found(["".join(traceback.format_exception(fault)) for fault in _faults()]), "the test can find it"
    assert faults.count == 6
    assert needles.found(caplog.messages) == set()
    assert all("test_secrets.py:" in line for line in caplog.messages)


def _faults() -> Iterator[Exception]:
    for raising in (lambda: {}[PSK], lambda: int(PSK), lambda: msgspec.convert(PSK.decode(), int)):
        try:
            raising()
        except Exception as fault:
            yield fault


def test_needles_are_found() -> None:
    """The search itself: every form of a part of a secret."""
    secret = bytes((7, 250, 11, 130, 5, 6, 7, 8)) * 2 + b"more of it"
    needles = Needles()
    needles.add("it", secret)
    for text in (repr(secret), secret.hex(), f"{secret[8:16]!r}", str(list(secret)), secret.hex(":")):
        assert needles.found(["nothing", f"a line with {text} in it"]) == {"it"}
    assert needles.found(["nothing", repr(secret[1:7])]) == set()
