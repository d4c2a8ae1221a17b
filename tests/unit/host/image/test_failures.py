"""A program's last words become one clear sentence with a next step."""

import pytest

from cofferdam.errors import BuildError
from cofferdam.run import run
from cofferdam.tools.failures import FAILURES, explain, explained, require_space

CASES = {
    "tar: ./usr: Cannot mkdir: No space left on device": "the disk is full",
    "Err:1 x trixie InRelease\n  Temporary failure resolving 'mirror.example'": "mirror.example cannot be resolved",
    "E: Could not resolve 'mirror.example'": "mirror.example cannot be resolved",
    "Could not connect to mirror.example:80 (192.0.2.1). - connect (111: Connection refused)": "no connection to mirror.example",
    "connect (101: Network is unreachable)": "archive cannot be reached",
    "E: Failed to fetch x  Hash Sum mismatch": "wrong checksum",
    "File has unexpected size (1 != 2). Mirror sync in progress?": "wrong checksum",
    "W: GPG error: x: NO_PUBKEY 0E98404D386FA1D9": "signature is not accepted (NO_PUBKEY)",
    "E: Release file for http://mirror.example/InRelease is not valid yet (invalid for another 3h)": "index is not valid yet",
    "E: Unable to locate package nosuchthing": "no package nosuchthing",
    "E: Package 'oldthing' has no installation candidate": "oldthing is gone",
    "E: Failed to fetch http://mirror.example/pool/g/gcc_1_amd64.deb  404  Not Found": "no longer in the archive",
    "E: The repository 'http://mirror.example nosuite Release' does not have a Release file.": "does not have this suite",
    "E: unable to pick chroot mode automatically (use --mode for manual selection)": "subordinate ids",
    "newuidmap: write to uid_map failed: Operation not permitted": "subordinate ids",
    "Failed to load private key from pkcs11:token=desk;object=boot?pin-source=file:/keys/pin: Input/output error": (
        "gives no key pkcs11:token=desk;object=boot"
    ),
    "Failed to allocate pkcs7 signing context: error:05800074:x509 certificate routines::key values mismatch": "not that of the key",
}


@pytest.mark.parametrize(("text", "expected"), CASES.items(), ids=range(len(CASES)))
def test_known_failures_are_told(text, expected):
    failure = explain(f"I: installing\n{text}\nE: mmdebstrap failed to run")
    assert failure is not None
    assert expected in failure.message
    assert failure.hint
    assert "{" not in failure.message


def test_every_row_has_a_case():
    hit = {explain(text).pattern for text in CASES}
    assert [row.pattern for row in FAILURES if row.pattern not in hit] == []


def test_an_unknown_failure_is_not_guessed():
    assert explain("E: something else went wrong") is None


def test_the_log_written_inside_the_block_is_what_counts(tmp_path):
    log = tmp_path / "log"
    log.write_text("No space left on device\n")
    with pytest.raises(BuildError) as caught, explained("root", log):
        run(["sh", "-c", "echo 'Hash Sum mismatch'; seq 100; exit 3"], log=log)
    assert str(caught.value) == "root: a downloaded file has a wrong checksum"
    assert caught.value.log == log


def test_an_unknown_failure_keeps_the_commands_words(tmp_path):
    with pytest.raises(BuildError, match="gone wrong somehow"), explained("root", tmp_path / "log"):
        run(["sh", "-c", "echo gone wrong somehow; exit 3"], log=tmp_path / "log")


def test_too_little_space_is_refused_before_the_work(tmp_path):
    with pytest.raises(BuildError, match=r"kernel: no disk space: \d+ MiB are needed") as caught:
        require_space(tmp_path / "not/there/yet", 2**40, "kernel")
    assert "COFFERDAM_CACHE_HOME" in caught.value.hint
    require_space(tmp_path / "not/there/yet", 1, "kernel")
