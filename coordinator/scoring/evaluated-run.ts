/** Reads and verifies what `qianmo evaluate` wrote for a run, so that it can be compared. */

import { nearestName } from '../../shared/names/nearest-name.js';
import { QianmoError } from '../../shared/base/errors.js';
import { verifiedBlob } from '../../shared/storage/blob-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import {
  fileOfSegment,
  parseReport,
  REPORT_FILE,
  type EvaluationReport,
} from './evaluation-report.js';
import { decodeTestLogits, TEST_LOGITS_KEY, type TestLogits } from './test-logits.js';

export interface EvaluatedRun {
  readonly address: string;
  readonly report: EvaluationReport;
  readonly logits: TestLogits;
}

/** One argument of `qianmo compare`: `RUN` or `RUN:ARM`. */
interface RunArgument {
  readonly run: string;
  readonly arm: string | null;
}

/** Slashes follow the colon of `s3://` or `file://`, but not the colon before an arm. */
export function parseRunArgument(text: string): RunArgument {
  const parts = /^(.+):([^:/]+)$/.exec(text);
  return parts === null
    ? { run: text, arm: null }
    : { run: parts[1] ?? text, arm: parts[2] ?? null };
}

/**
 * @param segment the segment whose evaluation is read, if the run's tasks have segments
 * @throws QianmoError `usage` when there is no evaluation, `data` when it is damaged.
 */
export async function readEvaluatedRun(
  store: ObjectStore,
  segment: string | null = null,
): Promise<EvaluatedRun> {
  const { address } = store;
  const reportKey = fileOfSegment(REPORT_FILE, segment);
  const logitsKey = fileOfSegment(TEST_LOGITS_KEY, segment);
  const object = await store.get(reportKey);
  if (object === null) throw await nothingEvaluated(store, reportKey);
  const report = parseReport(Buffer.from(object.bytes).toString('utf8'), `${address}/${reportKey}`);
  const where = `${address}/${logitsKey}`;
  const found = await store.get(logitsKey);
  if (found === null)
    throw new QianmoError({
      kind: 'data',
      what: 'the evaluation has no logits of its test rows',
      where,
      cure: 'evaluate the run again: qianmo evaluate run.yaml',
    });
  const bytes = verifiedBlob(found.bytes, report.testLogits, where);
  return { address, report, logits: decodeTestLogits(bytes, where) };
}

async function nothingEvaluated(store: ObjectStore, reportKey: string): Promise<QianmoError> {
  const others = (await store.list('evaluation')).filter((key) => /^evaluation.*\.json$/.test(key));
  return new QianmoError({
    kind: 'usage',
    what: 'the run was not evaluated',
    where: store.address,
    expected: reportKey,
    found: others.length === 0 ? 'no evaluation' : others.join(', '),
    cure:
      others.length === 0
        ? "name a run's output, its s3://bucket/prefix or its run.yaml (auto/best.yaml of a search), and evaluate it first: qianmo evaluate run.yaml"
        : 'name one of its segments with --segment, or leave --segment out if it has none',
  });
}

/**
 * The requested arm, or else the arm that the run was made for: `meta-adapted` if it is there, else
 * the arm with the lowest validation logloss, else the last one. Scores on test rows never decide.
 *
 * @throws QianmoError `usage` when the run has no such arm.
 */
export function armOf({ address, report, logits }: EvaluatedRun, asked: string | null): string {
  const known = [...logits.logits.keys()];
  if (asked !== null) {
    if (known.includes(asked)) return asked;
    const nearest = nearestName(asked, known);
    throw new QianmoError({
      kind: 'usage',
      what: `the run was not evaluated with an arm "${asked}"`,
      where: address,
      expected: `one of ${known.join(', ')}`,
      found: asked,
      cure:
        nearest === null ? 'write one of these names after the colon' : `did you mean ${nearest}?`,
    });
  }
  if (known.includes('meta-adapted')) return 'meta-adapted';
  const byValidation = report.selection.chosen
    .filter(({ arm }) => known.includes(arm))
    .sort((a, b) => a.validationLogloss - b.validationLogloss);
  const arm = byValidation[0]?.arm ?? known.filter((name) => name !== 'oracle').at(-1);
  if (arm === undefined) throw new Error('an evaluation has at least one arm');
  return arm;
}
