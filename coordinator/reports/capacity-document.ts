/** The predicted capacity of a run as a document. */

import { counted } from '../../shared/names/counted.js';
import type { Bound, Drawn, Prediction } from '../plan/capacity.js';
import {
  columnsOf,
  leftColumn,
  tableBlock,
  textBlock,
  type Chart,
  type Document,
} from './document/document.js';
import { formatCount } from './document/format.js';

const BOUND_TEXTS: Readonly<Record<Bound, string>> = {
  workers: 'the workers bound it: with more of them it is faster',
  leaves: 'the largest leaf bounds it: with more workers it is no faster',
  coordinator: 'the coordinator bounds it',
  bytes: 'the bytes that the queue server carries bound it',
};

interface CapacityPlan {
  readonly run: string;
  readonly workers: number;
  readonly drawn: Drawn;
  readonly byWorkers: readonly Prediction[];
}

/** A picture as a file of its own. */
export async function capacitySvg(plan: CapacityPlan): Promise<string> {
  const { drawPicture } = await import('./document/charts.js');
  return drawPicture(throughputChart(plan));
}

function throughputChart({ drawn, byWorkers }: CapacityPlan): Chart {
  const y = `${drawn} per second`;
  return {
    look: 'lines',
    x: { title: 'workers', isLogarithmic: true },
    y: { title: y, isLogarithmic: true },
    series: [
      {
        ...{ name: y, color: 'var(--accent)', look: 'dots' },
        points: byWorkers.map(({ workerCount, perSecond }) => ({ x: workerCount, y: perSecond })),
      },
    ],
  };
}

export function capacityDocument(plan: CapacityPlan): Document {
  const { run, workers, drawn, byWorkers } = plan;
  const table = {
    columns: [
      ...columnsOf('workers', `${drawn}/s`, 'speedup'),
      { title: 'step', unit: 'ms' },
      { title: 'workers', unit: 'ms', isOptional: true },
      { title: 'coordinator', unit: 'ms', isOptional: true },
      { title: 'bytes', unit: 'ms', isOptional: true },
      { title: 'deliveries', isOptional: true },
      leftColumn('bound by'),
    ],
    rows: byWorkers.map((each) => [
      ...[formatCount(each.workerCount), formatCount(each.perSecond), each.speedup.toFixed(2)],
      ...[each.stepMs, each.workersMs, each.coordinatorMs, each.bytesMs].map((ms) => ms.toFixed(1)),
      ...[each.deliveryCount.toFixed(1), each.bound],
    ]),
  };
  const asked = byWorkers.find(({ workerCount }) => workerCount === workers);
  return {
    data: plan,
    blocks: [
      tableBlock('Capacity', table),
      ...(asked === undefined
        ? []
        : [
            textBlock(
              `${run}: ${counted(workers, 'worker', formatCount(workers))} make ${formatCount(asked.perSecond)} ${drawn}/s, ${asked.speedup.toFixed(2)} times one worker; ${BOUND_TEXTS[asked.bound]}.`,
            ),
          ]),
    ],
  };
}
