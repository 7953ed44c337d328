/**
 * Keeps the record of a sweep in its output. It is replaced only while it is the version that this
 * coordinator knows, so that of two coordinators of one sweep, the later stops the earlier.
 */

import { QianmoError } from '../../shared/base/errors.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { parseSweepRecord, sweepJson, type SweepRecord } from './sweep-record.js';

interface SweepJournal {
  /** The record that existed on opening, or the empty record. */
  readonly record: SweepRecord;
  /** Calls must not overlap. @throws QianmoError `failed` if another coordinator took over. */
  save(record: SweepRecord): Promise<void>;
}

/**
 * @throws QianmoError `usage` if there is a sweep and neither resume nor fresh is set, or if it is a
 *   different sweep.
 */
export async function openSweepJournal(
  store: ObjectStore,
  empty: SweepRecord,
  start: { readonly resume: boolean; readonly fresh: boolean; readonly recordKey?: string },
): Promise<SweepJournal> {
  const { recordKey = 'sweep.json' } = start;
  const where = `${store.address}/${recordKey}`;
  const object = await store.get(recordKey);
  const isTaken = object !== null && !start.fresh;
  const found = isTaken
    ? parseSweepRecord(Buffer.from(object.bytes).toString('utf8'), where)
    : null;
  if (found !== null) demandSameSweep(found, empty, start.resume, where);
  let etag = object?.etag ?? null;
  return {
    record: found === null ? empty : withLongerBudget(found, empty),
    async save(record) {
      const bytes = Buffer.from(`${sweepJson(record)}\n`);
      const written = await store.put(
        recordKey,
        bytes,
        etag === null ? { kind: 'absent' } : { kind: 'unchanged', etag },
      );
      if (written === null) throw takenOver(where);
      etag = written;
    },
  };
}

/** A search that continues may be given more time than it began with. */
function withLongerBudget(found: SweepRecord, { search: given }: SweepRecord): SweepRecord {
  const { search } = found;
  if (search === undefined || given === undefined) return found;
  const [before, after] = [search.budgetMinutes, given.budgetMinutes];
  const budgetMinutes = before === null || after === null ? null : Math.max(before, after);
  return { ...found, search: { ...search, budgetMinutes } };
}

function demandSameSweep(
  found: SweepRecord,
  empty: SweepRecord,
  resume: boolean,
  where: string,
): void {
  const refuse = (what: string, told: string, cure: string): QianmoError =>
    new QianmoError({ kind: 'usage', what, where, found: told, cure });
  const scoreCount = found.trials.reduce((sum, trial) => sum + trial.scores.length, 0);
  if (!resume)
    throw refuse(
      found.best === null
        ? 'the output contains a sweep that was started before'
        : 'the output contains a finished sweep',
      `${scoreCount} scores of sweep ${found.sweep}`,
      'give --resume to continue from it, --fresh to start again, or name another output',
    );
  if (found.planHash === empty.planHash) return;
  throw refuse(
    'the output contains a different sweep',
    differenceOf(found, empty),
    empty.search === undefined
      ? 'restore the fields, name another output, or start again here with --fresh'
      : 'restore the fields, or continue with the version that began it, whose candidates may be others; or start again with --fresh',
  );
}

function differenceOf(found: SweepRecord, empty: SweepRecord): string {
  if (found.storeDigest !== empty.storeDigest) return 'a sweep of another task store';
  if (found.trials.length !== empty.trials.length)
    return `${found.trials.length} trials instead of ${empty.trials.length}`;
  const rungsText = ({ rungs }: SweepRecord): string =>
    rungs.map((rung) => `${rung.trialCount} to outer step ${rung.outerSteps}`).join(', ');
  if (rungsText(found) !== rungsText(empty))
    return `rungs of ${rungsText(found)} instead of ${rungsText(empty)}`;
  const other = found.trials.find(
    (trial, index) => trial.configHash !== empty.trials[index]?.configHash,
  );
  return other === undefined
    ? 'other evaluation settings'
    : `another config of trial ${other.name}`;
}

function takenOver(where: string): QianmoError {
  return new QianmoError({
    kind: 'failed',
    what: 'another coordinator continued this sweep while this one was running',
    where,
    cure: 'run only one coordinator; this one has stopped without overwriting anything',
  });
}
