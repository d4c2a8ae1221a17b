"""The texts that dockerd shows after `OCI runtime create failed: `."""

from cofferdam_guest.runtime.errors import Refusal, UsageError, unsupported


def test_a_refusal_says_where_the_error_is():
    assert str(Refusal("mount", "can't mount x")) == "error in the container spec: can't mount x"
    assert Refusal("mount", "x").rule == "mount"


def test_what_isolation_cannot_give():
    error = unsupported("host-namespace", "no")
    assert isinstance(error, Refusal)
    assert str(error) == "error in the container spec: invalid or unsupported container spec: no"
    assert error.rule == "host-namespace"


def test_a_wrong_command_line_is_no_refusal():
    assert not issubclass(UsageError, Refusal)
