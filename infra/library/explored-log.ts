/** Joins the row log of a ranking server, which the coordinator reads, with the chooser that made its decisions. */

import { POLICY } from '../../shared/config/load-run-config.js';
import { joinedRows, loggedRecords, type LogCounts } from '../../coordinator/logs/decision-log.js';
import { rowLogAt } from '../../coordinator/logs/row-log.js';
import type { RequestOf } from '../../coordinator/runs/requests.js';
import type { RunContext } from '../../coordinator/runs/run-context.js';
import { isRepeatable, judgedSlots } from '../../worker/serving/exploration/chooser.js';
import { tmpdir } from 'node:os';
import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import type { ExplorationConfig } from '../../shared/config/exploration-config.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import type { Decision, JudgedSlot } from '../../shared/config/decision-record.js';
import { readChoiceTable } from '../../coordinator/logs/choice-table.js';
import {
  offPolicyReport,
  type LoggedRows,
  type OffPolicyReport,
} from '../../coordinator/scoring/off-policy.js';
import type { ServedScorer } from '../../coordinator/scoring/served-losses.js';
import { bundleDigests } from '../../shared/bundle/bundle-store.js';
import { readPublishedBundle } from '../../shared/bundle/read-bundle.js';
import {
  rowRecordsIn,
  shownRankingsIn,
  type ShownRanking,
} from '../../shared/config/row-record.js';
import { openServedScorer } from './served-scorer.js';
import { configOf, objectStoreAt } from '../../coordinator/runs/places.js';
import { logSentence } from '../../coordinator/reports/off-policy-document.js';

const DIFFERING_MAX = 20;

/** Beyond this a probability is another one. */
const DIFFERENCE_MAX = 1e-6;

interface ReplayedScores {
  readonly rowCount: number;
  readonly differenceMax: number;
  readonly differingCount: number;
  /** The first of them: the decision and the slot. */
  readonly differing: readonly string[];
  /** Not compared: their blocks had adapted in the server. */
  readonly liveCount: number;
  /** Not compared: their bundle is gone, or they predict a value. */
  readonly leftOutCount: number;
}

export interface ReplayResult {
  readonly decisionCount: number;
  readonly differingCount: number;
  /** The first of them. */
  readonly differing: readonly string[];
  /** Null unless bundles are given. */
  readonly scores: ReplayedScores | null;
}

export function judgeLoggedChoices(
  request: RequestOf<'ope'>,
  context: RunContext,
): Promise<OpeResult> {
  return opeRun(request, judgedSlots, context);
}

export async function replayLog(
  { logs, bundles }: RequestOf<'replay'>,
  { environment, signal }: RunContext,
): Promise<ReplayResult> {
  const objectStoreOf = (address: string): ObjectStore => objectStoreAt(address, environment);
  const differing: string[] = [];
  let [decisionCount, differingCount] = [0, 0];
  for await (const record of loggedRecords(logs, objectStoreOf, signal, rowRecordsIn)) {
    if (record.kind !== 'decision') continue;
    decisionCount += 1;
    if (isRepeatable(record)) continue;
    differingCount += 1;
    if (differing.length < DIFFERING_MAX) differing.push(record.input.id);
  }
  const rankings = loggedRecords(logs, objectStoreOf, signal, shownRankingsIn);
  const scores = bundles === undefined ? null : await scoredAgain(rankings, objectStoreOf(bundles));
  return { decisionCount, differingCount, differing, scores };
}

