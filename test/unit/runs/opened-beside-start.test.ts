// A run opens its store while what computes is being started; a store that fails is what is told.

import { expect, test } from 'vitest';
import type { RunContext } from '../../../coordinator/runs/run-context.js';
import { openedBesideStart, type RunDispatch } from '../../../coordinator/runs/dispatch-for-run.js';

/** The one member of a context that the subject reads. */
const context = { signal: new AbortController().signal } as RunContext;
/** Nothing is dispatched here. */
const dispatch = { redisUrl: null } as RunDispatch;

test('the start and the opening do not wait for each other', async () => {
  let isStarted = (): void => undefined;
  const started = new Promise<void>((resolve) => {
    isStarted = resolve;
  });
  const result = await openedBesideStart(
    context,
    () => started.then(() => 'store'),
    () => {
      isStarted();
      return Promise.resolve(dispatch);
    },
  );
  expect(result).toEqual(['store', dispatch]);
});

test('a store that does not open breaks the start off and is told', async () => {
  const missing = new Error('there is no store');
  let reason: unknown;
  const outcome = openedBesideStart(
    context,
    () => Promise.reject(missing),
    ({ signal }) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          reason = signal.reason;
          reject(new Error('broken off'));
        });
      }),
  );
  await expect(outcome).rejects.toBe(missing);
  expect(reason).toMatchObject({ kind: 'interrupted' });
});

test('a start that fails is told when the store has been opened', async () => {
  const failure = new Error('no device');
  const outcome = openedBesideStart(
    context,
    () => Promise.resolve('store'),
    () => Promise.reject(failure),
  );
  await expect(outcome).rejects.toBe(failure);
});
