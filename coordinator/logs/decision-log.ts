/** Logged choices from the row log of a ranking server: decisions joined with feedback on what they showed. */

import { errorOf } from '../../shared/base/errors.js';
import type { Decision, JudgedSlot } from '../../shared/config/decision-record.js';
import type { RowRecord } from '../../shared/config/row-record.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { rowLogAt, rowLogText } from './row-log.js';
import type { LoggedRows } from '../scoring/off-policy.js';

const SLOTS_MAX = 10_000_000;
const MS_PER_SECOND = 1_000;

/** The contents of a log, and the part that no estimate uses. */
export interface LogCounts {
  readonly decisionCount: number;
  readonly outcomeCount: number;
  /** Rankings without a policy, of which no other can be judged. */
  readonly plainCount: number;
  /** Decisions of apprentice mode, whose slates nobody saw. */
  readonly apprenticeCount: number;
  /** Slots whose reward window had not ended when the log did, with an outcome or without: the former alone would be rewarded ones. */
  readonly immatureCount: number;
  /** Slots of which no impression was reported: nobody saw them. */
  readonly unrenderedCount: number;
  /** Outcomes after their window; they count as none. */
  readonly lateCount: number;
  /** Outcomes of a slot that had one, and outcomes of unknown slots. */
  readonly duplicateCount: number;
  readonly unknownCount: number;
}

/**
 * Reads addresses of row logs, and files of them, in their order.
 *
 * @param recordsIn reads the text of a file
 */
export async function* loggedRecords<Logged = RowRecord>(
  logs: readonly string[],
  objectStoreOf: (address: string) => ObjectStore,
  signal: AbortSignal,
  recordsIn: (text: string, file: string) => Iterable<Logged>,
): AsyncGenerator<Logged> {
  for (const log of logs) {
    const rows = await rowLogAt(log, objectStoreOf);
    if (rows === null) yield* recordsIn(await rowLogText(log), log);
    else
      for (const key of rows.keys) {
        signal.throwIfAborted();
        const name = `${rows.store.address}/${key}`;
        const text = await rowLogText(name, async () => (await rows.store.get(key))?.bytes);
        yield* recordsIn(text, name);
      }
  }
}

/** A decision as the target policy judges it. */
interface ShownDecision {
  readonly id: string;
  readonly shownMs: number;
  readonly windowMs: number;
  readonly slots: readonly JudgedSlot[];
}

/**
 * Joins decisions with feedback, of which either may come first.
 *
 * @param judge gives the slots of a decision under the target policy
 */
export async function joinedRows(
  records: AsyncIterable<RowRecord>,
  judge: (decision: Decision) => readonly JudgedSlot[],
): Promise<{ readonly rows: LoggedRows; readonly log: LogCounts }> {
  const counts = { decisionCount: 0, plainCount: 0, outcomeCount: 0 };
  const more = { apprenticeCount: 0, duplicateCount: 0 };
  const feedback: Feedback = { outcomes: new Map(), rendered: new Set() };
  const shown: ShownDecision[] = [];
  let [endMs, slotCount] = [0, 0];
  for await (const record of records) {
    if (record.kind === 'feedback') {
      endMs = Math.max(endMs, record.epochMs);
      const name = slotName(record.decision, record.slot);
      if (record.reward === null) feedback.rendered.add(name);
      else {
        counts.outcomeCount += 1;
        const known = feedback.outcomes.get(name);
        if (known !== undefined) more.duplicateCount += 1;
        // The first one counts.
        if (known === undefined || record.epochMs < known.epochMs)
          feedback.outcomes.set(name, { reward: record.reward, epochMs: record.epochMs });
      }
      continue;
    }
    if (record.kind === 'plain') {
      counts.plainCount += 1;
      endMs = Math.max(endMs, record.epochMs);
      continue;
    }
    const { id, epochMs: shownMs, settings } = record.input;
    counts.decisionCount += 1;
    endMs = Math.max(endMs, shownMs);
    if (!record.isShown) {
      more.apprenticeCount += 1;
      continue;
    }
    const slots = judge(record);
    shown.push({ id, shownMs, windowMs: settings.feedback.windowSeconds * MS_PER_SECOND, slots });
    slotCount += slots.length;
    if (slotCount > SLOTS_MAX)
      throw errorOf('data', 'the log holds too many slots for one evaluation', {
        ...{ expected: `at most ${SLOTS_MAX}`, cure: 'give fewer files' },
      });
  }
  const { rows, ...late } = matureRows(shown, feedback, endMs);
  return { rows, log: { ...counts, ...more, ...late } };
}

/** By the names of slots. */
interface Feedback {
  readonly outcomes: Map<string, { readonly reward: number; readonly epochMs: number }>;
  readonly rendered: Set<string>;
}

/** The rendered slots whose reward is known at the end of the log, in its order. */
function matureRows(
  shown: readonly ShownDecision[],
  { outcomes, rendered }: Feedback,
  endMs: number,
): { rows: LoggedRows } & Omit<
  LogCounts,
  'decisionCount' | 'plainCount' | 'outcomeCount' | 'apprenticeCount' | 'duplicateCount'
> {
  const late = { immatureCount: 0, unrenderedCount: 0, lateCount: 0 };
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
      else if (!rendered.has(name)) late.unrenderedCount += 1;
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
