"""What containers want and reserve, against the forwards of a real QEMU."""

from __future__ import annotations

import asyncio
import socket

from cofferdam.machine.channels import free_port
from cofferdam.machine.ports.forwards import Forwards
from cofferdam.machine.ports.ledger import RESERVED_SECONDS, Ledger
from cofferdam.machine.ports.wanted import Holder, Port
from cofferdam.machine.qmp import connected


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def ports(count: int) -> list[Port]:
    found: list[int] = []
    while len(found) < count:
        found.append(free_port(taken=found))
    return [Port("tcp", number) for number in found]


def of(name: str, *held: Port) -> dict[Port, Holder]:
    return {port: Holder(f"id-of-{name}", name) for port in held}


def with_ledger(qemu, work):
    async def run():
        client = await connected(qemu.keeper)
        forwards, clock = Forwards(client, "127.0.0.1", {qemu.door}), Clock()
        try:
            await work(Ledger(forwards, clock), forwards, clock)
        finally:
            await client.disconnect()

    asyncio.run(run())


def test_forwards_follow_what_is_wanted(qemu):
    a, b, c = ports(3)

    async def work(ledger, forwards, _):
        await ledger.reconcile(of("web", a, b))
        assert await forwards.present() == {a, b}
        await ledger.reconcile(of("web", b, c))
        assert await forwards.present() == {b, c}
        await ledger.reconcile({})
        assert await forwards.present() == set()
        assert ledger.settled

    with_ledger(qemu, work)


def test_what_the_keeper_before_left_is_taken_over(qemu):
    a, b = ports(2)

    async def work(ledger, forwards, _):
        assert [await forwards.open(port) for port in (a, b)] == ["", ""]
        await ledger.reconcile(of("web", a))
        assert await forwards.present() == {a}
        assert ledger.refused == {}

    with_ledger(qemu, work)


def test_a_refused_port_does_not_hinder_others_and_is_tried_again(qemu):
    a, b = ports(2)

    async def work(ledger, forwards, _):
        with socket.create_server(("127.0.0.1", a.number)):
            await ledger.reconcile(of("web", a, b))
            assert await forwards.present() == {b}
            assert "in use by another program" in ledger.refused[a]
            assert not ledger.settled
        await ledger.reconcile(of("web", a, b))
        assert await forwards.present() == {a, b}
        assert ledger.settled

    with_ledger(qemu, work)


def test_a_door_stays_even_when_a_container_wants_it(qemu):
    async def work(ledger, forwards, _):
        door = Port("tcp", qemu.door)
        await ledger.reconcile(of("web", door))
        assert "door of this instance" in ledger.refused[door]
        await ledger.reconcile({})
        assert f"tcp:127.0.0.1:{qemu.door}" in await asyncio.to_thread(qemu.forwards)

    with_ledger(qemu, work)


def test_all_ports_are_reserved_or_none(qemu):
    a, b, c = ports(3)

    async def work(ledger, forwards, _):
        with socket.create_server(("127.0.0.1", b.number)):
            refusal = await ledger.reserve("id-of-web", [a, b, c])
            assert (refusal.port, await forwards.present()) == (b, set())
        assert await ledger.reserve("id-of-web", [a, b, c]) is None
        assert await forwards.present() == {a, b, c}

    with_ledger(qemu, work)


def test_a_refusal_closes_nothing_that_was_open_before(qemu):
    a, b = ports(2)

    async def work(ledger, forwards, _):
        await ledger.reconcile(of("web", a))
        with socket.create_server(("127.0.0.1", b.number)):
            assert await ledger.reserve("id-of-web", [a, b])
        assert await forwards.present() == {a}

    with_ledger(qemu, work)


def test_a_reservation_lasts_until_its_time_is_over(qemu):
    (a,) = ports(1)

    async def work(ledger, forwards, clock):
        await ledger.reserve("id-of-web", [a])
        assert not ledger.settled
        clock.now = RESERVED_SECONDS - 1
        await ledger.reconcile({})
        assert await forwards.present() == {a}
        clock.now = RESERVED_SECONDS
        await ledger.reconcile({})
        assert await forwards.present() == set()
        assert ledger.settled

    with_ledger(qemu, work)


def test_a_reservation_ends_when_its_container_runs(qemu):
    (a,) = ports(1)

    async def work(ledger, forwards, _):
        await ledger.reserve("id-of-web", [a])
        await ledger.reconcile(of("other", a))
        assert not ledger.settled, "another container's port is not the one that was reserved"
        await ledger.reconcile(of("web", a))
        assert ledger.settled
        await ledger.reconcile({})
        assert await forwards.present() == set()

    with_ledger(qemu, work)
