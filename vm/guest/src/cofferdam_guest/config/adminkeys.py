"""Every key of `admin-settings.json`: its type, whether it does something here, and what.

One table: the parser, the JSON Schema and the reference in docs/policy.md come from it. The keys are those of Docker Desktop's
Settings Management, and one section of our own, `cofferdam`.
"""

from __future__ import annotations

from dataclasses import dataclass

APPLIED = "applied"
ALWAYS = "always so"
UNENFORCED = "not enforced"
DESKTOP = "not applicable"

BOOLEAN, INTEGER, TEXT, TEXTS, FOLDERS = "boolean", "integer", "text", "list of texts", "list of folders"


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Attributes:
        path: its place, dotted.
        kind: BOOLEAN, INTEGER, TEXT, TEXTS, or FOLDERS (objects with `path` and `sharedByDefault`).
        status: APPLIED here; ALWAYS: the same whatever it says; UNENFORCED: it would restrict something and does not;
            DESKTOP: about Docker Desktop's own program.
        note: what it does here, or why nothing.
        choices: the only texts there may be.
    """

    path: str
    kind: str
    status: str
    note: str
    choices: tuple[str, ...] = ()


_LOCKED = "true: this setting of the image cannot be changed by a file handed over at boot"
_GUI = "the desktop program's own"
_EXTENSION = "there are no extensions"
_MODEL = "there is no model runner"
_CLOUD = "there is no such service"
_MAC = "about how macOS runs Docker Desktop's VM"


def _setting(path: str, kind: str, status: str, note: str, choices: tuple[str, ...] = ()) -> tuple[Key, Key]:
    """The two keys of Docker's `{"locked": …, "value": …}`."""
    locked = Key(f"{path}.locked", BOOLEAN, status, _LOCKED if status == APPLIED else note)
    return locked, Key(f"{path}.value", kind, status, note, choices)


def _group(path: str, status: str, members: dict[str, tuple[str, str]], choices: dict[str, tuple[str, ...]]) -> tuple[Key, ...]:
    """The keys of a group whose `locked` stands beside its members."""
    locked = Key(f"{path}.locked", BOOLEAN, status, _LOCKED if status == APPLIED else _GUI)
    rest = (Key(f"{path}.{name}", kind, status, note, choices.get(name, ())) for name, (kind, note) in members.items())
    return locked, *rest


def _proxy(path: str, whose: str) -> tuple[Key, ...]:
    members = {
        "mode": (TEXT, f"`manual`: {whose}; `system`, and none: the desktop's, as `inv boot` hands it over"),
        "http": (TEXT, "address for plain connections, `http://HOST:PORT`; with `https` empty as well, nothing may be pulled"),
        "https": (TEXT, "address for TLS connections, `http://HOST:PORT`"),
        "exclude": (TEXTS, "hosts, domains and networks that are reached without the proxy"),
        "pac": (TEXT, "PAC scripts are not evaluated: with one, nothing may be pulled until it is replaced by addresses"),
        "embeddedPac": (TEXT, "as `pac`"),
    }
    return _group(path, APPLIED, members, {"mode": ("system", "manual")})


_ISOLATION = "enhancedContainerIsolation"
_SOCKET = f"{_ISOLATION}.dockerSocketMount"
_MOUNTS, _REGISTRIES = "cofferdam.restrictedMounts", "cofferdam.registries"

