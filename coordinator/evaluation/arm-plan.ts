/** Decides which arms can be evaluated, what each needs, and why the others are left out. */

import { adapts } from '../../shared/methods/inner-loop/method.js';
import { methodPlanOf, shiftsAlone } from '../../shared/methods/methods.js';
import type { MetaParameters } from '../../shared/models/initial-values.js';
import { innerStepGrid, ownGrid, shiftPriorGrid, type Grid } from './grid.js';
import {
  ARM_NAMES,
  BLENDED_ARMS,
  GLOBAL_ARMS,
  META_ARMS,
  type ArmName,
} from '../../shared/config/arms.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import type { AdaptableModel } from './task-jobs.js';

export interface ArmPlan {
  /** In the order in which they are shown. */
  readonly arms: ReadonlySet<ArmName>;
  readonly leftOut: readonly { readonly arm: ArmName; readonly reason: string }[];
  /** The model that the run has trained, adapted by its own method. */
  readonly meta: AdaptableModel;
  /** Finetuned by plain gradient descent; null where it was not trained. */
  readonly global: AdaptableModel | null;
  readonly innerSteps: Grid;
  /** The same for the model that the run has trained. */
  readonly own: Grid;
  readonly shiftPriors: Grid;
  /** Whether an arm predicts with the global model, with the meta-trained one, and with this adapted. */
  readonly usesGlobal: boolean;
  readonly usesMeta: boolean;
  readonly adaptsMeta: boolean;
  /** Whether only a shift of the meta-trained model adapts. */
  readonly isShiftAlone: boolean;
  /** Whether an arm has settings to choose, for which there must be validation tasks. */
  readonly hasSettings: boolean;
  /** The number of times that each validation task and each test task is sent to the workers. */
  readonly validationPasses: number;
  readonly testPasses: number;
}

/** The meta-parameters that are evaluated. */
export interface TrainedParameters {
  readonly meta: MetaParameters;
  /** Those of the global arm; null leaves out the arms that need it. */
  readonly global: MetaParameters | null;
}

/** A run whose own method is `global` is its own global arm and has no meta arms. */
export function planArms(
  { config, store }: Pick<PreparedRun, 'config' | 'store'>,
  { meta, global: trained }: TrainedParameters,
): ArmPlan {
  const isMetaTrained = adapts(methodPlanOf(config.method));
  const parameters = trained ?? (isMetaTrained ? null : meta);
  const global: AdaptableModel | null =
    parameters === null ? null : { parameters, method: { kind: 'global' } };
  const leftOut: { arm: ArmName; reason: string }[] = [];
  const arms = new Set<ArmName>();
  const wanted = new Set<ArmName>(config.evaluation.arms);
  if (store.manifest.hasOracle) wanted.add('oracle');
  for (const arm of ARM_NAMES) {
    if (!wanted.has(arm)) continue;
    const reason = reasonToLeaveOut(arm, global, isMetaTrained);
    if (reason === null) arms.add(arm);
    else leftOut.push({ arm, reason });
  }
  if (arms.has('blend') && BLENDED_ARMS.filter((arm) => arms.has(arm)).length < 2) {
    arms.delete('blend');
    const reason = 'it needs two of the arms that it adds up beside it';
    leftOut.push({ arm: 'blend', reason });
  }
  const hasAny = (names: readonly ArmName[]): boolean => names.some((arm) => arms.has(arm));
  const [usesGlobal, usesMeta] = [hasAny(GLOBAL_ARMS), hasAny(META_ARMS)];
  const passes = Number(usesGlobal) + Number(arms.has('global-shift')) + Number(usesMeta);
  return {
    arms,
    leftOut,
    meta: { parameters: meta, method: config.method },
    global,
    innerSteps: innerStepGrid(config.evaluation),
    own: ownGrid(config),
    shiftPriors: shiftPriorGrid(config.evaluation),
    usesGlobal,
    usesMeta,
    adaptsMeta: hasAny(['meta-adapted', 'meta-chosen']),
    isShiftAlone: shiftsAlone(config),
    hasSettings: hasAny(['global-shift', 'finetuned', 'meta-adapted', 'meta-chosen', 'blend']),
    // A blend is fitted to outputs with the chosen settings.
    validationPasses: arms.has('blend') ? 2 * passes : passes,
    testPasses: passes,
  };
}

function reasonToLeaveOut(
  arm: ArmName,
  global: AdaptableModel | null,
  isMetaTrained: boolean,
): string | null {
  switch (arm) {
    case 'global':
    case 'global-shift':
    case 'finetuned':
      return global === null ? 'the global arm has not been trained' : null;
    case 'meta-unadapted':
    case 'meta-adapted':
    case 'meta-chosen':
      return isMetaTrained ? null : "the run's own method is global: there is nothing meta-trained";
    case 'constant':
    case 'blend':
    case 'oracle':
      return null;
  }
}
