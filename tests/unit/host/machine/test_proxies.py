"""The desktop's proxies as the VM is told of them; what is wrong is said without a login."""

from __future__ import annotations

import os

import pytest

from cofferdam.errors import UsageError
from cofferdam.machine.proxies import Proxies, chosen_proxies
from cofferdam_guest.apiproxy.egress.upstream import parse
from cofferdam_guest.config.network import Network, from_json


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


def test_without_variables_there_is_none():
    assert chosen_proxies("") == Proxies()


@pytest.mark.parametrize("upper", [False, True])
def test_the_variables_of_the_environment(monkeypatch, upper):
    for name, value in {"http_proxy": "http://a:1", "https_proxy": "b:2", "no_proxy": "localhost,.example.com"}.items():
        monkeypatch.setenv(name.upper() if upper else name, value)
    found = chosen_proxies("")
    assert found.urls == {"http": "http://a:1", "https": "http://b:2", "no": "localhost,.example.com"}
    assert found.shown == "a:1 (from http_proxy), b:2 (from https_proxy)"


def test_only_one_of_them(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    assert chosen_proxies("").urls == {"https": "http://proxy:80"}
    monkeypatch.delenv("HTTPS_PROXY")
    monkeypatch.setenv("NO_PROXY", "*")
    assert chosen_proxies("") == Proxies(), "exceptions alone are nothing"


def test_the_option_wins_and_none_is_none(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://variable:1")
    monkeypatch.setenv("no_proxy", "example.com")
    assert chosen_proxies("http://option:2").urls == {"http": "http://option:2", "https": "http://option:2", "no": "example.com"}
    assert chosen_proxies("http://option:2").shown == "option:2 (from --proxy)"
    assert chosen_proxies("none") == Proxies()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "LOCALHOST", "[::1]", "proxy.localhost"])
def test_a_proxy_on_the_desktops_loopback_is_that_of_the_vm(host):
    assert chosen_proxies(f"http://{host}:3128").urls["https"] == "http://10.0.2.2:3128"


@pytest.mark.parametrize("host", ["proxy.example.com", "192.0.2.1", "[2001:db8::1]"])
def test_any_other_stays(host):
    assert chosen_proxies(f"http://{host}:3128/").urls["https"] == f"http://{host}:3128"


@pytest.mark.parametrize(
    ("login", "sent"), [("me:s3cret", "me:s3cret"), ("me:a%40b/c%3A", None), ("me:a%40b", "me:a@b"), ("me", "me:")]
)
def test_a_login_reaches_the_guest_and_nobody_else(login, sent):
    import base64

    if sent is None:
        with pytest.raises(UsageError):
            chosen_proxies(f"http://{login}@127.0.0.1:3128")
        return
    found = chosen_proxies(f"http://{login}@127.0.0.1:3128")
    told = from_json(Network(found.urls).as_text())
    assert parse(told.proxies["https"]).authorization == "Basic " + base64.b64encode(sent.encode()).decode()
    assert sent not in found.shown + repr(found)
    assert "me" not in found.shown.replace("127.0.0.1", "")


BAD = {
    "https://me:s3cret@proxy:1": "reached by https:// are not supported",
    "socks5://me:s3cret@proxy:1": "reached by socks5://",
    "http://me:s3cret@proxy:port": "no address of a proxy",
    "http://me:s3cret@proxy:99999": "no address of a proxy",
    "http://me:s3cret@": "no address of a proxy",
    "http://": "no address of a proxy",
    "http://me:s3cret@proxy:1/path": "a proxy has no path",
    "http://me:s3cret@proxy:1?q": "a proxy has no path",
    "http://me:s3cret@pro xy:1": "no address of a proxy",
    "http://me:s3cret@pro\nxy:1": "no address of a proxy",
    "http://me:s3cret@prøxy:1": "no address of a proxy",
    "http://[::1:1": "no address of a proxy",
    "None": "",
}


@pytest.mark.parametrize("url", BAD)
@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_bad_one_is_refused_without_telling_the_login(monkeypatch, url, how):
    if not BAD[url]:
        assert chosen_proxies(url).urls["http"] == "http://none:80", "a host may have that name, as an address"
        return
    name = "--proxy" if how == "option" else "https_proxy"
    if how == "variable":
        monkeypatch.setenv(name, url)
    with pytest.raises(UsageError, match=BAD[url]) as error:
        chosen_proxies(url if how == "option" else "")
    assert str(error.value).startswith(f"{name}: ")
    assert "s3cret" not in str(error.value) + error.value.hint
    assert "--proxy none" in error.value.hint
