/* Loads a compiled model (.wasm and .weights) in browsers and in Node, through the structs of
 * include/edgec/runtime.h as they lie in wasm32's memory.
 *
 *     const model = await Model.load(wasmBytes, weightsBytes);
 *     const [logits] = model.run("main", { seq: 5 }, [new BigInt64Array([1n, 2n, 3n, 4n, 5n])]);
 *     model.close();
 *
 * Outputs are copies. A state whose input is null stays in the instance, and its output is null.
 */

const ABI = 1;
const ERROR_BYTES = 256;
const MAX_RANK = 8;

// In the order of edgec_dtype: name and array type. f16 and bf16 are held as their bits.
const DTYPES = [
  ["f64", Float64Array],
  ["f32", Float32Array],
  ["f16", Uint16Array],
  ["bf16", Uint16Array],
  ["i64", BigInt64Array],
  ["i32", Int32Array],
  ["i16", Int16Array],
  ["i8", Int8Array],
  ["u8", Uint8Array],
  ["bool", Uint8Array],
];

// Bytes of the structs.
const DIM = 24, TENSOR = 20, STATE = 8, FUNCTION = 40, VARIANT = 16, OPTIONS = 24, PROFILE = 16;

export class ModelError extends Error {
  constructor(status, text) {
    super(`${status}: ${text}`);
    this.name = "ModelError";
    this.status = status;
  }
}

/** Reads of the module's memory; views are made anew, since growing memory detaches them. */
class Memory {
  constructor(memory) {
    this.memory = memory;
  }

  get view() {
    return new DataView(this.memory.buffer);
  }

  pointer(address) {
    return this.view.getUint32(address, true);
  }

  int32(address) {
    return this.view.getInt32(address, true);
  }

  int64(address) {
    return Number(this.view.getBigInt64(address, true));
  }

  text(address) {
    if (!address) return "";
    const bytes = new Uint8Array(this.memory.buffer, address);
    return new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0)));
  }

  list(address, count, size, read) {
    return Array.from({ length: count }, (_, i) => read(address + i * size));
  }
}

/** What the compiled model says about itself. */
function describe(memory, at) {
  const abi = memory.int32(at);
  if (abi !== ABI) throw new ModelError("EDGEC_OTHER_VERSION", `got ABI ${abi}; need ${ABI}`);
  const names = (address) => memory.text(memory.pointer(address));
  const functions = memory.list(
    memory.pointer(at + 76), memory.int32(at + 88), FUNCTION, (f) => describeFunction(memory, f),
  );
  functions.forEach((found, index) => Object.assign(found, { index }));
  return {
    name: names(at + 4),
    version: names(at + 8),
    weightsBytes: memory.int64(at + 16),
    arenaBytes: memory.int64(at + 56),
    variants: memory.list(memory.pointer(at + 72), memory.int32(at + 84), VARIANT, names),
    functions,
    kernels: memory.list(memory.pointer(at + 80), memory.int32(at + 92), 4, names),
  };
}

function describeFunction(memory, at) {
  const text = (address) => memory.text(memory.pointer(address));
  const tensor = (t) => ({
    name: text(t),
    dtype: DTYPES[memory.int32(t + 4)][0],
    ArrayType: DTYPES[memory.int32(t + 4)][1],
    rank: memory.int32(t + 8),
    shapeText: text(t + 12),
    shape: memory.pointer(t + 16), // its place in the table of functions
  });
  const parts = (offset, count, size, read) =>
    memory.list(memory.pointer(at + offset), memory.int32(at + count), size, read);
  return {
    name: text(at),
    dims: parts(4, 20, DIM, (d) => ({
      name: text(d), min: memory.int64(d + 8), max: memory.int64(d + 16),
    })),
    inputs: parts(8, 24, TENSOR, tensor),
    outputs: parts(12, 28, TENSOR, tensor),
    states: parts(16, 32, STATE, (s) => ({ input: memory.int32(s), output: memory.int32(s + 4) })),
  };
}

export class Model {
  /** `wasm`: bytes of the module; `weights`: the whole .weights file; options: {variant, verify,
   *  profile}. Profiles count calls only: a module without imports has no clock. */
  static async load(wasm, weights, options = {}) {
    const { instance } = await WebAssembly.instantiate(wasm, {});
    instance.exports._initialize?.(); // of modules that are linked with a C library, as reactors
    return new Model(instance.exports, new Uint8Array(weights), options);
  }

