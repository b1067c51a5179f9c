"""Files that somebody else wrote: regular ones, of bounded size and depth, or refused at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torchrl_glam.errors import DamagedError, UsageError
from torchrl_glam.runs.files import SUMS, check_sums, write_sums
from torchrl_glam.runs.foreign import DEPTH, check_regular, read_bytes, read_json, read_yaml
from torchrl_glam.runs.reading import number, numbers, text, whole_number

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))


def make_link(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "reason"),
    [(os.mkfifo, "a pipe"), (make_link, "a link"), (os.mkdir, "a folder|Is a directory"), (None, "No such file")],
)
def test_only_regular_files_are_read(tmp_path, make, reason):
    path = tmp_path / "file"
    if make is not None:
        make(path)
    for read in (read_json, read_yaml, check_regular):
        with pytest.raises(UsageError, match=reason):
            read(path)


def test_a_file_may_only_be_so_large(tmp_path):
    (tmp_path / "file").write_bytes(bytes(11))
    assert len(read_bytes(tmp_path / "file", 11)) == 11
    with pytest.raises(UsageError, match="more than 10 bytes"):
        read_bytes(tmp_path / "file", 10)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (LAUGHS, r"the alias \*a0"),
        ("x: " + "[" * 20_000, "nested more than"),
        ("x: ${oc.env:HOME}", "is not resolved"),
        ('x: "\\uD800"', "control characters"),
        ('x: "\\e[2J"', "control characters"),
        ("x: " + "9" * 4000, "characters"),
        ("x: !!python/object/apply:os.system [ls]", "constructor"),
        ("x: 1\nx: 2", "duplicate key"),
        ("x: [", "expected"),
    ],
)
def test_yaml(tmp_path, content, reason):
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(UsageError, match=reason) as refused:
        read_yaml(path)
    assert len(str(refused.value)) < 400
    assert "\n" not in str(refused.value)


def test_yaml_is_read_as_omegaconf_reads_it(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: {b: [1, 1e-4, null, yes]}\nc: it's\n")
    assert read_yaml(path) == {"a": {"b": [1, 1e-4, None, True]}, "c": "it's"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[" * 100_000, "damaged"),
        ("[" * (DEPTH + 2) + "]" * (DEPTH + 2), "nested more than"),
        ('{"x": "\\ud800"}', "is no text"),
        ('{"\\ud800": 1}', "is no text"),
        ("9" * 5000, "damaged"),
        ("{", "damaged"),
    ],
)
def test_json(tmp_path, content, reason):
    (tmp_path / "file.json").write_text(content)
    with pytest.raises(UsageError, match=reason):
        read_json(tmp_path / "file.json")


@pytest.mark.parametrize(
    ("check", "value"),
    [
        *((number, value) for value in (1e308, float("inf"), float("nan"), 10**400, True, "1", [1])),
        *((whole_number, value) for value in (1.5, 1e23, 10**23, 2**63)),
        *((numbers, value) for value in ([], [1e308], "12", {})),
        *((text, value) for value in ("=1+1", "@SUM(A1)", "<b>", "a|b", "$x$", "[a](b)", "\x1b", "\n", "x" * 201, 3)),
    ],
)
def test_values(check, value):
    with pytest.raises(UsageError) as refused:
        check("value", value)
    assert len(str(refused.value)) < 200
    assert str(refused.value).isprintable()


def test_names_of_this_package_are_names():
    for name in (
        "ALE/Pong-v5",
        "tests.support.games:CatchBall-v0",
        "cpu (4 threads)",
        "Intel(R) Xeon(R) CPU @ 2.20GHz",
    ):
        assert text("name", name) == name


@pytest.mark.parametrize("make", [os.mkfifo, make_link, lambda path: path.symlink_to(path.parent)])
def test_a_list_of_checksums_opens_regular_files_only(tmp_path, make):
    (tmp_path / "good").write_text("good")
    write_sums(tmp_path)
    check_sums(tmp_path)
    make(tmp_path / "other")
    with (tmp_path / SUMS).open("a") as file:
        file.write(f"{'0' * 64}  other\n")
    with pytest.raises(DamagedError, match="other is no regular file"):
        check_sums(tmp_path)
