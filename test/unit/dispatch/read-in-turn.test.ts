/** Reads under way at once, and their order. */

import { describe, expect, it } from 'vitest';
import { readInTurn } from '../../../coordinator/dispatch/dispatch-step.js';

describe('readInTurn', () => {
  it('keeps a bounded number of reads under way and yields in order', async () => {
    const ends: ((value: string) => void)[] = [];
    const started: number[] = [];
    const read = (item: number): Promise<string> => {
      started.push(item);
      return new Promise((resolve) => (ends[item] = resolve));
    };
    const values = readInTurn([0, 1, 2, 3], read, 2);
    const first = values.next();
    expect(started).toEqual([0, 1]);
    // The second one ends first, and waits for its turn.
    ends[1]?.('b');
    ends[0]?.('a');
    expect(await first).toEqual({ done: false, value: 'a' });
    const second = values.next();
    expect(await second).toEqual({ done: false, value: 'b' });
    expect(started).toEqual([0, 1, 2]);
    const third = values.next();
    ends[2]?.('c');
    expect(await third).toEqual({ done: false, value: 'c' });
    const fourth = values.next();
    ends[3]?.('d');
    expect(await fourth).toEqual({ done: false, value: 'd' });
    expect((await values.next()).done).toBe(true);
  });

  it('throws a failure when it is its turn, and leaves no rejection unheard', async () => {
    const read = (item: number): Promise<number> =>
      item === 0 ? Promise.resolve(0) : Promise.reject(new Error(`read ${item}`));
    const values = readInTurn([0, 1, 2], read, 3);
    expect((await values.next()).value).toBe(0);
    await expect(values.next()).rejects.toThrow('read 1');
  });
});
