/**
 * The score of a trained run by its arms: the held-out loss of the best of them on the validation adgroups, each
 * with the settings that validation chooses. Test adgroups are not involved.
 */

import { at } from '../../shared/base/arrays.js';
import { DivergenceError, QianmoError } from '../../shared/base/errors.js';
import { GLOBAL_ARMS, META_ARMS, type ArmName, type ScoringArm } from '../../shared/config/arms.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { adapts } from '../../shared/methods/inner-loop/method.js';
import { methodPlanOf } from '../../shared/methods/methods.js';
import type { MetaParameters } from '../../shared/models/initial-values.js';
import { metaParametersDigest } from '../../shared/models/meta-parameters-digest.js';
import type { Cell, ValidationSummary } from '../scoring/evaluation-report.js';
import type { TaskCounts } from '../scoring/held-out-rows.js';
import { planArms } from './arm-plan.js';
import { cellsPerArm } from './grid.js';
import { selectionCriterionOf, UNADAPTED } from './selection.js';
import { validateArms } from './validate-arms.js';
import { validationDraws } from './validation-draws.js';
import { scoringRunId, type ScoredRun } from './validation-score.js';

/** Arms without settings to choose. */
const SETTLED_ARMS: readonly ArmName[] = ['global', 'meta-unadapted'];

interface ArmsScore {
  /** The held-out value of the best arm. */
  readonly validationLogloss: number;
  readonly arm: ScoringArm;
  /** With which it is served; 0 inner steps mean no adaptation. */
  readonly cell: Cell;
  readonly metaDigest: string;
  readonly validation: ValidationSummary;
}

/**
 * The arms that predict with the model of the run itself: a run of the method `global` has the arms of the
 * global model, every other one those of the meta-trained model.
 */
function armsOfModel(
  { method }: Pick<RunConfig, 'method'>,
  arms: readonly ScoringArm[],
): ScoringArm[] {
  const own = armsOfMethod(method);
  return arms.filter((arm) => own.includes(arm));
}

function armsOfMethod(method: RunConfig['method']): readonly ArmName[] {
  return adapts(methodPlanOf(method)) ? META_ARMS : GLOBAL_ARMS;
}

/** @throws QianmoError of kind `usage` if the model of the run has none of the arms. */
export function demandOwnArm(config: RunConfig, arms: readonly ScoringArm[]): void {
  if (armsOfModel(config, arms).length === 0) throw noSuchArm(config, arms);
}

/**
 * @param taskIndices validation tasks of one label
 * @param arms those that the model of the run has are scored.
 * @throws DivergenceError when an arm gives no finite logits with any setting.
 */
export async function scoreArms(
  run: ScoredRun,
  parameters: MetaParameters,
  taskIndices: readonly number[],
  arms: readonly ScoringArm[],
): Promise<ArmsScore> {
  const own = armsOfModel(run.config, arms);
  const config = { ...run.config, evaluation: { ...run.config.evaluation, arms: own } };
  const plan = planArms({ config, store: run.store }, { meta: parameters, global: null });
  const metaDigest = metaParametersDigest(parameters);
  let waveCount = 0;
  const draws = await validationDraws(
    {
      ...{ ...run, config, runId: `${scoringRunId({ ...run, config }, metaDigest)}-arms` },
      nextWave: () => waveCount++,
      onTasksDone: () => undefined,
      onBackend: () => undefined,
    },
    taskIndices,
  );
  const { evaluation, seed } = config;
  const { choices, validation } = await validateArms(draws, plan, {
    ...{ evaluation, seed, trainClickRate: null },
  });
  const best = validation?.arms.find(({ arm }) => arm === validation.chosen);
  if (validation === null || best === undefined || best.heldOutLogloss === null)
    throw new DivergenceError({
      kind: 'failed',
      what: 'no logit of the validation adgroups is finite',
      where: config.run,
      found: `the arms ${own.join(', ')} on ${at(draws, 0).rows.query.taskIndices.length} adgroups`,
      cure: 'train with smaller rates',
    });
  const { heldOutLogloss } = best;
  const arm = own.find((each) => each === best.arm);
  if (arm === undefined) throw new Error(`${best.arm} was not asked for`);
  const tuned = choices.cells.get(arm === 'meta-chosen' ? 'meta-adapted' : arm);
  const cell = tuned?.cell ?? { kind: 'inner-steps', ...UNADAPTED };
  return { validationLogloss: heldOutLogloss, arm, cell, metaDigest, validation };
}

function noSuchArm({ run, method }: RunConfig, arms: readonly ScoringArm[]): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: 'a run cannot be scored by an arm of another model than its own',
    where: run,
    expected: `one of ${armsOfMethod(method).join(', ')} for the method ${method.kind}`,
    found: arms.join(', '),
    cure: 'name an arm of each method that is tried',
  });
}

export function armsCriterionOf(
  rows: Pick<TaskCounts, 'label'>,
  arms: readonly ScoringArm[],
): string {
  const each =
    arms.length === 1 ? `of the arm ${arms.join()}` : `of the best arm (${arms.join(', ')})`;
  return `${selectionCriterionOf(rows)}, ${each}, with settings that the other folds of adgroups choose`;
}

/** The number of settings that the arms of one model are tried with, at most. */
export function settingsTried({ evaluation }: RunConfig, arms: readonly ScoringArm[]): number {
  const settingsOf = (own: readonly ArmName[]): number =>
    arms
      .filter((arm) => own.includes(arm))
      .reduce((sum, arm) => sum + (SETTLED_ARMS.includes(arm) ? 1 : cellsPerArm(evaluation)), 0);
  return Math.max(settingsOf(GLOBAL_ARMS), settingsOf(META_ARMS));
}
