/** The plan of a run's capacity as lines of a terminal. */

import type { Bound, CapacityPlan, Prediction } from '../../capacity/capacity-plan.js';
import type { Drawn } from '../../capacity/sampled-steps.js';
import { DRAWN_ROWS_PER_JOB_MAX } from '../../plan/row-draws.js';
import { textTable, type Table } from '../table.js';
import { formatCount, formatShare } from '../text-format.js';
import { counted } from '../../../shared/names/counted.js';

const BOUND_TEXTS: Readonly<Record<Bound, string>> = {
  workers: 'the workers',
  jobs: 'the cut into jobs',
  coordinator: 'the coordinator',
  server: 'the queue server',
  cores: 'the number of cores',
};

interface TablePlan extends CapacityPlan {
  readonly run: string;
  readonly workers: number;
}

export function capacityLines(plan: TablePlan, outputColumns: number): string[] {
  const { run, workers, drawn, jobSize, byWorkers, saturation } = plan;
  const asked = byWorkers.find(({ workerCount }) => workerCount === workers);
  return [
    textTable(tableOf(plan), outputColumns),
    saturation === null
      ? `${run}: only the number of workers bounds the throughput.`
      : `${run}: from ${formatCount(saturation.workerCount)} workers on, ${BOUND_TEXTS[saturation.bound]} bounds the throughput of jobs of ${jobTextOf(drawn, jobSize)}.`,
    ...(asked === undefined ? [] : [choiceLine(asked.best, drawn)]),
    ...(drawn === 'tasks' ? [] : [ROWS_LINE]),
  ];
}

const SIZE_FIELDS: Readonly<Record<Drawn, string>> = {
  tasks: 'training.tasksPerJob',
  rows: 'training.rowsPerJobMax',
};

const ROWS_LINE = `Rows are drawn here, and not tasks: a job has up to ${DRAWN_ROWS_PER_JOB_MAX} of them, and training.tasksPerJob is not read.`;

function jobTextOf(drawn: Drawn, jobSize: number): string {
  return drawn === 'tasks' ? `${jobSize} tasks` : `up to ${jobSize} rows`;
}

function choiceLine({ workerCount, jobSize, perSecond }: Prediction, drawn: Drawn): string {
  return `With ${counted(workerCount, 'worker', formatCount(workerCount))} choose ${SIZE_FIELDS[drawn]}: ${jobSize} (${formatRate(perSecond)} ${drawn}/s).`;
}

function tableOf({ byWorkers, drawn }: CapacityPlan): Table {
  return {
    columns: [
      { title: 'workers' },
      { title: `${drawn}/s` },
      { title: 'step', unit: 'ms' },
      { title: 'workers', unit: 'busy', isOptional: true },
      { title: 'coordinator', unit: 'busy', isOptional: true },
      { title: 'server', unit: 'busy', isOptional: true },
      { title: 'bound by', alignment: 'left' },
      { title: 'best', unit: `${drawn}/job` },
      { title: 'with it', unit: `${drawn}/s` },
    ],
    rows: byWorkers.map(({ workerCount, asConfigured, best }) => [
      formatCount(workerCount),
      formatRate(asConfigured.perSecond),
      asConfigured.stepMs.toFixed(1),
      formatShare(asConfigured.busy.workers),
      formatShare(asConfigured.busy.coordinator),
      formatShare(asConfigured.busy.server),
      asConfigured.bound,
      String(best.jobSize),
      formatRate(best.perSecond),
    ]),
  };
}

function formatRate(perSecond: number): string {
  return formatCount(Math.round(perSecond));
}
