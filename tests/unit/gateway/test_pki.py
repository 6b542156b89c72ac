"""The cluster's CA: certificates that the synch channel accepts, keys that stay where they are."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ipsecha.gateway import pki
from ipsecha.gateway.channel import ChannelConfig, tls_context
from ipsecha.gateway.config_secrets import check_permissions
from ipsecha.gateway.config_values import Wrong
from ipsecha.gateway.pki import MemberFiles
from ipsecha.model.errors import ClusterError

NOW = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)


@pytest.fixture
def files(tmp_path: Path) -> MemberFiles:
    found = MemberFiles(tmp_path / "alpha")
    found.init("berlin", "alpha", NOW)
    return found


def test_init_writes_what_the_channel_needs(files: MemberFiles) -> None:
    for path, mode in ((files.ca, 0o644), (files.ca_key, 0o600), (files.private_key("alpha"), 0o600)):
        assert stat.S_IMODE(path.stat().st_mode) == mode
        check_permissions(path, secret=mode == 0o600)
    paths = [str(path) for path in (files.certificate("alpha"), files.private_key("alpha"), files.ca)]
    config = ChannelConfig(("127.0.0.1", 1), ("127.0.0.1", 2), "beta", False, *paths)
    tls_context(config, server=True)
    assert files.own_member() == "alpha"
    assert files.authority().cluster == "berlin"


def test_what_systemd_hands_over_may_be_read_by_the_group_of_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newer versions give a unit's user access by an ACL, whose mask is what the group's bits then show."""
    secret = tmp_path / "witness.key"
    secret.write_bytes(b"secret")
    secret.chmod(0o440)
    with pytest.raises(Wrong, match="may be accessed by others"):
        check_permissions(secret, secret=True)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    check_permissions(secret, secret=True)
    secret.chmod(0o444)
    with pytest.raises(Wrong, match="may be accessed by others"):
        check_permissions(secret, secret=True)


def test_certificates_name_the_member_and_nothing_else_of_the_request(files: MemberFiles) -> None:
    certificate = pki.parse_certificate(files.certificate("alpha").read_bytes())
    authority = files.authority().certificate
    assert pki.check_member_certificate(certificate, authority, NOW) == "alpha"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["alpha"]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    key = ec.generate_private_key(ec.SECP256R1())
    wanted = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "beta")])
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(wanted)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    issued = pki.parse_certificate(pki.issue(files.authority(), greedy, NOW))
    assert not issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_init_overwrites_nothing(files: MemberFiles) -> None:
    before = files.ca_key.read_bytes()
    with pytest.raises(ClusterError, match="holds a cluster's CA already"):
        files.init("berlin", "alpha", NOW)
    assert files.ca_key.read_bytes() == before
    with pytest.raises(ClusterError, match="is there already: nothing was overwritten"):
        pki.write_new(files.ca, b"")


@pytest.mark.parametrize("name", ["", "Beta", "a b", "../beta", "x" * 64, "-a", "a."])
def test_names_that_are_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="expected a member's name"):
        pki.create_request(name)
    with pytest.raises(ClusterError):
        MemberFiles(tmp_path).init("berlin", name, NOW)
    assert list(tmp_path.iterdir()) == []


def test_second_member_by_files(files: MemberFiles, tmp_path: Path) -> None:
    beta = MemberFiles(tmp_path / "beta")
    beta.directory.mkdir()
    private_pem, request_pem = pki.create_request("beta")
    assert b"PRIVATE" not in request_pem
    pki.write_new(beta.private_key("beta"), private_pem, secret=True)
    authority = files.authority()
    request = pki.parse_request(request_pem)
    assert pki.requested_member(request) == "beta"
    bundle = pki.issue(authority, request, NOW) + authority.certificate.public_bytes(Encoding.PEM)
    beta.install("beta", *pki.split_bundle(bundle), NOW)
    assert beta.own_member() == "beta"
    assert beta.ca.read_bytes() == files.ca.read_bytes()
    beta.install("beta", *pki.split_bundle(bundle), NOW)  # again: renewed certificates are put in place of old ones


def test_certificates_that_do_not_fit_are_not_installed(files: MemberFiles, tmp_path: Path) -> None:
    beta = MemberFiles(tmp_path / "beta")
    beta.directory.mkdir()
    private_pem, request_pem = pki.create_request("beta")
    pki.write_new(beta.private_key("beta"), private_pem, secret=True)
    authority, other = files.authority(), pki.create_authority("rome", NOW)
    ca_pem, other_pem = (each.certificate.public_bytes(Encoding.PEM) for each in (authority, other))
    good = pki.issue(authority, pki.parse_request(request_pem), NOW)
    stranger = pki.issue(authority, pki.parse_request(pki.create_request("beta")[1]), NOW)
    gamma = pki.issue(authority, pki.parse_request(pki.create_request("gamma")[1]), NOW)
    for certificate, ca, now, reason in (
        (good, other_pem, NOW, "not signed by the cluster's CA"),
        (gamma, ca_pem, NOW, 'is for the member "gamma", expected "beta"'),
        (stranger, ca_pem, NOW, "does not belong to"),
        (good, good, NOW, "not signed by"),
        (good, ca_pem, NOW + datetime.timedelta(days=10000), "has expired"),
        (b"rubbish", ca_pem, NOW, "not a certificate"),
    ):
        with pytest.raises(ClusterError, match=reason):
            beta.install("beta", certificate, ca, now)
    assert not beta.ca.exists()
    beta.install("beta", good, ca_pem, NOW)
    theirs = pki.issue(other, pki.parse_request(request_pem), NOW)
    with pytest.raises(ClusterError, match="CA of another cluster"):
        beta.install("beta", theirs, other_pem, NOW)


@pytest.mark.parametrize(
    "pem", [b"", b"x", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"]
)
def test_requests_that_are_none(pem: bytes) -> None:
    with pytest.raises(ClusterError, match="not a certificate request"):
        pki.parse_request(pem)


def test_request_signed_by_another_key_is_refused() -> None:
    _, pem = pki.create_request("beta")
    request = x509.load_pem_x509_csr(pem)
    der = bytearray(request.public_bytes(Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)
    with pytest.raises(ClusterError, match="signed with its own key"):
        pki.parse_request(forged)


def test_bundles_that_are_none(files: MemberFiles) -> None:
    for pem in (b"", files.ca.read_bytes()):
        with pytest.raises(ClusterError, match="expected the file that ipsecha cluster sign has written"):
            pki.split_bundle(pem)


def test_authority_without_its_key(files: MemberFiles) -> None:
    assert "PRIVATE" not in repr(files.authority())
    files.ca_key.write_bytes(files.private_key("alpha").read_bytes())
    with pytest.raises(ClusterError, match="does not belong to"):
        files.authority()
    files.ca_key.unlink()
    with pytest.raises(ClusterError, match=r"cannot read .*ca\.key: no such file"):
        files.authority()


def test_fingerprints_for_people() -> None:
    _, pem = pki.create_request("beta")
    text = pki.readable_fingerprint(pki.parse_request(pem))
    assert len(text) == 8 * 5 - 1
    assert text == pki.readable_fingerprint(pki.parse_request(pem))
