"""Child SAs that use AH (RFC 7296 sections 3.3.1 and 3.3.3, RFC 4302, RFC 4543 section 5.3)."""

from __future__ import annotations

import pytest

from ike_pair import ESP_PROPOSAL as ESP
from ike_pair import LEFT_IP, Packet, Pair, ah, child_policy, left_connection, right_connection
from ipsecha.ipsec.ah import AhSa
from ipsecha.model.errors import CryptoError
from ipsecha.model.numbers import Protocol
from ipsecha.model.records import ChildSa
from ipsecha.wire.payloads.delete import build_delete


def _children(text: str) -> dict[str, object]:
    return {
        "left": left_connection(children=(child_policy(proposals=(ah(text),)),)),
        "right": right_connection(
            children=(child_policy(local="10.2.0.0/16", remote="10.1.0.0/16", proposals=(ah(text),)),)
        ),
    }


def _pair(text: str = "sha256") -> Pair:
    pair = Pair(**_children(text))  # type: ignore[arg-type]
    pair.establish()
    return pair


def _only(pair: Pair) -> tuple[ChildSa, ChildSa]:
    (one,), (other,) = pair.left.installed.values(), pair.right.installed.values()
    return one, other


@pytest.mark.parametrize("text", ["sha256", "sha384-esn", "sha512", "aes128gmac", "aes192gmac-esn", "aes256gmac"])
def test_ah_is_negotiated_and_both_sides_have_the_same_keys(text: str) -> None:
    """RFC 7296 section 3.3.3: AH has INTEG and ESN, and no ENCR.  Section 2.17: keys are taken in that order."""
    one, other = _only(_pair(text))
    assert one.suite == other.suite
    assert one.suite.protocol == Protocol.AH
    assert (one.suite.encr, one.suite.key_bits) == (0, 0)
    assert str(one.suite) == f"ah-{text}"
    half = len(one.keys) // 2
    assert (one.keys[:half], one.keys[half:]) == (other.keys[half:], other.keys[:half])
    AhSa(one.suite, one.keys[:half])  # they fit
    with pytest.raises(CryptoError):
        AhSa(one.suite, one.keys[: half - 1])


def test_ah_is_rekeyed_and_deleted_by_its_own_protocol() -> None:
    """RFC 7296 sections 1.3.3, 3.10 and 3.11: REKEY_SA and DELETE name the protocol; SPIs of ESP and AH are apart."""
    pair = _pair("sha256-x25519")
    before, _ = _only(pair)
    pair.left.endpoint.rekey_child(before.spi_in, pair.now)
    pair.run()
    after, other = _only(pair)
    assert after.spi_in != before.spi_in
    assert (after.spi_in, after.spi_out) == (other.spi_out, other.spi_in)
    assert after.suite.protocol == Protocol.AH
    assert build_delete(Protocol.AH, (bytes(4),))[0] == Protocol.AH
    pair.left.endpoint.terminate(pair.now, spi_in=after.spi_in)
    pair.run()
    assert not pair.left.installed
    assert not pair.right.installed
    assert pair.left.sa.spi_i == pair.right.sa.spi_i


def test_ah_and_esp_do_not_mix() -> None:
    """RFC 7296 section 3.3: a proposal is for one protocol; what was not offered is not chosen."""
    connections = _children("sha256")
    esp = right_connection(children=(child_policy(local="10.2.0.0/16", remote="10.1.0.0/16", proposals=(ESP,)),))
    pair = Pair(connections["left"], esp)  # type: ignore[arg-type]
    pair.establish()
    assert not pair.right.installed
    assert "child-refused" in pair.right.events
    assert "child-failed" in pair.left.events


def test_ah_across_a_nat_is_refused() -> None:
    """RFC 4302 section 3.3.3.1.1.1: the addresses are authentic, and a NAT changes them."""
    left = _children("sha256")["left"]
    policy = child_policy(local="10.2.0.0/16", remote="10.1.0.0/16", proposals=(ah("sha256"),))
    right = right_connection(remote=("203.0.113.0/24",), children=(policy,))
    pair = Pair(left, right)  # type: ignore[arg-type]

    def translate(packet: Packet) -> list[Packet]:
        if packet.source[0] == LEFT_IP:
            return [packet._replace(source=("203.0.113.50", packet.source[1]))]
        return [packet._replace(destination=(LEFT_IP, packet.destination[1]))]

    pair.network = translate
    pair.establish()
    assert not pair.right.installed
    assert not pair.left.installed
    (text,) = [report.text for report in pair.right.reports if report.event == "child-refused"]
    assert "AH cannot cross a NAT" in text
