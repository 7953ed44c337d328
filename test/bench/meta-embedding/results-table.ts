/** Formats the results of a setting next to the published table, and the verdict. */

import { markdownTable } from '../bench-header.js';
import type { RowMetrics } from './training-room.js';

export const PHASES = ['cold', 'warm-a', 'warm-b', 'warm-c'] as const;

/** Both arms of one seed, by phase. */
export interface Arms {
  readonly base: readonly RowMetrics[];
  readonly metaEmbedding: readonly RowMetrics[];
}

/** Pan et al., notebook of the released code: DeepFM, width 128, one run. */
export const PUBLISHED_TABLE: Arms = {
  base: [
    { auc: 0.6528, logloss: 1.2323 },
    { auc: 0.6772, logloss: 1.1501 },
    { auc: 0.6927, logloss: 1.0818 },
    { auc: 0.7019, logloss: 1.0275 },
  ],
  metaEmbedding: [
    { auc: 0.6693, logloss: 1.1353 },
    { auc: 0.6875, logloss: 1.0614 },
    { auc: 0.6998, logloss: 0.999 },
    { auc: 0.7073, logloss: 0.9492 },
  ],
};

interface Verdict {
  /** Largest |AUC - published| of the means. */
  readonly aucDeviation: number;
  /** Largest |logloss / published - 1| of the means. */
  readonly loglossDeviation: number;
  /**
   * Cells, over seeds, phases and both metrics, in which Meta-Embedding is not better than base.
   */
  readonly cellsLost: number;
  readonly cellCount: number;
  /** Mean AUC of Meta-Embedding minus base, by phase. */
  readonly aucGaps: readonly number[];
}

export function meanArms(seeds: readonly Arms[]): Arms {
  const mean = (arm: keyof Arms): RowMetrics[] =>
    PHASES.map((_, phase) => {
      const of = (metric: keyof RowMetrics): number =>
        seeds.reduce((sum, seed) => sum + (seed[arm][phase]?.[metric] ?? NaN), 0) / seeds.length;
      return { auc: of('auc'), logloss: of('logloss') };
    });
  return { base: mean('base'), metaEmbedding: mean('metaEmbedding') };
}

export function verdictOf(seeds: readonly Arms[]): Verdict {
  const mean = meanArms(seeds);
  const cells = (['base', 'metaEmbedding'] as const).flatMap((arm) =>
    mean[arm].map((found, phase) => ({ found, published: PUBLISHED_TABLE[arm][phase] ?? found })),
  );
  const lost = seeds.flatMap(({ base, metaEmbedding }) =>
    base.flatMap((without, phase) => {
      const withIt = metaEmbedding[phase] ?? without;
      return [withIt.auc <= without.auc, withIt.logloss >= without.logloss];
    }),
  );
  return {
    aucDeviation: Math.max(
      ...cells.map(({ found, published }) => Math.abs(found.auc - published.auc)),
    ),
    loglossDeviation: Math.max(
      ...cells.map(({ found, published }) => Math.abs(found.logloss / published.logloss - 1)),
    ),
    cellsLost: lost.filter(Boolean).length,
    cellCount: lost.length,
    aucGaps: mean.base.map(({ auc }, phase) => (mean.metaEmbedding[phase]?.auc ?? NaN) - auc),
  };
}

/** Means over the seeds, by phase. */
export function settingTable(setting: string, seeds: readonly Arms[]): string[] {
  const { base, metaEmbedding } = meanArms(seeds);
  const rows = PHASES.map((phase, place) => {
    const cells = [base[place], metaEmbedding[place]];
    const published = [PUBLISHED_TABLE.base[place], PUBLISHED_TABLE.metaEmbedding[place]];
    return [
      phase,
      ...cells.map((cell) => (cell?.auc ?? NaN).toFixed(4)),
      ...cells.map((cell) => (cell?.logloss ?? NaN).toFixed(4)),
      [
        ...published.map((cell) => (cell?.auc ?? NaN).toFixed(4)),
        ...published.map((cell) => (cell?.logloss ?? NaN).toFixed(4)),
      ].join(' / '),
    ];
  });
  const of = seeds.length === 1 ? 'one seed' : `mean of ${seeds.length} seeds`;
  return markdownTable(
    [
      `phase, ${of}`,
      'base AUC',
      'Meta-Embedding AUC',
      'base logloss',
      'Meta-Embedding logloss',
      setting === 'published' ? 'published' : 'published (another setting)',
    ],
    rows,
  );
}

export function verdictLine(setting: string, verdict: Verdict): string {
  const { aucDeviation, loglossDeviation, cellsLost, cellCount, aucGaps } = verdict;
  const gaps = aucGaps.map((gap) => `${gap < 0 ? '-' : '+'}${Math.abs(gap).toFixed(4)}`).join(', ');
  const wins = `Meta-Embedding is better than base in ${cellCount - cellsLost} of ${cellCount} cells; the AUC gaps are ${gaps}.`;
  if (setting !== 'published') return wins;
  return `The largest deviations from the published table are ${aucDeviation.toFixed(4)} in AUC and ${(100 * loglossDeviation).toFixed(1)} % in logloss. ${wins}`;
}

export function seedTable(seeds: readonly (Arms & { readonly seed: number })[]): string[] {
  const shown = ({ auc, logloss }: RowMetrics): string =>
    `${auc.toFixed(4)} / ${logloss.toFixed(4)}`;
  return markdownTable(
    ['seed, arm', ...PHASES],
    seeds.flatMap(({ seed, base, metaEmbedding }) => [
      [`${seed}, base`, ...base.map(shown)],
      [`${seed}, Meta-Embedding`, ...metaEmbedding.map(shown)],
    ]),
  );
}
