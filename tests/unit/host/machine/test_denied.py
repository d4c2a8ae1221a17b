"""What the guest refused, on the host: a bounded, private file, and nothing that the guest says breaks it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from contextlib import suppress

import pytest
import tasks
from invoke import Context

from cofferdam import dayverbs
from cofferdam.errors import InstanceError
from cofferdam.machine import denied as denials
from cofferdam.machine import launch
from cofferdam.machine.channels import Address, free_port
from cofferdam.machine.credentials import ensure_credentials
from cofferdam.machine.denied import MOST_BYTES, MOST_LINES, Denied, Log, follow, keep, parse, read, receive
from cofferdam.machine.hostos import wait_until
from cofferdam.machine.ports.start import ensure_keeper

TIME = 1_764_164_123.25
PATIENCE = 60.0


def refusal(rule: str = "device", **values: object) -> Denied:
    return Denied.model_validate({"time": TIME, "rule": rule, "reason": "device /dev/vda of the VM can't be used", **values})


def said(rule: str, **values: object) -> bytes:
    return json.dumps({"time": TIME, "rule": rule, "reason": "no", **values}).encode() + b"\n"


def test_the_file_is_private_and_numbered_and_survives_its_writer(instance):
    for rule in ("a", "b"):
        Log(instance.denied).add(refusal(rule))
    assert instance.denied.stat().st_mode & 0o777 == 0o600
    assert [(each.rule, each.number) for each in read(instance.denied)] == [("a", 1), ("b", 2)]


@pytest.mark.parametrize("reason", ["short", "x" * 990])
def test_the_file_is_bounded_and_the_latest_stay(instance, reason):
    log = Log(instance.denied)
    for number in range(MOST_LINES + 400):
        log.add(refusal(f"r{number}", reason=reason, request="y" * 600, image="z" * 600))
        assert instance.denied.stat().st_size <= MOST_BYTES
    found = read(instance.denied)
    assert 300 < len(found) <= MOST_LINES
    assert [each.number for each in found] == list(range(found[0].number, MOST_LINES + 401))
    assert instance.denied.stat().st_mode & 0o777 == 0o600


def test_a_half_line_does_not_take_the_next_one_with_it(instance):
    Log(instance.denied).add(refusal("whole"))
    with instance.denied.open("ab") as sink:
        sink.write(b'{"time": 1, "ru')
    Log(instance.denied).add(refusal("next"))
    assert [(each.rule, each.number) for each in read(instance.denied)] == [("whole", 1), ("next", 2)]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        said("x", time=-1),
        said("x", time=1e300),
        b'{"time": NaN, "rule": "x", "reason": ""}',
        said(""),
        said("x", reason="y" * 1001),
        said("x", reason=["y"]),
        said("x", door={"a": 1}),
        b"[" * 30_000,
    ],
)
def test_what_is_no_refusal_is_none(line):
    assert parse(line.rstrip()) is None


def test_no_word_of_the_guest_reaches_a_terminal_as_it_is():
    found = parse(said("x\x1b[2J", reason="a\x1b]0;title\x07\nb\tc\x9b", image="i\r\n", container="0123456789abcdef").rstrip())
    assert found.line() == "2025-11-26T13:35:23Z  x  i (0123456789ab)  a]0;title b c"
    assert found.line().isprintable()


@pytest.fixture
def guest(instance, record):
    """The other end of the channel, as QEMU listens there."""
    record.denied_port = str(instance.socket("denied"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(record.denied_port)
        server.listen(1)
        server.settimeout(PATIENCE)
        yield server


def test_lines_are_written_down_until_the_channel_ends(instance, record, guest):
    def speak() -> None:
        connection, _ = guest.accept()
        with connection:
            connection.sendall(said("one") + b"rubbish\n" + said("two")[:10])
            connection.sendall(said("two")[10:] + b"x" * 200_000 + b"\n" + said("three", number=7))

    speaker = threading.Thread(target=speak)
    speaker.start()
    asyncio.run(receive(Address.from_text(record.denied_port), Log(instance.denied)))
    speaker.join()
    assert [(each.rule, each.number) for each in read(instance.denied)] == [("one", 1), ("two", 2), ("three", 3)]


def test_the_keeper_goes_on_when_the_channel_breaks(instance, record, guest, monkeypatch):
    monkeypatch.setattr(denials, "_RETRY_SECONDS", 0.1)

    async def work() -> None:
        task = asyncio.create_task(keep(instance, record))
        for rule in ("first", "second"):
            connection, _ = await asyncio.to_thread(guest.accept)
            with connection:
                connection.sendall(said(rule))
            assert await asyncio.to_thread(
                wait_until, lambda rule=rule: rule in [e.rule for e in read(instance.denied)], PATIENCE
            )
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(work())


def test_the_keeper_of_a_running_instance_writes_them_down(instance, record, qemu, guest):
    ensure_credentials(instance.credentials, instance.name)
    record.ready, record.pid, record.docker_port = True, qemu.process.pid, free_port()
    record.qmp, record.keeper_qmp, record.desktop_ports = (str(instance.socket(kind)) for kind in ("qmp", "keeper", "ports"))
    instance.write_record(record)
    assert ensure_keeper(instance) == []
    connection, _ = guest.accept()
    with connection:
        connection.sendall(said("device"))
        assert wait_until(lambda: [each.rule for each in read(instance.denied)] == ["device"], PATIENCE)
    qemu.end()
    assert wait_until(lambda: launch.reap() == 0, PATIENCE), "the keeper outlives QEMU"


def test_a_machine_of_an_older_image_has_no_channel(instance, record, monkeypatch):
    monkeypatch.setattr(denials, "_RETRY_SECONDS", 0.01)

    async def work() -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(keep(instance, record), 0.1)

    asyncio.run(work())
    assert not instance.denied.exists()


def test_followers_hear_each_once_although_the_file_is_cut(instance, hold):
    holder = hold(instance.life.path)
    log, heard = Log(instance.denied), []
    log.add(refusal())

    def listen() -> None:
        heard.extend(each.number for each in follow(instance))

    listener = threading.Thread(target=listen)
    listener.start()
    for _ in range(MOST_LINES + 300):
        log.add(refusal())
        # not faster than somebody who reads the last thousand of them
        assert wait_until(lambda: log._number - max(heard, default=0) < MOST_LINES / 2 or not heard, PATIENCE)
    holder.kill()
    holder.wait(10)
    listener.join(PATIENCE)
    assert not listener.is_alive(), "it ends with the instance"
    assert heard == sorted(set(heard)) and heard[-1] == MOST_LINES + 301
    assert len(heard) > MOST_LINES / 2


def test_the_verb_shows_them(instance, capsys):
    tasks.denied(Context(), name="box")
    assert "nothing was refused so far" in capsys.readouterr().out
    Log(instance.denied).add(refusal(request="POST /containers/create"))
    tasks.denied(Context(), name="box")
    assert capsys.readouterr().out == (
        "2025-11-26T13:35:23Z  device  POST /containers/create  device /dev/vda of the VM can't be used\n"
    )
    dayverbs.denied("box", as_json=True)
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["rule"], row["time"], row["number"], row["door"]) == ("device", TIME, 1, "")
    dayverbs.denied("box", follow=True, as_json=True)
    assert json.loads(capsys.readouterr().out) == row
    with pytest.raises(InstanceError, match="there is no instance `other`"):
        dayverbs.denied("other")
