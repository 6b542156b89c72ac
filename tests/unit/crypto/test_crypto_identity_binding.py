"""Distinguished names, and the tie between an ID payload and a certificate."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from certificates import Authority
from ipsecha.crypto.certificates import Certificate, subject_identity
from ipsecha.crypto.distinguished_names import normal_name, parse_distinguished_name
from ipsecha.crypto.identity_binding import certified_form, check_bound, is_bound, same_identity
from ipsecha.model.errors import CryptoError, PolicyError
from ipsecha.model.identity import Identity, parse_identity
from ipsecha.model.numbers import IdType

NAMES = ["gw.example.org", "Admin@Example.org", "192.0.2.1", "2001:db8::1"]


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    return Certificate(Authority().issue("Gateway One", names=NAMES).certificate)


@pytest.mark.parametrize(
    "text", [*NAMES, "GW.Example.ORG", "Admin@example.ORG", "2001:0db8:0:0:0:0:0:1", "@gw.example.org"]
)
def test_names_of_the_certificate(certificate: Certificate, text: str) -> None:
    """RFC 4945 section 3.1: FQDN, RFC822_ADDR, IPV4_ADDR and IPV6_ADDR are found in the subject alternative name."""
    check_bound(certificate, parse_identity(text))


@pytest.mark.parametrize(
    "identity",
    [
        parse_identity("other.example.org"),
        parse_identity("example.org"),
        parse_identity("a.gw.example.org"),
        parse_identity("gw.example.org.evil.test"),
        parse_identity("admin@example.org"),  # the part before the @ is the domain's business
        parse_identity("192.0.2.2"),
        parse_identity("2001:db8::2"),
        parse_identity("keyid:gw.example.org"),
        Identity(IdType.FQDN, b"Gateway One"),  # the common name is not an alternative name
        Identity(IdType.FQDN, b"192.0.2.1"),
        Identity(IdType.FQDN, b"gw.example.org\0"),
        Identity(IdType.FQDN, b""),
        Identity(IdType.IPV4_ADDR, b""),
        Identity(IdType.RFC822_ADDR, b"gw.example.org"),
        Identity(IdType.DER_ASN1_GN, b"gw.example.org"),
        Identity(IdType.NULL, b""),
        Identity(200, b"gw.example.org"),
    ],
    ids=str,
)
def test_names_that_are_not_of_the_certificate(certificate: Certificate, identity: Identity) -> None:
    with pytest.raises(CryptoError, match="certificate of Gateway One is not for the identity"):
        check_bound(certificate, identity)


def test_wildcards_do_not_match(certificate: Certificate) -> None:
    """RFC 4945 section 3.1.2."""
    wildcard = Certificate(Authority().issue("wild", names=["*.example.org"]).certificate)
    assert not is_bound(wildcard, parse_identity("gw.example.org"))
    assert not is_bound(certificate, Identity(IdType.FQDN, b"*.example.org"))


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("C=CH, O=ipsecha, CN=Gateway One", True),
        ("C=CH,O=IPSECHA , CN = gateway   one", True),
        ("C=CH, CN=Gateway One, O=ipsecha", False),
        ("C=CH, O=ipsecha", False),
        ("CN=Gateway One", False),
        ("C=CH, O=ipsecha, OU=Gateway One", False),
        ("C=CH, O=ipsecha, CN=Gateway One, CN=x", False),
    ],
)
def test_distinguished_names(certificate: Certificate, text: str, bound: bool) -> None:
    """RFC 5280 section 7.1: string types, case and white space make no difference, order and attributes do."""
    identity = parse_distinguished_name(text)
    assert is_bound(certificate, identity) is bound


def test_the_name_is_readable_in_the_reason(certificate: Certificate) -> None:
    with pytest.raises(CryptoError, match="certificate of Gateway One is not for the identity ch, other"):
        check_bound(certificate, parse_distinguished_name("C=CH, O=Other"))


def test_the_subject_as_identity(certificate: Certificate) -> None:
    identity = subject_identity(certificate.der)
    assert identity.kind == IdType.DER_ASN1_DN
    assert is_bound(certificate, identity)
    assert same_identity(identity, parse_distinguished_name("C=CH, O=ipsecha, CN=Gateway One"))


def test_the_certified_form_is_the_subject_octet_by_octet(certificate: Certificate) -> None:
    ours = parse_distinguished_name("C=CH, O=IPSECHA, CN=gateway one")
    assert ours.data != certificate.subject
    assert certified_form(certificate, ours).data == certificate.subject
    for other in (parse_identity("gw.example.org"), parse_distinguished_name("CN=Other")):
        assert certified_form(certificate, other) is other


def test_an_empty_name_is_nobody() -> None:
    nameless = Certificate(Authority().issue("x", names=["gw.example.org"], subject=x509.Name([])).certificate)
    assert nameless.name == "gw.example.org"
    with pytest.raises(CryptoError, match=r"is not for the identity \(empty name\)"):
        check_bound(nameless, Identity(IdType.DER_ASN1_DN, b"\x30\x00"))


@pytest.mark.parametrize(
    "kind", [_ASN1Type.UTF8String, _ASN1Type.PrintableString, _ASN1Type.BMPString, _ASN1Type.T61String]
)
def test_string_types_make_no_difference(kind: _ASN1Type) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Gateway", kind)])
    assert normal_name(name.public_bytes()) == normal_name(parse_distinguished_name("CN=gateway").data)


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"gw.example.org",
        b"\x30",
        b"\x30\x02\x30\x00",
        b"\x30\x04\x31\x02\x05\x00",
        b"\x30\x06\x31\x04\x30\x02\x06\x00",
        b"\x30\x81\x02\x31\x00",
        b"\x30\x00\x30\x00",
        bytes.fromhex("300d310b3009060355040 30c02c328".replace(" ", "")),
    ],
    ids=bytes.hex,
)
def test_malformed_names_are_refused(certificate: Certificate, der: bytes) -> None:
    with pytest.raises(CryptoError):
        normal_name(der)
    assert not same_identity(Identity(IdType.DER_ASN1_DN, der), subject_identity(certificate.der))
    with pytest.raises(CryptoError):
        check_bound(certificate, Identity(IdType.DER_ASN1_DN, der))


def test_escapes_and_all_attributes_in_text() -> None:
    text = r"DC=org, C=CH, ST=Bern, L=Bern, O=Example\, Inc, OU=VPN, UID=u, serialNumber=7, E=a@example.org, CN=a\=b"
    name = normal_name(parse_distinguished_name(text).data)
    values = [value for relative in name for _, value in relative]
    assert values == ["org", "ch", "bern", "bern", "example, inc", "vpn", "u", "7", "a@example.org", "a=b"]


@pytest.mark.parametrize("text", ["", "CN", "CN=", "XX=1", "CN=a,", "C=Switzerland", "gw.example.org", "CN=a,,O=b"])
def test_texts_that_are_no_names_are_refused(text: str) -> None:
    with pytest.raises(PolicyError, match="distinguished name"):
        parse_distinguished_name(text)


def test_same_identity() -> None:
    assert same_identity(parse_identity("gw.example.org"), parse_identity("GW.example.ORG"))
    assert same_identity(parse_identity("a@example.org"), parse_identity("a@EXAMPLE.org"))
    assert not same_identity(parse_identity("a@example.org"), parse_identity("A@example.org"))
    assert not same_identity(parse_identity("keyid:a"), parse_identity("keyid:A"))
    assert not same_identity(Identity(IdType.FQDN, b"x"), Identity(IdType.KEY_ID, b"x"))
