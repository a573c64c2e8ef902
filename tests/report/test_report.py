"""The page of a release: what it says, and that nothing in it is executed or fetched."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from edgec import report
from edgec.errors import FormatError
from edgec.records import plain, read
from edgec.release.manifest import Manifest, Sizes
from edgec.report.release import Note, notes_of, steps_of
from edgec.validate.report import Difference, Fidelity
from tests.report import sample

VOID = {"meta", "link", "br", "wbr", "input", "hr", "img"}
ATTACK = (
    "</script></style></title><script>alert('1')</script><img src=x onerror=alert(2)>\"'{{7*7}}&"
)
# Fields whose values come from a fixed list, and names that a folder or a parser gives a form.
FIXED = {"verdict", "kind", "format", "checksum", "identity", "type", "encoding", "states"}


@dataclass
class Element:
    """An element that was opened: its name and attributes."""

    tag: str
    attributes: dict[str, str]


@dataclass
class Page(HTMLParser):
    """A parsed page; AssertionError for an element that is not closed where it was opened."""

    elements: list[Element] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    open_tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"<{tag}> has an attribute twice"
        self.elements.append(Element(tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open_tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags and self.open_tags.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).replace("\u00a0", " ").split())

    def named(self, tag: str) -> list[Element]:
        return [e for e in self.elements if e.tag == tag]


def parse(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert page.open_tags == []
    return page


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    return report.write(sample.save(folder, sample.manifest(4), sample.texts(4)))


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return parse(written)


@pytest.fixture(scope="module")
def overview(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = sample.save_variants(tmp_path_factory.mktemp("variants"))
    for name in ("fp32", "int8", "int4"):
        report.write(folder / name)
    return report.write(folder)


# ------------------------------------------------------------------ what it says
@pytest.mark.parametrize(
    "said",
    [
        "translate-en-de-int4",
        "ACCEPT",
        "onnx",
        "5.78 MB",  # of the model
        "0.193 of 29.92 MB",
        "under brotli",
        "33.84 uncompressed",
        "−0.88, allowed −1.00",
        "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0",
        "int4, group 32",
        "int8, per channel",
        "graph, names, metadata",
        "encoder.layers.3",  # a part of the model
        "model.decoder.layers.1.encoder_attn.q_proj.weight",
        "quantize-weights{bits=4,group=32}",
        "rank 1; need a matrix; left dense",
        "decoded",
        "the runtime decodes rows of the table when they are gathered",
        "step: logits are computed in float32",
        "batch 16 · src 256 · past 255",
        "2.4e−5",  # a tolerance
        "f32[batch, 4, past + 1, 64]",
        "Die Verbindung zum Server war nicht.",
        "31.40 MB of memory",
        "2.13.0",
        'metric = "bleu"',  # the recipe
        "evidence/golden.safetensors",
    ],
)
def test_the_page_says(page: Page, said: str) -> None:
    squeezed = re.sub(r"\s+", "", page.text)
    assert re.sub(r"\s+", "", said) in squeezed


def test_every_tensor_is_in_the_table_with_numbers_to_sort_by(page: Page, written: Path) -> None:
    text = written.read_text()
    table = text[text.index('id="constants"') :].partition("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table.partition("<tbody>")[2], re.S)
    stored = [int(re.findall(r'data-v="(\d+)"', row)[1]) for row in rows]
    assert len(rows) == len(sample.manifest(4).constants)
    assert stored == sorted((c.stored_bytes for c in sample.manifest(4).constants), reverse=True)


def test_bars_of_a_chart_are_as_long_as_the_bytes(page: Page) -> None:
    by_title = [
        float(e.attributes["width"].rstrip("%"))
        for e in page.named("rect")
        if e.attributes.get("class", "").startswith("bar k-") and e.attributes.get("y") == "112"
    ]
    sizes = sample.manifest(4).sizes
    assert sum(by_title) == pytest.approx(100 * sizes.ratio, abs=0.02)


def test_a_release_that_fails_says_why_and_where(tmp_path: Path) -> None:
    good = sample.manifest(4)
    node = "%17 = linear(%16, @w3)"
    first = Difference("step", "smallest", "%17", node, "model.py:17 fc(x)", None, 2e-5, True)
    wrong = replace(good.fidelity.checked[5].outputs[0], max_ratio=None, max_abs=None, passed=False)
    call = replace(good.fidelity.checked[5], outputs=(wrong,))
    bad = replace(
        good,
        verdict="ANOMALOUS",
        reasons=("step (smallest): first differing value",),
        fidelity=Fidelity(False, good.fidelity.rule, (call,), first),
    )
    text = parse(report.write(sample.save(tmp_path, bad))).text
    assert "ANOMALOUS: the artifact does not compute what its graph means." in text
    for said in ("step (smallest): first differing value", node, "model.py:17 fc(x)", "not finite"):
        assert said in text
    assert "this node is at fault" in text
    assert "1 of 1 executed calls differ" in text


def test_a_release_with_nothing_measured_has_a_page(tmp_path: Path) -> None:
    full = sample.manifest(32)
    bare = replace(
        full,
        functions=(),
        metadata={},
        files=(),
        constants=(),
        passes=(),
        notes=(),
        sizes=Sizes(0, None, 0, None, 0, 0, None),
        fidelity=Fidelity(True, "", ()),
        quality=replace(full.quality, figures={}, original_figures={}, agreement=None),
        host=replace(full.host, latency=(), seconds={}, tools={}, machine={}, load_bytes=None),
    )
    assert "ACCEPT" in parse(report.write(sample.save(tmp_path, bare))).text


def test_hundreds_of_tensors_are_shown_by_part(tmp_path: Path) -> None:
    stored = tuple(
        sample.constant(f"model.layers.{i}.{part}.weight", (512, 512), "main: linear", 4)
        for i in range(96)
        for part in ("attn.q", "attn.k", "attn.v", "attn.o", "mlp.up", "mlp.gate", "mlp.down")
    )
    path = report.write(sample.save(tmp_path, replace(sample.manifest(4), constants=stored)))
    text = parse(path).text
    assert "layers.0-3" in text and "layers.92-95" in text
    assert path.stat().st_size < 1_500_000


# ------------------------------------------------------------------ nothing is executed or fetched
def hostile(value: Any, key: str = "") -> Any:
    """`value` with the attack in every text that somebody outside may have chosen."""
    if isinstance(value, dict):
        free = key in {"metadata", "options", "tools", "machine", "figures"}
        return {k + ATTACK if free else k: hostile(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [hostile(v, key) for v in value]
    return value + ATTACK if isinstance(value, str) and key not in FIXED else value


def attacked() -> Manifest:
    data = plain(sample.manifest(4))
    data["reasons"], data["warnings"] = ["because"], ["beware"]
    return read(Manifest, hostile(data), "release.json")


def test_texts_of_others_stay_text(tmp_path: Path) -> None:
    texts = {name: [t + ATTACK for t in column] for name, column in sample.texts(4).items()}
    page = parse(report.write(sample.save(tmp_path, attacked(), texts)))
    assert page.text.count("alert('1')") > 500
    assert len(page.named("script")) == len(page.named("style")) == 1
    assert page.named("img") == []
    assert [e for e in page.elements for name in e.attributes if name.startswith("on")] == []
    assert "{{7*7}}" in page.text


def test_the_overview_keeps_texts_of_others_text(tmp_path: Path) -> None:
    sample.save_variants(tmp_path)
    texts = {name: [t + ATTACK for t in column] for name, column in sample.texts(8).items()}
    sample.save(tmp_path / "int8", attacked(), texts)
    page = parse(report.write(tmp_path))
    assert len(page.named("script")) == 1
    assert page.named("img") == []
    assert "alert('1')" in page.text


@pytest.fixture(params=["release", "overview"])
def either(request: pytest.FixtureRequest, written: Path, overview: Path) -> Path:
    return written if request.param == "release" else overview


def test_nothing_comes_from_outside(either: Path) -> None:
    text = either.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|url\(|@import", text)
    page = parse(either)
    for element in page.elements:
        assert not element.attributes.keys() & {"src", "srcset", "action", "data", "poster"}
    links = [e.attributes["href"] for e in page.elements if "href" in e.attributes]
    inside = [link for link in links if not link.startswith("#") and link != "data:,"]
    assert all((either.parent / link).is_file() for link in inside)


def test_anchors_lead_somewhere(either: Path) -> None:
    page = parse(either)
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    anchors = {e.attributes["href"][1:] for e in page.named("a") if "#" in e.attributes["href"]}
    assert len(ids) == len(set(ids))
    assert anchors and anchors <= set(ids)


def blocks(text: str) -> Iterator[tuple[str, str]]:
    for tag in ("style", "script"):
        for content in re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S):
            yield tag, base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def test_the_policy_allows_the_pages_own_style_and_script_only(either: Path) -> None:
    page = parse(either)
    (policy,) = [
        e.attributes["content"]
        for e in page.named("meta")
        if e.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag, digest in blocks(either.read_text(encoding="utf-8")):
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert [e for e in page.elements if "style" in e.attributes] == []  # the policy would drop it


# ------------------------------------------------------------------ several variants, files
def test_the_overview_compares_the_variants(overview: Path) -> None:
    page = parse(overview)
    for said in ("fp32", "int8", "int4", "REGRESSION", "lost 0.88 BLEU", "32.96", "default"):
        assert said in page.text
    links = {e.attributes["href"] for e in page.named("a")}
    assert {"fp32/report.html", "int8/report.html", "int4/report.html"} <= links


def test_equal_folders_give_equal_pages(written: Path, overview: Path, tmp_path: Path) -> None:
    again = report.write(sample.save(tmp_path / "one", sample.manifest(4), sample.texts(4)))
    assert again.read_bytes() == written.read_bytes()
    before = overview.read_bytes()
    assert report.write(overview.parent).read_bytes() == before


@pytest.mark.parametrize(
    "evidence",
    [
        "{",
        "{}",
        '{"sources": ["a"], "references": null, "original": ["b"], "got": []}',
        '{"sources": [1], "references": null, "original": ["b"], "got": ["c"]}',
    ],
)
def test_damaged_evidence_is_refused(tmp_path: Path, evidence: str) -> None:
    sample.save(tmp_path, sample.manifest(4), sample.texts(4))
    (tmp_path / "evidence" / "quality" / "samples.json").write_text(evidence)
    with pytest.raises(FormatError, match=r"samples\.json"):
        report.write(tmp_path)


def test_a_folder_that_is_no_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"release\.json"):
        report.write(tmp_path)


def test_texts_without_references_are_compared_with_the_original(tmp_path: Path) -> None:
    texts: dict[str, Any] = sample.texts(4) | {"references": None}
    page = parse(report.write(sample.save(tmp_path, sample.manifest(4), texts)))
    assert "The samples that changed most" in page.text
    assert "closer to the reference" not in page.text


def test_passes_that_found_nothing_share_a_line() -> None:
    idle = replace(sample.manifest(4).passes[0], modified=False, notes=())
    busy = replace(idle, modified=True)
    noted = replace(idle, notes=("left",))
    steps = steps_of((idle, idle, busy, idle, noted))
    assert [len(s.idle) for s in steps] == [2, 0, 1, 0]
    assert steps[3].notes == (Note("left", ()),)


def test_notes_that_say_the_same_are_said_once() -> None:
    notes = ("@a: K=30; need 32", "step: left", "@b: K=30; need 32", "@c d: odd")
    assert notes_of(notes) == (
        Note("K=30; need 32", ("@a", "@b")),
        Note("step: left", ()),
        Note("@c d: odd", ()),
    )
