// Translates its argument with the reference translator as WebAssembly, beside the model's files:
//     node translate_text.mjs "cannot open file"
import { load, loadTokenizer } from "./translate.mjs";

const model = await load();
const tokenizer = await loadTokenizer(model);
const { start, eos, maxSource, maxTokens } = tokenizer.generation;

const ids = tokenizer.encode(process.argv[2], maxSource);
const dims = { batch: 1, src: ids.length };
const mask = new BigInt64Array(ids.length).fill(1n);
const cross = model.run("encode", dims, [BigInt64Array.from(ids, BigInt), mask]);
const states = [null, null, null, null]; // keys and values of the decoder stay in the model
const made = [];
const most = ids.length > 1 ? maxTokens : 0; // nothing for a blank text
for (let token = start; made.length < most; made.push(token)) {
  const given = [BigInt64Array.of(BigInt(token)), mask, ...states, ...cross];
  const [logits] = model.run("step", { ...dims, past: made.length }, given);
  token = tokenizer.choose(logits, made.length);
  if (token === eos) break;
}
console.log(tokenizer.decode(made));
