/** Joins the row log of a ranking server, which the coordinator reads, with the chooser that made its decisions. */

import { POLICY } from '../../shared/config/load-run-config.js';
import { joinedRows, loggedRecords, type LogCounts } from '../../coordinator/logs/decision-log.js';
import { rowLogAt } from '../../coordinator/logs/row-log.js';
import type { RequestOf } from '../../coordinator/runs/requests.js';
import type { RunContext } from '../../coordinator/runs/run-context.js';
import { isRepeatable, judgedSlots } from '../../worker/serving/exploration/chooser.js';
import { tmpdir } from 'node:os';
import { QianmoError } from '../../shared/base/errors.js';
import type { ExplorationConfig } from '../../shared/config/exploration-config.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import type { Decision, JudgedSlot } from '../../shared/config/decision-record.js';
import { readChoiceTable } from '../../coordinator/logs/choice-table.js';
import {
  offPolicyReport,
  type LoggedRows,
  type OffPolicyReport,
} from '../../coordinator/scoring/off-policy.js';
import { configOf, objectStoreAt } from '../../coordinator/runs/places.js';
import { logSentence } from '../../coordinator/reports/off-policy-document.js';

const DIFFERING_MAX = 20;

export interface ReplayResult {
  readonly decisionCount: number;
  readonly differingCount: number;
  /** The first of them. */
  readonly differing: readonly string[];
}

export function judgeLoggedChoices(
  request: RequestOf<'ope'>,
  context: RunContext,
): Promise<OpeResult> {
  return opeRun(request, judgedSlots, context);
}

export async function replayLog(
  { logs }: RequestOf<'replay'>,
  { environment, signal }: RunContext,
): Promise<ReplayResult> {
  const objectStoreOf = (address: string): ObjectStore => objectStoreAt(address, environment);
  const differing: string[] = [];
  let [decisionCount, differingCount] = [0, 0];
  for await (const record of loggedRecords(logs, objectStoreOf, signal)) {
    if (record.kind !== 'decision') continue;
    decisionCount += 1;
    if (isRepeatable(record)) continue;
    differingCount += 1;
    if (differing.length < DIFFERING_MAX) differing.push(record.input.id);
  }
  return { decisionCount, differingCount, differing };
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
  return new QianmoError({
    kind: 'data',
    what: 'the log holds no choice that can be judged',
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
    const records = loggedRecords(logs, objectStoreOf, signal);
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
  return new QianmoError({
    kind: 'usage',
    what: 'row logs and tables are judged apart',
    where: logs.join(', '),
    expected: 'only row logs and .ndjson files of them, or only .csv, .tsv and .parquet files',
    cure: 'give the files of one kind',
  });
}

function policyOfTable(logs: readonly string[]): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: 'a table of choices is judged under no policy of a file',
    where: logs.join(', '),
    expected: 'a row log beside --policy; a column of a table has the chances of the target policy',
    cure: 'leave --policy out and name the column by --target',
  });
}
