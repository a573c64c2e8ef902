"""Message catalogs: what is read, cleaned, kept together."""

from __future__ import annotations

from pathlib import Path

import polib
import pytest

from edgec.models.translate import catalogs


def write(folder: Path, name: str, entries: list[polib.POEntry]) -> None:
    path = folder / "de" / "LC_MESSAGES" / f"{name}.mo"
    path.parent.mkdir(parents=True, exist_ok=True)
    made = polib.POFile()
    made.metadata = {"Content-Type": "text/plain; charset=utf-8"}
    made.extend(entries)
    made.save_as_mofile(str(path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(
        tmp_path,
        "one",
        [
            polib.POEntry(msgid="Open a _file", msgstr="Eine _Datei öffnen"),
            polib.POEntry(
                msgid="%d file",
                msgid_plural="%d files",
                msgstr_plural={0: "%d Datei", 1: "%d Dateien"},
            ),
            polib.POEntry(msgid="first line\nsecond line", msgstr="erste Zeile\nzweite Zeile"),
            polib.POEntry(msgid="Not translated", msgstr=""),
            polib.POEntry(msgid="Close window", msgstr="Fenster schließen"),
        ],
    )
    write(tmp_path, "two", [polib.POEntry(msgid="Close window", msgstr="Schließen")])
    write(tmp_path, "three", [polib.POEntry(msgid="Close window", msgstr="Fenster schließen")])
    return tmp_path


def test_entries_plurals_and_lines_become_pairs(folder: Path) -> None:
    assert catalogs.collect([folder], "de") == [
        ("%d file", "%d Datei"),
        ("%d files", "%d Dateien"),
        ("Close window", "Fenster schließen"),
        ("Open a file", "Eine Datei öffnen"),
        ("first line", "erste Zeile"),
        ("second line", "zweite Zeile"),
    ]


def test_a_file_that_is_no_catalog_is_passed_over(folder: Path) -> None:
    before = catalogs.collect([folder], "de")
    (folder / "de" / "LC_MESSAGES" / "broken.mo").write_bytes(b"\x00\x01 no catalog")
    assert catalogs.collect([folder], "de") == before


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("Same", "Same"),
        ("<b>Bold text</b>", "<b>Fetter Text</b>"),
        ("%s of %d", "%s"),
        ("--", "––"),
        ("x" * 300, "y" * 300),
        ("Open", "Eine sehr lange Erklärung, die niemals zum Wort passt"),
    ],
)
def test_pairs_that_teach_nothing_are_rejected(source: str, target: str) -> None:
    assert catalogs.clean(source, target) is None


def test_accelerators_go_and_identifiers_stay() -> None:
    assert catalogs.clean("&Save (&S)", "&Speichern (&S)") == ("Save", "Speichern")
    kept = catalogs.clean("the option max_size is bad", "Die Option max_size ist falsch")
    assert kept == ("the option max_size is bad", "Die Option max_size ist falsch")


def test_near_duplicates_fall_on_the_same_side() -> None:
    variants = ["Open file %s!", "open FILE", "Open, file 12", "open file: %d"]
    assert len({catalogs.split_key(v) for v in variants}) == 1
    pairs = [(f"{v} {word}", "x") for word in ("alpha", "beta", "gamma", "delta") for v in variants]
    train, held_out = catalogs.split(pairs, 8)
    assert not {catalogs.split_key(s) for s, _ in train} & {
        catalogs.split_key(s) for s, _ in held_out
    }
    assert sorted(train + held_out) == sorted(pairs)
