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
import type { LoggedRows } from './estimates.js';
import { LoggedSlots } from './logged-slots.js';

const SLOTS_MAX = 10_000_000;

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

/** @param judge gives the slots of a decision under the target policy */
export async function joinedRows(
  lines: AsyncIterable<Decision | Outcome>,
  judge: (decision: Decision) => readonly JudgedSlot[],
): Promise<{ readonly rows: LoggedRows; readonly log: LogCounts }> {
  const slots = new LoggedSlots();
  const counts = { decisionCount: 0, outcomeCount: 0, apprenticeCount: 0, duplicateCount: 0 };
  let endMs = 0;
  for await (const record of lines) {
    if (record.kind === 'outcome') {
      counts.outcomeCount += 1;
      endMs = Math.max(endMs, record.epochMs);
      if (!slots.addOutcome(record)) counts.duplicateCount += 1;
      continue;
    }
    const { input, isShown } = record;
    counts.decisionCount += 1;
    endMs = Math.max(endMs, input.epochMs);
    if (isShown) slots.addSlots(record, judge(record));
    else counts.apprenticeCount += 1;
    if (slots.slotCount > SLOTS_MAX) throw tooMany();
  }
  const { rows, ...late } = slots.joined(endMs);
  return { rows, log: { ...counts, ...late } };
}

function tooMany(): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'the log holds too many slots for one evaluation',
    expected: `at most ${SLOTS_MAX}`,
    cure: 'give fewer files',
  });
}
