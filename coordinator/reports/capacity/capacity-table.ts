/** The plan of a run's capacity as lines of a terminal. */

import type { Bound, CapacityPlan, Prediction } from '../../capacity/capacity-plan.js';
import { textTable, type Table } from '../table.js';
import { formatCount, formatShare } from '../text-format.js';
import { counted } from '../../../shared/names/counted.js';

const BOUND_TEXTS: Readonly<Record<Bound, string>> = {
  workers: 'the workers',
  jobs: 'the number of jobs',
  coordinator: 'the coordinator',
  server: 'the queue server',
  cores: 'the number of cores',
};

interface TablePlan extends CapacityPlan {
  readonly run: string;
  readonly workers: number;
}

export function capacityLines(plan: TablePlan, outputColumns: number): string[] {
  const { run, workers, tasksPerJob, byWorkers, saturation } = plan;
  const asked = byWorkers.find(({ workerCount }) => workerCount === workers);
  return [
    textTable(tableOf(plan), outputColumns),
    saturation === null
      ? `${run}: only the number of workers bounds the throughput.`
      : `${run}: from ${formatCount(saturation.workerCount)} workers on, ${BOUND_TEXTS[saturation.bound]} bounds the throughput of jobs of ${tasksPerJob} tasks.`,
    ...(asked === undefined ? [] : [choiceLine(asked.best)]),
  ];
}

function choiceLine({ workerCount, tasksPerJob, tasksPerSecond }: Prediction): string {
  return `With ${counted(workerCount, 'worker', formatCount(workerCount))} choose training.tasksPerJob: ${tasksPerJob} (${formatRate(tasksPerSecond)} tasks/s).`;
}

function tableOf({ byWorkers }: CapacityPlan): Table {
  return {
    columns: [
      { title: 'workers' },
      { title: 'tasks/s' },
      { title: 'step', unit: 'ms' },
      { title: 'workers', unit: 'busy', isOptional: true },
      { title: 'coordinator', unit: 'busy', isOptional: true },
      { title: 'server', unit: 'busy', isOptional: true },
      { title: 'bound by', alignment: 'left' },
      { title: 'best', unit: 'tasks/job' },
      { title: 'with it', unit: 'tasks/s' },
    ],
    rows: byWorkers.map(({ workerCount, asConfigured, best }) => [
      formatCount(workerCount),
      formatRate(asConfigured.tasksPerSecond),
      asConfigured.stepMs.toFixed(1),
      formatShare(asConfigured.busy.workers),
      formatShare(asConfigured.busy.coordinator),
      formatShare(asConfigured.busy.server),
      asConfigured.bound,
      String(best.tasksPerJob),
      formatRate(best.tasksPerSecond),
    ]),
  };
}

function formatRate(tasksPerSecond: number): string {
  return formatCount(Math.round(tasksPerSecond));
}
