/** Decides which tasks are eligible at which outer step. A curriculum adds them gradually. Pure. */

import type { CurriculumConfig } from '../../shared/config/training-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { TaskEntry } from '../../shared/tasks/task-store.js';

/** The outer steps from `firstOuterStep` to the next stage draw from these tasks. */
export interface CurriculumStage {
  readonly firstOuterStep: number;
  /** In catalog order. */
  readonly tasks: readonly TaskEntry[];
}

interface Curriculum {
  /** The index of the stage that the outer step belongs to. */
  stageAt(outerStep: number): number;
  stage(stageIndex: number): CurriculumStage;
}

interface CurriculumRule {
  readonly curriculum?: CurriculumConfig | undefined;
  readonly outerSteps: number;
}

/** The amount by which a product of decimal shares may exceed the whole number that is meant. */
const ROUNDING = 1e-9;

/**
 * The first stage begins at outer step 0 and the last one has all tasks; without a curriculum there is
 * one stage. Let S = `stageCount` and let growth take G = floor(growthShare * outerSteps) outer steps.
 * Stage s of 0 .. S begins at outer step ceil(s G / S), and the first
 * ceil(N (startShare + (1 - startShare) s / S)) of N tasks are eligible in it. If stages begin together,
 * the last one counts. A stage that adds no task is left out.
 *
 * @throws QianmoError of kind `data` if the order is by age and a task has no age.
 */
export function curriculumOf(
  tasks: readonly TaskEntry[],
  { curriculum, outerSteps }: CurriculumRule,
): Curriculum {
  if (curriculum === undefined)
    return { stageAt: () => 0, stage: () => ({ firstOuterStep: 0, tasks }) };
  const entering = orderOfEntry(tasks, curriculum.by);
  const rises = risesOf(curriculum, outerSteps, tasks.length);
  return {
    stageAt: (outerStep) =>
      rises.findLastIndex(({ firstOuterStep }) => firstOuterStep <= outerStep),
    stage: (stageIndex) => {
      const { firstOuterStep = 0, taskCount = 0 } = rises[stageIndex] ?? {};
      const eligible = new Set(entering.slice(0, taskCount));
      return { firstOuterStep, tasks: tasks.filter((task) => eligible.has(task)) };
    },
  };
}

/** The outer steps at which the number of eligible tasks rises, ascending and distinct. */
function risesOf(
  { startShare, growthShare, stageCount }: CurriculumConfig,
  outerSteps: number,
  taskCount: number,
): { readonly firstOuterStep: number; readonly taskCount: number }[] {
  const growthOuterSteps = Math.floor(growthShare * outerSteps + ROUNDING);
  const countByStart = new Map<number, number>();
  for (let stage = 0; stage <= stageCount; stage += 1) {
    const share = startShare + ((1 - startShare) * stage) / stageCount;
    const firstOuterStep = Math.ceil((stage * growthOuterSteps) / stageCount);
    countByStart.set(firstOuterStep, Math.max(1, Math.ceil(share * taskCount - ROUNDING)));
  }
  const rises = [...countByStart].map(([firstOuterStep, count]) => ({
    firstOuterStep,
    taskCount: count,
  }));
  return rises.filter(({ taskCount: count }, index) => count !== rises[index - 1]?.taskCount);
}

function orderOfEntry(
  tasks: readonly TaskEntry[],
  by: CurriculumConfig['by'],
): readonly TaskEntry[] {
  const rankOf =
    by === 'age'
      ? firstSeenTimeOf
      : (task: TaskEntry) => -(task.supportRowCount + task.queryRowCount);
  return [...tasks].sort((a, b) => rankOf(a) - rankOf(b) || a.taskIndex - b.taskIndex);
}

function firstSeenTimeOf({ firstSeenTime, taskIndex }: TaskEntry): number {
  if (firstSeenTime !== null) return firstSeenTime;
  throw new QianmoError({
    kind: 'data',
    what: 'the task store does not say when its tasks were first seen, which a curriculum by age needs',
    where: `tasks.arrow, task ${taskIndex}`,
    expected: 'a column firstSeen',
    found: 'a store that an earlier version prepared',
    cure: 'prepare it again with `qianmo prepare --force`, or set training.curriculum.by: size',
  });
}
