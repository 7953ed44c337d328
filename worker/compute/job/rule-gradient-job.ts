/** Computes the meta-gradient of an update rule on one pair of windows. No tensors of any device. */

import { QianmoError } from '../../../shared/base/errors.js';
import type { Clock } from '../../../shared/base/clock.js';
import type { JobInput, JobOutput } from '../../../shared/queue/job-executor.js';
import type { RuleJob } from '../../../shared/queue/protocol.js';
import { scriptArithmetic } from '../../../shared/streaming/script-arithmetic.js';
import {
  decodeRuleParameters,
  decodeWindowPair,
  encodeRuleGradient,
} from '../../../shared/streaming/window-pair-codec.js';
import { windowPairGradient } from '../../../shared/streaming/window-pair-gradient.js';
import type { ComputedJob } from './compute-job.js';

/**
 * @throws QianmoError of kind `data` if the inputs do not fit the rule, `environment` if the functions of
 *   JavaScript round otherwise here than in the coordinator.
 */
function ruleGradientOf({ job, dense, rowPack }: JobInput<RuleJob>): ComputedJob {
  const { outerStep, runId, work } = job;
  const where = `job ${job.jobIndex} of outer step ${outerStep} of run ${runId}`;
  requireArithmetic(work.arithmetic, where);
  const parameters = decodeRuleParameters(dense, work.shape, `phi of ${where}`);
  const pair = decodeWindowPair(rowPack ?? new Uint8Array(0), work.shape, `pair of ${where}`);
  const computed = windowPairGradient(work.shape, parameters, pair, work.settings);
  return {
    output: encodeRuleGradient(computed),
    queryRowCount: computed.judgedRowCount,
  };
}

/** The output of a job but for the machine. */
export function ruleJobOutput(
  input: JobInput<RuleJob>,
  clock: Clock,
): Omit<JobOutput, 'backend' | 'fingerprint'> {
  const startMs = clock.monotonicMs();
  const computed = ruleGradientOf(input);
  return { ...computed, computeMs: clock.monotonicMs() - startMs };
}

function requireArithmetic(demanded: string, where: string): void {
  const found = scriptArithmetic();
  if (demanded === found) return;
  throw new QianmoError({
    kind: 'environment',
    what: 'JavaScript may round otherwise here than in the coordinator',
    where,
    expected: demanded,
    found,
    cure: 'run coordinator and workers with the same version of Node',
    isOfThisMachine: true,
  });
}
