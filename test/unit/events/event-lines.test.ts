import { describe, expect, it } from 'vitest';
import { QianmoError } from '../../../shared/base/errors.js';
import { encodeEvent, parseEventLine } from '../../../shared/events/event-lines.js';
import { type StampedEvent, sentenceOf } from '../../../shared/events/run-events.js';
import { everyEvent } from '../../fixtures/every-event.js';
import { EVENT_KINDS } from '../../../shared/events/event-kinds.js';

const stamp = { epochMs: 1_700_000_000_000, worker: 'host-42', workerIndex: 1 };

function refusalOf(line: string): string | undefined {
  try {
    parseEventLine(line, 'events/000001.ndjson');
  } catch (error) {
    if (error instanceof QianmoError && error.kind === 'data') return error.report.found;
    throw error;
  }
  return undefined;
}

describe('the vocabulary', () => {
  it('has a sample of every kind here', () => {
    expect(everyEvent.map(({ kind }) => kind).sort()).toEqual(Object.keys(EVENT_KINDS).sort());
  });

  it.each(everyEvent.map((event) => [event.kind, event] as const))(
    '%s: has a schema that admits its line and nothing more, and a sentence',
    (_, event) => {
      const stamped: StampedEvent = { runId: 'r', ...stamp, ...event };
      const line = encodeEvent(stamped);
      expect(line).not.toContain('\n');
      expect(parseEventLine(line)).toEqual(stamped);
      expect(refusalOf(line.replace('{', '{"extra":1,'))).toContain('extra');
      expect(sentenceOf(stamped).text).toMatch(/\w/);
      expect(sentenceOf(stamped).text).not.toMatch(/undefined|NaN|\[object/);
    },
  );
});

describe('a line', () => {
  const scored = { kind: 'trial-scored', trial: 'x', outerStep: 3, loss: 'logloss' } as const;
  const finished: StampedEvent = { epochMs: 5, ...scored, validationLoss: 1 };

  it('preserves numbers that are not finite', () => {
    for (const validationLoss of [Number.NaN, Infinity, -Infinity])
      expect(parseEventLine(encodeEvent({ ...finished, validationLoss }))).toEqual({
        ...finished,
        validationLoss,
      });
  });

  it.each([
    ['cut short', '{"schemaVersion":1,"ep', /^\{"schemaVersion":1,"ep$/],
    ['of an unknown kind', '{"kind":"nonsense"}', /the kind "nonsense"/],
    ['of another version', encodeEvent(finished).replace(':1,', ':2,'), /schemaVersion/],
    ['with a wrong field', encodeEvent(finished).replace('"x"', '7'), /trial/],
  ])('that is %s is refused', (_, line, found) => {
    expect(refusalOf(line)).toMatch(found);
  });
});
