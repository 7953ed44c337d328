import { describe, expect, it } from 'vitest';
import { closingOf } from '../../../coordinator/dispatch/closing.js';

const deadlineMs = 1_000;

describe('closingOf', () => {
  it('waits for the open jobs, up to the deadline', () => {
    expect(closingOf({ admittedCount: 3, openCount: 1, nowMs: 0, deadlineMs })).toEqual({
      kind: 'wait',
      untilMs: deadlineMs,
    });
    expect(closingOf({ admittedCount: 0, openCount: 4, nowMs: 999, deadlineMs })).toEqual({
      kind: 'wait',
      untilMs: deadlineMs,
    });
  });

  it('closes with the last result, even at the deadline or after it', () => {
    for (const nowMs of [0, deadlineMs, deadlineMs + 1])
      expect(closingOf({ admittedCount: 4, openCount: 0, nowMs, deadlineMs })).toEqual({
        kind: 'close',
      });
  });

  it('closes immediately when no job was ordered', () => {
    expect(closingOf({ admittedCount: 0, openCount: 0, nowMs: 0, deadlineMs })).toEqual({
      kind: 'close',
    });
  });

  it('times out at the deadline with a job open', () => {
    for (const nowMs of [deadlineMs, deadlineMs + 1])
      expect(closingOf({ admittedCount: 3, openCount: 1, nowMs, deadlineMs })).toEqual({
        kind: 'timed-out',
      });
  });
});
