// Requests to the server this page came from. The cookie that the first visit set is the key.

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status; // 0: no answer at all
  }
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", credentials: "same-origin", ...options });
  } catch {
    throw new ApiError(0, "the server does not answer");
  }
  if (!answer.ok) {
    const text = await answer.text();
    let message = text.trim();
    try {
      message = JSON.parse(text).error ?? message;
    } catch { /* plain text */ }
    throw new ApiError(answer.status, message);
  }
  return answer;
}

export const getJson = async (path) => (await ask(path)).json();
export const getBytes = async (path) => (await ask(path)).arrayBuffer();
export const getBlob = async (path) => (await ask(path)).blob();

const asJson = (body) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
});
export const postJson = async (path, body) => (await ask(path, asJson(body))).json();
export const postForBytes = async (path, body) => (await ask(path, asJson(body))).arrayBuffer();
export const postFile = async (path, file) => (await ask(path, { method: "POST", body: file })).json();

export const path = (...parts) => `/api/${parts.map(encodeURIComponent).join("/")}`;

const TYPES = { uint8: Uint8Array, int32: Int32Array, float32: Float32Array, float64: Float64Array };

/** Facts and arrays of one answer; the format stands in fmfbench/studio/bundle.py. */
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const facts = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const start = Math.ceil((4 + length) / 8) * 8;
  const arrays = {};
  for (const [name, { dtype, shape, offset }] of Object.entries(facts.arrays)) {
    arrays[name] = new TYPES[dtype](buffer, start + offset, shape.reduce((a, b) => a * b, 1));
  }
  return { facts, arrays };
}
