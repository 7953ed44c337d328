/** The view and the state of a run, from events and from the life of its process. */

import { expect, test } from 'vitest';
import { RunHistory } from '../../../coordinator/record/run-history.js';
import { runStateOf, type readRunStatus } from '../../../coordinator/record/run-status.js';
import { reducedRun, type RunView } from '../../../shared/events/run-reducer.js';
import type { RunEvent, StampedEvent } from '../../../shared/events/run-events.js';

type Observer = Parameters<typeof readRunStatus>[1];

const viewOf = (events: readonly StampedEvent[]): RunView => reducedRun(events).view();

const process = { host: 'h', pid: 42, boot: 'b', pidNamespace: 'n', startTicks: '7' };
const alive: RunEvent = { kind: 'call-alive', call: 'train', process, sinceMs: 1_000 };
const ended: RunEvent = { kind: 'call-ended', call: 'train' };
const started: RunEvent = { kind: 'run-started', runId: 'r', outerStep: 0, outerSteps: 10 };
const step = (outerStep: number): RunEvent => ({
  ...{ kind: 'outer-step', outerStep, outerSteps: 10, queryLoss: 0.5 - outerStep / 100 },
  ...{ supportLoss: 0.6, gradientNorm: 1, tasksPerSecond: 200 },
});
const failed = (failure: string): RunEvent => ({ kind: 'run-failed', failure, reason: 'why' });
const awaited: RunEvent = { kind: 'workers-missing', openJobCount: 8 };

/** One event a second, from the first second on. */
const atSeconds = (...events: readonly RunEvent[]): StampedEvent[] =>
  events.map((event, index) => ({ ...event, epochMs: 1_000 * (index + 1), runId: 'r' }));

function stateOf(
  events: readonly StampedEvent[],
  { nowMs = 10_000, seen = 'runs' }: { nowMs?: number; seen?: 'runs' | 'ended' | 'unknown' } = {},
): string {
  const observer: Observer = { nowMs, livenessOf: () => seen };
  return runStateOf(viewOf(events), observer);
}

test('a view holds what the last events say', () => {
  const steps = [1, 2, 3, 4].map(step);
  const refused: RunEvent = {
    ...{ kind: 'result-refused', outerStep: 2, jobIndex: 1, fromWorker: 'w' },
    rejection: 'not_finite',
  };
  const view = viewOf(atSeconds(alive, started, ...steps, refused));
  expect(view).toMatchObject({
    ...{ run: 'r', ending: null, outerStepMs: 1_000, lastEventMs: 7_000, lastProgressMs: 6_000 },
    call: { name: 'train', sinceMs: 1_000, aliveMs: 1_000 },
    training: { outerStep: 4, outerSteps: 10, queryLoss: 0.46 },
    refusedResultCounts: { not_finite: 1 },
  });
});

test('the training of an arm is a stage of the run, and not its training', () => {
  const own = atSeconds(alive, started, ...[9, 10].map(step));
  const checkpoint = { kind: 'checkpoint', outerStep: 2, address: 'a', digest: 'arm' } as const;
  const events: RunEvent[] = [{ ...started, runId: 'r-global' }, step(1), step(2), checkpoint];
  const ofArm = events.map((event, index) => ({
    ...{ ...event, epochMs: 5_000 + 1_000 * index, runId: 'r-global' },
  }));
  const view = viewOf([...own, ...ofArm]);
  expect(view).toMatchObject({
    ...{ run: 'r', checkpoint: null, lastProgressMs: 7_000 },
    training: { outerStep: 10, queryLoss: 0.4 },
    stage: { stage: 'outer steps of r-global', done: 2, total: 10 },
  });
  const history = new RunHistory();
  for (const event of [...own, ...ofArm]) history.admit(event);
  expect(history.course.points('queryLoss').map(({ x }) => x)).toEqual([9, 10]);
  expect(history.checkpoints).toEqual([]);
});

test.each<[string, readonly RunEvent[]]>([
  ['finished', [alive, started, step(10), ended]],
  ['failed', [alive, started, failed('data'), ended]],
  ['failed', [alive, started, failed('bug'), ended]],
  ['interrupted', [alive, started, failed('interrupted'), ended]],
  ['interrupted', [alive, started, failed('cancelled'), ended]],
  // It was killed while it closed.
  ['failed', [alive, started, failed('data')]],
  ['waiting for workers', [alive, started, awaited]],
  ['running', [alive, started, awaited, step(1)]],
  // A call that resumes a failed one.
  ['running', [alive, started, failed('data'), ended, { ...alive, sinceMs: 5_000 }]],
])('the state is %s', (state, events) => {
  expect(stateOf(atSeconds(...events))).toBe(state);
});

test('a process that has gone without a word is lost, one that says so is not', () => {
  const events = atSeconds(alive, started, step(1));
  expect(stateOf(events, { seen: 'ended' })).toBe('lost');
  expect(stateOf(atSeconds(alive, started, ended), { seen: 'ended' })).toBe('finished');
});

test('a process that cannot be seen is lost after a silence', () => {
  const events = atSeconds(alive, started, step(1));
  const lastMs = 3_000;
  expect(stateOf(events, { seen: 'unknown', nowMs: lastMs + 90_000 })).toBe('running');
  expect(stateOf(events, { seen: 'unknown', nowMs: lastMs + 90_000 + 1 })).toBe('lost');
});

test('a run stalls after two minutes, or after twenty of its outer steps', () => {
  const quick = atSeconds(alive, started, step(1), step(2));
  expect(stateOf(quick, { nowMs: 4_000 + 120_000 })).toBe('running');
  expect(stateOf(quick, { nowMs: 4_000 + 120_001 })).toBe('stalled');
  const slow = [alive, started, step(1), step(2), step(3)].map((event, index): StampedEvent => ({
    ...event,
    epochMs: 1_000 + 60_000 * index,
  }));
  const lastMs = 241_000;
  expect(stateOf(slow, { nowMs: lastMs + 20 * 60_000 })).toBe('running');
  expect(stateOf(slow, { nowMs: lastMs + 20 * 60_000 + 1 })).toBe('stalled');
  // Signs of life are no progress.
  const living = atSeconds(alive, started, step(1), step(2), ...Array<RunEvent>(200).fill(alive));
  expect(stateOf(living, { nowMs: 4_000 + 130_000 })).toBe('stalled');
});
