"""The command line: what is a verb, what is a value, what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cofferdam_guest.runtime import argv
from cofferdam_guest.runtime.argv import Call
from cofferdam_guest.runtime.errors import UsageError


def start(*words):
    call = Call(list(words))
    call.read_start()
    return call


def test_the_line_that_the_shim_sends():
    line = "--root /run/runc/moby --log /b/log.json --log-format json --systemd-cgroup create --bundle /b --pid-file /b/pid box"
    call = start(*line.split())
    assert (call.verb, call.container, call.root) == ("create", "box", "/run/runc/moby")
    assert call.options["--bundle"] == "/b"
    assert call.options["--log"] == "/b/log.json"
    assert call.words[call.at] == "create"


def test_the_line_that_buildkit_sends():
    call = start(*["--log", "/b/log.json", "--log-format", "json", "run", "--bundle", "/b", "--keep", "x1y2"])
    assert (call.verb, call.container, call.root) == ("run", "x1y2", argv.DEFAULT_ROOT)


def test_a_container_and_a_log_file_named_create():
    call = start("--log", "create", "run", "--bundle", "create", "create")
    assert (call.verb, call.at, call.container) == ("run", 2, "create")
    assert call.options["--log"] == "create"
    assert call.options["--bundle"] == "create"


@pytest.mark.parametrize("verb", sorted(argv.VERBS))
def test_a_container_named_like_a_verb_is_only_a_name(verb):
    assert start("create", verb).container == verb
    assert Call(["--log", "create", "kill", verb]).verb == "kill"


@pytest.mark.parametrize(
    ("words", "bundle"),
    [
        (["--bundle", "/b"], "/b"),
        (["--bundle=/b"], "/b"),
        (["-b", "/b"], "/b"),
        (["--bundle=/with=sign"], "/with=sign"),
        (["--bundle", "-odd"], "-odd"),
        ([], "."),
        (["--bundle", "/a", "--bundle", "/b"], "/b"),
    ],
)
def test_ways_to_write_the_bundle(words, bundle):
    assert start("create", *words, "box").options["--bundle"] == bundle


def test_two_dashes_end_the_options():
    assert start("create", "--bundle", "/b", "--", "box").container == "box"
    assert Call(["--", "state", "box"]).verb == "state"
    assert start("create", "--", "--bundle").container == "--bundle"
    with pytest.raises(UsageError):
        start("create", "--", "--bundle", "/b", "box")


@pytest.mark.parametrize(
    "words",
    [
        ["create", "--unheard-of", "box"],
        ["create", "--bund", "/b", "box"],
        ["create", "-b/b", "box"],
        ["create", "-dx", "box"],
        ["--unheard-of", "create", "box"],
        ["create", "box", "--bundle", "/b"],
        ["create", "-", "box"],
        ["create", "one", "two"],
        ["create"],
        ["create", "--bundle"],
        ["create", "--bundle", "box"],
    ],
    ids=" ".join,
)
def test_what_is_not_understood_is_refused(words):
    with pytest.raises(UsageError):
        start(*words)


@pytest.mark.parametrize("flag", ["--no-pivot", "--config", "--config=/x", "-f", "-f=/x"])
@pytest.mark.parametrize("verb", ["create", "run"])
def test_flags_that_lead_around_isolation_are_refused(verb, flag):
    with pytest.raises(UsageError, match="not supported"):
        start(verb, flag, "box")
    with pytest.raises(UsageError):
        start(verb, "--bundle", "/b", flag, "value", "box")


@pytest.mark.parametrize("verb", ["spec", "events", "CREATE", "create ", "creat"])
def test_unknown_verbs_are_refused(verb):
    with pytest.raises(UsageError):
        Call([verb, "box"])


def test_no_verb_at_all():
    for words in ([], ["--version"], ["-v"], ["--help"], ["--log", "create"]):
        assert Call(words).verb == ""


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a b", "a\n", "ü", "a\0b", "x" * 1025, "-x"])
def test_names_that_are_no_container_ids(name):
    with pytest.raises(UsageError):
        start("create", name)


@pytest.mark.parametrize("name", ["a", "A-b_c.d+e", "...", "0" * 64])
def test_names_that_are(name):
    assert start("create", name).container == name


def test_delete_takes_force_and_one_container():
    for words in (["delete", "--force", "box"], ["delete", "-f", "box"], ["delete", "box"]):
        call = Call(words)
        call.read_delete()
        assert call.container == "box"
    with pytest.raises(UsageError):
        Call(["delete", "--regex", "box"]).read_delete()
    with pytest.raises(UsageError):
        Call(["delete", "a", "b"]).read_delete()


def test_the_root_directory_has_no_slash_at_its_end():
    assert Call(["--root", "/run/x//", "state", "b"]).root == "/run/x"
    assert Call(["--root=/", "state", "b"]).root == "/"


# not what the parser would say: what an unambiguous line must mean, whatever its values look like
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
VALUED = st.tuples(st.sampled_from(sorted(argv.GLOBAL_VALUES)), WORDS, st.booleans())
START = st.tuples(st.sampled_from(sorted(argv.START_VALUES)), WORDS, st.booleans())
NAMES = st.from_regex(r"[A-Za-z0-9_+.][A-Za-z0-9_+.\-]{0,20}", fullmatch=True).filter(lambda name: name not in (".", ".."))


def spelled(options):
    return [word for name, value, joined in options for word in ([f"{name}={value}"] if joined else [name, value])]


@given(st.lists(VALUED, max_size=4), st.sampled_from(["create", "run"]), st.lists(START, max_size=4), NAMES)
def test_values_never_become_verbs_flags_or_names(before, verb, after, name):
    if any(value.split("=", 1)[0] in argv.REFUSED_FLAGS for _, value, joined in after if not joined):
        return  # refused even as a value: on the safe side
    words = [*spelled(before), verb, *spelled(after), name]
    call = start(*words)
    assert (call.verb, call.at, call.container) == (verb, len(spelled(before)), name)
    assert call.words == words
    expected = {option: value for option, value, _ in [*before, *after]}
    for option, value in expected.items():
        assert call.options[option] == value


@given(
    st.lists(st.one_of(WORDS, st.sampled_from(["create", "run", "--log", "--bundle", "--", "-b", "box", "--config"])), max_size=7)
)
def test_any_line_is_read_or_refused_and_never_half(words):
    try:
        call = Call(words)
        if call.verb not in ("create", "run"):
            return
        call.read_start()
    except UsageError:
        return
    assert call.words[call.at] == call.verb
    assert call.container == words[-1]
    assert argv.is_container_name(call.container)
    assert not any(word.split("=", 1)[0] in argv.REFUSED_FLAGS for word in words[call.at + 1 :])
