/* node wasm_check.mjs LOADER TINY.wasm TINY.weights: use the tiny model, print what it gave. */
import assert from "node:assert/strict";
import fs from "node:fs";
import process from "node:process";
import { pathToFileURL } from "node:url";

const [loader, wasm, weights] = process.argv.slice(2);
const { Model } = await import(pathToFileURL(loader));
const module = fs.readFileSync(wasm);
const file = fs.readFileSync(weights);
const model = await Model.load(module, file, { profile: true });
const x = new Float32Array([1, 2, 3, 4]);

const failure = (status) => (error) => error.name === "ModelError" && error.status === status;

assert.equal(model.exports.was_initialized(), 1);
assert.equal(model.name, "tiny");
assert.equal(model.variant, "plain");
assert.deepEqual(model.kernels, ["embed", "step", "total"]);
assert.deepEqual(model.sizes("embed", 0, { seq: 9 }), [9, 8]);
const [embed] = model.run("embed", { seq: 3 }, [new BigInt64Array([3n, 0n, 15n])]);
const steps = [1, 2].map(() => model.run("step", {}, [x, null])[0]);
const [y, sum] = model.run("step", {}, [x, x]);
assert.deepEqual([...y, ...sum], [1, 2, 3, 4, 2, 4, 6, 8]);
assert.deepEqual([...model.run("total", { n: 0 }, [new Float32Array()])[0]], [0]);
assert.deepEqual(model.profile().map(({ calls }) => calls), [1, 3, 0]);

// Memory of calls is given back: thousands of them take no more than the first.
const pages = model.memory.memory.buffer.byteLength;
for (let i = 0; i < 20000; i++) model.run("step", {}, [x, x]);
assert.equal(model.memory.memory.buffer.byteLength, pages);

const embedded = (token) => () => model.run("embed", { seq: 1 }, [new BigInt64Array([token])]);
assert.throws(embedded(16n), failure("EDGEC_INDEX_OUT_OF_RANGE"));
assert.throws(embedded(-1n), /got -1 at 0; need 0 <= id < 16/);
assert.throws(() => model.run("embed", { seq: 65 }, [null]), failure("EDGEC_DIM_OUT_OF_RANGE"));
assert.throws(() => model.run("embed", { seq: 1 }, [null]), failure("EDGEC_NULL_ARGUMENT"));
assert.throws(() => model.run("embed", { seq: 1 }, []), failure("EDGEC_NULL_ARGUMENT"));
assert.throws(() => model.run("embed", { seq: 1 }, [x]), failure("EDGEC_BAD_OPTION"));
assert.throws(() => model.run("nothing", {}, []), failure("EDGEC_NO_SUCH_NAME"));
model.close();
assert.throws(embedded(0n), /closed/);

const load = (bytes, options) => Model.load(module, bytes, options);
await assert.rejects(load(file.subarray(0, -1)), failure("EDGEC_TRUNCATED"));
await assert.rejects(load(new Uint8Array(0)), failure("EDGEC_TRUNCATED"));
const damaged = new Uint8Array(file);
damaged[file.length - 100] ^= 1;
await assert.rejects(load(damaged), failure("EDGEC_DAMAGED"));
await load(damaged, { verify: false });
await assert.rejects(load(file, { variant: "x" }), failure("EDGEC_NO_SUCH_NAME"));
await assert.rejects(load(file, { variant: "none_has_it" }), failure("EDGEC_UNSUPPORTED_CPU"));

const imports = WebAssembly.Module.imports(new WebAssembly.Module(module));
console.log(JSON.stringify({ embed: [...embed], steps: steps.map((y) => [...y]), imports }));
