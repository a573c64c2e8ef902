
/* ---- this model's files
 *
 *     import { load } from "./MODEL_NAME.mjs";
 *     const model = await load();
 *     model.functions; // names, dims with their ranges, inputs and outputs: name, dtype, shapeText
 *     const [y] = model.run("main", { batch: 2 }, [x]);
 */

/** Open the files beside this one, or others: `wasm` and `weights` are URLs (relative ones start
 *  at this file) or bytes; further options are those of Model.load. */
export async function load({ wasm = "WASM_PATH", weights = "WEIGHTS_PATH", ...options } = {}) {
  const [module, file] = await Promise.all([bytesOf(wasm), bytesOf(weights)]);
  return Model.load(module, file, options);
}

async function bytesOf(source) {
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) return source;
  const url = new URL(source, import.meta.url);
  if (url.protocol === "file:" && globalThis.process?.versions?.node) {
    const { readFile } = await import("node:fs/promises"); // Node's fetch has no files
    return readFile(url);
  }
  const answer = await fetch(url);
  if (answer.ok) return answer.arrayBuffer();
  throw new ModelError("EDGEC_CANNOT_OPEN", `got ${answer.status} for ${url}`);
}
