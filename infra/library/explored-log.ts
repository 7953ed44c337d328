/** Joins the log of a ranking server, which the coordinator reads, with the chooser that made its decisions. */

import { explorationLines } from '../../coordinator/logs/decision-log.js';
import { opeRun, type OpeResult } from '../../coordinator/runs/ope-run.js';
import type { RequestOf } from '../../coordinator/runs/requests.js';
import type { RunContext } from '../../coordinator/runs/run-context.js';
import { isRepeatable, judgedSlots } from '../../worker/serving/exploration/chooser.js';

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
  { signal }: RunContext,
): Promise<ReplayResult> {
  const differing: string[] = [];
  let [decisionCount, differingCount] = [0, 0];
  for await (const record of explorationLines(logs, signal)) {
    if (record.kind !== 'decision') continue;
    decisionCount += 1;
    if (isRepeatable(record)) continue;
    differingCount += 1;
    if (differing.length < DIFFERING_MAX) differing.push(record.input.id);
  }
  return { decisionCount, differingCount, differing };
}
