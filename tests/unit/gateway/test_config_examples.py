"""The examples load, with secrets made for the occasion; what they say arrives in the policy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ipsecha.gateway.config import (
    Alone,
    BeatPathConfig,
    ClusterAddress,
    ClusterMode,
    ConfigError,
    LoadedConfig,
    UdpInner,
    is_member_file,
    load_member,
    load_policy,
)
from ipsecha.gateway.config_witness import load_witness
from ipsecha.lab.pki import Authority
from ipsecha.model.identity import Identity, parse_identity
from ipsecha.model.numbers import Encr, Group, IdType, Prf, TransformType
from ipsecha.model.policy import Action, Authentication, DontFragment, Start
from ipsecha.model.selectors import selector_from_prefix

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def copy(name: str, tmp_path: Path) -> Path:
    """The example with its secrets: one CA for the members and the peers alike."""
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder)
    authority = Authority("Example CA")
    for psk in ("paris.psk", "depot.psk"):
        put(folder / psk, b"0x" + b"5e" * 32)
    for ca in ("ca.crt", "example-ca.crt", "staff-ca.crt"):
        put(folder / ca, authority.certificate)
    names = {"berlin": "berlin.example.net", "vpn": "vpn.example.net"}
    for stem in ("alpha", "beta", "north", "south", "witness", *names):
        credential = authority.issue(names.get(stem, stem))
        put(folder / f"{stem}.crt", credential.certificate)
        put(folder / f"{stem}.key", credential.private_key)
    return folder


def put(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o600)


ALL = sorted(path.relative_to(EXAMPLES) for path in EXAMPLES.glob("*/*.toml"))


@pytest.mark.parametrize("path", ALL, ids=str)
def test_every_example_loads_without_a_warning(tmp_path: Path, path: Path) -> None:
    folder = copy(path.parts[0], tmp_path)
    if path.name == "witness.toml":
        assert load_witness(folder / path.name).members == ("alpha", "beta")
        return
    load = load_policy if path.name == "policy.toml" else load_member
    assert load(folder / path.name).warnings == ()
    assert is_member_file(folder / path.name) == (path.name != "policy.toml")


@pytest.mark.parametrize("path", [path for path in ALL if path.name == "policy.toml"], ids=str)
def test_policies_can_be_checked_without_secrets(path: Path) -> None:
    assert load_policy(EXAMPLES / path, skip_secrets=True).policy.connections


def test_examples_were_found() -> None:
    assert len(ALL) == 11


@pytest.fixture
def pair(tmp_path: Path) -> tuple[LoadedConfig, LoadedConfig]:
    folder = copy("site-to-site", tmp_path)
    return load_member(folder / "alpha.toml"), load_member(str(folder / "beta.toml"))


def test_pair(pair: tuple[LoadedConfig, LoadedConfig]) -> None:
    alpha, beta = pair
    assert alpha.policy == beta.policy
    assert alpha.cluster == beta.cluster
    assert alpha.cluster is not None
    assert alpha.cluster.members == ("alpha", "beta")
    assert alpha.cluster.mode is ClusterMode.HOT_STANDBY
    assert alpha.cluster.alone is Alone.CONTINUE
    assert alpha.cluster.addresses == (
        ClusterAddress("192.0.2.10", 24, "outer"),
        ClusterAddress("10.1.0.1", 16, "inner"),
    )
    assert (alpha.member.name, alpha.member.links) == ("alpha", {"outer": "eth0", "inner": "eth1"})
    assert alpha.member.cluster is not None
    assert beta.member.cluster is not None
    assert alpha.member.cluster.listen == beta.member.cluster.peers["alpha"] == ("10.99.0.1", 4600)
    assert alpha.member.cluster.peers == {"beta": ("10.99.0.2", 4600)}
    assert alpha.member.cluster.beats == (BeatPathConfig("lan", ("192.0.2.11", 4601), ("192.0.2.12", 4601)),)
    assert beta.member.cluster.beats == (BeatPathConfig("lan", ("192.0.2.12", 4601), ("192.0.2.11", 4601)),)
    assert alpha.member.cluster.certificate.name == "alpha.crt"
    assert alpha.member.cluster.certificate.is_absolute()


def test_connection_of_the_pair(pair: tuple[LoadedConfig, LoadedConfig]) -> None:
    (paris,) = pair[0].policy.connections
    assert paris.local == ("192.0.2.10",)  # the outer shared address
    assert paris.remote == ("203.0.113.7",)
    assert paris.local_id == parse_identity("berlin.example.net")
    assert paris.remote_id == parse_identity("paris.example.net")
    assert (paris.local_auth, paris.remote_auth) == (Authentication.PSK, Authentication.PSK)
    assert (paris.rekey_s, paris.life_s, paris.dpd_s) == (14400.0, 15840.0, 30.0)
    (offices,) = paris.children
    assert offices.start is Start.START
    assert offices.local_ts == (selector_from_prefix("10.1.0.0/16"),)
    assert pair[0].credentials.psk("paris", None) is not None


def test_smallest_policy_has_sensible_defaults(tmp_path: Path) -> None:
    text = (EXAMPLES / "single-psk" / "policy.toml").read_text()
    assert len([line for line in text.splitlines() if line and not line.startswith("#")]) <= 8
    loaded = load_member(copy("single-psk", tmp_path) / "gateway.toml")
    assert loaded.cluster is None
    assert loaded.member.cluster is None
    (paris,) = loaded.policy.connections
    assert paris.local_id == parse_identity("192.0.2.10")
    assert paris.remote_id is None
    assert [proposal.number for proposal in paris.proposals] == [1, 2]
    assert paris.proposals[0].transforms[0].id == Encr.AES_GCM_16
    (lan,) = paris.children
    assert [bool(proposal.of_type(TransformType.KE)) for proposal in lan.proposals] == [True, False, True, False]
    assert all([t.id for t in proposal.of_type(TransformType.ESN)] == [1, 0] for proposal in lan.proposals)
    assert str(loaded.member.control.socket) == "/run/ipsecha/control.sock"
    assert (loaded.member.device.port, loaded.member.device.nat_port, loaded.member.device.inner) == (500, 4500, None)


def test_certificates(tmp_path: Path) -> None:
    loaded = load_member(copy("certificates", tmp_path) / "gateway.toml")
    (paris,) = loaded.policy.connections
    assert paris.remote_auth is Authentication.CERTIFICATE
    assert isinstance(paris.remote_id, Identity)
    assert paris.remote_id.kind == IdType.DER_ASN1_DN
    first, second = paris.proposals
    assert [t.id for t in first.of_type(TransformType.KE)] == [Group.ECP_384]
    assert [t.id for t in second.of_type(TransformType.PRF)] == [Prf.HMAC_SHA2_256]  # as the integrity algorithm
    offices, backup = paris.children
    assert (offices.rekey_bytes, offices.start) == (500 * 10**9, Start.TRAP)
    assert backup.dont_fragment is DontFragment.CLEAR
    assert backup.remote_ts == (selector_from_prefix("10.2.9.5", 6, (873, 873)),)
    bypass, discard = loaded.policy.rules
    assert (bypass.action, discard.action) == (Action.BYPASS, Action.DISCARD)
    assert discard.local_ts == (selector_from_prefix("0.0.0.0/0"), selector_from_prefix("::/0"))
    assert loaded.credentials.signer("paris") is not None


def test_road_warriors(tmp_path: Path) -> None:
    loaded = load_member(copy("road-warrior", tmp_path) / "south.toml")
    staff, depot = loaded.policy.connections
    assert staff.remote == depot.remote == ()
    assert staff.local == ("192.0.2.20", "2001:db8::20")
    assert staff.remote_id is None
    assert staff.encapsulate
    assert loaded.member.control.group == "adm"
    assert loaded.member.cluster is not None
    assert loaded.member.cluster.listen == ("fd00:99::2", 4600)


def without_root(folder: Path) -> Path:
    path = folder / "gateway.toml"
    path.write_text(
        'name = "gateway"\npolicy = "policy.toml"\n'
        '[control]\nsocket = "control.sock"\n'
        '[device]\nport = 5500\nnat_port = 5501\ninner = "udp:127.0.0.1:7001<->127.0.0.1:7002"\n'
    )
    return path


def test_run_without_root(tmp_path: Path) -> None:
    folder = copy("single-psk", tmp_path)
    member = load_member(without_root(folder)).member
    assert member.device.inner == UdpInner(("127.0.0.1", 7001), ("127.0.0.1", 7002))
    assert member.control.socket == folder / "control.sock"


MISTAKES = [
    ('name = "alpha"', 'name = "alhpa"', [
        '3: name: "alhpa" is no member of the cluster "berlin" (alpha, beta); did you mean "alpha"?',
        '13: cluster.certificate: expected the certificate of this member ("alhpa"), found that of "alpha"',
    ]),
    ('name = "alpha"', 'name = "beta"', [
        "12: cluster.peers.beta: is not the other member of the cluster",
        '12: cluster.peers: "alpha" is missing: expected its address such as "10.99.0.2:4600"',
        '13: cluster.certificate: expected the certificate of this member ("beta"), found that of "alpha"',
    ]),
    ('outer = "eth0"', 'otuer = "eth0"', [
        '6: links: "outer" is missing: the cluster has a shared address on that link; did you mean "otuer"?'
    ]),
    ('outer = "eth0"', 'outer = "an-interface-with-a-long-name"', [
        "7: links.outer: expected the name of an interface (at most 15 characters), "
        'found "an-interface-with-a-long-name"'
    ]),
    ('"10.99.0.1:4600"', '"10.99.0.1"', [
        '11: cluster.listen: expected an address with a port such as "10.0.0.1:4600" or "[fd00::1]:4600", '
        'found "10.99.0.1"'
    ]),
    ('"10.99.0.1:4600"', '"10.99.0.2:4600"', ["12: cluster.peers: expected the other member's address, found our own"]),
    ("beta = ", "gamma = ", [
        '12: cluster.peers: "beta" is missing: expected its address such as "10.99.0.2:4600"',
        '12: cluster.peers.gamma: is not the other member of the cluster',
    ]),
    ('"alpha.key"', '"beta.key"', ['14: cluster.private_key: does not belong to the certificate of "alpha"']),
    ('"192.0.2.12:4601"', '"192.0.2.11:4601"', [
        "19: cluster.beats.lan.partner: expected the other member's address, found our own"
    ]),
    ('name = "alpha"', 'name = "alpha"\ndevice.port = 4500', [
        "4: device.nat_port: expected a port that differs from the port of IKE (RFC 3948)"
    ]),
    ('name = "alpha"', 'name = "alpha"\ndevice.inner = "udp:1.2.3.4:5"', [
        '4: device.inner: expected "tun" or "udp:HOST:PORT<->HOST:PORT" with two addresses that differ, '
        'found "udp:1.2.3.4:5"'
    ]),
    ('name = "alpha"', 'name = "alpha"\ndevice.inner = "udp:1.2.3.4:5<->1.2.3.4:6"\ndevice.tun = "tun0"', [
        '5: device.tun: is not used: "inner" names datagrams instead of a TUN device'
    ]),
    ('name = "alpha"', f'name = "alpha"\ncontrol.socket = "/{"x" * 120}"', [
        f'4: control.socket: expected a path of at most 107 octets, found "/{"x" * 55}...'
    ]),
    ('policy = "policy.toml"', 'polcy = "policy.toml"', [
        '1: "policy" is missing: expected the path of the policy such as "policy.toml"'
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES)
def test_mistakes_in_a_members_file(tmp_path: Path, old: str, new: str, expected: list[str]) -> None:
    folder = copy("site-to-site", tmp_path)
    path = folder / "alpha.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_member(path)
    found = [str(problem).removeprefix(f"{path}:").strip() for problem in caught.value.problems]
    assert sorted(found) == sorted(line.removeprefix("1: ") for line in expected)


def test_cluster_in_one_file_only(tmp_path: Path) -> None:
    folder = copy("site-to-site", tmp_path)
    policy, member = folder / "policy.toml", folder / "alpha.toml"
    text = policy.read_text()
    policy.write_text(text[text.index("[connections") :].replace("remote =", 'local = "192.0.2.10"\nremote =', 1))
    with pytest.raises(ConfigError) as caught:
        load_member(member)
    assert str(caught.value).endswith(
        "alpha.toml:10: cluster: is not used: the policy has no [cluster], so this is a single gateway"
    )
    policy.write_text(text)
    text = member.read_text()
    member.write_text(text[: text.index("\n[cluster]")])
    with pytest.raises(ConfigError) as caught:
        load_member(member)
    assert str(caught.value).endswith(
        "alpha.toml: there is no [cluster]: expected listen, peers, certificate, private_key and ca of this member"
    )


def test_mistakes_of_both_files_come_together(tmp_path: Path) -> None:
    folder = copy("site-to-site", tmp_path)
    for name in ("policy.toml", "alpha.toml"):
        path = folder / name
        path.write_text("surprise = 1\n" + path.read_text())
    with pytest.raises(ConfigError) as caught:
        load_member(folder / "alpha.toml")
    assert [(Path(problem.file).name, problem.line, problem.key) for problem in caught.value.problems] == [
        ("policy.toml", 1, "surprise"),
        ("alpha.toml", 1, "surprise"),
    ]


def test_off_and_never(tmp_path: Path) -> None:
    """A timer that is off never comes due: 0 where the core takes it for "none", else a century."""
    folder = copy("single-psk", tmp_path)
    text = (folder / "policy.toml").read_text()
    text = text.replace("psk_file", 'rekey = "never"\ndpd = "off"\nkeepalive = "off"\npsk_file', 1)
    (folder / "policy.toml").write_text(f'{text}rekey = "never"\nlife = "never"\nrekey_bytes = "never"\n')
    (paris,) = load_policy(folder / "policy.toml").policy.connections
    century = 100 * 365 * 86400.0
    assert (paris.rekey_s, paris.dpd_s, paris.life_s, paris.keepalive_s) == (0, 0, century, century)
    (lan,) = paris.children
    assert (lan.rekey_s, lan.rekey_bytes, lan.life_s) == (0, 0, century)
