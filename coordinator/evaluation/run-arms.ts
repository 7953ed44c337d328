/** Runs the arms: makes their choices on the validation tasks, then predicts the test tasks. */

import { at, spanAt } from '../../shared/base/arrays.js';
import type { ArmPlan } from './arm-plan.js';
import { isOfValues } from '../scoring/metrics.js';
import { predictLogits } from './predict-logits.js';
import type { AdaptableModel, TaskJobContext } from './task-jobs.js';
import type { SplitRows } from '../scoring/held-out-rows.js';
import type { ShiftPrior } from './fitted-shift.js';
import { chooseBlocks, chosenLogits } from './block-choice.js';
import { adgroupImpressions } from '../scoring/score-arms.js';
import type { BlockChoice, Selection } from '../scoring/evaluation-report.js';
import { ARM_NAMES, GLOBAL_ARMS, META_ARMS, type ArmName } from '../../shared/config/arms.js';
import {
  adaptationOf,
  selectInnerSteps,
  selectShiftPrior,
  shiftedLogits,
  shiftPriorOf,
  UNADAPTED,
  unadaptedLogits,
} from './selection.js';

/** Everything that validation decided. */
export interface ArmChoices {
  readonly cells: ReadonlyMap<ArmName, Selection>;
  /** The choices of the arm meta-chosen by size bucket; null without that arm. */
  readonly blocks: readonly BlockChoice[] | null;
}

export async function chooseOnValidation(
  context: TaskJobContext,
  plan: ArmPlan,
  validation: SplitRows,
): Promise<ArmChoices> {
  const cells = await selectCells(context, plan, validation);
  const cell = cells.get('meta-adapted')?.cell;
  if (cell === undefined || !plan.arms.has('meta-chosen')) return { cells, blocks: null };
  const { lossSums } = await predictLogits(context, {
    ...plan.meta,
    taskIndices: validation.query.taskIndices,
    adaptations: [UNADAPTED, adaptationOf(cell)],
    role: 'query',
    keep: [0, 1],
  });
  const [unadapted, adapted] = [at(lossSums, 0), at(lossSums, 1)];
  const impressions = adgroupImpressions(validation.query);
  const adgroups = supportRowCountsOf(validation).map((supportRowCount, position) => ({
    supportRowCount,
    impressions: at(impressions, position),
    adaptedLoss: at(adapted, position),
    unadaptedLoss: at(unadapted, position),
  }));
  const { evaluation, seed } = context.config;
  return { cells, blocks: chooseBlocks(adgroups, { ...evaluation, seed }) };
}

function supportRowCountsOf({ support }: SplitRows): number[] {
  return [...support.taskIndices.keys()].map((position) => {
    const [start, end] = spanAt(support.starts, position);
    return end - start;
  });
}

async function selectCells(
  context: TaskJobContext,
  plan: ArmPlan,
  validation: SplitRows,
): Promise<Map<ArmName, Selection>> {
  const chosen = new Map<ArmName, Selection>();
  const { global, meta, arms } = plan;
  if (global !== null && arms.has('global-shift')) {
    const logits = await unadaptedLogits(context, global, validation.query.taskIndices);
    chosen.set(
      'global-shift',
      selectShiftPrior('global-shift', plan.shiftPriors, logits, validation),
    );
  }
  const byInnerSteps: readonly [ArmName, AdaptableModel | null][] = [
    ['finetuned', global],
    ['meta-adapted', meta],
  ];
  for (const [arm, model] of byInnerSteps)
    if (model !== null && (arms.has(arm) || (arm === 'meta-adapted' && arms.has('meta-chosen'))))
      chosen.set(
        arm,
        await selectInnerSteps(context, { arm, model, grid: plan.innerSteps }, validation),
      );
  return chosen;
}

/** Everything the arms need besides the rows that they predict. */
export interface ArmKnowledge {
  readonly choices: ArmChoices;
  /**
   * Clicks per impression, or the mean value, of the training tasks. The constant arm predicts it.
   */
  readonly trainClickRate: number;
}

/** Logits, or values, of every arm for the query rows of the test tasks, `[rowCount]`. */
export async function predictArms(
  context: TaskJobContext,
  plan: ArmPlan,
  { choices, trainClickRate }: ArmKnowledge,
  test: SplitRows,
): Promise<Map<ArmName, Float32Array>> {
  const rowCount = test.query.clicks.length;
  const found = new Map<ArmName, Float32Array>();
  const outputOf = isOfValues(test.query) ? (value: number): number => value : logitOf;
  found.set('constant', new Float32Array(rowCount).fill(outputOf(trainClickRate)));
  if (test.query.oracle !== null) found.set('oracle', test.query.oracle.map(outputOf));

  const predict = async (
    model: AdaptableModel,
    unadaptedArm: ArmName,
    adaptedArm: ArmName,
  ): Promise<void> => {
    const cell = choices.cells.get(adaptedArm)?.cell;
    const { logits } = await predictLogits(context, {
      ...model,
      taskIndices: test.query.taskIndices,
      adaptations: cell === undefined ? [UNADAPTED] : [UNADAPTED, adaptationOf(cell)],
      role: 'query',
      keep: cell === undefined ? [0] : [0, 1],
    });
    found.set(unadaptedArm, at(logits, 0));
    if (cell !== undefined) found.set(adaptedArm, at(logits, 1));
  };
  const { global, meta, arms } = plan;
  if (global !== null && GLOBAL_ARMS.some((arm) => arms.has(arm)))
    await predict(global, 'global', 'finetuned');
  if (META_ARMS.some((arm) => arms.has(arm))) await predict(meta, 'meta-unadapted', 'meta-adapted');
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
  return new Map(
    ARM_NAMES.flatMap((arm): [ArmName, Float32Array][] => {
      const logits = found.get(arm);
      return logits !== undefined && arms.has(arm) ? [[arm, logits]] : [];
    }),
  );
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

/** The probability is kept off 0 and 1, where a single miss would have an infinite loss. */
function logitOf(probability: number): number {
  const kept = Math.min(1 - 1e-7, Math.max(1e-7, probability));
  return Math.log(kept) - Math.log1p(-kept);
}
