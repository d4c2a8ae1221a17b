"""The question to the desktop, over a terminal pair in the place of a virtio port, and to the desktop's own code."""

from __future__ import annotations

import asyncio
import json
import os
import tty
from collections.abc import Callable

import pytest

from cofferdam_guest.apiproxy.publish import DesktopPorts

PORTS = [("tcp", 8080), ("udp", 53)]
NO = {"ok": False, "address": "127.0.0.1:8080", "reason": "port 8080/tcp of the desktop is in use by another program"}


class Desktop:
    """The other end: `answers` makes the lines for a question."""

    def __init__(self, answers: Callable[[dict], list[object]]) -> None:
        self.answers, self.questions = answers, []
        self.end, guest = os.openpty()
        self.path = os.ttyname(guest)
        tty.setraw(guest)
        self._guest = guest

    def serve(self) -> None:
        question = json.loads(os.read(self.end, 65536))
        self.questions.append(question)
        for answer in self.answers(question):
            os.write(self.end, (answer if isinstance(answer, bytes) else json.dumps(answer).encode()) + b"\n")

    def close(self) -> None:
        for handle in {self.end, self._guest} - {-1}:
            os.close(handle)


@pytest.fixture
def desktop():
    made = []

    def make(answers):
        made.append(Desktop(answers))
        return made[-1]

    yield make
    for each in made:
        each.close()


def ask(desktop: Desktop, *groups: list, seconds: float = 30.0) -> list[str]:
    async def run() -> list[str]:
        asyncio.get_running_loop().add_reader(desktop.end, desktop.serve)
        ports = DesktopPorts(lambda: desktop.path, seconds)
        try:
            return await asyncio.gather(*(ports.refusal("id", group) for group in groups))
        finally:
            ports._close()

    return asyncio.run(run())


def test_a_yes_and_a_no(desktop):
    answering = desktop(lambda question: [{"id": question["id"], **({"ok": True} if question["id"] == 1 else NO)}])
    assert ask(answering, PORTS, PORTS) == [
        "",
        "Bind for 127.0.0.1:8080 failed: port 8080/tcp of the desktop is in use by another program",
    ]
    assert answering.questions[0] == {"id": 1, "op": "reserve", "container": "id", "ports": [["tcp", 8080], ["udp", 53]]}


def test_an_answer_to_an_older_question_and_rubbish_are_passed_over(desktop):
    answering = desktop(lambda question: [b"{", b"[]", {"id": 0, "ok": True}, {"id": question["id"], **NO}])
    (text,) = ask(answering, PORTS)
    assert text.startswith("Bind for")


def test_questions_go_one_after_the_other(desktop):
    answering = desktop(lambda question: [{"id": question["id"], "ok": True}])
    assert ask(answering, *[PORTS] * 20) == [""] * 20
    assert [question["id"] for question in answering.questions] == list(range(1, 21))


def test_silence_lets_the_container_start(desktop):
    silent = desktop(lambda question: [])
    assert ask(silent, PORTS, seconds=0.3) == [""]
    assert len(silent.questions) == 1


def test_one_that_waits_too_long_for_its_turn_does_not_break_the_question_before(desktop):
    answers = {"first": [], "second": [NO]}
    slow = desktop(lambda question: [{"id": question["id"], **each} for each in answers[question["container"]]])

    async def run() -> tuple[str, str, str]:
        asyncio.get_running_loop().add_reader(slow.end, slow.serve)
        ports = DesktopPorts(lambda: slow.path, 30.0)
        first = asyncio.create_task(ports.refusal("first", PORTS))
        while not slow.questions:
            await asyncio.sleep(0)
        ports._seconds = 0.05
        waiting = await ports.refusal("second", PORTS)
        os.write(slow.end, json.dumps({"id": 1, **NO}).encode() + b"\n")
        ports._seconds = 30.0
        return waiting, await first, await ports.refusal("second", PORTS)

    waiting, first, second = asyncio.run(run())
    assert waiting == ""
    assert first.startswith("Bind for") and second.startswith("Bind for")


def test_no_device_lets_the_container_start():
    assert asyncio.run(DesktopPorts(lambda: None).refusal("id", PORTS)) == ""
    assert asyncio.run(DesktopPorts(lambda: "/nowhere/vport0p2").refusal("id", PORTS)) == ""


def test_nobody_at_the_other_end_lets_the_container_start(tmp_path):
    # reads nothing at its end, as a virtio port without a host does
    empty = tmp_path / "port"
    empty.touch()
    ports = DesktopPorts(lambda: str(empty))
    assert asyncio.run(ports.refusal("id", PORTS)) == ""
    assert json.loads(empty.read_bytes())["op"] == "reserve"
    ports._close()


def test_without_ports_nothing_is_asked(desktop):
    answering = desktop(lambda question: [{"id": question["id"], **NO}])
    assert ask(answering, [], [("tcp", 1)] * 2000) == ["", ""]
    assert answering.questions == []
