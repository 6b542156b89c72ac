"""What policy routing is planned for a policy."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from esp_pair import child_policy, connection, selectors
from ipsecha.dataplane.userspace import routes
from ipsecha.dataplane.userspace.routes import PolicyRoutes, plan, prefixes
from ipsecha.model.errors import DataPlaneError
from ipsecha.model.policy import Action, Policy, Rule
from ipsecha.model.selectors import selector_from_prefix


def test_each_local_prefix_has_the_remotes_of_its_family() -> None:
    tables = plan(Policy((connection((child_policy(),)),)))
    assert tables == {"10.1.0.0/16": {"10.2.0.0/16": "unicast"}, "2001:db8:1::/48": {"2001:db8:2::/48": "unicast"}}


def test_a_wide_remote_of_one_local_prefix_is_not_anothers() -> None:
    children = (
        child_policy("one", local=("10.1.0.0/16",), remote=("10.2.0.0/16",)),
        child_policy("two", local=("10.3.0.0/16",), remote=("0.0.0.0/0",)),
    )
    tables = plan(Policy((connection(children),)))
    assert tables == {"10.1.0.0/16": {"10.2.0.0/16": "unicast"}, "10.3.0.0/16": {"0.0.0.0/0": "unicast"}}


def test_rules_become_routes_where_prefixes_say_all() -> None:
    web = selectors("10.2.9.0/24")[0]
    rules = (
        Rule(Action.BYPASS, selectors("10.0.0.0/8"), selectors("10.2.3.0/24")),
        Rule(Action.DISCARD, selectors("10.0.0.0/8"), selectors("10.2.3.0/24", "10.2.4.0/24")),
        Rule(Action.BYPASS, selectors("10.1.5.0/24"), selectors("10.2.5.0/24")),  # less than the local prefix
        Rule(Action.BYPASS, selectors("10.0.0.0/8"), (type(web)(web.start, web.end, 6, 80, 80),)),
    )
    tables = plan(Policy((connection((child_policy(local=("10.1.0.0/16",), remote=("10.2.0.0/16",)),)),), rules))
    assert tables == {"10.1.0.0/16": {"10.2.0.0/16": "unicast", "10.2.3.0/24": "throw", "10.2.4.0/24": "blackhole"}}


def test_ranges_become_prefixes() -> None:
    assert prefixes((selector_from_prefix("10.0.0.0-10.0.0.5"),)) == ["10.0.0.0/30", "10.0.0.4/31"]


class Kernel:
    """Rules and routes, instead of the netlink thread; ``check`` runs after each message, ``fail_at`` refuses one."""

    def __init__(self) -> None:
        self.rules: list[dict[str, Any]] = []
        self.routes: dict[int, set[str]] = {}
        self.check: Callable[[], None] = lambda: None
        self.fail_at = 0
        self.messages = 0

    def run(self, work: Callable[[Any], Any]) -> Any:
        return work(self)

    def _done(self) -> None:
        self.messages += 1
        self.check()
        if self.messages == self.fail_at:
            raise NetlinkError(errno.ENOBUFS)

    def rule(self, command: str, **rule: Any) -> None:
        if (rule in self.rules) is (command == "add"):
            raise NetlinkError(errno.EEXIST if command == "add" else errno.ENOENT)
        (self.rules.append if command == "add" else self.rules.remove)(rule)
        self._done()

    def route(self, command: str, dst: str, table: int, **more: object) -> None:
        self.routes.setdefault(table, set()).add(dst)
        self._done()

    def flush_routes(self, family: int, table: int) -> None:
        self.routes.pop(table, None)
        self._done()

    def close(self) -> None:
        pass

    def lets_out(self, source: str, destination: str) -> bool:
        """Whether a packet between these prefixes would leave in clear."""
        sides = {"src": source.split("/")[0], "dst": destination.split("/")[0]}
        for rule in sorted(self.rules, key=lambda rule: rule["priority"]):
            if any(rule.get(side, address) != address for side, address in sides.items()) or "fwmark" in rule:
                continue
            if rule["action"] == "blackhole" or destination in self.routes.get(rule.get("table", 0), ()):
                return False
        return True


def _policy(local: str, remote: str) -> Policy:
    """Two child SAs, of which the second stays whatever the first is."""
    kept = child_policy("kept", local=("10.9.0.0/16",), remote=("10.2.0.0/16",))
    return Policy((connection((child_policy(local=(local,), remote=(remote,)), kept)),))


BEFORE, AFTER = _policy("10.1.0.0/16", "10.2.0.0/16"), _policy("10.3.0.0/16", "10.4.0.0/16")


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(routes, "NetlinkThread", lambda: made)
    return made


@pytest.fixture
def owner(kernel: Kernel) -> PolicyRoutes:
    made = PolicyRoutes("ipsecha0", 7)
    made.configure(BEFORE)
    made.activate()
    return made


def test_a_reload_lets_nothing_out_in_clear(kernel: Kernel, owner: PolicyRoutes) -> None:
    """RFC 4301 section 5.1: at no moment does the main table see what a protect entry selects."""
    seen: list[bool] = []
    kernel.check = lambda: seen.append(kernel.lets_out("10.9.0.0/16", "10.2.0.0/16"))
    owner.configure(AFTER)
    assert len(seen) > 10
    assert not any(seen)
    assert not kernel.lets_out("10.3.0.0/16", "10.4.0.0/16")
    assert kernel.lets_out("10.1.0.0/16", "10.2.0.0/16")
    assert not [rule for rule in kernel.rules if rule["priority"] == routes.PRIORITY + 1]
    owner.close()
    assert kernel.rules == []
    assert kernel.routes == {}


def test_a_reload_that_fails_is_no_leak_and_the_next_one_heals_it(kernel: Kernel, owner: PolicyRoutes) -> None:
    rules = sorted(map(str, kernel.rules))
    for step in range(1, 40):
        kernel.messages, kernel.fail_at = 0, step
        kernel.check = lambda: None
        try:
            owner.configure(AFTER)
        except DataPlaneError:
            assert not kernel.lets_out("10.9.0.0/16", "10.2.0.0/16")
        kernel.fail_at = 0
        owner.configure(BEFORE)
        owner.activate()
        assert sorted(map(str, kernel.rules)) == rules


def test_taking_over_is_tried_again_where_it_failed_half_way(kernel: Kernel, owner: PolicyRoutes) -> None:
    rules = sorted(map(str, kernel.rules))
    owner.deactivate()
    kernel.messages, kernel.fail_at = 0, 2
    with pytest.raises(DataPlaneError):
        owner.activate()
    owner.activate()
    assert sorted(map(str, kernel.rules)) == rules
