
/* ---- this model's tokenizer
 *
 *     import { load, loadTokenizer } from "./MODEL_NAME.mjs";
 *     const model = await load();
 *     const tokenizer = await loadTokenizer(model);
 *     tokenizer.decode(tokenizer.encode("some text"));
 */

/** Open the tokenizer's file, a URL or bytes, in the memory of a model. */
export async function loadTokenizer(model, { tokens = "TOKENS_PATH", ...options } = {}) {
  return new Tokenizer(model, new Uint8Array(await bytesOf(tokens)), options);
}

/** Text to ids, numbers, and back; `generation`: start, eos, pad, forced, maxSource, maxTokens. */
export class Tokenizer {
  constructor(model, file, { verify = true, maxBytes = 0 } = {}) {
    this.model = model;
    this.exports = model.exports;
    this.address = 0;
    this.file = this.#reserve(file.length);
    this.#bytes(this.file, file.length).set(file);
    try {
      this.#create(file.length, verify, maxBytes);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #create(length, verify, maxBytes) {
    this.#with((reserve) => {
      const options = reserve(16), out = reserve(4), error = reserve(ERROR_BYTES);
      const view = this.model.memory.view;
      [verify ? 1 : 0, maxBytes, this.file, length].forEach((value, i) =>
        view.setInt32(options + 4 * i, value, true));
      const status = this.exports.edgec_tokenizer_create(0, options, out, error);
      if (status) throw this.#error(status, this.model.memory.text(error));
      this.address = this.model.memory.pointer(out);
    });
    const at = this.exports.edgec_generation_of(this.address);
    const names = ["start", "eos", "pad", "forced", "maxSource", "maxTokens"];
    this.generation = Object.fromEntries(
      names.map((name, i) => [name, this.model.memory.int64(at + 8 * i)]),
    );
  }

  /** Ids of a text, its end included; at most `most`. */
  encode(text, most = 4096) {
    return this.#with((reserve) => {
      const bytes = new TextEncoder().encode(text);
      const from = reserve(bytes.length), ids = reserve(8 * most), count = reserve(4);
      this.#bytes(from, bytes.length).set(bytes);
      this.#check(this.exports.edgec_tokenize(this.address, from, bytes.length, ids, most, count));
      return this.model.memory.list(ids, this.model.memory.int32(count), 8, (at) =>
        this.model.memory.int64(at));
    });
  }

  decode(ids, most = 65536) {
    return this.#with((reserve) => {
      const from = reserve(8 * ids.length), text = reserve(most), size = reserve(4);
      ids.forEach((id, i) => this.model.memory.view.setBigInt64(from + 8 * i, BigInt(id), true));
      const { edgec_detokenize: call } = this.exports;
      this.#check(call(this.address, from, ids.length, text, most, size));
      return new TextDecoder().decode(this.#bytes(text, this.model.memory.int32(size)));
    });
  }

  /** The most probable token, f32 logits, that may be generated as number `position`; -1: none. */
  choose(logits, position) {
    return this.#with((reserve) => {
      const from = reserve(4 * logits.length);
      new Float32Array(this.model.memory.memory.buffer, from, logits.length).set(logits);
      const [count, place] = [BigInt(logits.length), BigInt(position)];
      return Number(this.exports.edgec_choose_token(this.address, from, count, place));
    });
  }

  close() {
    this.exports.edgec_tokenizer_destroy(this.address);
    this.exports.edgec_release(this.file);
    this.address = this.file = 0;
  }

  #bytes(address, count) {
    return new Uint8Array(this.model.memory.memory.buffer, address, count);
  }

  #check(status) {
    if (!status) return;
    const text = this.exports.edgec_tokenizer_error(this.address);
    throw this.#error(status, this.model.memory.text(text));
  }

  #error(status, text) {
    return new ModelError(this.model.memory.text(this.exports.edgec_status_name(status)), text);
  }

  #reserve(bytes) {
    const block = this.exports.edgec_reserve(BigInt(bytes));
    if (!block) throw new ModelError("EDGEC_OUT_OF_MEMORY", `no memory; need ${bytes} bytes`);
    return block;
  }

  /** Call `use` with a function that reserves memory for as long as it runs. */
  #with(use) {
    const blocks = [];
    try {
      return use((bytes) => (blocks.push(this.#reserve(bytes)), blocks.at(-1)));
    } finally {
      blocks.reverse().forEach((block) => this.exports.edgec_release(block));
    }
  }
}
