/** Logged choices from the log of a ranking server: decisions joined with their outcomes. */

import { createReadStream } from 'node:fs';
import { QianmoError } from '../../shared/base/errors.js';
import { systemFailure } from '../../shared/base/system-errors.js';
import { linesOf } from '../../shared/events/event-log.js';
import {
  decodeExplorationLine,
  type Decision,
  type JudgedSlot,
  type Outcome,
} from '../../shared/config/decision-record.js';
import type { LoggedRows } from '../scoring/off-policy.js';

const SLOTS_MAX = 10_000_000;
const MS_PER_SECOND = 1_000;

/** The contents of a log, and the part that no estimate uses. */
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

/** A decision as the target policy judges it. */
interface ShownDecision {
  readonly id: string;
  readonly shownMs: number;
  readonly windowMs: number;
  readonly slots: readonly JudgedSlot[];
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
  let [endMs, slotCount] = [0, 0];
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
    const slots = judge(record);
    shown.push({ id, shownMs, windowMs: settings.feedback.windowSeconds * MS_PER_SECOND, slots });
    slotCount += slots.length;
    if (slotCount > SLOTS_MAX)
      throw new QianmoError({
        ...{ kind: 'data', what: 'the log holds too many slots for one evaluation' },
        ...{ expected: `at most ${SLOTS_MAX}`, cure: 'give fewer files' },
      });
  }
  const { rows, ...late } = matureRows(shown, outcomes, endMs);
  return { rows, log: { ...counts, ...late } };
}

/** The slots whose reward is known at the end of the log, in its order. */
function matureRows(
  shown: readonly ShownDecision[],
  outcomes: ReadonlyMap<string, Outcome>,
  endMs: number,
): { rows: LoggedRows } & Pick<LogCounts, 'immatureCount' | 'lateCount' | 'unknownCount'> {
  const late = { immatureCount: 0, lateCount: 0 };
  const known = new Set<string>();
  const numbers = new Map<string, number>();
  const used: (JudgedSlot & { readonly decision: number; readonly reward: number })[] = [];
  for (const { id, shownMs, windowMs, slots } of shown) {
    const isImmature = endMs - shownMs <= windowMs;
    // A log that is given twice has each decision twice.
    const decision = numbers.get(id) ?? numbers.size;
    if (!isImmature) numbers.set(id, decision);
    for (const [place, slot] of slots.entries()) {
      const name = slotName(id, place + 1);
      const outcome = outcomes.get(name);
      const isLate = outcome !== undefined && outcome.epochMs - shownMs > windowMs;
      if (outcome !== undefined) known.add(name);
      if (isLate) late.lateCount += 1;
      if (isImmature) late.immatureCount += 1;
      else
        used.push({
          ...slot,
          ...{ decision, reward: outcome === undefined || isLate ? 0 : outcome.reward },
        });
    }
  }
  return {
    rows: {
      decisions: Int32Array.from(used, ({ decision }) => decision),
      rewards: Float64Array.from(used, ({ reward }) => reward),
      weights: Float64Array.from(used, ({ weight }) => weight),
      model: {
        ofChoices: Float64Array.from(used, ({ expected }) => expected),
        ofTarget: Float64Array.from(used, ({ expectedOfTarget }) => expectedOfTarget),
      },
    },
    ...{ ...late, unknownCount: outcomes.size - known.size },
  };
}

function slotName(decision: string, slot: number): string {
  return `${decision}.${slot}`;
}
