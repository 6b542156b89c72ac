"""The digest that members compare: what counts and what does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from config_texts import GOOD as POLICY
from ipsecha.gateway.config import load_member
from ipsecha.gateway.policy_digest import digest_of

SECRET = "a secret of more than sixteen octets"
Digest = Callable[..., bytes]


@pytest.fixture
def digest(tmp_path: Path) -> Digest:
    def read(policy: str = POLICY, psk: str = SECRET) -> bytes:
        secret = tmp_path / "paris.psk"
        secret.touch(mode=0o600)
        secret.write_text(psk)
        (tmp_path / "policy.toml").write_text(policy)
        (tmp_path / "member.toml").write_text('name = "alpha"\npolicy = "policy.toml"\n')
        return digest_of(load_member(tmp_path / "member.toml"))

    return read


def test_comments_and_order_do_not_count(digest: Digest) -> None:
    local, remote = 'local = "192.0.2.10"', 'remote = "203.0.113.7"'
    turned = POLICY.replace(f"{local}\n{remote}", f"{remote}\n{local}")
    assert turned != POLICY
    assert digest() == digest("# a comment\n" + turned)


@pytest.mark.parametrize(
    "changed",
    [
        POLICY.replace("203.0.113.7", "203.0.113.8"),
        POLICY.replace("10.2.0.0/16", "10.3.0.0/16"),
        POLICY.replace('psk_file = "paris.psk"', 'psk_file = "paris.psk"\ndpd = "20s"'),
        POLICY + 'start = "start"\n',
    ],
)
def test_each_setting_counts(digest: Digest, changed: str) -> None:
    assert digest(changed) != digest()


def test_secrets_count_and_do_not_show(digest: Digest) -> None:
    one, other = digest(), digest(psk=SECRET + "s")
    assert one != other
    assert len(one) == 16
    assert b"secret" not in one
