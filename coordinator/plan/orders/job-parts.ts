/**
 * Jobs in parts. A job that takes longer than a worker's share of the outer step is sent as several: its leading
 * micro-batches together, and the others one by one. Sums are made of micro-batches in their order, so the gradient of
 * the job has the same bits whoever computes them (decision 0106).
 */

import { at } from '../../../shared/base/arrays.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import type { MicroBatchRange } from '../../../shared/tasks/rows/micro-batch-range.js';
import type { PlannedMicroBatch, StepPlan } from '../step-plan.js';

/** The part of a planned job that its division depends on. */
export type DivisibleJob = Pick<
  StepPlan['jobs'][number],
  'jobIndex' | 'taskIndices' | 'rowCount' | 'cut'
>;

interface DivisiblePlan {
  readonly jobs: readonly DivisibleJob[];
}

/** A job, or a part of one, that travels as an order of its own. */
export interface JobPart {
  readonly jobIndex: number;
  /** Null for a whole job. */
  readonly microBatches: MicroBatchRange | null;
  /** The places of its tasks in the job, in the order of micro-batches. */
  readonly taskPlaces: readonly number[];
  readonly rowCount: number;
}

/** The workers that compute an outer step, as far as they are known. */
export interface WorkerShares {
  /** Asked only where a job may be divided, since it may take a command. */
  readonly workerCount: () => number;
  /** The time of a unit of cost; null before the first results. */
  readonly msPerCost: number | null;
  /** The number of outer steps that overlap. */
  readonly stepCount: number;
  /** Whether the queue carries the results of parts of this job, which are larger than that of the job. */
  readonly carriesPartsOf: (jobIndex: number) => boolean;
}

/** The time that a part takes beside its micro-batches: rows that are read twice, and gradients that are sent and added. */
const SAVED_MS_MIN = 15;
/** Bounds the gradients of one job that the coordinator keeps until the last of them has arrived. */
const PARTS_PER_JOB_MAX = 8;

/**
 * Whether large jobs may travel in parts. A step that may end without some jobs counts whole ones, rounding is done to
 * the gradient of a whole job, and workers alone know the neighbours that a cut depends on.
 */
export function dividesJobs({
  training: { closing, encodings },
  method,
}: Pick<RunConfig, 'training' | 'method'>): boolean {
  return (
    closing.kind === 'all' &&
    (encodings?.gradients ?? 'float32') === 'float32' &&
    methodPlanOf(method).innerLoop.reads.neighbours === undefined
  );
}

/** The number of outer steps that overlap. */
export function overlapOf({ training: { staleness } }: Pick<RunConfig, 'training'>): number {
  return 1 + (staleness?.outerSteps ?? 0);
}

export function wholeJobs({ jobs }: DivisiblePlan): JobPart[] {
  return jobs.map(({ jobIndex, taskIndices, rowCount }) => ({
    ...{ jobIndex, rowCount, microBatches: null },
    taskPlaces: [...taskIndices.keys()],
  }));
}

/**
 * The jobs of the plan, at the places of their indices, with the further parts of those that are divided behind
 * them. A job is divided if it takes longer than the share of a worker, and as far as that.
 */
export function partsOf(
  plan: DivisiblePlan,
  { workerCount, msPerCost, stepCount, carriesPartsOf }: WorkerShares,
): JobPart[] {
  const whole = wholeJobs(plan);
  const costs = plan.jobs.map(({ cut }) => costOf(cut));
  const isLarge = plan.jobs.some(
    ({ cut }, place) => cut.length > 1 && at(costs, place) * (msPerCost ?? 0) >= SAVED_MS_MIN,
  );
  if (!isLarge || msPerCost === null) return whole;
  const count = Math.max(1, workerCount());
  const share = (costs.reduce((sum, cost) => sum + cost, 0) * stepCount) / count;
  const further: JobPart[] = [];
  const first = whole.map((part, place) => {
    const { jobIndex, cut } = at(plan.jobs, place);
    if ((at(costs, place) - share) * msPerCost < SAVED_MS_MIN) return part;
    if (!carriesPartsOf(jobIndex)) return part;
    const [leading, ...others] = divided(cut, share).map((range) => partOf(jobIndex, cut, range));
    further.push(...others);
    return leading ?? part;
  });
  return [...first, ...further];
}

type Range = Pick<MicroBatchRange, 'first' | 'end'>;

/** Leads with as many micro-batches as fit into the share, or as leave few others. None where the job has only one. */
function divided(cut: readonly PlannedMicroBatch[], share: number): Range[] {
  const leadingCountMin = Math.max(1, cut.length - PARTS_PER_JOB_MAX + 1);
  let leadingCount = cut.length;
  while (leadingCount > leadingCountMin && costOf(cut.slice(0, leadingCount)) > share)
    leadingCount -= 1;
  const others = cut.slice(leadingCount).map((_, place): Range => {
    return { first: leadingCount + place, end: leadingCount + place + 1 };
  });
  return others.length === 0 ? [] : [{ first: 0, end: leadingCount }, ...others];
}

function partOf(jobIndex: number, cut: readonly PlannedMicroBatch[], range: Range): JobPart {
  const own = cut.slice(range.first, range.end);
  const taskPlaces = own.flatMap((microBatch) => microBatch.taskPlaces);
  return {
    ...{ jobIndex, taskPlaces },
    rowCount: own.reduce((sum, { rowCount }) => sum + rowCount, 0),
    microBatches: { ...range, count: cut.length, taskCount: taskPlaces.length },
  };
}

/**
 * The parts that compute the same as another one. An outer step may draw a task twice, which is then alone in two jobs, or
 * in two micro-batches of one.
 */
export function twinsOf(
  { jobs }: { readonly jobs: readonly Pick<DivisibleJob, 'taskIndices'>[] },
  parts: readonly JobPart[],
): ReadonlySet<JobPart> {
  const tasksOf = ({ jobIndex, taskPlaces }: JobPart): number[] => {
    const { taskIndices } = at(jobs, jobIndex);
    return taskPlaces.map((place) => at(taskIndices, place));
  };
  // Few parts begin with the same task, so hardly any has to be compared as a whole.
  const byFirst = groupedBy(parts, (part) => {
    const first = at(jobs, part.jobIndex).taskIndices[part.taskPlaces[0] ?? 0];
    return `${first ?? ''} of ${part.taskPlaces.length}`;
  });
  const groups = [...byFirst.values()]
    .filter(({ length }) => length > 1)
    .flatMap((alike) => {
      const byTasks = groupedBy(alike, (part) =>
        [tasksOf(part), at(jobs, part.jobIndex).taskIndices].join(' of '),
      );
      return [...byTasks.values()].filter(({ length }) => length > 1);
    });
  return new Set(groups.flat());
}

function groupedBy<Value>(
  values: readonly Value[],
  keyOf: (value: Value) => string,
): ReadonlyMap<string, readonly Value[]> {
  const groups = new Map<string, Value[]>();
  for (const value of values) {
    const key = keyOf(value);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [value]);
    else group.push(value);
  }
  return groups;
}

/** The cost of micro-batches, in padded rows. */
export function costOf(cut: readonly PlannedMicroBatch[]): number {
  return cut.reduce((sum, { cost }) => sum + cost, 0);
}
