/** Emits the events that report the outer steps of a run. */

import { methodPlanOf } from '../../shared/methods/methods.js';
import { GRADIENT_NORM } from './meta-optimizer/clip-by-global-norm.js';
import { scalarOf } from './meta-optimizer/gradient-transformation.js';
import { sizeDivisionOf } from '../plan/step-sizes.js';
import type { PreparedRun, RunCaller } from '../plan/prepared-run.js';
import { readsTrunkRows, type StepPlan } from '../plan/step-plan.js';
import { outerStepsOf, type TrainingState } from '../checkpoints/training-state.js';
import { adapts } from '../../shared/methods/inner-loop/method.js';
import type { StepSum } from './step-sum.js';
import { warningEvent } from '../../shared/events/run-events.js';
import { counted } from '../../shared/names/counted.js';

const MS_PER_SECOND = 1000;

/** Emits the start of the run. The returned function is called after each outer step. */
export function stepReport(
  { config, store }: PreparedRun,
  { clock, sink }: RunCaller,
  start: Pick<TrainingState, 'outerStep' | 'extendedOuterSteps'>,
): (state: TrainingState, plan: StepPlan, sum: StepSum) => void {
  const { run: runId, training } = config;
  const { outerStep } = start;
  sink({ kind: 'run-started', runId, outerStep, outerSteps: outerStepsOf(start, training) });
  const { trunk } = store.manifest;
  if (trunk !== undefined && !readsTrunkRows(methodPlanOf(config.method)))
    sink(
      warningEvent(
        'trunk-rows-unread',
        `${counted(trunk.rowCount, 'row')} of the store train the trunk only, and ${config.method.kind} does not read them: ` +
          'it makes the start of an adgroup of its attributes, and these rows are of many adgroups',
      ),
    );
  const tasksAdapt = adapts(methodPlanOf(config.method));
  const { names: sizes } = sizeDivisionOf(config.evaluation.sizeBucketEdges);
  let previousMs = clock.monotonicMs();
  return (state, plan, sum) => {
    const nowMs = clock.monotonicMs();
    const elapsedMs = Math.max(nowMs - previousMs, 1);
    previousMs = nowMs;
    const { bySize, queryLossBefore, ...means } = sum.losses(tasksAdapt);
    sink({
      kind: 'outer-step',
      outerStep: state.outerStep,
      outerSteps: outerStepsOf(state, training),
      ...means,
      ...(queryLossBefore === null ? {} : { queryLossBefore }),
      gradientNorm: scalarOf(state.optimizer, GRADIENT_NORM),
      tasksPerSecond: (plan.taskCount * MS_PER_SECOND) / elapsedMs,
      bySize: { sizes: [...sizes], ...bySize },
    });
  };
}
