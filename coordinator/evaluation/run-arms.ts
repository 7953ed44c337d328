/** Predicts rows with every arm, with the settings that were chosen on the validation tasks. */

import { at } from '../../shared/base/arrays.js';
import type { ArmPlan } from './arm-plan.js';
import { isOfValues } from '../scoring/metrics.js';
import type { AdaptationMeasures } from '../scoring/task-adaptation.js';
import { predictLogits } from './predict-logits.js';
import type { AdaptableModel, TaskJobContext } from './task-jobs.js';
import { supportRowCountsOf, type FlatRows, type SplitRows } from '../scoring/held-out-rows.js';
import type { ShiftPrior } from './fitted-shift.js';
import { chosenLogits } from './block-choice.js';
import { blendedOutputs } from '../scoring/blend-weights.js';
import type { BlendChoice, BlockChoice, Selection } from '../scoring/evaluation-report.js';
import { ARM_NAMES, type ArmName } from '../../shared/config/arms.js';
import { adaptationOf, shiftedLogits, shiftPriorOf, UNADAPTED } from './selection.js';

/** Everything that validation decided. */
export interface ArmChoices {
  readonly cells: ReadonlyMap<ArmName, Selection>;
  /** The choices of the arm meta-chosen by size bucket; null without that arm. */
  readonly blocks: readonly BlockChoice[] | null;
  /** The weights of the arm blend; null without it. */
  readonly blend: BlendChoice | null;
}

/** Everything the arms need besides the rows that they predict. */
export interface ArmKnowledge {
  readonly choices: ArmChoices;
  /**
   * Clicks per impression, or the mean value, of the training tasks. The constant arm predicts it.
   */
  readonly trainClickRate: number;
  /** True if workers also tell what the adaptation of `meta-adapted` did; not if absent. */
  readonly isMeasured?: boolean;
}

interface ArmPredictions {
  /** Logits, or values, of every arm for the query rows of the test tasks, `[rowCount]`. */
  readonly logits: Map<ArmName, Float32Array>;
  /** Losses before adaptation, and after it; null without the arm `meta-adapted`, or where nobody asks. */
  readonly measures: AdaptationMeasures | null;
}

export async function predictArms(
  context: TaskJobContext,
  plan: ArmPlan,
  { choices, trainClickRate, isMeasured = false }: ArmKnowledge,
  test: SplitRows,
): Promise<ArmPredictions> {
  const found = new Map<ArmName, Float32Array>();
  found.set('constant', constantLogits(test.query, trainClickRate));
  const oracle = oracleLogits(test.query);
  if (oracle !== null) found.set('oracle', oracle);

  const predict = async (
    model: AdaptableModel,
    unadaptedArm: ArmName,
    adaptedArm: ArmName,
  ): Promise<AdaptationMeasures | null> => {
    const cell = choices.cells.get(adaptedArm)?.cell;
    const { logits, measures } = await predictLogits(context, {
      ...model,
      taskIndices: test.query.taskIndices,
      adaptations: cell === undefined ? [UNADAPTED] : [UNADAPTED, adaptationOf(cell)],
      role: 'query',
      keep: cell === undefined ? [0] : [0, 1],
      isMeasured: isMeasured && adaptedArm === 'meta-adapted' && cell !== undefined,
    });
    found.set(unadaptedArm, at(logits, 0));
    if (cell !== undefined) found.set(adaptedArm, at(logits, 1));
    return measures;
  };
  const { global, meta, arms } = plan;
  if (global !== null && plan.usesGlobal) await predict(global, 'global', 'finetuned');
  const measures = plan.usesMeta ? await predict(meta, 'meta-unadapted', 'meta-adapted') : null;
  const [unadapted, adapted] = [found.get('meta-unadapted'), found.get('meta-adapted')];
  if (choices.blocks !== null && unadapted !== undefined && adapted !== undefined)
    found.set(
      'meta-chosen',
      chosenLogits(choices.blocks, { adapted, unadapted }, test.query, supportRowCountsOf(test)),
    );

  const shift = choices.cells.get('global-shift')?.cell;
  const query = found.get('global');
  if (global !== null && shift !== undefined && query !== undefined)
    found.set(
      'global-shift',
      await predictShift(context, global, { query, prior: shiftPriorOf(shift) }, test),
    );
  if (choices.blend !== null)
    found.set('blend', blendedOutputs(choices.blend, found, test.query, supportRowCountsOf(test)));
  const wanted = ARM_NAMES.flatMap((arm): [ArmName, Float32Array][] => {
    const logits = found.get(arm);
    return logits !== undefined && arms.has(arm) ? [[arm, logits]] : [];
  });
  return { logits: new Map(wanted), measures };
}

async function predictShift(
  context: TaskJobContext,
  global: AdaptableModel,
  { query, prior }: { readonly query: Float32Array; readonly prior: ShiftPrior },
  test: SplitRows,
): Promise<Float32Array> {
  const { logits } = await predictLogits(context, {
    ...global,
    taskIndices: test.query.taskIndices,
    adaptations: [UNADAPTED],
    role: 'support',
    keep: [0],
  });
  return shiftedLogits(prior, { query, support: at(logits, 0) }, test);
}

/** Logits, or values, of the arm `constant`, `[rowCount]`. */
export function constantLogits(rows: FlatRows, trainClickRate: number): Float32Array {
  return new Float32Array(rows.clicks.length).fill(outputOf(rows)(trainClickRate));
}

/** Null if the true click probabilities are not known. */
export function oracleLogits(rows: FlatRows): Float32Array | null {
  return rows.oracle?.map(outputOf(rows)) ?? null;
}

/** The output, logit or value, of a click rate or mean value. */
export function outputOf(rows: Pick<FlatRows, 'label'>): (value: number) => number {
  return isOfValues(rows) ? (value) => value : logitOf;
}

/** The probability is kept off 0 and 1, where a single miss would have an infinite loss. */
function logitOf(probability: number): number {
  const kept = Math.min(1 - 1e-7, Math.max(1e-7, probability));
  return Math.log(kept) - Math.log1p(-kept);
}
