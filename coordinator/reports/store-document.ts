/** A prepared store, and what its data holds, as a document. */

import { counted } from '../../shared/names/counted.js';
import type { StoreManifest } from '../../shared/tasks/store-manifest.js';
import type { DataReport } from '../prepare/data-report.js';
import {
  columnsOf,
  fieldsBlock,
  figure,
  section,
  tableBlock,
  type Block,
  type Document,
} from './document/document.js';
import { formatCount, formatNumber, formatShare } from './document/format.js';

export interface PreparedStore {
  /** Folder or `s3://` prefix of the task store. */
  readonly store: string;
  readonly manifest: StoreManifest;
  /** Null if the store was kept. */
  readonly report: DataReport | null;
}

const countOf = (value: number, noun: string): string => counted(value, noun, formatCount(value));

export function storeDocument({ store, manifest, report }: PreparedStore): Document {
  const { taskCountBySplit, taskCount, trunk } = manifest;
  const { train, validation, test } = taskCountBySplit;
  const features = manifest.features.map((feature) =>
    'rowCount' in feature ? `${feature.name} (${formatCount(feature.rowCount)} ids)` : feature.name,
  );
  return {
    title: `task store ${store}`,
    data: { store, ...manifest, files: undefined, report },
    blocks: [
      fieldsBlock([
        [
          'tasks',
          `${formatCount(taskCount)} (${formatCount(train)} train, ${formatCount(validation)} validation, ${formatCount(test)} test)`,
        ],
        [
          'rows',
          `${formatCount(manifest.rowCount)}, rejected ${formatCount(manifest.rejectedRowCount)}`,
        ],
        ...leftOut(manifest),
        [
          'trunk',
          trunk === undefined
            ? null
            : `${formatCount(trunk.rowCount)} of the rows train the trunk only, ` +
              `${formatCount(trunk.smallTaskRowCount)} of them those of ${countOf(trunk.smallTaskCount, 'small task')}`,
        ],
        ['features', features.join(', ')],
      ]),
      ...(report === null ? [] : dataBlocks(report)),
    ],
  };
}

/** The rows that are neither stored nor rejected, by the field of the config that leaves them out. */
function leftOut({ leftOut: rows }: Pick<StoreManifest, 'leftOut'>): [string, string][] {
  const { filteredRowCount, tooSmallRowCount, tooSmallTaskCount } = rows ?? {};
  const reasons: readonly (readonly [number | undefined, string])[] = [
    [filteredRowCount, 'for which data.where is not true'],
    [
      tooSmallRowCount,
      `of ${countOf(tooSmallTaskCount ?? 0, 'task')} below supportRowsMin or queryRowsMin`,
    ],
    [rows?.cappedRowCount, 'beyond supportRowsMax or queryRowsMax of their task'],
    [
      rows?.unplacedRowCount,
      'that data.splitFile does not name, or after data.taskSplit.trainUntil',
    ],
  ];
  return reasons.flatMap(([rowCount = 0, reason]): [string, string][] =>
    rowCount === 0 ? [] : [['left out', `${countOf(rowCount, 'row')} ${reason}`]],
  );
}

function dataBlocks({ rowCount, periods, features }: DataReport): Block[] {
  const share = (value: number | null): string => (value === null ? '-' : formatShare(value));
  const names = periods.map(({ name }) => name);
  const table = {
    columns: columnsOf(
      '<feature',
      'values',
      'missing',
      'new in test',
      'drift',
      '<most in',
      'tells',
    ),
    rows: features.map((feature) => [
      feature.name,
      formatCount(feature.valueCount),
      formatShare(feature.missingShare),
      share(feature.unseenShare),
      formatNumber(feature.drift, 2),
      feature.driftPeriod === null ? '-' : (names[feature.driftPeriod] ?? '-'),
      share(feature.toldShare),
    ]),
  };
  const note =
    `From ${countOf(rowCount, 'row')}. New in test: rows of test adgroups whose value training did not have. Drift: the largest distance ` +
    'of a day from all days, 0 to 1, beyond chance. Tells: the share of the label that the value tells alone; near 100 % it is ' +
    'probably known only after the impression.';
  return [
    section('Data', note, [
      tableBlock('Features', table),
      ...(periods.length < 2
        ? []
        : [
            figure('Rate over time', 'Clicks per impression, or the mean value, of each period.', {
              x: { title: 'period', categories: names },
              y: { title: 'rate' },
              look: 'lines',
              series: [
                {
                  ...{ name: 'rate', color: 'var(--accent)' },
                  points: periods.map(({ rate }, x) => ({ x, y: rate })),
                },
              ],
            }),
          ]),
    ]),
  ];
}
