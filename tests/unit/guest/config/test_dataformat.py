"""The format of a data disk is what its label says, in one way only."""

import pytest

from cofferdam_guest.config.dataformat import FORMAT, label, number


@pytest.mark.parametrize("wanted", [1, 2, 9, 10, 99])
def test_a_label_says_its_number(wanted):
    assert number(label(wanted)) == wanted
    assert len(label(wanted)) <= 16, "no ext4 label is longer"


def test_disks_of_the_first_versions_have_the_first_format():
    assert (label(1), FORMAT) == ("cofferdam-data", 1)


OTHERS = (
    *("", "photos", "cofferdam-making", "cofferdam-dat", "cofferdam-data0", "cofferdam-data1", "cofferdam-data02"),
    *("cofferdam-data-", "cofferdam-data 2", "cofferdam-data²", "cofferdam-data123", "x-cofferdam-data", "Cofferdam-data"),
)


@pytest.mark.parametrize("text", OTHERS)
def test_any_other_label_is_not_one_of_ours(text):
    assert number(text) is None
