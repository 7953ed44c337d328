/**
 * The choice of what the adgroups of each label are served, as evaluation chose it: the inner rate and number of
 * steps of the arm `meta-adapted`, and for which sizes adapted blocks beat unadapted ones.
 */

import { QianmoError } from '../../shared/base/errors.js';
import type { BundleServing } from '../../shared/bundle/bundle-manifest.js';
import type { MethodConfig } from '../../shared/methods/methods.js';
import { methodPlanOf } from '../../shared/methods/methods.js';
import { adapts, predictionLoopOf } from '../../shared/methods/inner-loop/method.js';
import type { EvaluationReport } from '../scoring/evaluation-report.js';
import { EVERY_ADGROUP } from '../scoring/size-buckets.js';
import { adaptationOf, UNADAPTED } from '../evaluation/arms.js';

/** The checkpoint and the store that an evaluation must have been made of. */
interface Evaluated {
  readonly metaDigest: string;
  readonly storeDigest: string;
}

interface ServingSource extends Evaluated {
  readonly method: MethodConfig;
  /** The address of the report, for messages. */
  readonly where: string;
}

/** Whether what is served depends on an evaluation. */
function needsEvaluation(method: MethodConfig): boolean {
  return adapts(methodPlanOf(method));
}

/**
 * @param report of the label's adgroups; null if there is none.
 * @throws QianmoError of kind `usage` if the method adapts and this checkpoint was not evaluated.
 */
export function servingOf(report: EvaluationReport | null, source: ServingSource): BundleServing {
  const { method } = source;
  const { supportRowCountMin, supportRowCountMax } = EVERY_ADGROUP;
  const everywhere = (blocks: 'adapted' | 'unadapted') => [
    { supportRowCountMin, supportRowCountMax, blocks },
  ];
  if (!needsEvaluation(method)) return { adaptation: UNADAPTED, served: everywhere('unadapted') };
  const { selection } = demandEvaluation(report, source);
  const cell = selection.chosen.find(({ arm }) => arm === 'meta-adapted')?.cell;
  const { count, rate } = predictionLoopOf(methodPlanOf(method)).steps;
  return {
    adaptation: cell === undefined ? { innerRate: rate, innerSteps: count } : adaptationOf(cell),
    served:
      selection.blocks?.buckets.map((bucket) => ({
        supportRowCountMin: bucket.supportRowCountMin,
        supportRowCountMax: bucket.supportRowCountMax,
        blocks: bucket.serves,
      })) ?? everywhere('adapted'),
  };
}

function demandEvaluation(
  report: EvaluationReport | null,
  { metaDigest, storeDigest, where }: ServingSource,
): EvaluationReport {
  const refused = (what: string, found?: string): QianmoError =>
    new QianmoError({
      kind: 'usage',
      what,
      where,
      expected: 'an evaluation of this checkpoint, which chooses what adgroups are served',
      ...(found === undefined ? {} : { found }),
      cure: 'evaluate it first: qianmo evaluate run.yaml',
    });
  if (report === null) throw refused('the run was not evaluated');
  if (report.run.metaDigest !== metaDigest)
    throw refused(
      'the evaluation is of other parameters',
      `${report.run.metaDigest} evaluated, ${metaDigest} in the checkpoint`,
    );
  if (report.run.storeDigest === storeDigest) return report;
  throw refused('the evaluation is of another task store', report.run.storeDigest);
}

/** The blocks that an adgroup of this size is served. */
export function servedBlocksOf(
  { served }: Pick<BundleServing, 'served'>,
  supportRowCount: number,
): 'adapted' | 'unadapted' {
  const found = served.find(
    ({ supportRowCountMin: least, supportRowCountMax: most }) =>
      supportRowCount >= least && (most === null || supportRowCount <= most),
  );
  return found?.blocks ?? 'unadapted';
}
