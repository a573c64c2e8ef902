"""The JavaScript module of a model: what it offers, in Node and in a browser."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue

import pytest
import torch

from edgec.ir import Program
from tests.runtime.tools import need, need_zig
from tests.targets.native.small import close, emit, small

# zig compiles a C library when it is first used.
pytestmark = pytest.mark.slow

TRIPLE = "wasm32-unknown-unknown"

# What both do: the result is one JSON value.
USE = """
const model = await load();
const { name, dims, inputs, outputs } = model.functions[0];
const [y] = model.run("main", { length: 3 }, [new BigInt64Array([3n, 0n, 23n])]);
let error = "";
try {
  model.run("main", { length: 1 }, [new BigInt64Array([24n])]);
} catch (found) {
  error = found.message;
}
const shown = ({ name, dtype, shapeText }) => ({ name, dtype, shapeText });
const result = JSON.stringify({
  name, dims, inputs: inputs.map(shown), outputs: outputs.map(shown), y: [...y], error,
});
"""


@pytest.fixture(scope="module")
def program() -> Program:
    return small()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, program: Program) -> Path:
    need_zig()
    place = tmp_path_factory.mktemp("model")
    emit(program, place, (TRIPLE,))
    return place


def check(text: str, program: Program) -> None:
    found = json.loads(text)
    assert found["name"] == "main"
    assert found["dims"] == [{"name": "length", "min": 1, "max": 9}]
    assert found["inputs"] == [{"name": "ids", "dtype": "i64", "shapeText": "[length]"}]
    (output,) = found["outputs"]
    assert (output["dtype"], output["shapeText"]) == ("f32", "[length, 7]")
    assert "EDGEC_INDEX_OUT_OF_RANGE" in found["error"]
    assert "got 24 at 0; need 0 <= id < 24" in found["error"]
    assert close(torch.tensor(found["y"]).reshape(3, 7), program.run(torch.tensor([3, 0, 23])))


def node(folder: Path, text: str) -> str:
    script = folder / "use.mjs"
    script.write_text(text)
    command = [need("node", "nodejs"), str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_node_loads_the_files_beside_the_module(folder: Path, program: Program) -> None:
    text = f'import {{ load }} from "./small.mjs";{USE}console.log(result);'
    check(node(folder, text), program)


def test_bytes_and_addresses_are_taken_too(folder: Path) -> None:
    text = f"""
    import fs from "node:fs";
    import {{ load }} from "./small.mjs";
    const wasm = fs.readFileSync(new URL("./lib/{TRIPLE}/small.wasm", import.meta.url));
    const weights = new Uint8Array(fs.readFileSync(new URL("./small.weights", import.meta.url)));
    const one = await load({{ wasm, weights: weights.buffer }});
    const two = await load({{ weights: new URL("./small.weights", import.meta.url) }});
    const run = (model) => model.run("main", {{ length: 1 }}, [new BigInt64Array([5n])])[0];
    console.log(JSON.stringify([[...run(one)], [...run(two)]]));
    """
    one, two = json.loads(node(folder, text))
    assert one == two


def test_missing_and_damaged_files_are_exceptions(folder: Path) -> None:
    text = """
    import fs from "node:fs";
    import { load } from "./small.mjs";
    const weights = fs.readFileSync(new URL("./small.weights", import.meta.url));
    const said = async (options) => load(options).then(() => "fine", (error) => error.message);
    const damaged = Uint8Array.from(weights);
    damaged[weights.length - 70] ^= 1;
    console.log(JSON.stringify([
      await said({ weights: "nothing.weights" }),
      await said({ weights: weights.subarray(0, 100) }),
      await said({ weights: damaged }),
    ]));
    """
    missing, short, damaged = json.loads(node(folder, text))
    assert "no such file" in missing
    assert "EDGEC_TRUNCATED" in short
    assert "EDGEC_DAMAGED" in damaged


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; what is posted is put into the server's queue."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.posted.put(body)  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(folder: Path) -> Iterator[ThreadingHTTPServer]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    made.posted = Queue()  # type: ignore[attr-defined]
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_a_browser_runs_the_model(
    chromium: str, folder: Path, program: Program, server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    send = 'await fetch("/result", { method: "POST", body: result });'
    failed = 'fetch("/result", { method: "POST", body: String(event.reason) })'
    (folder / "page.html").write_text(
        '<!doctype html><meta charset="utf-8"><script>'
        f"addEventListener('unhandledrejection', (event) => {failed});</script>"
        f'<script type="module">import {{ load }} from "./small.mjs";{USE}{send}</script>'
    )
    command = [
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--remote-debugging-port=0",
        f"--user-data-dir={tmp_path}",
        f"http://127.0.0.1:{server.server_port}/page.html",
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as browser:  # type: ignore[call-overload]
        try:
            result = server.posted.get(timeout=200)  # type: ignore[attr-defined]
        except Empty:
            pytest.fail("the page sent nothing")
        finally:
            browser.terminate()
    check(result, program)
