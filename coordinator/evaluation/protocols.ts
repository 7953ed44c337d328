/**
 * Evaluation protocols that divide the rows of the test adgroups in other ways than the store does. The
 * arms are the same, with settings that were chosen once on validation adgroups.
 *
 * - `shots`: every arm adapts on the first k support rows only. The query rows stay the same.
 * - `phases`: cold, warm-a, warm-b, ... (Pan et al., SIGIR 2019): one minibatch of support rows after
 *   another, with fixed query rows. Validation decides its choices again after the last phase.
 * - `periods`: progressive validation. The rows of the test adgroups are replayed in order of time,
 *   day by day. Each row is predicted by arms that adapted on all rows of its adgroup from earlier days.
 */

import { at } from '../../shared/base/arrays.js';
import type { EvaluationConfig } from '../../shared/config/evaluation-config.js';
import type { CountedDivision, RowDivision } from '../../shared/tasks/rows/row-division.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import type { ArmPlan } from './arm-plan.js';
import { dividedStore, storeOfPeriod } from './divided-store.js';
import type { ProtocolResult, Slice } from '../scoring/evaluation-report.js';
import { readSplitRows } from '../scoring/held-out-rows.js';
import { joinByAdgroup, type ScoredTasks } from '../scoring/joined-rows.js';
import type { TaskJobContext } from './task-jobs.js';
import { timeDivisionOf, type Period } from './replay-periods.js';
import { predictArms, type ArmKnowledge } from './run-arms.js';
import { validateArms } from './validate-arms.js';
import { scoreSlice, type ScoredRows } from '../scoring/score-arms.js';
import { EVERY_ADGROUP } from '../scoring/size-buckets.js';

interface ProtocolSetting {
  readonly evaluation: EvaluationConfig;
  readonly seed: number;
  readonly store: TaskStore;
  readonly testTasks: readonly number[];
  readonly validationTasks: readonly number[];
  readonly plan: ArmPlan;
  /** The choices that validation made under the division of the store. */
  readonly knowledge: ArmKnowledge;
  /** As `periodsToReplay` found them. */
  readonly periods: readonly Period[];
  /** Returns a context whose progress counts this many task passes. */
  readonly passesOver: (stage: string, taskTotal: number) => TaskJobContext;
}

export async function runProtocols(setting: ProtocolSetting): Promise<ProtocolResult[]> {
  const { shots, phases } = setting.evaluation;
  const results: ProtocolResult[] = [];
  if (shots !== undefined) results.push(await shotCurve(setting, shots));
  if (phases !== undefined) results.push(await phaseByPhase(setting, phases));
  if (setting.periods.length > 0) results.push(await progressiveValidation(setting));
  return results;
}

async function shotCurve(
  setting: ProtocolSetting,
  shots: readonly number[],
): Promise<ProtocolResult> {
  const ascending = [...new Set(shots)].sort((a, b) => a - b);
  const points: ProtocolResult['points'] = [];
  for (const supportRowsMax of ascending) {
    const stage = `k-shot curve, ${supportRowsMax} rows`;
    const scored = await scoredUnder(setting, stage, { by: 'shots', supportRowsMax });
    points.push({
      name: String(supportRowsMax),
      adaptedOnRowCount: supportRowTotal(scored),
      slice: sliceOf(setting, scored, `shots ${supportRowsMax}`),
    });
  }
  return { kind: 'shots', points };
}

const PHASE_LETTERS = 'abcdefghijklmnopqrstuvwxy';

async function phaseByPhase(
  setting: ProtocolSetting,
  { count, rowsPerPhase }: NonNullable<EvaluationConfig['phases']>,
): Promise<ProtocolResult> {
  const { store, plan, knowledge, validationTasks, passesOver } = setting;
  const last = { by: 'phases', rowsPerPhase, phase: count } as const;
  const divided = dividedStore(store, validationTasks, last);
  const taskTotal = plan.validationPasses * validationTasks.length;
  const context = passesOver('choosing settings for phases', taskTotal);
  const draw = {
    context: { ...context, store: divided, division: last },
    rows: await readSplitRows(divided, validationTasks),
  };
  const { choices } = await validateArms([draw], plan, { ...setting, ...knowledge });
  const points: ProtocolResult['points'] = [];
  for (let phase = 0; phase <= count; phase += 1) {
    const name = phase === 0 ? 'cold' : `warm-${PHASE_LETTERS[phase - 1] ?? phase}`;
    const scored = await scoredUnder({ ...setting, knowledge: { ...knowledge, choices } }, name, {
      ...last,
      phase,
    });
    points.push({
      name,
      adaptedOnRowCount: supportRowTotal(scored),
      slice: sliceOf(setting, scored, name),
    });
  }
  return { kind: 'phases', chosen: [...choices.cells.values()], points };
}

async function progressiveValidation(setting: ProtocolSetting): Promise<ProtocolResult> {
  const points: ProtocolResult['points'] = [];
  const replayed: ScoredTasks[] = [];
  for (const period of setting.periods) {
    const { name, fromTime } = period;
    const scored = await scoredTasks(setting, `progressive validation, ${name}`, {
      divided: storeOfPeriod(setting.store, period),
      taskIndices: period.taskIndices,
      division: timeDivisionOf(period),
    });
    replayed.push(scored);
    points.push({
      name,
      adaptedOnRowCount: supportRowTotal(scored),
      slice: sliceOf(setting, scored, `period ${fromTime}`),
    });
  }
  const together = sliceOf(setting, joinByAdgroup(replayed), 'periods together');
  return { kind: 'periods', points, together };
}

/** Scores the test adgroups that have query rows under the division. */
async function scoredUnder(
  setting: ProtocolSetting,
  stage: string,
  division: CountedDivision,
): Promise<ScoredTasks> {
  const { store, testTasks } = setting;
  const divided = dividedStore(store, testTasks, division);
  const taskIndices = testTasks.filter((index) => at(divided.tasks, index).queryRowCount > 0);
  return scoredTasks(setting, stage, { divided, taskIndices, division });
}

interface DividedTasks {
  readonly divided: TaskStore;
  readonly taskIndices: readonly number[];
  readonly division: RowDivision;
}

async function scoredTasks(
  { plan, knowledge, passesOver }: ProtocolSetting,
  stage: string,
  { divided, taskIndices, division }: DividedTasks,
): Promise<ScoredTasks> {
  const rows = await readSplitRows(divided, taskIndices);
  const context = passesOver(stage, plan.testPasses * taskIndices.length);
  const { logits } = await predictArms(
    { ...context, store: divided, division },
    plan,
    knowledge,
    rows,
  );
  return {
    taskIndices,
    rows: rows.query,
    supportRowCounts: taskIndices.map((index) => at(divided.tasks, index).supportRowCount),
    logits,
  };
}

function supportRowTotal({ supportRowCounts }: ScoredRows): number {
  return supportRowCounts.reduce((sum, count) => sum + count, 0);
}

/** @param name the name of the bootstrap's random stream */
function sliceOf({ evaluation, seed }: ProtocolSetting, scored: ScoredRows, name: string): Slice {
  const slice = scoreSlice(scored, { ...EVERY_ADGROUP, name }, { evaluation, seed });
  if (slice === null) throw new Error(`there is no adgroup to score in ${name}`);
  return slice;
}
