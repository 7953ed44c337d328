/** The demo's last part: a search from data alone, and what it chose beside the arms of the demo. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { CallOptions } from '../../../coordinator/runs/call/run-handle.js';
import type { EvaluationReport } from '../../../coordinator/scoring/evaluation-report.js';
import type { SweepRecord } from '../../../coordinator/sweep/sweep-record.js';
import type { ArmName } from '../../../shared/config/arms.js';
import { loadRunConfig } from '../../../shared/config/load-run-config.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { auto, evaluate, prepare } from '../index.js';

const TRIALS_MAX = 8;

/** The figures of a model on the held-out films. */
export interface MeasuredModel {
  readonly name: string;
  readonly logloss: number;
  readonly auc: number | null;
}

interface SearchedModel {
  readonly record: SweepRecord;
  readonly measured: MeasuredModel;
}

/**
 * Prepares a store of its own from the same split, with what a search adds to the data, and searches with a fixed number of
 * trials: the choice does not depend on how fast the machine is.
 */
export async function searchedModel(
  { run, seed, data, output }: RunConfig,
  options: CallOptions,
): Promise<SearchedModel> {
  const path = join(output, 'auto.yaml');
  const store = join(output, 'auto', 'store');
  const dataAlone = {
    run: `${run}-auto`,
    seed,
    data: { ...data, store },
    auto: { trialsMax: TRIALS_MAX },
  };
  await writeFile(path, stringify({ ...dataAlone, output }));
  // The search keeps its record in this folder; that of the demo's run is not to end with this call.
  await prepare({ config: { ...dataAlone, output: join(output, 'auto') } }, options);
  const record = await auto({ config: path, resume: true }, options);
  if (record.best === null) throw new Error('a finished search has a best trial');
  const config = await loadRunConfig(record.best.config);
  const served = servedArm(config);
  const arms: RunConfig['evaluation']['arms'] =
    served === 'global' ? ['global'] : ['meta-adapted', served];
  const evaluation = { ...config.evaluation, arms };
  const [report] = await evaluate({ config: { ...config, evaluation } }, options);
  if (report === undefined) throw new Error('an evaluation has a report');
  return { record, measured: measuredArm(report, served, 'auto') };
}

/** The arm that a bundle of the run serves. */
function servedArm({ method }: RunConfig): 'global' | 'meta-chosen' {
  return method.kind === 'global' ? 'global' : 'meta-chosen';
}

/** @param name shown in place of the arm's own */
export function measuredArm(
  { slices: [all] }: EvaluationReport,
  arm: ArmName,
  name: string = arm,
): MeasuredModel {
  const found = all?.arms.find((each) => each.arm === arm);
  if (found === undefined) throw new Error(`the report has no arm ${arm}`);
  const { logloss, auc } = found.metrics;
  return { name, logloss, auc };
}
