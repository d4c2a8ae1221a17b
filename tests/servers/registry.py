"""A registry on 127.0.0.1 that speaks the reading half of the distribution protocol: manifests, HEAD, tokens, redirects."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def encode(document: object) -> bytes:
    return json.dumps(document, indent=1).encode()


class Image:
    """Bytes of an image as a registry and dockerd have them: configuration, manifest, layers' hashes."""

    def __init__(self, *layers: str, architecture: str = "amd64", command: str = "sh") -> None:
        self.layers = [digest_of(layer.encode()) for layer in layers]
        self.architecture = architecture
        self.config = encode(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {"Cmd": [command]},
                "rootfs": {"type": "layers", "diff_ids": self.layers},
            }
        )
        self.id = digest_of(self.config)
        layers_field = [{"mediaType": "application/x-tar", "digest": each, "size": 1} for each in self.layers]
        config_field = {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": self.id,
            "size": len(self.config),
        }
        self.manifest = encode({"schemaVersion": 2, "mediaType": MANIFEST, "config": config_field, "layers": layers_field})
        self.digest = digest_of(self.manifest)


def index_of(*images: Image, attestation: bool = False) -> bytes:
    listed = [
        {
            "mediaType": MANIFEST,
            "digest": image.digest,
            "size": len(image.manifest),
            "platform": {"os": "linux", "architecture": image.architecture},
        }
        for image in images
    ]
    if attestation:
        listed.append(
            {
                "mediaType": MANIFEST,
                "digest": digest_of(b"attestation"),
                "size": 1,
                "platform": {"os": "unknown", "architecture": "unknown"},
            }
        )
    return encode({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed})


class Registry:
    """The server. Fields may be changed while it runs.

    `login`: None, "token" (anonymous tokens), ("token", user, password) or ("basic", user, password).
    `broken`: status with which every request is answered.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.requests: list[str] = []
        self.login: object = None
        self.broken = 0
        self.digest_field = True
        self.head = True
        self.redirects: dict[str, str] = {}
        self.seen: list[tuple[str, str | None]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def push(self, repository: str, tag: str, image: Image) -> str:
        self.manifests[repository, image.digest] = image.manifest
        self.manifests[repository, tag] = image.manifest
        return image.digest

    def push_index(self, repository: str, tag: str, *images: Image, attestation: bool = False) -> str:
        data = index_of(*images, attestation=attestation)
        for image in images:
            self.manifests[repository, image.digest] = image.manifest
        self.manifests[repository, digest_of(data)] = self.manifests[repository, tag] = data
        return digest_of(data)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", **fields: str) -> None:
            self.send_response(status)
            for name, value in fields.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self) -> None:
            registry.requests.append(f"{self.command} {self.path}")
            registry.seen.append((self.path, self.headers.get("Authorization")))
            path = urlsplit(self.path).path
            if registry.broken:
                self.answer(registry.broken)
            elif path == "/token":
                self.give_token()
            elif not self.may_read():
                self.demand()
            elif path in registry.redirects:
                self.answer(307, Location=registry.redirects[path])
            elif self.command == "HEAD" and not registry.head:
                self.answer(405)
            else:
                self.manifest(path)

        do_HEAD = do_GET

        def manifest(self, path: str) -> None:
            repository, _, reference = path.removeprefix("/v2/").partition("/manifests/")
            data = registry.manifests.get((repository, reference))
            if data is None:
                error = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
                self.answer(404, encode(error))
                return
            fields = {"Content_Type": json.loads(data).get("mediaType", MANIFEST)}
            if registry.digest_field:
                fields["Docker_Content_Digest"] = digest_of(data)
            self.answer(200, data, **fields)

        def may_read(self) -> bool:
            given = self.headers.get("Authorization", "")
            match registry.login:
                case None:
                    return True
                case ("basic", str(user), str(password)):
                    return given == _basic(user, password)
            return given == "Bearer good"

        def demand(self) -> None:
            if isinstance(registry.login, tuple) and registry.login[0] == "basic":
                self.answer(401, WWW_Authenticate='Basic realm="registry"')
                return
            realm = f"http://{registry.host}/token"
            self.answer(401, WWW_Authenticate=f'Bearer realm="{realm}",service="test",scope="repository:x:pull,push"')

        def give_token(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            if query.get("service") != ["test"] or not query["scope"][0].endswith(":pull"):
                self.answer(400)
            elif isinstance(registry.login, tuple) and self.headers.get("Authorization") != _basic(*registry.login[1:]):
                self.answer(401)
            else:
                self.answer(200, encode({"token": "good", "expires_in": 300}))

    return Handler


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
