/** Writes one Arrow IPC file batch by batch and hashes it, no faster than the disk accepts it. */

import { createHash, type Hash } from 'node:crypto';
import { createWriteStream, type WriteStream } from 'node:fs';
import { join } from 'node:path';
import {
  RecordBatchFileWriter,
  type RecordBatch,
  type Schema,
} from '../../shared/formats/arrow.js';
import { systemFailure } from '../../shared/base/system-errors.js';
import type { StoreManifest } from '../../shared/tasks/store-manifest.js';

export type StoreFile = StoreManifest['files'][number];

export class ArrowFile {
  byteCount = 0;
  private readonly writer = new RecordBatchFileWriter();
  private readonly hash: Hash = createHash('sha256');
  private readonly stream: WriteStream;
  private readonly done: Promise<void>;
  private failure: unknown = null;

  constructor(
    private readonly folder: string,
    private readonly name: string,
    schema: Schema,
  ) {
    this.stream = createWriteStream(join(folder, name), { highWaterMark: 1 << 20 });
    this.stream.on('error', (error) => (this.failure ??= error));
    this.writer.reset(undefined, schema);
    this.done = this.drain();
    this.done.catch((error: unknown) => (this.failure ??= error));
  }

  private async drain(): Promise<void> {
    // The writer declares `any`; it yields the bytes of the file.
    for await (const bytes of this.writer as AsyncIterable<Uint8Array>) {
      if (this.failure !== null) return;
      this.hash.update(bytes);
      this.byteCount += bytes.byteLength;
      // Copied, since the writer's chunk may be a view of a batch that is filled again.
      if (!this.stream.write(Buffer.from(bytes))) await this.drained();
    }
  }

  /** Resolves when the disk has accepted what was written, or has failed. */
  private drained(): Promise<void> {
    const { stream } = this;
    return new Promise((resolve) => {
      const done = (): void => {
        stream.off('drain', done);
        stream.off('close', done);
        resolve();
      };
      stream.on('drain', done);
      stream.on('close', done);
    });
  }

  /** @throws QianmoError of kind `environment` if the disk refuses. */
  async write(batch: RecordBatch): Promise<void> {
    this.check();
    this.writer.write(batch);
    // Lets the drain take the batch's chunks before the next batch is made.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.stream.writableNeedDrain && this.failure === null) await this.drained();
    this.check();
  }

  async finish(): Promise<StoreFile> {
    this.writer.close();
    await this.done;
    await new Promise<void>((resolve) => this.stream.end(() => resolve()));
    this.check();
    return { name: this.name, byteCount: this.byteCount, sha256: this.hash.digest('hex') };
  }

  abandon(): void {
    this.failure ??= new Error('abandoned');
    this.writer.close();
    this.stream.destroy();
  }

  private check(): void {
    if (this.failure !== null)
      throw systemFailure(this.failure, 'writing the task store', join(this.folder, this.name));
  }
}