KEYS: tuple[Key, ...] = (
    Key("configurationFileVersion", INTEGER, ALWAYS, "1 and 2 are read alike; may be left out"),
    Key(f"{_ISOLATION}.locked", BOOLEAN, APPLIED, f"{_LOCKED}; covers `dockerSocketMount`"),
    Key(f"{_ISOLATION}.value", BOOLEAN, ALWAYS, "isolation is part of the image and on; `false` is reported and changes nothing"),
    Key(
        f"{_SOCKET}.imageList.images",
        TEXTS,
        APPLIED,
        "may mount the Docker socket: `NAME:TAG`, `NAME:*`, `NAME@DIGEST`, `*`",
    ),
    Key(f"{_SOCKET}.imageList.allowDerivedImages", BOOLEAN, APPLIED, "local images built from these may, too; default `false`"),
    Key(
        f"{_SOCKET}.commandList.type",
        TEXT,
        APPLIED,
        "`deny` (default): all but these; `allow`: only these",
        ("deny", "allow"),
    ),
    Key(f"{_SOCKET}.commandList.commands", TEXTS, APPLIED, "commands as `docker --help` names them, and six group wildcards"),
    *_setting("linuxVM.dockerDaemonOptions", TEXT, APPLIED, "a daemon.json as one text, less what isolation overrides"),
    *_setting("linuxVM.wslEngineEnabled", BOOLEAN, DESKTOP, "about Docker Desktop's engine on Windows"),
    *_setting("linuxVM.vpnkitCIDR", TEXT, DESKTOP, "the VM's own network is fixed"),
    *_setting("windowsContainers.dockerDaemonOptions", TEXT, DESKTOP, "there are no Windows containers"),
    *_proxy("containersProxy", "the engine's pulls, pushes and builds go through these addresses"),
    Key("containersProxy.transparentPorts", TEXT, UNENFORCED, "connections that containers make themselves are not redirected"),
    *_proxy("proxy", "used for the engine when `containersProxy` is not given"),
    Key("proxy.windowsDockerdPort", INTEGER, DESKTOP, "there are no Windows containers"),
    Key(
        "proxy.enableKerberosNtlm",
        BOOLEAN,
        DESKTOP,
        "the engine knows basic authentication only: `http://USER:PASSWORD@HOST`",
    ),
    Key(
        "filesharingAllowedDirectories",
        FOLDERS,
        APPLIED,
        "the only directories of the desktop to share (`sharedByDefault`: without being asked); always locked",
    ),
    *_setting("blockDockerLoad", BOOLEAN, APPLIED, "`true`: `docker load` is refused"),
    Key(f"{_MOUNTS}.locked", BOOLEAN, APPLIED, _LOCKED),
    Key(f"{_MOUNTS}.allowReadOnly", TEXTS, APPLIED, "further paths of the VM that containers may mount, read-only"),
    Key(f"{_MOUNTS}.allowReadWrite", TEXTS, APPLIED, "further paths of the VM that containers may mount, writable"),
    Key(f"{_MOUNTS}.deny", TEXTS, APPLIED, "paths refused even where a rule allows what is around them"),
    Key(f"{_REGISTRIES}.locked", BOOLEAN, APPLIED, _LOCKED),
    Key(
        f"{_REGISTRIES}.allowed",
        TEXTS,
        APPLIED,
        "only hosts for pull, push, `FROM`, `ADD`: `HOST`, `HOST:PORT`, `*.DOMAIN`",
    ),
    *_setting("exposeDockerAPIOnTCP2375", BOOLEAN, ALWAYS, "never: the API is behind mutual TLS"),
    *_setting("desktopTerminalEnabled", BOOLEAN, ALWAYS, "there is no terminal into the VM"),
    *_setting(
        "portBindingBehavior",
        TEXT,
        DESKTOP,
        "published ports are on this machine alone, unless `inv boot --publish` names another address",
        ("default-port-binding", "default-local-port-binding", "local-only-port-binding"),
    ),
    *_setting("defaultNetworkingMode", TEXT, DESKTOP, "the VM's network is IPv4", ("dual-stack", "ipv4only", "ipv6only")),
    *_setting("dnsInhibition", TEXT, DESKTOP, "the VM's network is IPv4", ("auto", "ipv4", "ipv6", "none")),
    *_group(
        "kubernetes",
        DESKTOP,
        {
            name: (kind, "there is no Kubernetes")
            for name, kind in {"enabled": BOOLEAN, "showSystemContainers": BOOLEAN, "imagesRepository": TEXT}.items()
        },
        {},
    ),
    *_group("scout", DESKTOP, dict.fromkeys(("sbomIndexing", "useBackgroundIndexing"), (BOOLEAN, _CLOUD)), {}),
    *(
        key
        for name, kind, note in (
            ("useVirtualizationFrameworkVirtioFS", BOOLEAN, _MAC),
            ("useVirtualizationFrameworkRosetta", BOOLEAN, _MAC),
            ("useGrpcfuse", BOOLEAN, _MAC),
            ("extensionsEnabled", BOOLEAN, _EXTENSION),
            ("onlyMarketplaceExtensions", BOOLEAN, _EXTENSION),
            ("extensionsPrivateMarketplace", BOOLEAN, _EXTENSION),
            ("extensionsPrivateMarketplaceAdminContactURL", TEXT, _EXTENSION),
            ("enableInference", BOOLEAN, _MODEL),
            ("enableInferenceTCP", BOOLEAN, _MODEL),
            ("enableInferenceTCPPort", INTEGER, _MODEL),
            ("enableInferenceCORS", TEXT, _MODEL),
            ("enableInferenceGPUVariant", BOOLEAN, _MODEL),
            ("allowBetaFeatures", BOOLEAN, _GUI),
            ("allowExperimentalFeatures", BOOLEAN, _GUI),
            ("enableDockerAI", BOOLEAN, _CLOUD),
            ("enableDockerMCPToolkit", BOOLEAN, _CLOUD),
            ("enableCloud", BOOLEAN, _CLOUD),
            ("disableUpdate", BOOLEAN, _GUI),
            ("silentModulesUpdate", BOOLEAN, _GUI),
            ("analyticsEnabled", BOOLEAN, "nothing is ever reported"),
            ("displayedOnboarding", BOOLEAN, _GUI),
        )
        for key in _setting(name, kind, DESKTOP, note)
    ),
)
"""All keys, each once."""


def tree() -> dict[str, dict[str, object] | Key]:
    """The keys by their parts: objects are dictionaries, what holds a value is its Key."""
    root: dict[str, dict[str, object] | Key] = {}
    for key in KEYS:
        *parents, last = key.path.split(".")
        place: dict[str, object] = root  # type: ignore[assignment]
        for part in parents:
            place = place.setdefault(part, {})  # type: ignore[assignment]
        place[last] = key
    return root
