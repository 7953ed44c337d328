import { describe, expect, it } from 'vitest';
import { inOrderOfArrival } from '../../../coordinator/dispatch/in-memory-dispatcher.js';

interface Started {
  readonly name: string;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** Things that end when the test says so. */
function scene(names: readonly string[], unreadCountMax: number) {
  const started: Started[] = [];
  const notes: string[] = [];
  const abort = new AbortController();
  const starts = names.map((name) => () => {
    return new Promise<string>((resolve, reject) => {
      started.push({ name, resolve: () => resolve(name), reject });
    });
  });
  const values = inOrderOfArrival(starts, {
    unreadCountMax,
    signal: abort.signal,
    interrupted: () => new Error('stopped'),
    onAbort: () => notes.push('abort'),
    onRead: () => notes.push('read'),
    onEnd: () => notes.push('end'),
  });
  const nameds = (): string[] => started.map(({ name }) => name);
  const end = (name: string): void => started.find((each) => each.name === name)?.resolve();
  const fail = (name: string, error: Error): void =>
    started.find((each) => each.name === name)?.reject(error);
  return { values, abort, notes, nameds, end, fail };
}

describe('things in order of arrival', () => {
  it('come as they end, and another one starts for each that is read', async () => {
    const { values, nameds, end, notes } = scene(['a', 'b', 'c', 'd'], 2);
    expect(nameds()).toEqual(['a', 'b']);
    end('b');
    expect((await values.next()).value).toBe('b');
    expect(nameds()).toEqual(['a', 'b', 'c']);
    end('c');
    end('a');
    expect((await values.next()).value).toBe('c');
    expect((await values.next()).value).toBe('a');
    end('d');
    expect((await values.next()).value).toBe('d');
    expect(notes).toEqual(['read']);
    expect((await values.next()).done).toBe(true);
    expect(notes).toEqual(['read', 'end']);
  });

  it('end with the first failure, and start no more', async () => {
    const { values, nameds, end, fail, notes } = scene(['a', 'b', 'c'], 1);
    end('a');
    await values.next();
    const error = new Error('broken');
    fail('b', error);
    await expect(values.next()).rejects.toBe(error);
    expect(nameds()).toEqual(['a', 'b']);
    expect(notes).toEqual(['read', 'end']);
  });

  it('end at once when the signal aborts, also while one is awaited', async () => {
    const { values, abort, end, notes } = scene(['a', 'b'], 2);
    end('a');
    await values.next();
    const next = values.next();
    abort.abort();
    await expect(next).rejects.toThrow('stopped');
    expect(notes).toEqual(['read', 'abort', 'end']);
  });

  it('do not start under a signal that has aborted', async () => {
    const abort = new AbortController();
    abort.abort();
    let count = 0;
    const values = inOrderOfArrival([() => Promise.resolve((count += 1))], {
      unreadCountMax: 1,
      signal: abort.signal,
      interrupted: () => new Error('stopped'),
      onAbort: () => undefined,
      onRead: () => undefined,
      onEnd: () => undefined,
    });
    await expect(values.next()).rejects.toThrow('stopped');
    expect(count).toBe(0);
  });
});
