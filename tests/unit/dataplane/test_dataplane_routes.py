"""What policy routing is planned for a policy."""

from __future__ import annotations

from esp_pair import child_policy, connection, selectors
from ipsecha.dataplane.userspace.routes import plan, prefixes
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
