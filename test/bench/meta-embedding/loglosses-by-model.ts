/** Formats logloss changes relative to the cold base model, by base model, next to the published ones. */

import { markdownTable } from '../bench-header.js';
import { BASE_MODEL_NAMES, type BaseModelName } from './base-models.js';
import { meanArms, PHASES, type Arms } from './results-table.js';

/** Changes as shares of the cold base model's logloss, by phase; the cold base itself is 0. */
interface LoglossChanges {
  readonly base: readonly number[];
  readonly metaEmbedding: readonly number[];
}

/**
 * The changes in percent, as published by Pan et al. (SIGIR 2019). These are means of an unknown number of
 * runs with width 256, from some months before the code of the single published run.
 */
const PUBLISHED_PERCENTAGES: Readonly<Record<BaseModelName, LoglossChanges>> = {
  deepfm: { base: [0, -6.44, -10.34, -13.01], metaEmbedding: [-16.41, -21.44, -24.15, -25.88] },
  fm: { base: [0, -6.79, -9.51, -10.88], metaEmbedding: [-3.43, -9.06, -11.24, -12.18] },
  'wide-deep': {
    base: [0, -6.97, -11.4, -14.37],
    metaEmbedding: [-18.5, -23.53, -26.27, -28.02],
  },
  ipnn: { base: [0, -6.67, -11.01, -14.01], metaEmbedding: [-15.47, -20.74, -23.87, -25.89] },
  opnn: { base: [0, -10.05, -13.15, -14.3], metaEmbedding: [-4.07, -12.04, -14.06, -14.57] },
  pnn: { base: [0, -10.03, -13.31, -14.62], metaEmbedding: [-3.51, -11.69, -13.98, -14.69] },
};

/** Mean over seeds of the changes of each. */
export function loglossChanges(seeds: readonly Arms[]): LoglossChanges {
  const changes = seeds.map(changesOf);
  const mean = (arm: keyof LoglossChanges): number[] =>
    PHASES.map(
      (_, phase) =>
        changes.reduce((sum, each) => sum + (each[arm][phase] ?? NaN), 0) / seeds.length,
    );
  return { base: mean('base'), metaEmbedding: mean('metaEmbedding') };
}

function changesOf(arms: Arms): LoglossChanges {
  const cold = arms.base[0]?.logloss ?? NaN;
  const of = (arm: keyof Arms): number[] => arms[arm].map(({ logloss }) => logloss / cold - 1);
  return { base: of('base'), metaEmbedding: of('metaEmbedding') };
}

/**
 * Smallest and largest change of the generated embeddings before any step; empty for a single seed.
 */
export function coldRange(seeds: readonly Arms[]): readonly [number, number] | null {
  if (seeds.length < 2) return null;
  const changes = seeds.map((arms) => changesOf(arms).metaEmbedding[0] ?? NaN);
  return [Math.min(...changes), Math.max(...changes)];
}

/** A row for each model that was run, and one for its published figures. */
export function modelsTable(byModel: ReadonlyMap<BaseModelName, readonly Arms[]>): string[] {
  const rows = BASE_MODEL_NAMES.flatMap((model) => {
    const seeds = byModel.get(model);
    if (seeds === undefined) return [];
    const { base, metaEmbedding } = loglossChanges(seeds);
    const percent = (shares: readonly number[]): number[] => shares.map((share) => 100 * share);
    const [cold] = meanArms(seeds).base;
    const [generated] = meanArms(seeds).metaEmbedding;
    const count = seeds.length === 1 ? 'one seed' : `${seeds.length} seeds`;
    const aucs = [cold, generated].map((cell) => (cell?.auc ?? NaN).toFixed(4)).join(' / ');
    const published = PUBLISHED_PERCENTAGES[model];
    const [ofCold = '', ...ofWarm] = changeCells({
      base: percent(base),
      metaEmbedding: percent(metaEmbedding),
    });
    const range = coldRange(seeds);
    const seen = range === null ? '' : ` (${percent(range).map(signed).join(' to ')})`;
    return [
      [
        `${model}, ${count}`,
        aucs,
        (cold?.logloss ?? NaN).toFixed(4),
        `${ofCold}${seen}`,
        ...ofWarm,
      ],
      [`${model}, published`, '', '', ...changeCells(published)],
    ];
  });
  const header = ['model', 'cold AUC, base / Meta-Embedding', 'cold logloss, base', ...PHASES];
  return markdownTable(header, rows);
}

/**
 * Base and Meta-Embedding by phase; empty for the cold base model, to which all others are
 * relative.
 */
function changeCells({ base, metaEmbedding }: LoglossChanges): string[] {
  const shown = (percentage = NaN): string => `${signed(percentage)} %`;
  return PHASES.map((_, phase) =>
    phase === 0
      ? shown(metaEmbedding[0])
      : `${shown(base[phase])} / ${shown(metaEmbedding[phase])}`,
  );
}

function signed(percentage: number): string {
  return `${percentage > 0 ? '+' : ''}${percentage.toFixed(1)}`;
}
