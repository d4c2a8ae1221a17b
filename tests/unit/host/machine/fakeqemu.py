"""A stand-in for QEMU with a guest in it, as far as a life cycle sees them: channels, monitor, console, forwarded Docker port.

FAKE_QEMU says how it behaves by accelerator, such as `kvm=silent,tcg=ok`; a file `behaviour` beside the kernel says it of that image.
"""

import base64
import itertools
import json
import os
import re
import socket
import ssl
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

ARGS = sys.argv[1:]
VALUES = [text for option, text in itertools.pairwise(ARGS) if option in ("-chardev", "-smbios", "-netdev", "-accel", "-pidfile")]
ACCELERATOR = ARGS[ARGS.index("-accel") + 1].partition(",")[0]
MODE = dict(word.split("=") for word in os.environ["FAKE_QEMU"].split(","))[ACCELERATOR]
OWN = Path(ARGS[ARGS.index("-kernel") + 1]).with_name("behaviour")
MODE = OWN.read_text() if OWN.exists() else MODE
CONSOLE = Path(re.search(r"file,id=console,path=([^,]+)", "\n".join(VALUES))[1])
RUNNING = threading.Event()
HISTORY: list[bytes] = []


def chardev(name: str) -> socket.socket:
    return socket.socket(fileno=int(re.search(rf"socket,id={name},fd=(\d+)", "\n".join(VALUES))[1]))


def console(line: str) -> None:
    with CONSOLE.open("a") as sink:
        sink.write(f"{line}\r\n")


def monitor(server: socket.socket) -> None:
    while True:
        connection, _ = server.accept()
        with connection:
            send = lambda value: connection.sendall(json.dumps(value).encode() + b"\r\n")  # noqa: E731, B023
            send({"QMP": {"version": {"qemu": {"major": 9, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}})
            while data := connection.recv(10_000):
                request = json.loads(data)
                command = request["execute"]
                status = {"status": "running" if RUNNING.is_set() else "prelaunch"} if command == "query-status" else {}
                send({"return": status, **({"id": request["id"]} if "id" in request else {})})
                if command == "cont":
                    RUNNING.set()
                if command == "quit" or (command == "system_powerdown" and MODE != "deaf"):
                    time.sleep(1 if MODE == "busy" else 0)
                    os._exit(0)


def docker(port: int, files: dict[str, bytes]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=files["tls-ca"].decode())
    with tempfile.NamedTemporaryFile() as both:
        both.write(files["tls-cert"] + files["tls-key"])
        both.flush()
        context.load_cert_chain(both.name)
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=docker_request, args=(context, connection)).start()


def docker_request(context: ssl.SSLContext, connection: socket.socket) -> None:
    try:
        with context.wrap_socket(connection, server_side=True) as tls:
            path = tls.recv(10_000).split(b" ")[1]
            head = b"HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nConnection: close\r\n"
            if b"/events" in path:
                tls.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
                tls.recv(1)
            else:
                body = b"[]" if b"/containers/json" in path else b"OK"
                tls.sendall(head + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n" + body)
    except OSError:
        return


def keep(server: socket.socket) -> None:
    while True:
        connection, _ = server.accept()
        connection.recv(1)


def event(kind: str, **fields: object) -> bytes:
    return json.dumps({"event": kind, "uptime": 1.0, **fields}).encode() + b"\n"


def guest(server: socket.socket) -> None:
    connection, _ = server.accept()
    RUNNING.wait()
    console(f"booted with {ACCELERATOR}")
    if MODE == "silent":
        time.sleep(60)
    if MODE == "panic":
        console("Kernel panic - not syncing: no init")
        os._exit(0)
    if MODE == "exit":
        print("qemu: internal error", file=sys.stderr, flush=True)
        os._exit(1)
    HISTORY.append(event("heartbeat", kernel="7.3.4"))
    connection.sendall(HISTORY[0])
    if MODE == "hang":
        time.sleep(60)
    if MODE == "failed":
        connection.sendall(event("failed", unit="docker.service", journal=["no disk"]))
        time.sleep(60)
    HISTORY.append(event("docker"))
    connection.sendall(HISTORY[1])
    while True:
        # who has read what it wanted leaves the rest unread
        with suppress(ConnectionError):
            connection.recv(1)
        connection.close()
        connection, _ = server.accept()
        if MODE not in ("stubborn", "deaf", "busy"):
            connection.sendall(b"".join(HISTORY))
            command = connection.recv(200)
            if b"poweroff" in command:
                os._exit(0)
            if b'"grow"' in command:
                asked = json.loads(command)
                connection.sendall(event("grown", id=asked["id"], bytes=asked["bytes"] - 2**20))


def main() -> None:
    Path(ARGS[ARGS.index("-pidfile") + 1]).write_text(f"{os.getpid()}\n")
    if MODE == "port":
        sys.exit("qemu: -netdev user: Could not set up host forwarding rule 'tcp:127.0.0.1:1-:1'")
    strings = [Path(text.removeprefix("type=11,path=")).read_text() for text in VALUES if text.startswith("type=11")]
    credentials = dict(
        re.fullmatch(r"io\.systemd\.credential\.binary:cofferdam\.([a-z-]+)=(.*)", text).groups() for text in strings
    )
    files = {name: base64.b64decode(text) for name, text in credentials.items()}
    port = int(re.search(r"hostfwd=tcp:127\.0\.0\.1:(\d+)-10\.0\.2\.15:2376", "\n".join(VALUES))[1])
    channels = ((monitor, "qmp"), (monitor, "keeper-qmp"), (keep, "ports"), (guest, "ready"))
    for target, arguments in (*((each, (chardev(name),)) for each, name in channels), (docker, (port, files))):
        threading.Thread(target=target, args=arguments).start()


main()
