"""The pages in a real browser: they are drawn, nothing is refused, nothing is too wide."""

from __future__ import annotations

import html
import json
import re
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest

from edgec import report
from tests.report import sample

pytestmark = pytest.mark.slow

PHONE, DESKTOP = 420, 1280

# Measures the page after its own script ran; the policy is taken out of the copy that gets this.
# The copy stands in a frame, since a window is never narrower than 500 px.
PROBE = """<script>
const root = document.documentElement;
const wide = [...document.querySelectorAll("body *")].filter((e) => {
  if (e.closest(".scroll, nav .inner, svg svg, pre")) return false;
  return e.getBoundingClientRect().right > root.clientWidth + 1;
});
const found = {
  width: root.clientWidth,
  scroll: root.scrollWidth,
  wide: wide.map((e) => e.outerHTML.slice(0, 90)),
  empty: [...document.querySelectorAll("section")].filter((e) => e.offsetHeight < 80).length,
  dark: getComputedStyle(document.body).backgroundColor,
};
const table = document.querySelector("#constants");
if (table) {
  const rows = () => [...table.tBodies[0].rows].filter((r) => !r.hidden);
  const names = () => rows().map((r) => r.cells[0].textContent);
  found.short = rows().length;
  const heads = [...table.tHead.rows[0].cells];
  const button = heads.find((h) => h.textContent.startsWith("Error")).firstElementChild;
  button.click();
  found.worst = names();
  button.click();
  found.best = names();
  document.querySelector("button.more").click();
  found.all = rows().length;
  const search = document.querySelector("input[type=search]");
  search.value = "layers.1 FC2";
  search.dispatchEvent(new Event("input"));
  found.filtered = names();
}
const out = document.createElement("pre");
out.id = "probe";
out.textContent = JSON.stringify(found);
parent.document.body.append(out);
</script>"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pages")
    release = sample.save(root / "release", sample.manifest(4), sample.texts(4))
    variants = sample.save_variants(root / "variants")
    return {"release": report.write(release), "overview": report.write(variants)}


def run(chromium: str, profile: Path, page: Path, width: int, *flags: str) -> tuple[str, list[str]]:
    """Standard output of the browser, and what the page wrote to the console."""
    command = [
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--hide-scrollbars",
        "--enable-logging=stderr",
        f"--user-data-dir={profile}",
        f"--window-size={width},2400",
        *flags,
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def measured(chromium: str, tmp_path: Path, page: Path, width: int, *flags: str) -> dict[str, Any]:
    text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text(encoding="utf-8"))
    inner = html.escape(text.replace("</body>", PROBE + "</body>"))
    frame = f'<iframe width="{width}" height="2400" frameborder="0" srcdoc="{inner}"></iframe>'
    copy = tmp_path / "probe.html"
    copy.write_text(f'<!doctype html><meta charset="utf-8"><body>{frame}', encoding="utf-8")
    out, console = run(chromium, tmp_path / "profile", copy, 1400, "--dump-dom", *flags)
    assert console == []
    (found,) = re.findall(r'<pre id="probe">(.*?)</pre>', out, re.S)
    result = json.loads(html.unescape(found))
    assert isinstance(result, dict)
    return result


def scanlines(png: bytes) -> list[bytes]:
    """Filtered scanlines of a PNG of 8 bits a channel, as they are compressed."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height, depth, colour = struct.unpack(">IIBB", png[16:26])
    assert depth == 8 and colour in (2, 6)
    data, at = b"", 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += length + 12
    raw, stride = zlib.decompress(data), 1 + width * (3 if colour == 2 else 4)
    return [raw[i * stride : (i + 1) * stride] for i in range(height)]


@pytest.mark.parametrize("name", ["release", "overview"])
def test_the_page_is_drawn_and_its_policy_refuses_nothing(
    chromium: str, pages: dict[str, Path], name: str, tmp_path: Path
) -> None:
    shot = tmp_path / "shot.png"
    _, console = run(chromium, tmp_path / "p", pages[name], DESKTOP, f"--screenshot={shot}")
    assert console == []
    lines = scanlines(shot.read_bytes())
    assert len(lines) == 2400
    assert len(set(lines)) > 300


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("name", ["release", "overview"])
def test_nothing_is_wider_than_the_screen(
    chromium: str, pages: dict[str, Path], name: str, width: int, tmp_path: Path
) -> None:
    found = measured(chromium, tmp_path, pages[name], width)
    assert found["width"] == width
    assert found["wide"] == []
    assert found["scroll"] == width
    assert found["empty"] == 0


def test_tables_sort_filter_and_open(chromium: str, pages: dict[str, Path], tmp_path: Path) -> None:
    found = measured(chromium, tmp_path, pages["release"], DESKTOP)
    constants = sample.manifest(4).constants
    errors = {c.name: c.error for c in constants if c.error is not None}
    worst = sorted(errors, key=lambda name: -errors[name])
    assert found["short"] == 20
    assert found["worst"] == worst[:20]
    assert found["best"] == worst[::-1][:20]
    assert found["all"] == len(constants)
    assert len(found["filtered"]) == 4
    assert all("layers.1.fc2" in name for name in found["filtered"])


def test_a_dark_screen_gets_a_dark_page(
    chromium: str, pages: dict[str, Path], tmp_path: Path
) -> None:
    dark = "--blink-settings=preferredColorScheme=0"
    found = [
        measured(chromium, tmp_path, pages["release"], DESKTOP, *flags)["dark"]
        for flags in ((), (dark,))
    ]
    light, night = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in found)
    assert light > 600
    assert night < 120
