import { describe, expect, it } from 'vitest';
import { createTerminalSink } from '../../../shared/events/terminal-sink.js';
import {
  runEventSink,
  type RunEvent,
  type RunEventSink,
} from '../../../shared/events/run-events.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';

function printed(
  isTTY: boolean,
  { columns = 200 } = {},
): {
  sink: RunEventSink;
  end: () => void;
  clock: ReturnType<typeof instantClock>;
  text: () => string;
} {
  const clock = instantClock();
  let text = '';
  const stream = {
    columns,
    write: (part: string) => {
      text += part;
    },
  };
  const terminal = createTerminalSink({ stream, isTTY, clock });
  const sink = runEventSink({ clock }, terminal);
  return { sink, end: () => terminal.end(), clock, text: () => text };
}

/** The text that a terminal shows: carriage return and erase restart the line. */
function screenOf(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.slice(line.lastIndexOf('\u001b[K') + 1).replace('[K', ''));
}

function step(outerStep: number, outerSteps = 100): Extract<RunEvent, { kind: 'outer-step' }> {
  return {
    kind: 'outer-step',
    outerStep,
    outerSteps,
    queryLoss: 0.5,
    supportLoss: 0.625,
    gradientNorm: 1.25,
    tasksPerSecond: 2000,
  };
}
const started: RunEvent = { kind: 'run-started', runId: 'r', outerStep: 0, outerSteps: 100 };
const otherEvents: RunEvent[] = [
  { kind: 'checkpoint', outerStep: 5, address: 'file:///c/5', digest: 'abc' },
  { kind: 'worker-stopped' },
  {
    kind: 'job-retried',
    ...{ outerStep: 4, jobIndex: 3, cause: 'failed', reason: 'the compute process died' },
  },
  { kind: 'redis-back', awayMs: 750 },
  { kind: 'warning', code: 'split-empty', text: 'no task is held out for test' },
];

describe('without a terminal', () => {
  it('writes plain lines, at most one in five seconds, and always the last', () => {
    const { sink, clock, text } = printed(false);
    sink(started);
    for (let outerStep = 1; outerStep <= 100; outerStep += 1) {
      clock.advance(1000);
      sink(step(outerStep));
    }
    sink({ kind: 'run-finished', outerStep: 100, address: 'file:///c/100', digest: 'abc' });
    const lines = text().trimEnd().split('\n');
    expect(text()).not.toContain('\u001b');
    expect(lines[0]).toBe('run r: 100 outer steps');
    // Steps 1, 6, ..., 96 and 100
    expect(lines.filter((line) => line.startsWith('step '))).toHaveLength(21);
    expect(lines[2]).toBe(
      'step 6/100  loss 0.5000 (support 0.6250)  2,000 tasks/s  1 min 34 s left  norm 1.25',
    );
    expect(lines.slice(-3)).toEqual([
      'step 100/100  loss 0.5000 (support 0.6250)  2,000 tasks/s  norm 1.25',
      'finished at outer step 100: file:///c/100',
      'meta-parameters abc',
    ]);
  });

  it('gives a line to every other event that is not a detail', () => {
    const { sink, text } = printed(false);
    for (const event of otherEvents) sink(event, { workerIndex: 1 });
    expect(text().trimEnd().split('\n')).toEqual([
      'checkpoint of outer step 5: file:///c/5',
      'job 3 is tried again: the compute process died',
      'Redis is back after 0.8 s',
      'warning: worker 2: no task is held out for test',
    ]);
  });

  it('shows progress with and without a total, and the first line of every stage', () => {
    const { sink, text } = printed(false);
    sink({ kind: 'progress', stage: 'reading', done: 12_345, total: null });
    sink({ kind: 'progress', stage: 'writing', done: 1, total: 8 });
    sink({ kind: 'progress', stage: 'writing', done: 2, total: 8 });
    sink({ kind: 'progress', stage: 'writing', done: 8, total: 8 });
    expect(text().trimEnd().split('\n')).toEqual([
      'reading  12,345',
      'writing  1/8  12 %',
      'writing  8/8  100 %',
    ]);
  });

  it('shows the jobs of a worker without a supervisor, at a bounded rate, and their failures', () => {
    const job = { jobId: 'r-1-2', runId: 'r', outerStep: 1, jobIndex: 2 };
    for (const source of [{ worker: 'a' }, { worker: 'a', workerIndex: 0 }]) {
      const { sink, text } = printed(false);
      for (let count = 0; count < 3; count += 1)
        sink({ kind: 'job-finished', ...job, computeMs: 12 }, source);
      sink({ kind: 'job-failed', jobId: 'r-1-2', failure: 'refused', reason: 'no GPU' }, source);
      expect(text()).toBe(
        'workerIndex' in source
          ? ''
          : 'worker a: job r-1-2 computed in 12 ms\nwarning: worker a: job r-1-2 failed: refused: no GPU\n',
      );
    }
  });
});

describe('on a terminal', () => {
  it('redraws one line, at most ten times a second', () => {
    const { sink, clock, text } = printed(true);
    for (let outerStep = 1; outerStep <= 50; outerStep += 1) {
      clock.advance(20);
      sink(step(outerStep));
    }
    expect(text().split('\r')).toHaveLength(1 + 10);
    expect(text()).not.toContain('\n');
    expect(screenOf(text())[0]).toContain('[=========           ]  step 46/100');
  });

  it('keeps the line below the other events', () => {
    const { sink, text } = printed(true);
    sink(step(10));
    sink({ kind: 'redis-back', awayMs: 750 });
    const screen = screenOf(text());
    expect(screen).toHaveLength(2);
    expect(screen[0]).toBe('Redis is back after 0.8 s');
    expect(screen[1]).toContain('step 10/100');
  });
});

describe('text from outside', () => {
  it.each([true, false])('brings no control character to the output (terminal: %s)', (isTTY) => {
    const { sink, text } = printed(isTTY);
    const hostile = 'a\u001b]0;owned\u0007\u009b2J\u202e';
    sink({
      kind: 'job-retried',
      ...{ outerStep: 4, jobIndex: 3, cause: 'failed', reason: hostile },
    });
    sink({ kind: 'progress', stage: hostile, done: 1, total: 2 });
    expect(text()).toContain('a\\u001b]0;owned\\u0007\\u009b2J\\u202e');
    // eslint-disable-next-line no-control-regex -- these are the characters to find
    expect(text()).not.toMatch(/\u001b\]|[\u0007\u009b\u202e]/);
  });
});
