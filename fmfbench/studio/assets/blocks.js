// Frames or masks of a recording, fetched in blocks and kept while they are likely to be needed again.

const BLOCK_BYTES = 1 << 19;
const KEPT_BYTES = 96 << 20;

export class Blocks {
  /** url(start, stop) gives n * entryBytes bytes; there are `count` entries, at most `most` of them in a block. */
  constructor(url, count, entryBytes, fetchBytes, most = 25) {
    this.url = url;
    this.count = count;
    this.entryBytes = entryBytes;
    this.fetchBytes = fetchBytes;
    this.size = Math.max(1, Math.min(most, Math.floor(BLOCK_BYTES / entryBytes)));
    this.kept = new Map(); // block -> Uint8Array, the longest unused first
    this.pending = new Map(); // block -> Promise
    this.age = 0;
  }

  /** The bytes of an entry if they are here, else null. */
  peek(entry) {
    const number = Math.floor(entry / this.size);
    const block = this.kept.get(number);
    if (!block) return null;
    this.kept.delete(number);
    this.kept.set(number, block);
    const at = (entry - number * this.size) * this.entryBytes;
    return block.subarray(at, at + this.entryBytes);
  }

  async get(entry) {
    const here = this.peek(entry);
    if (here) return here;
    await this.load(Math.floor(entry / this.size));
    return this.peek(entry);
  }

  /** Begin to fetch what follows an entry. */
  ahead(entry, blocks = 2) {
    const number = Math.floor(entry / this.size);
    for (let k = number; k <= number + blocks; k++) {
      if (k * this.size < this.count && !this.kept.has(k)) this.load(k).catch(() => {});
    }
  }

  load(number) {
    let promise = this.pending.get(number);
    if (!promise) {
      promise = this.fetchBlock(number).finally(() => this.pending.get(number) === promise && this.pending.delete(number));
      this.pending.set(number, promise);
    }
    return promise;
  }

  /** What the server gives has changed: ask again. */
  forget() {
    this.age++;
    this.kept.clear();
    this.pending.clear();
  }

  async fetchBlock(number) {
    const { age } = this;
    const start = number * this.size;
    const bytes = await this.fetchBytes(this.url(start, Math.min(start + this.size, this.count)));
    if (age !== this.age) return; // of before the change: whoever waits asks again
    this.kept.set(number, new Uint8Array(bytes));
    const most = Math.max(4, Math.floor(KEPT_BYTES / (this.size * this.entryBytes)));
    while (this.kept.size > most) this.kept.delete(this.kept.keys().next().value);
  }
}

/** The same for pictures that the server compresses: one a request, decoded. */
export class Pictures {
  constructor(url, count, fetchBlob) {
    this.url = url;
    this.count = count;
    this.fetchBlob = fetchBlob;
    this.kept = new Map();
    this.pending = new Map();
  }

  peek(frame) {
    return this.kept.get(frame) ?? null;
  }

  async get(frame) {
    if (!this.kept.has(frame)) await this.load(frame);
    return this.kept.get(frame);
  }

  ahead(frame) {
    for (let k = frame; k < Math.min(frame + 8, this.count); k++) {
      if (!this.kept.has(k)) this.load(k).catch(() => {});
    }
  }

  load(frame) {
    let promise = this.pending.get(frame);
    if (!promise) {
      promise = (async () => {
        this.kept.set(frame, await createImageBitmap(await this.fetchBlob(this.url(frame))));
        while (this.kept.size > 64) {
          const [oldest, bitmap] = this.kept.entries().next().value;
          this.kept.delete(oldest);
          bitmap.close();
        }
      })().finally(() => this.pending.delete(frame));
      this.pending.set(frame, promise);
    }
    return promise;
  }
}
