"""release.json: complete, strict, and the same wherever it is built."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

import edgec
from edgec.errors import FormatError
from edgec.records import plain
from edgec.release import Release
from edgec.release import manifest as records
from edgec.release.manifest import load_manifest, schema
from tests.programs import classifier


def test_it_says_what_was_built(built) -> None:
    manifest = load_manifest(built)
    assert manifest.verdict == "ACCEPT"
    assert [p.spec for p in manifest.passes][-1] == "quantize-weights"
    encodings = {c.name: c.encoding for c in manifest.constants}
    assert encodings["layer0.weight"].startswith("affine(")
    assert encodings["layer0.bias"] == "dense"
    weight = next(c for c in manifest.constants if c.name == "layer0.weight")
    assert weight.original_bytes == 64 * 64 * 4
    assert weight.error is not None and 0 < weight.error < 0.01
    assert weight.used_by == ("main: linear",)
    (function,) = manifest.functions
    assert (function.inputs[0].name, function.inputs[0].type) == ("x", "f32[batch, 64]")
    assert function.dims == {"batch": (1, 64)}
    assert "batch" in function.flops
    assert {f.kind for f in manifest.files} == {"model", "evidence"}
    assert all(f.ships == (f.kind != "evidence") for f in manifest.files)
    assert 0.9 < manifest.quality.value < 1.0 == manifest.quality.original


def test_sizes_are_those_of_the_files(built) -> None:
    sizes = load_manifest(built).sizes
    on_disk = sum(p.stat().st_size for p in (built / "model").iterdir())
    assert sizes.shipped_bytes == sizes.model_bytes == on_disk
    assert sizes.ratio == on_disk / sizes.uncompressed_model_bytes < 0.7


def test_it_survives_writing_and_reading(built, tmp_path) -> None:
    manifest = load_manifest(built)
    manifest.save(tmp_path)
    assert load_manifest(tmp_path) == manifest
    assert (tmp_path / "release.json").read_bytes() == (built / "release.json").read_bytes()


def test_the_committed_schema_is_that_of_the_records() -> None:
    path = Path(records.__file__).with_name("release.schema.json")
    assert json.loads(path.read_text("utf-8")) == schema(), (
        "call edgec.release.manifest.write_schema()"
    )


def test_every_field_is_explained() -> None:
    unexplained = [
        f"{name}.{field}"
        for name, definition in schema()["$defs"].items()
        for field, content in definition["properties"].items()
        if "description" not in content
    ]
    assert not unexplained


def test_no_folder_and_no_time_of_day_is_in_it(built, tmp_path_factory) -> None:
    text = (built / "release.json").read_text("utf-8")
    assert str(tmp_path_factory.getbasetemp()) not in text
    assert not re.search(r"\d{4}-\d\d-\d\d|/home/|/tmp/", text)


def test_the_identity_is_the_same_in_another_build(built, tmp_path) -> None:
    again = edgec.compile(
        classifier(), ["quantize-weights{bits=8}"], "reference", tmp_path / "elsewhere"
    )
    other = edgec.compile(
        classifier(), ["quantize-weights{bits=4}"], "reference", tmp_path / "other"
    )
    first = load_manifest(built)
    assert again.manifest.identity == first.identity
    assert other.manifest.identity != first.identity
    changed = replace(first, host=replace(first.host, seconds={"emit": 1e6})).sealed()
    assert changed.identity == first.identity
    assert changed.checksum != first.checksum


# ------------------------------------------------------------------ damage
def test_a_truncated_file_is_refused(release) -> None:
    path = release.path / "release.json"
    content = path.read_bytes()
    for size in (0, 1, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:size])
        with pytest.raises(FormatError, match=r"\[release.json\]"):
            Release.load(release.path)


def test_a_flipped_bit_is_refused_or_changes_nothing(release) -> None:
    path = release.path / "release.json"
    content = path.read_bytes()
    generator = random.Random(0)
    refused = 0
    for _ in range(60):
        spoiled = bytearray(content)
        spoiled[generator.randrange(len(spoiled))] ^= 1 << generator.randrange(8)
        path.write_bytes(spoiled)
        try:
            assert load_manifest(release.path) == release.manifest, "white space at most"
        except FormatError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2; need version 1"),
        ({"format": "something"}, "another kind"),
        ({"verdict": "FINE"}, "checksum"),
    ],
)
def test_other_versions_kinds_and_edits_are_refused(release, change, message) -> None:
    data = plain(release.manifest) | change
    (release.path / "release.json").write_text(json.dumps(data))
    with pytest.raises(FormatError, match=message):
        Release.load(release.path)


def test_a_wrong_field_under_a_right_checksum_is_named(release) -> None:
    data = plain(release.manifest) | {"verdict": "FINE", "extra": 1}
    data["checksum"] = records._checksum(data)
    (release.path / "release.json").write_text(json.dumps(data))
    with pytest.raises(FormatError, match=r"unknown key extra.*\n.*verdict = 'FINE'"):
        Release.load(release.path)


def test_files_outside_of_the_folder_are_refused(release) -> None:
    """A hostile release.json must not make `verify` or `translate` read elsewhere."""
    for name in ("../secret", "/etc/passwd", "model/../../secret"):
        data = plain(release.manifest)
        data["files"][0]["name"] = name
        data["checksum"] = records._checksum(data)
        (release.path / "release.json").write_text(json.dumps(data))
        with pytest.raises(FormatError, match="inside of the release"):
            Release.load(release.path)


@pytest.mark.parametrize("content", ["[]", "3", "null", "{}", "[" * 100_000])
def test_json_that_is_no_release_is_refused(tmp_path, content) -> None:
    (tmp_path / "release.json").write_text(content)
    with pytest.raises(FormatError):
        Release.load(tmp_path)


def test_a_folder_that_is_no_release_is_refused(tmp_path) -> None:
    with pytest.raises(FormatError, match=r"a release folder with release.json"):
        Release.load(tmp_path)
