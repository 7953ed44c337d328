/** A call of the library: its result, its events, its end, and its side effects. */

import { getEventListeners } from 'node:events';
import { describe, expect, test, vi } from 'vitest';
import type { RunContext } from '../../../coordinator/runs/run-context.js';
import {
  openRunContext,
  startRun,
  type CallOptions,
  type RunHandle,
} from '../../../coordinator/runs/run-handle.js';
import { systemClock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import type { StampedEvent } from '../../../shared/events/run-events.js';
import { noMachine } from '../../fixtures/run-context.js';

const surroundings = { machine: noMachine, clock: systemClock, environment: {} };
const notice = (address: string) => ({ kind: 'report-written', address }) as const;
/** The event as a reader receives it, with its time. */
const told = (address: string): unknown => expect.objectContaining(notice(address));

function started<Result>(
  work: (context: RunContext) => Promise<Result>,
  options: CallOptions = {},
): RunHandle<Result> {
  return startRun(surroundings, options, work);
}

function gate(): { readonly passed: Promise<void>; open(): void } {
  let open = (): void => undefined;
  const passed = new Promise<void>((resolve) => (open = resolve));
  return { passed, open: () => open() };
}

async function collected(events: AsyncIterable<StampedEvent>): Promise<StampedEvent[]> {
  const seen: StampedEvent[] = [];
  for await (const event of events) seen.push(event);
  return seen;
}

describe('the handle of a call', () => {
  test('is the promise of its result', async () => {
    await expect(started(() => Promise.resolve(7))).resolves.toBe(7);
  });

  test('passes every event to the callback and to each iteration, before and after the end', async () => {
    const heard: StampedEvent[] = [];
    const go = gate();
    const handle = started(
      async ({ sink }) => {
        sink(notice('one'));
        await go.passed;
        sink(notice('two'));
      },
      { onEvent: (event) => heard.push(event) },
    );
    const during = collected(handle.events);
    go.open();
    await handle;
    const both = [told('one'), told('two')];
    expect(await during).toEqual(both);
    expect(await collected(handle.events)).toEqual(both);
    expect(heard).toEqual(both);
  });

  test('throws at the end of the events and from the promise if its work failed', async () => {
    const handle = started(({ sink }) => {
      sink(notice('one'));
      return Promise.reject(new QianmoError({ kind: 'data', what: 'the log is damaged' }));
    });
    const seen: StampedEvent[] = [];
    const iterating = (async () => {
      for await (const event of handle.events) seen.push(event);
    })();
    await expect(iterating).rejects.toThrow('the log is damaged');
    await expect(handle).rejects.toThrow('the log is damaged');
    expect(seen).toEqual([told('one')]);
  });

  test('a failure that nobody awaits or reads is an unhandled rejection; one that is read is not', async () => {
    const others = process.listeners('unhandledRejection');
    const unhandled: unknown[] = [];
    process.removeAllListeners('unhandledRejection');
    process.on('unhandledRejection', (reason) => unhandled.push(reason));
    const [read, lost] = ['read', 'lost'].map((message) => new Error(message));
    try {
      await expect(collected(started(() => Promise.reject(read!)).events)).rejects.toBe(read);
      void started(() => Promise.reject(lost!));
      await vi.waitUntil(() => unhandled.length > 0);
    } finally {
      process.removeAllListeners('unhandledRejection');
      for (const other of others) process.on('unhandledRejection', other);
    }
    expect(unhandled).toEqual([lost]);
  });

  test('continues when an iteration is left early', async () => {
    const go = gate();
    const handle = started(async ({ sink }) => {
      sink(notice('one'));
      await go.passed;
      return 'done';
    });
    for await (const event of handle.events) {
      expect(event).toEqual(told('one'));
      break;
    }
    go.open();
    expect(await handle).toBe('done');
  });

  test('a failure of the system is a QianmoError', async () => {
    const failure = Object.assign(new Error('ENOSPC'), { code: 'ENOSPC', syscall: 'write' });
    await expect(started(() => Promise.reject(failure))).rejects.toBeInstanceOf(QianmoError);
  });

  test('an abort for any reason is an interruption, and leaves no listener', async () => {
    const abort = new AbortController();
    const handle = started(
      ({ signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason as Error));
        }),
      { signal: abort.signal },
    );
    expect(getEventListeners(abort.signal, 'abort')).toHaveLength(1);
    abort.abort(new Error('the user has left'));
    await expect(handle).rejects.toMatchObject({
      kind: 'interrupted',
      cause: { message: 'the user has left' },
    });
    expect(getEventListeners(abort.signal, 'abort')).toHaveLength(0);
  });

  test('nothing starts with a signal that is already aborted', async () => {
    let hasBegun = false;
    const handle = started(
      () => {
        hasBegun = true;
        return Promise.resolve();
      },
      { signal: AbortSignal.abort() },
    );
    await expect(handle).rejects.toMatchObject({ kind: 'interrupted' });
    expect(hasBegun).toBe(false);
  });

  test('everything is closed before it settles, and a failure to close is reported', async () => {
    const closed: string[] = [];
    const stopped = started(({ onClose }) => {
      onClose(() => Promise.resolve(void closed.push('workers')));
      return Promise.resolve();
    });
    await stopped;
    expect(closed).toEqual(['workers']);
    const unstopped = started(({ onClose }) => {
      onClose(() => Promise.reject(new Error('redis is gone')));
      return Promise.resolve();
    });
    await expect(unstopped).rejects.toThrow('redis is gone');
  });

  test('the failure of the work is thrown even if closing fails too', async () => {
    const handle = started(({ onClose }) => {
      onClose(() => Promise.reject(new Error('redis is gone')));
      return Promise.reject(new Error('diverged'));
    });
    await expect(handle).rejects.toThrow('diverged');
    await expect(collected(handle.events)).rejects.toThrow('diverged');
  });
});

test('everything is closed, last opened first, even when one close fails', async () => {
  const { context, close } = openRunContext(surroundings, undefined, () => undefined);
  const closed: string[] = [];
  const closeAs = (name: string) => (): Promise<void> => {
    closed.push(name);
    return Promise.resolve();
  };
  context.onClose(closeAs('folder'));
  context.onClose(() => Promise.reject(new Error('redis is gone')));
  context.onClose(closeAs('workers'));
  await expect(close()).rejects.toThrow('redis is gone');
  expect(closed).toEqual(['workers', 'folder']);
  await close();
  expect(closed).toEqual(['workers', 'folder']);
});
