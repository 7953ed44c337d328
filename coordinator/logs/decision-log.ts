/** Logged choices from the log of a ranking server: decisions joined with their outcomes. */

import { createReadStream } from 'node:fs';
import { numberAt } from '../../shared/base/arrays.js';
import { QianmoError } from '../../shared/base/errors.js';
import { systemFailure } from '../../shared/base/system-errors.js';
import { linesOf } from '../../shared/events/appended-lines.js';
import {
  decodeExplorationLine,
  type Decision,
  type JudgedSlot,
  type Outcome,
} from '../../shared/config/decision-record.js';
import type { LoggedRows } from '../scoring/off-policy.js';

const SLOTS_MAX = 10_000_000;
const MS_PER_SECOND = 1_000;

/** What a log holds, and what of it no estimate uses. */
export interface LogCounts {
  readonly decisionCount: number;
  readonly outcomeCount: number;
  /** Decisions of apprentice mode, whose slates nobody saw. */
  readonly apprenticeCount: number;
  /** Slots whose reward window had not ended when the log did, with an outcome or without: the former alone would be rewarded ones. */
  readonly immatureCount: number;
  /** Outcomes after their window; they count as none. */
  readonly lateCount: number;
  /** Outcomes of a slot that had one, and outcomes of unknown slots. */
  readonly duplicateCount: number;
  readonly unknownCount: number;
}

/**
 * Reads line by line, in the order of the files. Half a line at the end of a file, which a server that was killed or
 * still writes may leave, is no record.
 */
export async function* explorationLines(
  paths: readonly string[],
  signal: AbortSignal,
): AsyncGenerator<Decision | Outcome> {
  for (const path of paths) {
    const input = createReadStream(path, { encoding: 'utf8', signal });
    let line = 0;
    const read = { isWhole: true };
    input.on('data', (chunk) => {
      read.isWhole = chunk.at(-1) === '\n';
    });
    try {
      let last: string | null = null;
      for await (const text of linesOf(input)) {
        if (last !== null) yield* recordsIn(last, `${path}:${line}`);
        last = text;
        line += 1;
      }
      if (last !== null && read.isWhole) yield* recordsIn(last, `${path}:${line}`);
    } catch (cause) {
      if (cause instanceof QianmoError || signal.aborted) throw cause;
      throw systemFailure(cause, 'reading a decision log', path);
    }
  }
}

function* recordsIn(text: string, where: string): Generator<Decision | Outcome> {
  if (text.trim() !== '') yield decodeExplorationLine(text, where);
}

/** A shown decision, whose slots are consecutive among all slots. */
interface ShownDecision {
  readonly id: string;
  readonly shownMs: number;
  readonly windowMs: number;
  readonly slotCount: number;
}

/**
 * Joins decisions with their outcomes, of which either may come first.
 *
 * @param judge gives the slots of a decision under the target policy
 */
export async function joinedRows(
  lines: AsyncIterable<Decision | Outcome>,
  judge: (decision: Decision) => readonly JudgedSlot[],
): Promise<{ readonly rows: LoggedRows; readonly log: LogCounts }> {
  const counts = { decisionCount: 0, outcomeCount: 0, apprenticeCount: 0, duplicateCount: 0 };
  const outcomes = new Map<string, Outcome>();
  const shown: ShownDecision[] = [];
  const slots = {
    weight: new Array<number>(),
    expected: new Array<number>(),
    expectedOfTarget: new Array<number>(),
  };
  let endMs = 0;
  for await (const record of lines) {
    if (record.kind === 'outcome') {
      counts.outcomeCount += 1;
      endMs = Math.max(endMs, record.epochMs);
      const name = slotName(record.decision, record.slot);
      // The first one stays.
      if (outcomes.has(name)) counts.duplicateCount += 1;
      else outcomes.set(name, record);
      continue;
    }
    const { id, epochMs: shownMs, settings } = record.input;
    counts.decisionCount += 1;
    endMs = Math.max(endMs, shownMs);
    if (!record.isShown) {
      counts.apprenticeCount += 1;
      continue;
    }
    const judged = judge(record);
    const windowMs = settings.feedback.windowSeconds * MS_PER_SECOND;
    shown.push({ id, shownMs, windowMs, slotCount: judged.length });
    for (const { weight, expected, expectedOfTarget } of judged) {
      slots.weight.push(weight);
      slots.expected.push(expected);
      slots.expectedOfTarget.push(expectedOfTarget);
    }
    if (slots.weight.length > SLOTS_MAX) throw tooMany();
  }

  const late = { immatureCount: 0, lateCount: 0 };
  const known = new Set<string>();
  const numbers = new Map<string, number>();
  const used = { slots: new Array<number>(), decisions: new Array<number>() };
  const rewards: number[] = [];
  let firstSlot = 0;
  for (const { id, shownMs, windowMs, slotCount } of shown) {
    const isImmature = endMs - shownMs <= windowMs;
    for (let place = 0; place < slotCount; place += 1) {
      const name = slotName(id, place + 1);
      const outcome = outcomes.get(name);
      const isLate = outcome !== undefined && outcome.epochMs - shownMs > windowMs;
      if (outcome !== undefined) known.add(name);
      if (isLate) late.lateCount += 1;
      if (isImmature) {
        late.immatureCount += 1;
        continue;
      }
      used.slots.push(firstSlot + place);
      // A log that is given twice has each decision twice.
      if (!numbers.has(id)) numbers.set(id, numbers.size);
      used.decisions.push(numbers.get(id) ?? NaN);
      rewards.push(outcome === undefined || isLate ? 0 : outcome.reward);
    }
    firstSlot += slotCount;
  }
  const ofUsed = (column: readonly number[]): Float64Array =>
    Float64Array.from(used.slots, (slot) => numberAt(column, slot));
  return {
    rows: {
      decisions: Int32Array.from(used.decisions),
      rewards: Float64Array.from(rewards),
      weights: ofUsed(slots.weight),
      model: { ofChoices: ofUsed(slots.expected), ofTarget: ofUsed(slots.expectedOfTarget) },
    },
    log: { ...counts, ...late, unknownCount: outcomes.size - known.size },
  };
}

function slotName(decision: string, slot: number): string {
  return `${decision}.${slot}`;
}

function tooMany(): QianmoError {
  return new QianmoError({
    ...{ kind: 'data', what: 'the log holds too many slots for one evaluation' },
    ...{ expected: `at most ${SLOTS_MAX}`, cure: 'give fewer files' },
  });
}
