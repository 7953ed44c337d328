/** Logged choices from the log of a ranking server: decisions joined with their outcomes. */

import { createReadStream } from 'node:fs';
import { QianmoError } from '../../shared/base/errors.js';
import { systemFailure } from '../../shared/base/system-errors.js';
import { linesOf } from '../../shared/events/appended-lines.js';
import {
  decodeExplorationLine,
  type Decision,
  type JudgedSlot,
  type Outcome,
} from '../../shared/exploration/decision-record.js';
import { numbersOf, type LoggedRows } from './estimates.js';

const SLOTS_MAX = 10_000_000;
const MS_PER_SECOND = 1000;

/** What a log holds, and what of it no estimate uses. */
export interface LogCounts {
  readonly decisionCount: number;
  readonly outcomeCount: number;
  /** Decisions of apprentice mode, whose slates nobody saw. */
  readonly apprenticeCount: number;
  /** Slots whose reward window had not ended when the log did, with an outcome or without: the former alone would be rewarded ones. */
  readonly immatureCount: number;
  /** Outcomes after their window; they count as the default reward. */
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

interface JoinedSlot extends JudgedSlot {
  readonly decision: string;
  readonly key: string;
  readonly shownMs: number;
  readonly windowMs: number;
  readonly defaultReward: number;
}

/** @param judge gives the slots of a decision under the target policy */
export async function joinedRows(
  lines: AsyncIterable<Decision | Outcome>,
  judge: (decision: Decision) => readonly JudgedSlot[],
): Promise<{ readonly rows: LoggedRows; readonly log: LogCounts }> {
  const slots: JoinedSlot[] = [];
  const outcomes = new Map<string, Outcome>();
  const counts = { decisionCount: 0, outcomeCount: 0, apprenticeCount: 0, duplicateCount: 0 };
  let endMs = 0;
  for await (const record of lines) {
    if (record.kind === 'outcome') {
      counts.outcomeCount += 1;
      endMs = Math.max(endMs, record.epochMs);
      const key = keyOf(record.decision, record.slot);
      if (outcomes.has(key)) counts.duplicateCount += 1;
      else outcomes.set(key, record);
      continue;
    }
    const { input, isShown } = record;
    counts.decisionCount += 1;
    endMs = Math.max(endMs, input.epochMs);
    if (isShown) slots.push(...joinable(record, judge(record)));
    else counts.apprenticeCount += 1;
    if (slots.length > SLOTS_MAX) throw tooMany();
  }
  const { rows, ...late } = rewarded(slots, outcomes, endMs);
  return { rows, log: { ...counts, ...late } };
}

function keyOf(decision: string, slot: number): string {
  return `${slot} ${decision}`;
}

function joinable({ input }: Decision, judged: readonly JudgedSlot[]): JoinedSlot[] {
  const { windowSeconds, defaultReward } = input.settings.feedback;
  return judged.map((slot, index) => ({
    ...slot,
    decision: input.id,
    key: keyOf(input.id, index + 1),
    shownMs: input.epochMs,
    windowMs: windowSeconds * MS_PER_SECOND,
    defaultReward,
  }));
}

function rewarded(
  slots: readonly JoinedSlot[],
  outcomes: ReadonlyMap<string, Outcome>,
  endMs: number,
): { readonly rows: LoggedRows } & Pick<LogCounts, 'immatureCount' | 'lateCount' | 'unknownCount'> {
  const used: JoinedSlot[] = [];
  const rewards: number[] = [];
  let [immatureCount, lateCount, knownCount] = [0, 0, 0];
  for (const slot of slots) {
    const outcome = outcomes.get(slot.key);
    if (outcome !== undefined) knownCount += 1;
    const isLate = outcome !== undefined && outcome.epochMs - slot.shownMs > slot.windowMs;
    if (isLate) lateCount += 1;
    if (endMs - slot.shownMs <= slot.windowMs) {
      immatureCount += 1;
      continue;
    }
    used.push(slot);
    rewards.push(outcome === undefined || isLate ? slot.defaultReward : outcome.reward);
  }
  const rows: LoggedRows = {
    decisions: numbersOf(used.map(({ decision }) => decision)),
    rewards: Float64Array.from(rewards),
    weights: Float64Array.from(used, ({ weight }) => weight),
    model: {
      ofChoices: Float64Array.from(used, ({ expected }) => expected),
      ofTarget: Float64Array.from(used, ({ expectedOfTarget }) => expectedOfTarget),
    },
  };
  return { rows, immatureCount, lateCount, unknownCount: outcomes.size - knownCount };
}

function tooMany(): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'the log holds too many slots for one evaluation',
    expected: `at most ${SLOTS_MAX}`,
    cure: 'give fewer files',
  });
}
