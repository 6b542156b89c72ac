"""Choice of algorithms, and the check of what the peer has chosen."""

from __future__ import annotations

import pytest

from ike_pair import esp, proposal
from ipsecha.ike.negotiation import (
    SuiteMemo,
    accept_child_answer,
    accept_ike_answer,
    choose_child_suite,
    choose_ike_suite,
    number_proposals,
    suite_allowed,
)
from ipsecha.model.errors import PeerError, WireError
from ipsecha.model.numbers import Encr, Group, Integ, Protocol, TransformType
from ipsecha.model.proposals import ChildSuite, IkeSuite, Proposal, Transform
from ipsecha.wire.payloads.sa import build_sa, parse_sa

GCM = proposal("aes128gcm16-aes256gcm16-prfsha256-x25519-ecp256")
CBC = proposal("aes256-sha256-prfsha256-modp2048")


def offer(*proposals: Proposal, spi: bytes = b"") -> tuple[Proposal, ...]:
    return number_proposals(proposals, spi)


def test_the_order_of_the_own_configuration_decides() -> None:
    choice = choose_ike_suite(offer(CBC, GCM), (GCM, CBC))
    assert choice is not None
    assert choice.number == 2
    assert choice.suite == IkeSuite(Encr.AES_GCM_16, 128, 0, 5, Group.CURVE25519)


def test_the_group_whose_value_is_there_already_wins() -> None:
    choice = choose_ike_suite(offer(GCM), (GCM,), Group.ECP_256)
    assert choice is not None
    assert choice.suite.group == Group.ECP_256


def test_a_group_that_is_not_allowed_does_not_win() -> None:
    choice = choose_ike_suite(offer(GCM), (proposal("aes128gcm16-prfsha256-x25519"),), Group.ECP_256)
    assert choice is not None
    assert choice.suite.group == Group.CURVE25519


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("aes256gcm16-prfsha256-x25519", "aes128gcm16-prfsha256-x25519"),
        ("aes128gcm16-prfsha256-x25519", "aes128gcm16-prfsha384-x25519"),
        ("aes128gcm16-prfsha256-x25519", "aes128gcm16-prfsha256-ecp256"),
        ("aes128-sha256-prfsha256-x25519", "aes128-sha384-prfsha256-x25519"),
        ("aes128-prfsha256-x25519", "aes128-sha256-prfsha256-x25519"),
        ("aes128gcm16-sha256-prfsha256-x25519", "aes128gcm16-prfsha256-x25519"),
    ],
)
def test_nothing_in_common_is_no_choice(theirs: str, ours: str) -> None:
    assert choose_ike_suite(offer(proposal(theirs)), (proposal(ours),)) is None


def test_an_aead_with_integrity_none_is_an_aead() -> None:
    with_none = Proposal(1, 1, b"", (*GCM.transforms, Transform(TransformType.INTEG, 0)))
    choice = choose_ike_suite((with_none,), (GCM,))
    assert choice is not None
    assert choice.suite.integ == Integ.NONE
    assert Transform(TransformType.INTEG, 0) in choice.transforms


def test_a_proposal_with_an_unknown_transform_type_is_not_chosen() -> None:
    strange = Proposal(1, 1, b"", (*GCM.transforms, Transform(6, 36)))
    assert choose_ike_suite((strange,), (GCM,)) is None
    optional = Proposal(1, 1, b"", (*GCM.transforms, Transform(6, 36), Transform(6, 0)))
    assert choose_ike_suite((optional,), (GCM,)) is None


def test_a_child_is_chosen_with_its_spi_and_without_key_exchange_in_ike_auth() -> None:
    found = choose_child_suite(
        offer(esp("aes256gcm16"), esp("aes128gcm16-x25519"), spi=b"abcd"),
        (esp("aes128gcm16-x25519"),),
        key_exchange=False,
    )
    assert found is not None
    assert found[0].suite == ChildSuite(Protocol.ESP, Encr.AES_GCM_16, 128, 0, 0, False)
    assert found[1] == b"abcd"


def test_perfect_forward_secrecy_is_not_given_away() -> None:
    assert choose_child_suite(offer(esp("aes128gcm16"), spi=b"abcd"), (esp("aes128gcm16-x25519"),)) is None
    found = choose_child_suite(offer(esp("aes128gcm16-x25519"), spi=b"abcd"), (esp("aes128gcm16-x25519"),))
    assert found is not None
    assert found[0].suite.group == Group.CURVE25519


def test_esn_is_chosen_where_both_want_it() -> None:
    both = esp("aes128gcm16-esn-noesn")
    for policy, expected in ((esp("aes128gcm16-esn"), True), (esp("aes128gcm16"), False)):
        found = choose_child_suite(offer(both, spi=b"abcd"), (policy,))
        assert found is not None
        assert found[0].suite.esn is expected


