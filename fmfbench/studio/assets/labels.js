// The draft: edits with undo and redo without limit, saved one after the other as they are made.

import { app, emit, toast } from "./app.js";
import { ApiError, getJson, path, postJson } from "./net.js";
import { same } from "./tracks.js";
import { ask } from "./dialogs.js";

const RETRY_MS = 1000;

export class Labels {
  constructor(state) {
    this.lost = null; // why the last change is not saved yet
    this.busy = new Set();
    this.done = []; // edits that undo takes back: { name, before, after }
    this.undone = [];
    this.asking = false;
    this.take(state);
  }

  take(state) {
    this.size = state.size;
    this.file = state.file;
    this.now = new Map(); // recording -> tracks or null
    this.safe = new Map(); // what the server has acknowledged
    this.revision = new Map();
    for (const [name, entry] of Object.entries(state.recordings)) this.adopt(name, entry);
  }

  adopt(name, { tracks, revision }) {
    this.now.set(name, tracks);
    this.safe.set(name, tracks);
    this.revision.set(name, revision);
  }

  /** null: the recording is not labelled; []: it is, and normal throughout. */
  tracks(name) {
    return this.now.get(name) ?? null;
  }

  isPending(name) {
    return !same(this.now.get(name), this.safe.get(name));
  }

  /** Recordings with changes that the server does not hold yet, or with a save on its way: until it is answered the
   * server may come to hold what was undone meanwhile, even where the page is back at what was acknowledged last. */
  get pending() {
    return [...this.now.keys()].filter((name) => this.isPending(name) || this.busy.has(name));
  }

  edit(name, tracks) {
    const before = this.tracks(name);
    if (same(before, tracks)) return;
    this.done.push({ name, before, after: tracks });
    this.undone = [];
    this.set(name, tracks);
  }

  set(name, tracks) {
    this.now.set(name, tracks);
    emit("labels");
    this.save(name);
  }

  undo() {
    const last = this.done.pop();
    if (!last) return null;
    this.undone.push(last);
    this.set(last.name, last.before);
    return last;
  }

  redo() {
    const next = this.undone.pop();
    if (!next) return null;
    this.done.push(next);
    this.set(next.name, next.after);
    return next;
  }

  /** Changes from elsewhere cannot be undone here: what is left of the history is that of the other recordings. */
  forget(name) {
    this.done = this.done.filter((edit) => edit.name !== name);
    this.undone = this.undone.filter((edit) => edit.name !== name);
  }

  async save(name) {
    if (this.busy.has(name) || this.asking) return;
    this.busy.add(name);
    try {
      while (this.isPending(name)) {
        const tracks = this.now.get(name);
        const base = this.revision.get(name);
        const { revision } = await postJson(path("keyframes", name), { base, tracks });
        this.revision.set(name, revision);
        this.safe.set(name, tracks);
        this.lost = null;
      }
    } catch (error) {
      this.failed(name, error);
    } finally {
      this.busy.delete(name);
      emit("saved");
    }
  }

  failed(name, error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 409) {
      this.askWhich(name);
    } else if (error.status === 400) {
      this.now.set(name, this.safe.get(name));
      this.forget(name);
      toast(`Taken back: ${error.message}`);
      emit("labels");
    } else {
      this.lost = error.message;
      emit("saved");
      setTimeout(() => this.save(name), RETRY_MS);
    }
  }

  /** Somebody else changed the same labels: say so, and let the person choose. */
  async askWhich(name) {
    if (this.asking) return;
    this.asking = true;
    try {
      const state = await getJson("/api/keyframes");
      if (state.conflict) {
        await this.resolveFile(state.conflict);
        return;
      }
      const theirs = state.recordings[name];
      const count = (tracks) => (tracks === null ? "not labelled" : `${tracks.length} events`);
      const keep = await ask(
        "Changed in another window",
        `The labels of ${name} were changed elsewhere while you changed them here. ` +
          `There: ${count(theirs.tracks)}. Here: ${count(this.tracks(name))}. Nothing is overwritten until you choose.`,
        [
          ["theirs", "Keep the other window's"],
          ["mine", "Keep mine"],
        ],
      );
      this.revision.set(name, theirs.revision);
      this.safe.set(name, theirs.tracks);
      if (keep === "theirs") {
        this.now.set(name, theirs.tracks);
        this.forget(name);
      }
      emit("labels");
    } finally {
      this.asking = false;
    }
    this.save(name);
  }

  async resolveFile(conflict) {
    const sum = (counts) =>
      Object.entries(counts)
        .map(([name, count]) => `${name}: ${count}`)
        .join(", ") || "no labels";
    const keep = await ask(
      `${this.file} was changed by another program`,
      `In the file, events of ${sum(conflict.file)}. Here, events of ${sum(conflict.draft)}. ` +
        "Choose which to keep; the other one is put aside as a file of its own.",
      [
        ["file", "Keep the file"],
        ["draft", "Keep what is drawn here"],
      ],
    );
    const { aside } = await postJson("/api/resolve", { keep });
    const mine = new Map(this.now);
    this.take(await getJson("/api/keyframes"));
    this.done = [];
    this.undone = [];
    if (keep === "draft") {
      for (const [name, tracks] of mine) {
        this.now.set(name, tracks);
        setTimeout(() => this.save(name));
      }
    }
    toast(`The other labels are in ${aside}. Undo begins here.`);
    emit("labels");
    emit("saved");
  }

  /** What the server says every second or two. */
  async heard({ conflict, revisions }) {
    if (this.asking) return;
    if (conflict) {
      this.asking = true;
      try {
        await this.resolveFile(conflict);
      } finally {
        this.asking = false;
      }
      return;
    }
    const moved = Object.keys(revisions).filter(
      (name) => revisions[name] !== this.revision.get(name) && !this.isPending(name) && !this.busy.has(name),
    );
    if (!moved.length) return;
    const state = await getJson("/api/keyframes");
    for (const name of moved) {
      if (this.isPending(name) || this.busy.has(name)) continue;
      const changed = !same(this.tracks(name), state.recordings[name].tracks);
      this.adopt(name, state.recordings[name]);
      if (changed) {
        this.forget(name);
        toast(`${name}: labels changed in another window are shown; undo begins here.`);
      }
    }
    if (app.rec) emit("labels");
  }
}
