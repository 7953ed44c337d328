/**
 * What a compute process writes to standard error, as lines of bounded length and rate: a library that
 * complains in a loop must fill neither the memory of the worker nor its log.
 */

import type { Clock } from '../../shared/base/clock.js';

interface LineTeller {
  /** @param leftOutCount lines before this one that were left out. */
  (line: string, leftOutCount: number): void;
}

const LINE_LENGTH_MAX = 4_000;
/** So many lines pass at once, and then so many a second. */
const LINES_AT_ONCE_MAX = 100;
const LINES_PER_SECOND = 5;

/** Lines that TensorFlow prints at every start, whatever its log level. */
const LIBRARY_CHATTER = /^(WARNING: All log messages before absl|I0000 |To enable the following)/;

export class ComputeLines {
  readonly #clock: Clock;
  readonly #tell: LineTeller;
  /** The beginning of a line whose end has not come yet. */
  #begun = '';
  #allowance = LINES_AT_ONCE_MAX;
  #allowedMs: number;
  #leftOut: { readonly count: number; readonly last: string } = { count: 0, last: '' };

  constructor(clock: Clock, tell: LineTeller) {
    this.#clock = clock;
    this.#tell = tell;
    this.#allowedMs = clock.monotonicMs();
  }

  write(text: string): void {
    const parts = text.split('\n');
    for (const [index, part] of parts.entries()) {
      this.#begun += part.slice(0, LINE_LENGTH_MAX - this.#begun.length);
      if (index < parts.length - 1) this.#endLine();
    }
  }

  /** Tells what is left when nothing more comes. */
  end(): void {
    this.#endLine();
    const { count, last } = this.#leftOut;
    if (count > 0) this.#tell(last, count - 1);
    this.#leftOut = { count: 0, last: '' };
  }

  #endLine(): void {
    const line = this.#begun.replace(/\r$/, '');
    this.#begun = '';
    if (line === '' || LIBRARY_CHATTER.test(line)) return;
    const { count } = this.#leftOut;
    if (!this.#isAllowed()) {
      this.#leftOut = { count: count + 1, last: line };
      return;
    }
    this.#leftOut = { count: 0, last: '' };
    this.#tell(line, count);
  }

  #isAllowed(): boolean {
    const nowMs = this.#clock.monotonicMs();
    const earned = ((nowMs - this.#allowedMs) / 1_000) * LINES_PER_SECOND;
    this.#allowedMs = nowMs;
    this.#allowance = Math.min(LINES_AT_ONCE_MAX, this.#allowance + earned);
    if (this.#allowance < 1) return false;
    this.#allowance -= 1;
    return true;
  }
}
