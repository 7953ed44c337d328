import { expect, it } from 'vitest';
import { createTerminalSink } from '../../../shared/events/terminal-sink.js';
import { runEventSink, type RunEvent } from '../../../shared/events/run-events.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';

function printed(isTTY: boolean, { columns = 200 } = {}) {
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

it('without a terminal writes plain lines, at most one in five seconds, fewer as a stage goes on, and always the last', () => {
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
  const steps = lines.flatMap((line) => /^step (\d+)/.exec(line)?.[1] ?? []);
  expect(steps.map(Number)).toEqual([1, 6, 11, 21, 41, 81, 100]);
  expect(lines[2]).toBe(
    'step 6/100  loss 0.5000 (support 0.6250)  2,000 tasks/s  1 min 34 s left  norm 1.25',
  );
  expect(lines.slice(-3)).toEqual([
    'step 100/100  loss 0.5000 (support 0.6250)  2,000 tasks/s  norm 1.25',
    'finished at outer step 100: file:///c/100',
    'meta-parameters abc',
  ]);
});

it('on a terminal redraws one line, at most ten times a second', () => {
  const { sink, clock, text } = printed(true);
  for (let outerStep = 1; outerStep <= 50; outerStep += 1) {
    clock.advance(20);
    sink(step(outerStep));
  }
  expect(text().split('\r')).toHaveLength(1 + 10);
  expect(text()).not.toContain('\n');
  expect(screenOf(text())[0]).toContain('[=========           ]  step 46/100');
});

it('on a terminal without a size draws a line as wide as a usual one', () => {
  const { sink, text } = printed(true, { columns: 0 });
  sink({ kind: 'progress', stage: 'packing', done: 1, total: 4 });
  expect(screenOf(text())[0]).toMatch(/packing {2}1\/4 {2}25 %$/);
});

it.each([true, false])(
  'text from outside brings no control character to the output (terminal: %s)',
  (isTTY) => {
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
  },
);
