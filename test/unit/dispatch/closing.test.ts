import { describe, expect, it } from 'vitest';
import { closingOf, enoughCountOf, StepClosing } from '../../../coordinator/dispatch/closing.js';
import { ALL_RESULTS, type ClosingConfig } from '../../../shared/config/closing-config.js';

const quorum: ClosingConfig = { kind: 'quorum', share: 0.75, graceMs: 100 };
const deadline: ClosingConfig = { kind: 'deadline', afterMs: 400, shareMin: 0.5 };
const rules = [ALL_RESULTS, quorum, deadline];
const step = { openCount: 1, nowMs: 0, startMs: 0, timeoutMs: 1_000, enoughMs: null };

describe.each(rules)('any rule: $kind', (rule) => {
  it('closes with the last result, even at the end of the time or after it', () => {
    for (const nowMs of [0, 1_000, 1_001])
      expect(closingOf({ ...step, openCount: 0, nowMs }, rule)).toEqual({ kind: 'close' });
  });

  it('closes immediately when no job was ordered', () => {
    expect(new StepClosing(rule, { ...step, leafCount: 0 }).look(0, 0, 0).kind).toBe('close');
  });

  it('has too few results when the time is over and not enough are there', () => {
    for (const nowMs of [1_000, 1_001])
      expect(closingOf({ ...step, nowMs }, rule)).toEqual({ kind: 'too-few' });
  });
});

describe('all', () => {
  it('waits for the open jobs, up to the end of the time', () => {
    for (const nowMs of [0, 999])
      expect(closingOf({ ...step, nowMs }, ALL_RESULTS)).toEqual({ kind: 'wait', untilMs: 1_000 });
    expect(enoughCountOf(ALL_RESULTS, 7)).toBe(7);
  });
});

describe('a quorum', () => {
  it('is rounded up, and at least one job', () => {
    expect([8, 9, 1].map((leafCount) => enoughCountOf(quorum, leafCount))).toEqual([6, 7, 1]);
    expect(enoughCountOf({ ...quorum, share: 0.01 }, 8)).toBe(1);
  });

  it('is waited for as all results are, then the others have the grace', () => {
    expect(closingOf({ ...step, nowMs: 999 }, quorum)).toEqual({ kind: 'wait', untilMs: 1_000 });
    const reached = { ...step, enoughMs: 950 };
    expect(closingOf({ ...reached, nowMs: 950 }, quorum)).toEqual({ kind: 'wait', untilMs: 1_050 });
    expect(closingOf({ ...reached, nowMs: 1_049 }, quorum).kind).toBe('wait');
    expect(closingOf({ ...reached, nowMs: 1_050 }, quorum).kind).toBe('close');
  });

  it('counts the grace from the result that made it, not from later ones', () => {
    const closing = new StepClosing(quorum, { leafCount: 4, startMs: 0, timeoutMs: 1_000 });
    expect(closing.look(2, 2, 50)).toEqual({ kind: 'wait', untilMs: 1_000 });
    expect(closing.look(3, 1, 60)).toEqual({ kind: 'wait', untilMs: 160 });
    expect(closing.look(3, 1, 159)).toEqual({ kind: 'wait', untilMs: 160 });
    expect(closing.look(3, 1, 160)).toEqual({ kind: 'close' });
  });
});

describe('a deadline', () => {
  it('is waited for also when enough results are there', () => {
    const reached = { ...step, enoughMs: 10 };
    expect(closingOf({ ...reached, nowMs: 399 }, deadline)).toEqual({ kind: 'wait', untilMs: 400 });
    expect(closingOf({ ...reached, nowMs: 400 }, deadline)).toEqual({ kind: 'close' });
    expect(closingOf({ ...step, nowMs: 400 }, deadline)).toEqual({ kind: 'too-few' });
    expect(enoughCountOf(deadline, 5)).toBe(3);
  });

  it('is never later than an outer step may take', () => {
    const long: ClosingConfig = { ...deadline, afterMs: 5_000 };
    expect(closingOf({ ...step, nowMs: 1_000, enoughMs: 1 }, long)).toEqual({ kind: 'close' });
  });
});

describe('the second chance', () => {
  it('is one more period of the same length', () => {
    const closing = new StepClosing(deadline, { leafCount: 4, startMs: 0, timeoutMs: 1_000 });
    expect(closing.look(1, 3, 400).kind).toBe('too-few');
    expect(closing.takeSecondChance(400)).toBe(true);
    expect(closing.look(1, 3, 400)).toEqual({ kind: 'wait', untilMs: 800 });
    expect(closing.deadlineMs).toBe(1_400);
    expect(closing.look(2, 2, 800).kind).toBe('close');
    expect(closing.takeSecondChance(800)).toBe(false);
  });

  it('is not given to a step that needs all results', () => {
    const closing = new StepClosing(ALL_RESULTS, { leafCount: 4, startMs: 0, timeoutMs: 1_000 });
    expect(closing.takeSecondChance(1_000)).toBe(false);
  });
});
