/** Reads and verifies what `qianmo evaluate` wrote for a run, so that it can be compared. */

import { nearestName } from '../../shared/names/nearest-name.js';
import { QianmoError } from '../../shared/base/errors.js';
import { verifiedBlob } from '../../shared/storage/blob-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import type { EvaluationReport } from '../scoring/evaluation-report.js';
import { parseReport, fileOfSegment, REPORT_FILE } from '../scoring/report-json.js';
import { decodeTestLogits, TEST_LOGITS_KEY, type TestLogits } from '../scoring/test-logits.js';

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

const LATEST_CHECKPOINT_KEY = 'checkpoints/latest.json';

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
  const found = report.testLogits === undefined ? null : await store.get(logitsKey);
  if (report.testLogits === undefined || found === null)
    throw new QianmoError({
      kind: 'data',
      what: 'the evaluation has no logits of its test rows',
      where,
      expected: 'the file that qianmo evaluate writes beside its report',
      found: report.testLogits === undefined ? 'a report of an earlier version' : 'no such object',
      cure: 'evaluate the run again: qianmo evaluate run.yaml',
    });
  const bytes = verifiedLogits(found.bytes, report.testLogits, where);
  return { address, report, logits: decodeTestLogits(bytes, where) };
}

function verifiedLogits(
  bytes: Uint8Array,
  ref: NonNullable<EvaluationReport['testLogits']>,
  where: string,
): Uint8Array {
  try {
    return verifiedBlob(bytes, ref, where);
  } catch (cause) {
    if (!(cause instanceof QianmoError)) throw cause;
    const { expected, found } = cause.report;
    throw new QianmoError({
      kind: 'data',
      what: 'the logits of the test rows do not belong to the report beside them',
      where,
      ...(expected === undefined ? {} : { expected }),
      ...(found === undefined ? {} : { found }),
      cure: 'an evaluation was interrupted or a file was changed: evaluate the run again',
    });
  }
}

/** The files of a search, below the output of its config and in its own folder. */
const SEARCH_FILES = [
  { recordKey: 'auto/auto.json', configKey: 'auto/best.yaml' },
  { recordKey: 'auto.json', configKey: 'best.yaml' },
];

async function nothingEvaluated(store: ObjectStore, reportKey: string): Promise<QianmoError> {
  const others = (await store.list('evaluation')).filter((key) => /^evaluation.*\.json$/.test(key));
  if (others.length > 0)
    return new QianmoError({
      kind: 'usage',
      what: 'the run has no such evaluation',
      where: store.address,
      expected: reportKey,
      found: others.join(', '),
      cure: 'name one of its segments with --segment, or leave --segment out if it has none',
    });
  const isTrained = (await store.get(LATEST_CHECKPOINT_KEY)) !== null;
  const chosenConfigKey = isTrained ? null : await chosenConfigKeyIn(store);
  return new QianmoError({
    kind: 'usage',
    what: isTrained ? 'this run was trained but not evaluated' : 'there is no run',
    where: store.address,
    expected: `the output of a run with an ${REPORT_FILE}`,
    found: isTrained
      ? `checkpoints and no ${REPORT_FILE}`
      : chosenConfigKey !== null
        ? 'a search'
        : 'neither checkpoints nor an evaluation',
    cure: isTrained
      ? 'evaluate it first: qianmo evaluate run.yaml'
      : chosenConfigKey !== null
        ? `name the config of what it chose, ${chosenConfigKey} in this place`
        : "name a run's output folder, its s3://bucket/prefix or its run.yaml",
  });
}

/** Null unless a search has chosen. */
async function chosenConfigKeyIn(store: ObjectStore): Promise<string | null> {
  for (const { recordKey, configKey } of SEARCH_FILES)
    if ((await store.get(recordKey)) !== null && (await store.get(configKey)) !== null)
      return configKey;
  return null;
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
