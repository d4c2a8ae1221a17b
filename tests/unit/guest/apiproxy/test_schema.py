"""Strict bodies: the rows by which dockerd and another reader could disagree, and what stays possible."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.apiproxy.schema.decode import DEPTH, decode, encode

KELVIN, LONG_S = "\u212a", "\u017f"


def create(body: str | bytes):
    return decode(body.encode() if isinstance(body, str) else body, "ContainerCreate")


def refused(body: str | bytes, schema: str = "ContainerCreate") -> str:
    with pytest.raises(Denied) as caught:
        decode(body.encode() if isinstance(body, str) else body, schema)
    assert caught.value.status == 400
    return caught.value.message


DANGEROUS = [
    '"Privileged":true',
    '"Binds":["/:/h"]',
    '"Mounts":[{"Type":"bind"}]',
    '"PidMode":"host"',
    '"Runtime":"runc"',
    '"CgroupParent":"/"',
]
ROWS = {
    "P13 other case": '{"Image":"a","hostconfig":{%s}}',
    "P14 long s": f'{{"Image":"a","Ho{LONG_S}tConfig":{{%s}}}}',
    "P15 escaped long s": '{"Image":"a","Ho\\u017ftConfig":{%s}}',
    "P16 repeated, first kept": '{"Image":"a","HostConfig":{%s},"HostConfig":{}}',
    "P17 repeated, last kept": '{"Image":"a","HostConfig":{},"HostConfig":{%s}}',
    "P18 repeated, null": '{"Image":"a","HostConfig":{%s},"HostConfig":null}',
    "P19 repeated by an escape": '{"Image":"a","HostConfig":{},"\\u0048ostConfig":{%s}}',
    "P20 second document": '{"Image":"a"}{"HostConfig":{%s}}',
    "P21 trailing bracket": '{"Image":"a","HostConfig":{%s}}}',
    "P22 byte order mark": '\ufeff{"Image":"a","HostConfig":{%s}}',
    "P23 nested elsewhere": '{"Image":"a","Config":{"HostConfig":{%s}}}',
    "P24 list of bodies": '[{"Image":"a","HostConfig":{%s}}]',
    "beside the image, other case": '{"Image":"a","HostConfig":{},%s,"privileged":true}',
}


@pytest.mark.parametrize("field", DANGEROUS)
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_p13_to_p24_a_field_hidden_from_one_reader_is_refused(row, field):
    refused(row % field)


@pytest.mark.parametrize("field", [field for field in DANGEROUS if "Runtime" not in field])
def test_host_configuration_beside_the_image_is_refused(field):
    assert "unknown key" in refused(f'{{"Image":"a",{field}}}')


@pytest.mark.parametrize(
    "body",
    [
        '{"Image":"a","HostConfig":{"Privileged":false,"privileged":true}}',
        '{"Image":"a","HostConfig":{"privileged":true}}',
        f'{{"Image":"a","HostConfig":{{"Networ{KELVIN}Mode":"host"}}}}',
        '{"Image":"a","HostConfig":{"Networ\\u212aMode":"host"}}',
        f'{{"Image":"a","HostConfig":{{"Bind{LONG_S}":["/:/h"]}}}}',
        '{"Image":"a","HostConfig":{"Mounts":[{"type":"bind"}]}}',
        '{"Image":"a","HostConfig":{"Mounts":[{"Type":"bind","Source":"/etc"}],"Mounts":[{"Target":"/x"}]}}',
        '{"Image":"a","HostConfig":{"Sysctls":{"a":"1"},"Sysctls":{"b":"2"}}}',
        '{"Image":"a","HostConfig":{"Sysctls":{"a":"1","a":"2"}}}',
        '{"Image":"a","HostConfig":{"NanoCpus":1,"NanoCPUs":2}}',
        '{"Image":"a","HostConfig":{"CPURealtimePeriod":1,"CpuRealtimePeriod":2}}',
    ],
)
def test_two_spellings_of_one_field_are_refused(body):
    refused(body)


@pytest.mark.parametrize("other", ["false", "1", "null", '"true"'])
def test_a_field_under_two_names_is_one_when_both_say_the_same(other):
    """As docker-java writes it."""
    body = '{"Name":"n","enableIPv6":true,"EnableIPv6":%s}'
    assert decode((body % "true").encode(), "NetworkCreate") == {"Name": "n", "EnableIPv6": True}
    with pytest.raises(Denied, match=r"one field|EnableIPv6"):
        decode((body % other).encode(), "NetworkCreate")


def test_an_escaped_key_is_the_key():
    body = create('{"Image":"a","\\u0048ostConfig":{"Priv\\u0069leged":true}}')
    assert body["HostConfig"] == {"Privileged": True}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ('"\\ud800"', "surrogate"),
        ('"\\udc00\\ud800"', "surrogate"),
        ('"a\\u0000"', "NUL"),
        ("1", "not a string"),
        ("[]", "not a string"),
        ("true", "not a string"),
    ],
)
def test_strings_that_dockerd_would_change_are_refused(value, why):
    assert why in refused(f'{{"Image":{value}}}')


@pytest.mark.parametrize("key", ['"\\ud800"', '"\\u0000"'])
def test_keys_of_maps_are_strings_too(key):
    assert "a key of Labels" in refused(f'{{"Image":"a","Labels":{{{key}:"x"}}}}')


def test_a_pair_of_surrogates_is_a_character():
    assert create('{"Image":"a","Env":["\\ud83d\\ude00"]}')["Env"] == ["\U0001f600"]
    assert encode({"Env": ["\U0001f600"]}) == b'{"Env":["\\ud83d\\ude00"]}'


@pytest.mark.parametrize(
    "value", ["1.0", "1e3", "1.5", '"1"', "true", "9223372036854775808", "-9223372036854775809", "1" * 5000, "NaN", "[1]"]
)
def test_numbers_are_whole_and_fit(value):
    assert refused(f'{{"Image":"a","HostConfig":{{"Memory":{value}}}}}')


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-Infinity", "01", "+1", "0x1", "1_0", ".5", "1.", "'a'", "undefined", "//", "nil"]
)
def test_what_is_not_json_is_refused(value):
    refused(f'{{"Image":"a","HostConfig":{{"Memory":{value}}}}}')


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"\xff",
            b'{"Image":"\xff"}',
            b'{"Image":"\xed\xa0\x80"}',
            b'{"Image":"\xc0\x80"}',
            b"\xff\xfe{\x00}\x00",
            b'{"Image":"a\nb"}',
        ),
        *(b" ", b"{", b'{"Image":"a",}', b"{}x", b'{"Image":"a"} null', b"\x0b{}", b"\xc2\xa0{}", b'{"Image"}', b"\0"),
    ],
)
def test_bytes_that_are_no_json_text_are_refused(data):
    refused(data)


def test_depth_is_bounded_even_where_nothing_is_read():
    nested = '{"Image":"a","PortSpecs":' + "[" * (DEPTH - 1) + "]" * (DEPTH - 1) + "}"
    assert create(nested)["Image"] == "a"
    assert "nested deeper" in refused(nested.replace("[]", "[[]]"))
    assert "nested deeper" in refused("[" * 1_000_000)


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "body", ['"' + '\\"' * 1_000_000, '"' * 1_000_001, "[" + '"",' * 1_000_000, '{"a' * 500_000, '{"Image":"a\\']
)
def test_a_long_body_that_never_closes_its_strings_is_refused_at_once(body):
    refused(body)


def test_brackets_inside_of_strings_do_not_nest():
    assert create('{"Image":"' + '\\"[{' * 100 + '"}')["Image"] == '"[{' * 100


@pytest.mark.parametrize(
    ("low", "high", "field"), [(0, 2**16 - 1, "BlkioWeight"), (-(2**63), 2**63 - 1, "Memory"), (0, 2**64 - 1, "IOMaximumIOps")]
)
def test_bounds_are_those_of_the_go_type(low, high, field):
    for value in (low, high):
        assert create(f'{{"Image":"a","HostConfig":{{"{field}":{value}}}}}')["HostConfig"] == {field: value}
    for value in (low - 1, high + 1):
        assert field in refused(f'{{"Image":"a","HostConfig":{{"{field}":{value}}}}}')


def test_an_unknown_key_is_named_with_its_place_and_its_spelling():
    message = refused('{"Image":"a","HostConfig":{"Mounts":[{"Type":"bind","BindOptions":{"propagation":"shared"}}]}}')
    assert "HostConfig.Mounts[0].BindOptions" in message
    assert '"Propagation"' in message
    assert "\\u212a" in refused(f'{{"Image":"a","HostConfig":{{"Networ{KELVIN}Mode":"host"}}}}')


def test_nulls_are_absent_except_where_they_mean_something():
    body = create(
        '{"Image":"a","Cmd":null,"Labels":null,"HostConfig":{"Binds":null,"Init":null,"MaskedPaths":[],"ReadonlyPaths":null}}'
    )
    assert body == {"Image": "a", "HostConfig": {"MaskedPaths": []}}
    assert decode(b'{"A":null}', "BuildArgs") == {"A": None}


def test_nulls_in_maps_are_the_empty_value_of_the_map():
    body = create('{"Image":"a","Labels":{"l":null},"Volumes":{"/v":null},"HostConfig":{"PortBindings":{"80/tcp":null}}}')
    assert (body["Labels"], body["Volumes"], body["HostConfig"]["PortBindings"]) == ({"l": ""}, {"/v": {}}, {"80/tcp": []})


@pytest.mark.parametrize("field", ['"Ulimits":[null]', '"BlkioWeightDevice":[null]', '"Binds":[null]', '"Mounts":[null]'])
def test_nulls_in_lists_are_refused(field):
    """dockerd turns some of them into nil pointers and crashes the request on them."""
    assert "[0] is null" in refused(f'{{"Image":"a","HostConfig":{{{field}}}}}')


@pytest.mark.parametrize("field", ["Cmd", "Entrypoint", "Shell"])
def test_a_command_may_be_one_string(field):
    assert create(f'{{"{field}":"sh -c"}}')[field] == ["sh -c"]
    assert create(f'{{"{field}":["sh","-c"]}}')[field] == ["sh", "-c"]
    refused(f'{{"{field}":[["sh"]]}}')


def test_an_empty_set_holds_only_nothings():
    refused('{"Image":"a","Volumes":{"/v":{"x":1}}}')
    refused('{"Image":"a","ExposedPorts":{"80/tcp":[]}}')


def test_a_networks_name_in_the_wrong_place_is_dropped_only_when_it_says_nothing():
    assert create('{"Image":"a","NetworkingConfig":{"n":null}}')["NetworkingConfig"] == {}
    refused('{"Image":"a","NetworkingConfig":{"n":{}}}')
    refused('{"Image":"a","NetworkingConfig":{"endpointsconfig":null}}')
    refused('{"Image":"a","HostConfig":{"n":null}}')


class TestSettle:
    """One HostConfig, whoever wrote where."""

    def test_old_limits_move_where_dockerd_puts_them(self):
        body = create(
            '{"Image":"a","Memory":5,"CpuShares":2,"Cpuset":"0","VolumeDriver":"x","HostConfig":{"Memory":0,"CpuShares":3}}'
        )
        assert body == {"Image": "a", "HostConfig": {"Memory": 5, "CpuShares": 3, "VolumeDriver": "x", "CpusetCpus": "0"}}

    def test_an_old_runtime_counts_only_without_a_host_configuration(self):
        assert create('{"Image":"a","Runtime":"runc"}')["HostConfig"] == {"Runtime": "runc"}
        assert create('{"Image":"a","Runtime":"runc","HostConfig":null}')["HostConfig"] == {"Runtime": "runc"}
        assert create('{"Image":"a","Runtime":"runc","HostConfig":{}}')["HostConfig"] == {}

    def test_there_is_always_one(self):
        assert create('{"Image":"a"}') == {"Image": "a", "HostConfig": {}}

    @pytest.mark.parametrize("body", ["{}", "null", '{"HostConfig":{"Privileged":true}}', '{"NetworkingConfig":{}}'])
    def test_no_container_is_an_error_as_for_dockerd(self, body):
        assert "config cannot be empty" in refused(body)


@pytest.mark.parametrize(
    "schema", ["ExecStart", "NetworkConnect", "VolumeCreate", "ImageCommit", "AuthConfig", "ContainerUpdate"]
)
@pytest.mark.parametrize("data", [b"", b"null", b"{}", b" {\n} "])
def test_bodies_that_dockerd_takes_for_empty_are_empty(schema, data):
    assert decode(data, schema) == {}


def test_a_route_without_a_body_takes_what_clients_send_for_none():
    assert [decode(data, "Nothing") for data in (b"", b"null", b"{}")] == [{}, {}, {}]
    refused('{"HostConfig":{}}', "Nothing")


def test_parameters_of_the_query_may_stand_in_the_body_as_well():
    """dockerode puts them there; a field of dockerd's own stays one, in whatever case."""
    assert decode(b'{"t":10,"signal":"x"}', "Nothing", {"t", "signal"}) == {}
    assert decode(b'{"Image":"a","platform":"x"}', "ContainerCreate", ("name", "platform")) == {"Image": "a", "HostConfig": {}}
    assert decode(b'{"Image":"a","Env":["A=b"]}', "ContainerCreate", ("Env",))["Env"] == ["A=b"]
    for body in (b'{"t":10}', b'{"T":10}'):
        with pytest.raises(Denied, match="unknown key"):
            decode(body, "Nothing", ("signal",))
    with pytest.raises(Denied, match="spelled"):
        decode(b'{"Image":"a","image":"b"}', "ContainerCreate", ("image",))


def test_a_container_needs_a_body():
    assert "is empty" in refused(b"")


def test_cluster_volumes_are_refused_with_the_reason():
    with pytest.raises(Denied) as caught:
        decode(b'{"Name":"a","ClusterVolumeSpec":{}}', "VolumeCreate")
    assert caught.value.status == 403
    assert "swarm" in caught.value.message
    assert decode(b'{"Name":"a","ClusterVolumeSpec":null}', "VolumeCreate") == {"Name": "a"}


def test_what_is_encoded_is_ascii_and_reads_back():
    body = create('{"Image":"a","Env":["ä=\\u2028"],"HostConfig":{"Memory":-1}}')
    assert encode(body).isascii()
    assert create(encode(body)) == body
    with pytest.raises(ValueError, match="JSON"):
        encode(float("nan"))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.one_of(
        st.binary(),
        _JSON.map(lambda value: json.dumps(value).encode()),
        st.dictionaries(
            st.sampled_from(["Image", "HostConfig", "Cmd", "Env", "Labels", "Volumes", "image", "Memory"]), _JSON
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_any_body_is_refused_by_the_proxys_own_error_or_reads_back_the_same(data):
    try:
        body = create(data)
    except Denied:
        return
    assert create(encode(body)) == body
