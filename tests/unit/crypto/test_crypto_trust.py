"""Certificate chains: the good ones, and one clear reason for each way to be bad."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from certificates import VALID_FROM, VALID_TO, WALL_TIME, Authority, Holder, key_usage, self_signed
from ipsecha.crypto import trust
from ipsecha.crypto.trust import TrustStore
from ipsecha.model.errors import CryptoError

UNKNOWN_OID = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
PAST = (VALID_FROM, datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC))
FUTURE = (datetime.datetime(2030, 5, 6, tzinfo=datetime.UTC), VALID_TO)


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority()


def refused(holder: Holder, *anchors: Authority, wall_time: float = WALL_TIME) -> str:
    """The reason why the chain is refused."""
    with pytest.raises(CryptoError) as caught:
        TrustStore([anchor.certificate for anchor in anchors]).validate(holder.chain, wall_time)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["rsa", "p256", "p384", "p521", "ed25519"])
def test_chains_of_every_kind_of_key(kind: str) -> None:
    root = Authority("Root", kind)
    below = Authority("Below", kind, Authority("Middle", kind, root))
    holder = below.issue("gw.example.org", kind)
    assert len(holder.chain) == 3
    store = TrustStore([root.certificate])
    assert store.validate(holder.chain, WALL_TIME).der == holder.certificate
    # in any order behind the first, with strangers and rubbish in between (RFC 7296 section 3.6)
    stranger = Authority("Stranger", kind).issue("other.example.org", kind).certificate
    mixed = (holder.certificate, b"rubbish", stranger, *reversed(holder.intermediates), root.certificate)
    assert store.validate(mixed, WALL_TIME).name == "gw.example.org"


def test_an_intermediate_ca_may_be_the_anchor(root: Authority) -> None:
    below = Authority("Below", issuer=root)
    holder = below.issue("gw.example.org")
    assert TrustStore([below.certificate]).validate((holder.certificate,), WALL_TIME)


def test_intermediates_may_be_configured_instead_of_sent(root: Authority) -> None:
    below = Authority("Below", issuer=root)
    store = TrustStore([root.certificate, below.certificate])
    assert store.validate((below.issue("gw.example.org").certificate,), WALL_TIME)


def test_unknown_ca(root: Authority) -> None:
    holder = Authority("Unknown CA").issue("gw.example.org")
    assert refused(holder, root) == "certificate of gw.example.org is issued by a CA that is not known here"


def test_missing_intermediate(root: Authority) -> None:
    holder = Authority("Below", issuer=Authority("Middle", issuer=root)).issue("gw.example.org")
    short = holder._replace(intermediates=holder.intermediates[:1])
    assert refused(short, root) == "certificate of Below is issued by a CA that is not known here"


def test_no_certificate(root: Authority) -> None:
    with pytest.raises(CryptoError, match="has sent no certificate"):
        TrustStore([root.certificate]).validate((), WALL_TIME)


def test_expired_and_not_yet_valid(root: Authority) -> None:
    """RFC 5280 section 6.1.3 (a) (2), at the injected time."""
    expired = root.issue("gw.example.org", valid=PAST)
    assert refused(expired, root) == "certificate of gw.example.org expired on 2026-01-02"
    assert TrustStore([root.certificate]).validate(expired.chain, PAST[1].timestamp() - 1)
    early = root.issue("gw.example.org", valid=FUTURE)
    assert refused(early, root) == "certificate of gw.example.org is not valid before 2030-05-06"
    below = Authority("Old CA", issuer=root, valid=PAST).issue("gw.example.org")
    assert refused(below, root) == "certificate of Old CA expired on 2026-01-02"
    old_root = Authority("Old Root", valid=PAST)
    assert refused(old_root.issue("gw.example.org"), old_root) == "certificate of Old Root expired on 2026-01-02"


def test_signature_of_another_key(root: Authority) -> None:
    """RFC 5280 section 6.1.3 (a) (1): a CA of the same name with another key."""
    impostor = Authority("Example Root CA", key_name="impostor")
    assert refused(impostor.issue("gw.example.org"), root) == (
        "certificate of gw.example.org is not signed by CA Example Root CA"
    )


def test_keys_of_a_ca_may_roll_over(root: Authority) -> None:
    successor = Authority("Example Root CA", key_name="successor")
    for anchors in ((root, successor), (successor, root)):
        store = TrustStore([anchor.certificate for anchor in anchors])
        assert store.validate(successor.issue("gw.example.org").chain, WALL_TIME)
        assert store.validate(root.issue("gw.example.org").chain, WALL_TIME)
    expired = Authority("Example Root CA", key_name="successor", valid=PAST)
    for pair in ((root, expired), (expired, root)):
        assert refused(expired.issue("gw.example.org"), *pair) == "certificate of Example Root CA expired on 2026-01-02"


def test_a_cross_signed_ca_is_found_by_either_way(root: Authority) -> None:
    other = Authority("Other Root")
    by_root, by_other = (Authority("Bridge", issuer=issuer, key_name="bridge") for issuer in (root, other))
    holder = by_root.issue("gw.example.org")
    chain = (holder.certificate, by_other.certificate, by_root.certificate)
    assert TrustStore([root.certificate]).validate(chain, WALL_TIME)
    assert TrustStore([other.certificate]).validate(chain, WALL_TIME)


def test_an_end_entity_is_no_ca(root: Authority) -> None:
    """RFC 5280 section 6.1.4 (k): basic constraints."""
    fake = Authority("Fake", issuer=root, constraints=x509.BasicConstraints(ca=False, path_length=None))
    reason = "certificate of Fake is not a CA certificate, but has issued one"
    assert refused(fake.issue("gw.example.org"), root) == reason
    none = Authority("Fake", issuer=root, constraints=None)
    assert refused(none.issue("gw.example.org"), root) == reason
    old = Authority("Fake", constraints=None)
    assert refused(old.issue("gw.example.org"), old) == reason


def test_ca_that_may_not_sign_certificates(root: Authority) -> None:
    """RFC 5280 section 6.1.4 (n): key usage."""
    wrong = Authority("Wrong", issuer=root, usage=key_usage(digital_signature=True))
    assert refused(wrong.issue("gw.example.org"), root) == (
        "certificate of CA Wrong is not for signing certificates (key usage)"
    )
    absent = Authority("Absent", issuer=root, usage=None)
    assert TrustStore([root.certificate]).validate(absent.issue("gw.example.org").chain, WALL_TIME)


def test_path_length() -> None:
    """RFC 5280 section 6.1.4 (l), (m): CAs between, self-issued ones not counted."""
    narrow = Authority("Narrow", constraints=x509.BasicConstraints(ca=True, path_length=0))
    store = TrustStore([narrow.certificate])
    assert store.validate(narrow.issue("gw.example.org").chain, WALL_TIME)
    below = Authority("Below", issuer=narrow)
    assert refused(below.issue("gw.example.org"), narrow) == "CA Narrow allows 0 CAs below it, not 1 (path length)"
    self_issued = Authority("Narrow", issuer=narrow, key_name="successor")
    assert store.validate(self_issued.issue("gw.example.org").chain, WALL_TIME)


def test_unknown_critical_extension(root: Authority) -> None:
    """RFC 5280 section 4.2: an unrecognised critical extension MUST lead to refusal, others are ignored."""
    extension = x509.UnrecognizedExtension(UNKNOWN_OID, b"\5\0")
    reason = f"extension {UNKNOWN_OID.dotted_string}, which is not supported"
    holder = root.issue("gw.example.org", extensions=[(extension, True)])
    assert refused(holder, root) == f"certificate of gw.example.org has {reason}"
    below = Authority("Below", issuer=root, extensions=[(extension, True)])
    assert refused(below.issue("gw.example.org"), root) == f"certificate of Below has {reason}"
    harmless = root.issue("gw.example.org", extensions=[(extension, False)])
    assert TrustStore([root.certificate]).validate(harmless.chain, WALL_TIME)


@pytest.mark.parametrize("critical", [True, False])
def test_name_constraints_are_never_passed_over(root: Authority, critical: bool) -> None:
    """RFC 5280 section 4.2.1.10: who cannot process them must refuse."""
    constraints = x509.NameConstraints(permitted_subtrees=[x509.DNSName("example.org")], excluded_subtrees=None)
    below = Authority("Below", issuer=root, extensions=[(constraints, critical)])
    assert "2.5.29.30, which is not supported" in refused(below.issue("gw.example.org"), root)


def test_end_entities_must_be_allowed_to_sign(root: Authority) -> None:
    """RFC 4945 section 5.1.3.2: digitalSignature or nonRepudiation, where there is a key usage."""
    holder = root.issue("gw.example.org", usage=key_usage(key_agreement=True))
    assert refused(holder, root) == "certificate of gw.example.org is not for signatures (key usage)"
    assert TrustStore([root.certificate]).validate(root.issue("gw.example.org", usage=None).chain, WALL_TIME)


@pytest.mark.parametrize(
    ("usage", "accepted"),
    [
        (x509.ObjectIdentifier("1.3.6.1.5.5.7.3.17"), True),
        (ExtendedKeyUsageOID.SERVER_AUTH, True),
        (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, True),
        (ExtendedKeyUsageOID.CODE_SIGNING, False),
        (ExtendedKeyUsageOID.TIME_STAMPING, False),
    ],
)
def test_extended_key_usage(root: Authority, usage: x509.ObjectIdentifier, accepted: bool) -> None:
    """RFC 4945 section 5.1.3.12."""
    holder = root.issue("gw.example.org", extensions=[(x509.ExtendedKeyUsage([usage]), False)])
    if accepted:
        assert TrustStore([root.certificate]).validate(holder.chain, WALL_TIME)
    else:
        assert refused(holder, root) == "certificate of gw.example.org is not for IKE (extended key usage)"


def test_weak_keys_and_signatures() -> None:
    """RFC 8247 section 3: SHA-1 and RSA below 2048 bits."""
    root = Authority("Root", "rsa")
    assert refused(root.issue("gw.example.org", "rsa1024"), root) == (
        "certificate of gw.example.org: RSA keys of 1024 bits are not accepted: 2048 to 8192 are"
    )
    holder = root.issue("gw.example.org")
    # the library makes no such certificates any more: the algorithm is exchanged in one that is made with SHA-256
    sha256, sha1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    assert holder.certificate.count(sha256) == 2
    assert refused(holder._replace(certificate=holder.certificate.replace(sha256, sha1)), root) == (
        "certificate of gw.example.org is signed with sha1, which is not accepted"
    )
    with pytest.raises(CryptoError, match="1024 bits"):
        TrustStore([Authority("Weak", "rsa1024").certificate])


def test_a_pinned_certificate_needs_no_ca() -> None:
    holder, other = self_signed("gw.example.org"), self_signed("other.example.org")
    store = TrustStore([holder.certificate])
    assert store.validate(holder.chain, WALL_TIME).name == "gw.example.org"
    assert store.authority_hashes == ()  # CERTREQ names CAs only
    assert "is issued by a CA that is not known here" in str(refused_by(store, other.chain))
    # a pinned end entity vouches for itself only
    rogue = Authority("gw.example.org", constraints=None, key_name="gw.example.org").issue("victim.example.org")
    assert "not a CA" in str(refused_by(store, rogue.chain))


def refused_by(store: TrustStore, chain: tuple[bytes, ...], wall_time: float = WALL_TIME) -> CryptoError:
    with pytest.raises(CryptoError) as caught:
        store.validate(chain, wall_time)
    return caught.value


def test_what_is_remembered_expires_with_the_certificate(root: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = root.issue("gw.example.org", valid=PAST)
    store = TrustStore([root.certificate])
    before = PAST[1].timestamp() - 10
    first = store.validate(holder.chain, before)
    assert store.validate(holder.chain, before) is first
    assert "expired on 2026-01-02" in str(refused_by(store, holder.chain, before + 11))
    monkeypatch.setattr(trust, "_REMEMBERED", 1)
    for name in ("a.example.org", "b.example.org", "c.example.org"):
        assert store.validate(root.issue(name).chain, WALL_TIME).name == name
        assert len(store._remembered) == 1


def test_rubbish_is_refused(root: Authority) -> None:
    store = TrustStore([root.certificate])
    good = root.issue("gw.example.org").certificate
    for rubbish in (b"", b"\x30", b"\x30\x03\x02\x01\x00", bytes(1000), good[:-1], good + b"\0", bytes(70000)):
        refused_by(store, (rubbish,))
    for at in range(0, len(good), 7):
        refused_by(store, (good[:at] + bytes((good[at] ^ 0x55,)) + good[at + 1 :],))


def test_the_work_that_a_stranger_can_cause_is_bounded(root: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many CA certificates of one name make a number of paths that grows exponentially: the search gives up."""
    loop = [Authority("Loop", issuer=Authority("Loop", key_name="loop"), key_name="loop") for _ in range(14)]
    holder = loop[0].issue("gw.example.org")
    chain = (holder.certificate, *(authority.certificate for authority in loop))
    verified = []
    check = trust.Certificate.is_signed_by
    monkeypatch.setattr(trust.Certificate, "is_signed_by", lambda one, by: verified.append(by) or check(one, by))
    assert "too many paths" in str(refused_by(TrustStore([root.certificate]), chain))
    assert len(verified) <= 32


def test_names_of_strangers_are_made_safe_for_logs(root: Authority) -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gw\n2026 ERROR fake\x1b[31m")])
    holder = root.issue("gw.example.org", subject=name, valid=PAST)
    assert refused(holder, root) == "certificate of gw?2026 ERROR fake?[31m expired on 2026-01-02"