def test_an_offer_without_esn_means_none() -> None:
    bare = Proposal(1, 3, b"abcd", (Transform(TransformType.ENCR, Encr.AES_GCM_16, 128),))
    found = choose_child_suite((bare,), (esp("aes128gcm16"),))
    assert found is not None
    assert found[0].transforms == bare.transforms
    assert choose_child_suite((bare,), (esp("aes128gcm16-esn"),)) is None


def test_equal_offers_are_made_once_without_key_exchange() -> None:
    offers = number_proposals(
        (esp("aes128gcm16-x25519"), esp("aes128gcm16-ecp256"), esp("aes256gcm16")), b"abcd", key_exchange=False
    )
    assert [one.number for one in offers] == [1, 2]


def test_the_answer_must_be_one_choice_out_of_the_offer() -> None:
    made = offer(GCM, CBC)
    good = Proposal(1, 1, b"", (GCM.transforms[1], GCM.transforms[2], GCM.transforms[4]))
    suite, _ = accept_ike_answer((good,), made)
    assert suite == IkeSuite(Encr.AES_GCM_16, 256, 0, 5, Group.ECP_256)
    none = Proposal(1, 1, b"", (*good.transforms, Transform(TransformType.INTEG, 0)))
    assert accept_ike_answer((none,), made)[0] == suite


@pytest.mark.parametrize(
    "answer",
    [
        (),
        (Proposal(1, 1, b"", GCM.transforms),),
        (Proposal(2, 1, b"", GCM.transforms[1:4]),),
        (Proposal(1, 1, b"", GCM.transforms[1:3]),),
        (Proposal(1, 3, b"", GCM.transforms[1:4]),),
        (Proposal(1, 1, b"", (Transform(1, 12, 128), *GCM.transforms[2:4])),),
        (Proposal(1, 1, b"", GCM.transforms[1:4]), Proposal(2, 1, b"", CBC.transforms)),
    ],
)
def test_other_answers_are_refused(answer: tuple[Proposal, ...]) -> None:
    with pytest.raises(PeerError):
        accept_ike_answer(answer, offer(GCM, CBC))


def test_a_child_answer_needs_an_spi() -> None:
    made = offer(esp("aes128gcm16"), spi=b"abcd")
    with pytest.raises(PeerError):
        accept_child_answer((Proposal(1, 3, b"", made[0].transforms),), made)
    assert accept_child_answer((Proposal(1, 3, b"wxyz", made[0].transforms),), made)[1] == b"wxyz"


def test_whether_a_policy_allows_a_suite() -> None:
    assert suite_allowed(IkeSuite(Encr.AES_GCM_16, 128, 0, 5, 31), (CBC, GCM))
    assert not suite_allowed(IkeSuite(Encr.AES_GCM_16, 128, 0, 5, 31), (CBC,))
    assert not suite_allowed(IkeSuite(Encr.AES_CBC, 256, 0, 5, 14), (CBC,))


def test_the_memo_gives_each_peer_its_own_spi_back() -> None:
    memo = SuiteMemo()
    policy = (esp("aes128gcm16"),)
    for proposals in ((esp("aes128gcm16"),), (esp("aes256gcm16"), esp("aes128gcm16"))):
        answers = []
        for spi in (b"abcd", b"wxyz"):
            body = build_sa(number_proposals(proposals, spi))
            choice = memo.child(body, "site", policy)
            assert choice is not None
            assert body[choice.spi_at : choice.spi_at + 4] == spi
            answers.append(choice)
        assert answers[0] is answers[1]
        answer = parse_sa(answers[0].before_spi + b"ours" + answers[0].after_spi)
        assert (answer[0].spi, answer[0].number) == (b"ours", len(proposals))


def test_the_memo_does_not_take_a_malformed_payload_for_a_sound_one() -> None:
    memo = SuiteMemo()
    body = build_sa(number_proposals((esp("aes128gcm16"),), b"abcd"))
    assert memo.child(body, "site", (esp("aes128gcm16"),)) is not None
    for broken in (body[:-1], body + b"\0", body[:8], b""):
        with pytest.raises(WireError):
            memo.child(broken, "site", (esp("aes128gcm16"),))


def test_the_memo_is_kept_by_policy() -> None:
    memo = SuiteMemo()
    body = build_sa(offer(GCM))
    assert memo.ike(body, 31, ("a",), (GCM,)) is not None
    assert memo.ike(body, 31, ("b",), (CBC,)) is None
    assert memo.ike(body, 31, ("b",), (CBC,)) is None
