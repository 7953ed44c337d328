/**
 * The simulated server of the queue and its blobs: the in-memory queue, with blobs that have lifetimes. It
 * can be away, be full, lose its memory, and fail over to a replica that lacks the last writes.
 */

import type { BlobRef } from '../../shared/storage/blob-store.js';
import { MemoryJobQueue } from './queue/memory-job-queue.js';
import type { Machine } from './simulated-process.js';

/** Whether a command only reads: a server that refuses to write still answers it. */
export type CommandKind = 'reads' | 'writes';

type Condition = 'up' | 'away' | 'read-only' | 'disk-full' | 'memory-full';

/** The words of Redis, so that the code that reads them is part of the simulation. */
const REFUSAL_BY_CONDITION: Readonly<Record<Exclude<Condition, 'up' | 'away'>, string>> = {
  'read-only': "READONLY You can't write against a read only replica.",
  'disk-full':
    'MISCONF Redis is configured to save RDB snapshots, but it is currently unable to persist to disk.',
  'memory-full': "OOM command not allowed when used memory > 'maxmemory'.",
};

interface StoredBlob {
  readonly bytes: Uint8Array;
  endMs: number;
}

export class SimulatedServer {
  readonly queue: MemoryJobQueue;
  readonly #machine: Machine;
  readonly #blobs = new Map<string, StoredBlob>();
  #condition: Condition = 'up';
  /** Rises whenever connections break. */
  #connectionNumber = 0;
  #whenUp: Promise<void> | null = null;
  #tellUp: () => void = () => undefined;
  readonly #onReconnect = new Set<() => void>();
  readonly #forget: () => void;

  constructor(machine: Machine) {
    this.#machine = machine;
    this.queue = new MemoryJobQueue({
      clock: {
        epochMs: () => machine.epochMs(),
        monotonicMs: () => machine.monotonicMs(),
        sleep: (durationMs, signal) => machine.sleep(durationMs, signal),
      },
    });
    this.#forget = this.queue.remember();
  }

  get isAway(): boolean {
    return this.#condition === 'away';
  }

  get connectionNumber(): number {
    return this.#connectionNumber;
  }

  get blobCount(): number {
    this.#expire();
    return this.#blobs.size;
  }

  /** Resolves when connections are possible. */
  async up(): Promise<void> {
    while (this.#whenUp !== null) await this.#whenUp;
  }

  onReconnect(listener: () => void): () => void {
    this.#onReconnect.add(listener);
    return () => void this.#onReconnect.delete(listener);
  }

  goAway(): void {
    if (this.#condition === 'away') return;
    this.#condition = 'away';
    this.#connectionNumber += 1;
    this.#whenUp = new Promise((resolve) => {
      this.#tellUp = resolve;
    });
  }

  become(condition: Exclude<Condition, 'away'>): void {
    const wasAway = this.#condition === 'away';
    this.#condition = condition;
    if (!wasAway) return;
    this.#whenUp = null;
    this.#tellUp();
    for (const listener of this.#onReconnect) listener();
  }

  /** @throws Error in the words of Redis. */
  demand(kind: CommandKind): void {
    const condition = this.#condition;
    if (condition === 'up' || condition === 'away' || kind === 'reads') return;
    throw Object.assign(new Error(REFUSAL_BY_CONDITION[condition]), { name: 'ReplyError' });
  }

  /** Returns a function that brings the state of now back. */
  remember(): () => void {
    const restoreQueue = this.queue.remember();
    const kept = new Map([...this.#blobs].map(([key, blob]) => [key, { ...blob }]));
    return () => {
      restoreQueue();
      this.#blobs.clear();
      for (const [key, blob] of kept) this.#blobs.set(key, blob);
    };
  }

  loseMemory(): void {
    this.#forget();
    this.#blobs.clear();
  }

  putBlob({ sha256 }: BlobRef, bytes: Uint8Array, lifetimeMs: number): void {
    const endMs = this.#machine.monotonicMs() + lifetimeMs;
    this.#blobs.set(sha256, { bytes: new Uint8Array(bytes), endMs });
  }

  /** Renews the lifetime of the blob. */
  blob({ sha256 }: BlobRef, lifetimeMs: number): Uint8Array | null {
    this.#expire();
    const found = this.#blobs.get(sha256);
    if (found === undefined) return null;
    found.endMs = this.#machine.monotonicMs() + lifetimeMs;
    return new Uint8Array(found.bytes);
  }

  deleteBlob({ sha256 }: BlobRef): void {
    this.#blobs.delete(sha256);
  }

  /** @param draw below 1: which of the blobs. */
  evictOne(draw: number): void {
    const sha256 = this.#chosen(draw);
    if (sha256 !== undefined) this.#blobs.delete(sha256);
  }

  /** Changes a byte of a blob, or cuts it off. */
  damageOne(draw: number, isCutOff: boolean): void {
    const sha256 = this.#chosen(draw);
    const found = sha256 === undefined ? undefined : this.#blobs.get(sha256);
    if (sha256 === undefined || found === undefined) return;
    this.#blobs.set(sha256, { ...found, bytes: damaged(found.bytes, isCutOff) });
  }

  #chosen(draw: number): string | undefined {
    const keys = [...this.#blobs.keys()];
    return keys[Math.floor(draw * keys.length)];
  }

  #expire(): void {
    const nowMs = this.#machine.monotonicMs();
    for (const [sha256, { endMs }] of this.#blobs) if (endMs <= nowMs) this.#blobs.delete(sha256);
  }
}

/** The bytes with the last one changed, or the first half. */
export function damaged(bytes: Uint8Array, isCutOff: boolean): Uint8Array {
  if (isCutOff) return bytes.slice(0, bytes.byteLength >> 1);
  const changed = new Uint8Array(bytes);
  const last = changed.byteLength - 1;
  changed[last] = (changed[last] ?? 0) ^ 1;
  return changed;
}
