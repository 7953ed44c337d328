import { expect, it } from 'vitest';
import { boundedRate } from '../../../shared/events/event-log.js';
import {
  runEventSink,
  type RunEventOf,
  type StampedEvent,
} from '../../../shared/events/run-events.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';

function collecting() {
  const events: StampedEvent[] = [];
  return { events, sink: (event: StampedEvent) => void events.push(event) };
}

const step = (outerStep: number): RunEventOf<'outer-step'> => ({
  ...{ kind: 'outer-step', outerStep, outerSteps: 9, queryLoss: 1, supportLoss: 1 },
  ...{ gradientNorm: 1, tasksPerSecond: 1 },
});

it('the sink of a run stamps the run, the time and the outer step that training has reached', () => {
  const { events, sink } = collecting();
  const clock = instantClock();
  const emit = runEventSink({ runId: 'r', clock }, sink);
  emit({ kind: 'workers-missing', openJobCount: 1 });
  clock.advance(7);
  emit({ kind: 'run-started', runId: 'r', outerStep: 3, outerSteps: 9 });
  emit({ kind: 'redis-back', awayMs: 1 });
  emit(step(4));
  emit({ kind: 'redis-back', awayMs: 2 });
  emit({ kind: 'checkpoint-not-written', outerStep: 1, reason: 'no space' });
  emit({ kind: 'run-finished', outerStep: 4, address: 'a', digest: 'd' });
  emit({ kind: 'report-written', address: 'a' });
  expect(events.map(({ epochMs, runId, outerStep }) => [epochMs, runId, outerStep])).toEqual([
    [0, 'r', undefined],
    [7, 'r', 3],
    [7, 'r', 3],
    [7, 'r', 4],
    [7, 'r', 4],
    [7, 'r', 1],
    [7, 'r', 4],
    [7, 'r', undefined],
  ]);
});

it('boundedRate passes one event per second and subject, the last of a stage, and all rare ones', () => {
  const { events, sink } = collecting();
  const clock = instantClock();
  const emit = runEventSink({ clock }, boundedRate(clock, sink));
  for (let done = 0; done <= 40; done += 1) {
    emit({ kind: 'progress', stage: 'reading', done, total: 40 });
    emit({ kind: 'progress', stage: 'writing', done, total: null });
    emit({ kind: 'redis-back', awayMs: done });
    clock.advance(100);
  }
  const doneOf = (wanted: string): number[] =>
    events.flatMap((event) =>
      event.kind === 'progress' && event.stage === wanted ? [event.done] : [],
    );
  expect(doneOf('reading')).toEqual([0, 10, 20, 30, 40]);
  expect(doneOf('writing')).toEqual([0, 10, 20, 30, 40]);
  expect(events.filter(({ kind }) => kind === 'redis-back')).toHaveLength(41);
  emit({ kind: 'progress', stage: 'reading', done: 40, total: 40 });
  expect(doneOf('reading')).toEqual([0, 10, 20, 30, 40, 40]);
});
