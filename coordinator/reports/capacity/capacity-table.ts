/** The plan of a run's capacity as lines of a terminal. */

import type { Bound, Drawn, Prediction } from '../../capacity/capacity-plan.js';
import { counted } from '../../../shared/names/counted.js';
import { textTable } from '../table.js';
import { formatCount } from '../text-format.js';

const BOUND_TEXTS: Readonly<Record<Bound, string>> = {
  workers: 'the workers bound it: with more of them it is faster',
  leaves: 'the largest leaf bounds it: with more workers it is no faster',
  coordinator: 'the coordinator bounds it',
  bytes: 'the bytes that the queue server carries bound it',
};

interface TablePlan {
  readonly run: string;
  readonly workers: number;
  readonly drawn: Drawn;
  readonly byWorkers: readonly Prediction[];
}

export function capacityLines(
  { run, workers, drawn, byWorkers }: TablePlan,
  outputColumns: number,
): string[] {
  const table = {
    columns: [
      { title: 'workers' },
      { title: `${drawn}/s` },
      { title: 'speedup' },
      { title: 'step', unit: 'ms' },
      { title: 'workers', unit: 'ms', isOptional: true },
      { title: 'coordinator', unit: 'ms', isOptional: true },
      { title: 'bytes', unit: 'ms', isOptional: true },
      { title: 'deliveries', isOptional: true },
      { title: 'bound by', alignment: 'left' as const },
    ],
    rows: byWorkers.map((each) => [
      ...[formatCount(each.workerCount), formatRate(each.perSecond), each.speedup.toFixed(2)],
      ...[each.stepMs, each.workersMs, each.coordinatorMs, each.bytesMs].map((ms) => ms.toFixed(1)),
      ...[each.deliveryCount.toFixed(1), each.bound],
    ]),
  };
  const asked = byWorkers.filter(({ workerCount }) => workerCount === workers);
  return [
    textTable(table, outputColumns),
    ...asked.map(
      ({ perSecond, speedup, bound }) =>
        `${run}: ${counted(workers, 'worker', formatCount(workers))} make ${formatRate(perSecond)} ${drawn}/s, ${speedup.toFixed(2)} times one worker; ${BOUND_TEXTS[bound]}.`,
    ),
  ];
}

function formatRate(perSecond: number): string {
  return formatCount(Math.round(perSecond));
}