/** Compares probabilities as logged with those that the bundle gives that the log names. */
async function scoredAgain(
  rankings: AsyncIterable<ShownRanking>,
  objects: ObjectStore,
): Promise<ReplayedScores> {
  const there = new Set(await bundleDigests(objects));
  const counts = { rowCount: 0, differingCount: 0, liveCount: 0, leftOutCount: 0 };
  const differing: string[] = [];
  let differenceMax = 0;
  let [opened, scorer]: [string, ServedScorer | null] = ['', null];
  for await (const { id, bundle: digest, context, shown } of rankings) {
    if (!there.has(digest)) {
      counts.leftOutCount += shown.length;
      continue;
    }
    if (scorer === null || opened !== digest) {
      scorer?.close();
      const loaded = await readPublishedBundle(objects, digest);
      scorer = openServedScorer({ digest, loaded }, `${objects.address}@${digest}`);
      opened = digest;
    }
    const { expected } = scorer.score(context, shown);
    for (const [place, { probability, isLive = false }] of shown.entries()) {
      if (isLive) counts.liveCount += 1;
      else if (probability === null) counts.leftOutCount += 1;
      else {
        counts.rowCount += 1;
        const difference = Math.abs((expected[place] ?? NaN) - probability);
        // A row that the bundle leaves out differs.
        if (difference <= DIFFERENCE_MAX) differenceMax = Math.max(differenceMax, difference);
        else {
          counts.differingCount += 1;
          if (!Number.isNaN(difference)) differenceMax = Math.max(differenceMax, difference);
          if (differing.length < DIFFERING_MAX) differing.push(`${id}.${place + 1}`);
        }
      }
    }
  }
  scorer?.close();
  return { ...counts, differenceMax, differing };
}

export interface OpeResult extends OffPolicyReport {
  /** The content of a row log; null for a table. */
  readonly log: LogCounts | null;
}

/** The slots of a decision under the settings of another policy; null for those of the record. */
type JudgeDecision = (
  decision: Decision,
  settings: ExplorationConfig | null,
) => readonly JudgedSlot[];

type OpeOrder = RequestOf<'ope'>;

/** A file of a row log. */
const ROW_FILE = /\.ndjson(\.gz)?$/;

async function opeRun(
  request: OpeOrder,
  judge: JudgeDecision,
  context: RunContext,
): Promise<OpeResult> {
  const { rows, log } = await rowsOf(request, judge, context);
  if (rows.rewards.length === 0) throw nothingJudged(request.logs, log);
  return { ...offPolicyReport(rows, request), log };
}

function nothingJudged(logs: readonly string[], log: LogCounts | null): QianmoError {
  return errorOf('data', 'the log holds no choice that can be judged', {
    where: logs.join(', '),
    expected: 'at least one rendered slot whose reward window has ended',
    found: log === null ? 'no row' : logSentence(log),
    cure: cureOf(log),
  });
}

function cureOf(log: LogCounts | null): string {
  if (log !== null && log.decisionCount > 0 && log.apprenticeCount === log.decisionCount)
    return 'an apprentice shows the best ones alone, so that its log is repeated with --replay; what mode: active has logged is judged';
  return log !== null && log.immatureCount > 0
    ? 'judge later, when the log has records from after the windows (exploration.feedback.windowSeconds)'
    : 'give more of the log; a slot counts once its impression is reported to /v1/feedback';
}

async function rowsOf(
  { logs, policy, columns }: OpeOrder,
  judge: JudgeDecision,
  { environment, signal, sink }: RunContext,
): Promise<{ readonly rows: LoggedRows; readonly log: LogCounts | null }> {
  const objectStoreOf = (address: string): ObjectStore => objectStoreAt(address, environment);
  const areRows: boolean[] = [];
  for (const log of logs)
    areRows.push(ROW_FILE.test(log) || (await rowLogAt(log, objectStoreOf)) !== null);
  if (new Set(areRows).size > 1) throw mixtureError(logs);
  if (areRows.includes(true)) {
    const settings = policy === undefined ? null : await configOf(POLICY, policy, environment);
    const records = loggedRecords(logs, objectStoreOf, signal, rowRecordsIn);
    return joinedRows(records, (decision) => judge(decision, settings));
  }
  if (policy !== undefined) throw policyOfTable(logs);
  const rows = await readChoiceTable(logs, columns, {
    ...{ sink, signal, objectStoreOf },
    temporaryFolder: tmpdir(),
  });
  return { rows, log: null };
}

function mixtureError(logs: readonly string[]): QianmoError {
  return errorOf('usage', 'row logs and tables are judged apart', {
    where: logs.join(', '),
    expected: 'only row logs and .ndjson files of them, or only .csv, .tsv and .parquet files',
    cure: 'give the files of one kind',
  });
}

function policyOfTable(logs: readonly string[]): QianmoError {
  return errorOf('usage', 'a table of choices is judged under no policy of a file', {
    where: logs.join(', '),
    expected: 'a row log beside --policy; a column of a table has the chances of the target policy',
    cure: 'leave --policy out and name the column by --target',
  });
}
