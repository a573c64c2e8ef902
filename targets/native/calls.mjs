/* node calls.mjs NAME.mjs: open the model with its own loader, answer calls from standard input.
 *
 * A call is a line of JSON, {name, dims, inputs: [bytes of each]}, and the inputs' bytes; the
 * answer is a line, {outputs: [bytes of each]} and their bytes, or {error}. Opening answers {}. */
import process from "node:process";
import { pathToFileURL } from "node:url";

let waiting = Buffer.alloc(0); // what was read and not yet asked for
const chunks = process.stdin[Symbol.asyncIterator]();

/** Bytes up to where `end` says; the process ends with its input. */
async function take(end) {
  for (let found = end(waiting); ; found = end(waiting)) {
    if (found >= 0) {
      const taken = waiting.subarray(0, found);
      waiting = waiting.subarray(found);
      return taken;
    }
    const { value, done } = await chunks.next();
    if (done) process.exit(0);
    waiting = Buffer.concat([waiting, value]);
  }
}

const read = (bytes) => take((buffer) => (buffer.length < bytes ? -1 : bytes));

const readLine = async () => JSON.parse(await take((buffer) => buffer.indexOf(10) + 1 || -1));

const write = (bytes) => new Promise((done) => process.stdout.write(bytes, done));

async function answer(value, arrays = []) {
  await write(JSON.stringify(value) + "\n");
  for (const a of arrays) await write(new Uint8Array(a.buffer, a.byteOffset, a.byteLength));
}

async function call(model, { name, dims, inputs }) {
  const tensors = model.functions.find((found) => found.name === name).inputs;
  const arrays = [];
  for (const [i, bytes] of inputs.entries()) {
    const raw = await read(bytes); // copied, since arrays begin at multiples of their elements
    arrays.push(new tensors[i].ArrayType(Uint8Array.from(raw).buffer));
  }
  let outputs;
  try {
    outputs = model.run(name, dims, arrays);
  } catch (error) {
    return answer({ error: String(error.message) });
  }
  return answer({ outputs: outputs.map((o) => o.byteLength) }, outputs);
}

let model;
try {
  const { load } = await import(pathToFileURL(process.argv[2]));
  model = await load();
} catch (error) {
  await answer({ error: String(error.message) });
  process.exit(1);
}
await answer({});
for (;;) await call(model, await readLine());