  constructor(exports, weights, { variant = null, verify = true, profile = false } = {}) {
    this.exports = exports;
    this.memory = new Memory(exports.memory);
    this.modelAddress = exports.edgec_model_of();
    Object.assign(this, describe(this.memory, this.modelAddress));
    this.blocks = [];
    this.instance = 0;
    try {
      this.#create(weights, variant, verify, profile);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #create(weights, variant, verify, profile) {
    const file = this.#reserve(weights.length, this.blocks);
    new Uint8Array(this.memory.memory.buffer).set(weights, file);
    this.#with((reserve) => {
      const options = reserve(OPTIONS), out = reserve(4), error = reserve(ERROR_BYTES);
      const name = variant === null ? 0 : this.#text(variant, reserve);
      const view = this.memory.view; // behind the last reservation
      view.setInt32(options, 1, true);
      view.setInt32(options + 4, verify ? 1 : 0, true);
      view.setInt32(options + 8, profile ? 1 : 0, true);
      view.setUint32(options + 12, name, true);
      view.setUint32(options + 16, file, true);
      view.setUint32(options + 20, weights.length, true);
      const status = this.exports.edgec_create(this.modelAddress, 0, options, out, error);
      if (status) throw this.#error(status, this.memory.text(error));
      this.instance = this.memory.pointer(out);
    });
  }

  get variant() {
    return this.memory.text(this.exports.edgec_variant_of(this.instance));
  }

  /** dims: {name: value}; inputs: an array of the tensor's type for each, null: a kept state. */
  run(name, dims, inputs) {
    const about = this.functions.find((found) => found.name === name);
    if (!about) throw new ModelError("EDGEC_NO_SUCH_NAME", `got function ${name}`);
    if (!this.instance) throw new ModelError("EDGEC_NULL_ARGUMENT", `got a closed model`);
    const values = dimValues(about, dims);
    checkInputs(about, inputs);
    const kept = new Set(
      about.states.filter(({ input }) => inputs[input] === null).map(({ output }) => output),
    );
    return this.#with((reserve) => {
      const at = reserve(8 * values.length + 8);
      values.forEach((value, i) => this.memory.view.setBigInt64(at + 8 * i, BigInt(value), true));
      const given = inputs.map((array, i) => this.#place(about, about.inputs[i], at, array, reserve));
      const results = about.outputs.map((tensor, i) =>
        kept.has(i) ? { address: 0 } : this.#space(tensor, at, reserve));
      const pointers = (list) => this.#pointers(list, reserve);
      const [ins, outs] = [pointers(given), pointers(results.map(({ address }) => address))];
      const status = this.exports.edgec_call(this.instance, about.index, at, ins, outs);
      if (status) {
        const error = this.memory.text(this.exports.edgec_last_error(this.instance));
        throw this.#error(status, error);
      }
      return results.map(({ address, count }, i) =>
        kept.has(i) ? null : this.#array(about.outputs[i], address, count).slice());
    });
  }

  /** Sizes of an output for given dims. */
  sizes(name, output, dims) {
    const about = this.functions.find((found) => found.name === name);
    return this.#with((reserve) => {
      const values = dimValues(about, dims), at = reserve(8 * values.length + 8);
      values.forEach((value, i) => this.memory.view.setBigInt64(at + 8 * i, BigInt(value), true));
      return this.#sizes(about.outputs[output], at, reserve);
    });
  }

  /** Calls by kernel, [] unless asked for. */
  profile() {
    const at = this.exports.edgec_profile_of(this.instance);
    if (!at) return [];
    return this.kernels.map((kernel, i) => ({ kernel, calls: this.memory.int64(at + PROFILE * i) }));
  }

  /** Give the memory back; the last model that was loaded should be closed first. */
  close() {
    this.exports.edgec_destroy(this.instance);
    this.instance = 0;
    this.blocks.forEach((block) => this.exports.edgec_release(block));
    this.blocks = [];
  }

  #error(status, text) {
    const name = this.memory.text(this.exports.edgec_status_name(status));
    return new ModelError(name, text || this.memory.text(this.exports.edgec_status_text(status)));
  }

  #reserve(bytes, blocks) {
    const block = this.exports.edgec_reserve(BigInt(bytes));
    if (!block) throw new ModelError("EDGEC_OUT_OF_MEMORY", `no memory; need ${bytes} bytes`);
    blocks.push(block);
    return block;
  }

  /** Call `use` with a function that reserves memory for as long as it runs. */
  #with(use) {
    const blocks = [];
    try {
      return use((bytes) => this.#reserve(bytes, blocks));
    } finally {
      blocks.forEach((block) => this.exports.edgec_release(block));
    }
  }

  #text(text, reserve) {
    const bytes = new TextEncoder().encode(`${text}\0`), at = reserve(bytes.length);
    new Uint8Array(this.memory.memory.buffer).set(bytes, at);
    return at;
  }

  #pointers(list, reserve) {
    const at = reserve(4 * list.length + 4);
    list.forEach((address, i) => this.memory.view.setUint32(at + 4 * i, address, true));
    return at;
  }

  #sizes(tensor, dims, reserve) {
    const at = reserve(8 * MAX_RANK);
    this.exports.__indirect_function_table.get(tensor.shape)(dims, at);
    return Array.from({ length: tensor.rank }, (_, i) => this.memory.int64(at + 8 * i));
  }

  #space(tensor, dims, reserve) {
    const count = this.#sizes(tensor, dims, reserve).reduce((a, b) => a * b, 1);
    return { address: reserve(count * tensor.ArrayType.BYTES_PER_ELEMENT), count };
  }

  #place(about, tensor, dims, array, reserve) {
    if (array === null) return 0;
    const { address, count } = this.#space(tensor, dims, reserve);
    if (array.length !== count) {
      const got = `${array.length} elements for ${about.name} ${tensor.name}`;
      throw new ModelError("EDGEC_BAD_OPTION", `got ${got}; need ${count}, ${tensor.shapeText}`);
    }
    this.#array(tensor, address, count).set(array);
    return address;
  }

  #array(tensor, address, count) {
    return new tensor.ArrayType(this.memory.memory.buffer, address, count);
  }
}

function dimValues(about, dims) {
  return about.dims.map(({ name, min, max }) => {
    const value = dims[name];
    if (Number.isInteger(value) && value >= min && value <= max) return value;
    const need = `${min} <= ${name} <= ${max}`;
    throw new ModelError("EDGEC_DIM_OUT_OF_RANGE", `got ${name}=${value}; need ${need}`);
  });
}

function checkInputs(about, inputs) {
  const names = about.inputs.map(({ name }) => name);
  if (inputs.length !== names.length) {
    throw new ModelError("EDGEC_NULL_ARGUMENT", `got ${inputs.length} inputs; need ${names}`);
  }
  about.inputs.forEach(({ name, ArrayType }, i) => {
    if (inputs[i] === null || inputs[i] instanceof ArrayType) return;
    throw new ModelError("EDGEC_BAD_OPTION", `got another type for ${name}; need ${ArrayType.name}`);
  });
}
