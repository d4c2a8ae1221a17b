"""The chain of modifiers: its order, and that no odd specification gets through it as an accident."""

import copy
import types

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from cofferdam_guest.linux import mountinfo
from cofferdam_guest.runtime import transform
from cofferdam_guest.runtime.errors import Refusal

ORDER = ["envelope", "namespaces", "hooks", "cgroup", "devices", "process", "sysctl", "seccomp"]
ORDER += ["identity", "rootfs", "dev", "stores", "binds", "view"]


def names():
    return [each.__name__.rpartition(".")[2] for each in transform.MODIFIERS]


def test_the_order():
    """Unknown fields go before anybody reads them; ranges are claimed after all judging; binds need all that was made before."""
    assert [each for each in names() if each in ORDER] == ORDER
    assert len(set(names())) == len(names())
    assert names()[0] == "envelope"


def modifier(act, name="cofferdam_guest.runtime.modifiers.odd"):
    return types.SimpleNamespace(modify=act, __name__=name)


def test_each_sees_what_the_one_before_has_done(monkeypatch):
    seen = []
    first = modifier(lambda spec, context: spec.update(step=1))
    second = modifier(lambda spec, context: seen.append((spec["step"], context)))
    monkeypatch.setattr(transform, "MODIFIERS", (first, second))
    transform.apply({}, "context")
    assert seen == [(1, "context")]


@pytest.mark.parametrize(
    "error", [KeyError("mounts"), TypeError("x"), AttributeError("x"), IndexError("x"), ValueError("x")], ids=repr
)
def test_what_is_not_understood_is_refused_and_names_the_modifier(monkeypatch, error):
    def fails(spec, context):
        raise error

    later = modifier(lambda spec, context: pytest.fail("went on"))
    monkeypatch.setattr(transform, "MODIFIERS", (modifier(fails), later))
    with pytest.raises(Refusal, match=r"not understood \(odd\)") as caught:
        transform.apply({}, None)
    assert caught.value.rule == "spec"
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [Refusal("hook", "no"), OSError(5, "disk"), MemoryError()], ids=repr)
def test_other_errors_stay_what_they_are(monkeypatch, error):
    def fails(spec, context):
        raise error

    monkeypatch.setattr(transform, "MODIFIERS", (modifier(fails),))
    with pytest.raises(type(error)) as caught:
        transform.apply({}, None)
    assert caught.value is error


@pytest.fixture
def judging(monkeypatch, context):
    """The part of the chain that takes no resources."""
    until = names().index("identity")
    monkeypatch.setattr(transform, "MODIFIERS", transform.MODIFIERS[:until])
    context.mounts = mountinfo.read()
    return context


def test_an_ordinary_specification_passes(judging, spec):
    transform.apply(spec, judging)
    assert spec["process"]["args"] == ["sh"]


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec.pop("linux"),
        lambda spec: spec.pop("process"),
        lambda spec: spec.update(linux=None),
        lambda spec: spec.update(linux=[]),
        lambda spec: spec["linux"].update(namespaces=None),
        lambda spec: spec["linux"].update(namespaces=[{}]),
        lambda spec: spec["linux"].update(namespaces=["pid"]),
        lambda spec: spec["linux"].update(cgroupsPath=5),
        lambda spec: spec["linux"].update(devices=[{"path": "/dev/x"}]),
        lambda spec: spec["linux"].update(devices=[[]]),
        lambda spec: spec["linux"].update(sysctl={"net.x": 1}),
        lambda spec: spec["linux"].update(seccomp={"syscalls": []}),
        lambda spec: spec["linux"].update(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "bpf"}]}),
        lambda spec: spec.update(hooks=[]) or spec.update(hooks={"prestart": ["x"]}),
        lambda spec: spec.update(hooks={"prestart": [{}]}),
        lambda spec: spec["process"].update(env=[1]),
        lambda spec: spec["process"].update(oomScoreAdj="-5"),
    ],
)
def test_other_shapes_are_refused(judging, spec, change):
    change(spec)
    with pytest.raises(Refusal):
        transform.apply(spec, judging)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "path", "names", "action"]) | st.text(max_size=3), inner)
    ),
    max_leaves=6,
)
PARTS = [("linux",), ("process",), ("mounts",), ("hooks",), ("root",)]
PARTS += [("linux", each) for each in ("namespaces", "devices", "cgroupsPath", "resources", "seccomp", "sysctl", "uidMappings")]
PARTS += [("process", each) for each in ("env", "oomScoreAdj", "apparmorProfile", "capabilities", "rlimits", "user")]


@given(st.sampled_from(PARTS), JSON)
@limits(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_value_anywhere_gets_past_as_an_accident(judging, spec, part, value):
    spec = where = copy.deepcopy(spec)
    for key in part[:-1]:
        where = where[key]
    where[part[-1]] = value
    judging.joins = {}
    try:
        transform.apply(spec, judging)
    except Refusal:
        return
    linux = spec["linux"]
    assert linux["cgroupsPath"].startswith("/docker/")
    assert linux["devices"] == []
    assert linux["resources"]["devices"][0] == {"allow": False, "access": "rwm"}
    assert linux["seccomp"]
    assert not any(spec.get("hooks") and hooks for hooks in (spec.get("hooks") or {}).values())
    assert spec["process"]["oomScoreAdj"] >= 0
