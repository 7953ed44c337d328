/** The page of crowds beside adgroups. Sentences are true for any figures: verdicts are computed. */

import { z } from 'zod';
import type { Interval } from '../../../coordinator/scoring/evaluation-report.js';
import { markdownTable } from '../bench-header.js';
import { intervalOver } from '../seed-intervals.js';

/** How far adgroups deviate from their attributes, and crowds from nothing. */
export const WORLDS: Readonly<
  Record<string, { readonly setting: string; readonly crowdDeviation: number }>
> = {
  both: { setting: 'strong', crowdDeviation: 0.5 },
  adgroups: { setting: 'strong', crowdDeviation: 0 },
  crowds: { setting: 'homogeneous', crowdDeviation: 0.5 },
};

export const CROWD_ARMS = [
  ...['meta-unadapted', 'meta-adapted', 'crowd-unadapted', 'crowd-adapted', 'meta-chosen'],
];

export const CrowdCellSchema = z.strictObject({
  world: z.string(),
  seed: z.int(),
  commit: z.string(),
  date: z.string(),
  machine: z.string(),
  loadBefore: z.number(),
  testAdgroupCount: z.int(),
  testRowCount: z.int(),
  /** By arm. `category` adapts adgroups of a model that reads the crowd as a category. */
  losses: z.record(z.string(), z.number()),
  /** The loss on validation adgroups with blocks of crowds minus that without. */
  validation: z.strictObject({ value: z.number(), standardError: z.number() }).nullable(),
  areCrowdsServed: z.boolean(),
});
export type CrowdCell = z.infer<typeof CrowdCellSchema>;

interface CrowdRecord {
  readonly cells: Readonly<Record<string, CrowdCell>>;
}

const COLUMNS = [
  ['meta-unadapted', 'neither'],
  ['meta-adapted', 'adgroups'],
  ['crowd-unadapted', 'crowds'],
  ['crowd-adapted', 'both'],
  ['meta-chosen', 'served'],
  ['category', 'adgroups, crowd as category'],
  ['oracle', 'truth'],
] as const;

const RIVALS = [
  ['meta-adapted', 'blocks of adgroups alone'],
  ['crowd-unadapted', 'blocks of crowds alone'],
  ['category', 'blocks of adgroups and the crowd as a category'],
] as const;

export function crowdPage(record: CrowdRecord): string {
  const cells = Object.values(record.cells);
  return [
    '# Crowds beside adgroups',
    '',
    'Synthetic worlds of 1,500 adgroups, 20,000 users and 300,000 rows at a click rate of 10 %. Each user is in one of 400 crowds, which',
    'has a level and tastes of its own. In `both`, adgroups and crowds deviate; in `adgroups` crowds have no effect, and in',
    '`crowds` adgroups follow from their attributes. A posterior DeepFM is trained by adgroup and does not read the crowd; blocks of crowds',
    'are fitted afterwards on the training adgroups. Test adgroups are new, adapt on their earlier rows, and are judged on the later ones.',
    '`served` is the arm that validation chooses: with blocks of crowds or without.',
    '',
    'Figures are logloss per impression. Intervals are of 95 % over seeds, which draw worlds anew.',
    '',
    ...Object.keys(WORLDS).flatMap((world) => {
      const ofWorld = cells.filter((cell) => cell.world === world);
      return ofWorld.length === 0 ? [] : worldLines(world, ofWorld);
    }),
    '`crowds.json` has the commit and the machine of every seed.',
    '',
  ].join('\n');
}

function worldLines(world: string, cells: readonly CrowdCell[]): string[] {
  const served = cells.filter(({ areCrowdsServed }) => areCrowdsServed).length;
  return [
    `## ${world}`,
    '',
    ...markdownTable(
      ['seed', ...COLUMNS.map(([, title]) => title)],
      cells.map(({ seed, losses }) => [
        String(seed),
        ...COLUMNS.map(([arm]) => (losses[arm] ?? NaN).toFixed(4)),
      ]),
    ),
    '',
    `Validation serves crowds in ${served} of ${cells.length} seeds.`,
    ...(['crowd-adapted', 'meta-chosen'] as const).map((arm) => differencesOf(arm, cells)),
    '',
  ];
}

function differencesOf(arm: 'crowd-adapted' | 'meta-chosen', cells: readonly CrowdCell[]): string {
  const name = arm === 'crowd-adapted' ? 'Both levels' : 'What is served';
  const parts = RIVALS.map(([rival, title]) => {
    const differences = cells.map(({ losses }) => (losses[arm] ?? NaN) - (losses[rival] ?? NaN));
    return `${shown(intervalOver(differences))} from ${title}`;
  });
  return `${name}: ${parts.join('; ')}.`;
}

function shown(interval: Interval | null): string {
  if (interval === null) return 'no interval';
  const signed = (value: number): string => `${value < 0 ? '-' : '+'}${Math.abs(value).toFixed(4)}`;
  return `${signed(interval.value)} [${signed(interval.low)}, ${signed(interval.high)}]`;
}
