"""The responder's handshake within one process: no sockets, no event loop, no log; what the IKE core itself costs."""

from __future__ import annotations

import gc
import multiprocessing
import os
import statistics
import time

from bench import clients
from bench.accounting import resident
from bench.figures import Context, Figure, Goal, Topic
from ipsecha.crypto.key_exchange import X25519_LENGTH, restore_key_exchange
from ipsecha.ipsec.sad import Sad
from ipsecha.model.effects import Effect
from ipsecha.model.numbers import Group

ROUNDS, ROUND = 16, 256
WARM = 2048
SAS, QUICK_SAS = 20_000, 3_000
MEMORY_GOAL = 2048


def _ignore(effects: list[Effect]) -> None:
    pass


def key_exchange_s(count: int) -> float:
    """CPU of what no responder can do without: a fresh X25519 key pair and one shared secret."""
    peer = restore_key_exchange(Group.CURVE25519, os.urandom(X25519_LENGTH)).public
    began = time.process_time()
    for _ in range(count):
        restore_key_exchange(Group.CURVE25519, os.urandom(X25519_LENGTH)).shared(peer)
    return (time.process_time() - began) / count


def cpu(context: Context) -> list[Figure]:
    """CPU per handshake.  Rounds of handshakes and of key exchanges take turns; medians."""
    responder = clients.new_responder()
    clients.handshakes(responder, ROUND, _ignore)
    init, auth, floor = list[float](), list[float](), list[float]()
    rounds = context.count(ROUNDS, 4)
    for number in range(1, rounds + 1):
        context.step(f"handshakes, round {number} of {rounds}")
        cost = clients.handshakes(responder, ROUND, _ignore, first=number * ROUND)
        init.append(1e6 * cost.init_s / ROUND)
        auth.append(1e6 * cost.auth_s / ROUND)
        floor.append(1e6 * key_exchange_s(ROUND))
    reference, value = "its two X25519 operations", statistics.median(floor)
    whole = [one + other for one, other in zip(init, auth, strict=True)]
    return [
        Figure("IKE_SA_INIT, responder", statistics.median(init), "us", reference, value),
        Figure("IKE_AUTH with a child SA, responder", statistics.median(auth), "us", reference, value),
        Figure("handshake, responder", statistics.median(whole), "us", reference, value),
    ]


class _NoEvents:
    """Stands in for the gateway, to which a plane without packets has nothing to say."""

    def __getattr__(self, name: str) -> None:
        raise AttributeError(name)


def memory_of_sas(count: int) -> tuple[float, float]:
    """Octets per IKE SA with one child SA: in the endpoint alone, and what the data plane adds.

    Every client has an address, an identity and selectors of its own, and has just finished its handshake.
    """
    responder = clients.new_responder()
    clients.handshakes(responder, WARM, _ignore)  # caches and memory for work in progress are there now
    gc.collect()
    before = resident()
    clients.handshakes(responder, count, _ignore, first=WARM)
    gc.collect()
    endpoint_alone = resident() - before
    sad = Sad(clients.responder_policy(), _NoEvents(), lambda local, remote: 1500)  # type: ignore[arg-type]
    sad.activate(1, False)
    before = resident()
    for sa in responder.sas.values():
        for child in sa.children:
            sad.install(sa, child)
    return endpoint_alone / count, (resident() - before) / (count + WARM)


def memory(context: Context) -> list[Figure]:
    """Memory per IKE SA with its child SA, in a process of its own."""
    count = context.count(SAS, QUICK_SAS)
    context.step(f"memory of {count} IKE SAs")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        endpoint, plane = pool.apply(memory_of_sas, (count,))
    text = f"resident memory, {count} clients with all things of their own"
    return [
        Figure("memory per IKE SA and child SA", endpoint, "B", goal=Goal(MEMORY_GOAL, "value"), note=text),
        Figure("the same with the data plane's tables", endpoint + plane, "B", note=text),
    ]


def run(context: Context) -> list[Figure]:
    return [*cpu(context), *memory(context)]


TOPIC = Topic("handshake", "handshakes within one process", run, lambda quick: (4 if quick else ROUNDS) + 1)
