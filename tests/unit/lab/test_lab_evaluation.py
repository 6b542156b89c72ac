"""How the lab reads logs and captures."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from ipsecha.lab import capture, pki
from ipsecha.lab.prober import ANSWERED, ARRIVED, RECORD, SENT, packet_of
from ipsecha.lab.probes import Observation, evaluate, read_log, worst
from ipsecha.lab.processes import LabError, birth, run
from ipsecha.lab.strongswan import render
from ipsecha.lab.vici import Section, decode, encode


def test_report_counts_lost_probes_lost_answers_duplicates_and_gaps() -> None:
    near = Observation({n: n / 100 for n in range(1, 11)}, [], [])
    far = Observation({}, [], [])
    for number in (1, 2, 3, 8, 9, 10):
        near.answered.append((number, number / 100 + 0.001))
    near.answered.append((10, 0.102))
    far.arrived.extend((number, 0.0) for number in (1, 2, 3, 4, 8, 9, 9, 10))
    report = evaluate(near, far, fault_at=0.035)
    assert (report.sent, report.answered, report.lost, report.lost_outbound, report.duplicates) == (10, 6, 4, 3, 2)
    assert report.longest_gap_s == pytest.approx(0.05)
    assert report.recovered_s == pytest.approx(0.081 - 0.035)
    assert report.lost_s == pytest.approx((0.005, 0.015, 0.025, 0.035))
    both = worst([report, report])
    assert both.lost == 8
    assert both.recovered_s == report.recovered_s
    assert worst([report, evaluate(near, far)]).recovered_s is None


def test_a_log_that_is_being_written_is_read_up_to_the_last_whole_record(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(RECORD.pack(SENT, 1, 1.0) + RECORD.pack(ANSWERED, 1, 2.0) + RECORD.pack(ARRIVED, 5, 3.0) + b"\x01")
    assert read_log(log) == Observation({1: 1.0}, [(1, 2.0)], [(5, 3.0)])
    assert read_log(tmp_path / "none") == Observation({}, [], [])


ETHERNET = bytes.fromhex("020000000002 020000000001 0800")


def udp_frame(payload: bytes, port: int = 4500) -> bytes:
    return ETHERNET + packet_of("192.0.2.1", "192.0.2.2", port, payload)


def test_capture_reads_esp_in_udp_raw_esp_and_ike() -> None:
    esp = struct.pack("!II", 0x1234, 7) + bytes(16)
    found = capture.parse(1.0, udp_frame(esp))
    assert found is not None
    assert (found.source, found.destination, found.spi, found.sequence) == ("192.0.2.1", "192.0.2.2", 0x1234, 7)
    assert (found.source_port, found.destination_port, found.mac) == (4500, 4500, "02:00:00:00:00:01")
    message = bytes(18) + bytes([37]) + bytes(9)
    for frame in (udp_frame(bytes(4) + message), udp_frame(message, port=500)):
        marked = capture.parse(1.0, frame)
        assert marked is not None
        assert (marked.spi, marked.sequence, marked.exchange) == (0, 0, 37)
    other = capture.parse(1.0, udp_frame(esp, port=53))
    assert other is not None
    assert (other.spi, other.exchange) == (0, 0)
    six = ETHERNET + bytes([0x60, 0, 0, 0, 0, 24, 50, 64]) + socket.inet_pton(socket.AF_INET6, "2001:db8::1") * 2 + esp
    raw = capture.parse(1.0, six)
    assert raw is not None
    assert (raw.source, raw.source_port, raw.spi, raw.sequence) == ("2001:db8::1", 0, 0x1234, 7)


@pytest.mark.parametrize("raw", [b"", bytes(19), b"\x45" + bytes(10), bytes([0x60]) + bytes(20), udp_frame(b"")[14:38]])
def test_capture_ignores_what_is_cut_off(raw: bytes) -> None:
    assert capture.parse(0.0, ETHERNET + raw) is None


def test_capture_finds_repeated_numbers_and_spans() -> None:
    packets = []
    for spi, sequence in ((5, 1), (5, 2), (6, 9), (5, 2), (6, 10)):
        packet = capture.parse(0.0, udp_frame(struct.pack("!II", spi, sequence) + bytes(8)))
        assert packet is not None
        packets.append(packet)
    assert capture.repeated(packets) == [(5, 2)]
    assert capture.spans(packets) == [(5, 1, 2, 3), (6, 9, 10, 2)]


def test_vici_messages_survive_the_round_trip() -> None:
    message: Section = {"a": "1", "list": ["x=y, z", ""], "section": {"inner": {"k": "v"}, "empty": {}}, "z": ""}
    assert decode(encode(message)) == message
    with pytest.raises(LabError):
        decode(b"\x02\x02")


def test_settings_are_quoted_where_needed() -> None:
    assert render({"a": {"b": ["x", "y"], "c": 'C=CH, CN="x"'}}) == ('a {\n  b = "x, y"\n  c = "C=CH, CN=\\"x\\""\n}\n')


@pytest.mark.parametrize("kind", ["ecdsa", "ed25519"])
def test_the_authority_issues_chains(kind: str) -> None:
    root = pki.Authority("root", kind)
    credential = pki.Authority("below", kind, root).issue("gw.example", kind, padding=3000)
    assert len(credential.intermediates) == 1
    assert len(credential.certificate) > 4000
    assert b"PRIVATE" not in repr(credential).encode()


def test_commands_are_bounded_and_their_output_is_in_the_error() -> None:
    with pytest.raises(LabError, match="command not found"):
        run(["/nonexistent"])
    with pytest.raises(LabError, match="still running"):
        run(["sleep", "10"], timeout_s=0.1)
    with pytest.raises(LabError, match="told so"):
        run(["sh", "-c", "echo told so; exit 3"])
    assert birth(1 << 30) is None
