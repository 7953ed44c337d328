/**
 * Predicts the validation adgroups with every setting of every arm, chooses the settings, and says what
 * each arm loses there. Only validation tasks are passed in, so nothing here sees a test row.
 */

import { at, spanAt } from '../../shared/base/arrays.js';
import { ARM_NAMES, type ArmName } from '../../shared/config/arms.js';
import type { BlockChoice, Selection, ValidationSummary } from '../scoring/evaluation-report.js';
import { supportRowCountsOf, type SplitRows, type TaskCounts } from '../scoring/held-out-rows.js';
import { sumOf } from '../scoring/metrics.js';
import { adgroupImpressions, adgroupLosses } from '../scoring/score-arms.js';
import { EVERY_ADGROUP, sizeBucketIndexOf, sizeBuckets } from '../scoring/size-buckets.js';
import {
  bestCell,
  chooseArm,
  finiteOrNull,
  heldOutLosses,
  type AdgroupLosses,
  type ValidatedArm,
} from '../scoring/validated-losses.js';
import {
  adaptationOf,
  constantLogits,
  oracleLogits,
  selectCell,
  shiftedLogits,
  UNADAPTED,
  type ArmPlan,
} from './arms.js';
import { predictLogits } from './predict-logits.js';
import type { AdaptableModel, TaskJobContext } from './task-jobs.js';

/** The settings that validation decided. */
export interface ArmChoices {
  readonly cells: ReadonlyMap<ArmName, Selection>;
  /** The choices of the arm meta-chosen by size bucket; null without that arm. */
  readonly blocks: readonly BlockChoice[] | null;
}

interface ValidationSettings {
  readonly sizeBucketEdges: readonly number[];
  /** Clicks per impression, or the mean value, of the training tasks. */
  readonly trainClickRate: number;
}

interface ValidatedArms {
  readonly choices: ArmChoices;
  /** Null if there are no validation adgroups. */
  readonly validation: ValidationSummary | null;
}

export async function validateArms(
  context: TaskJobContext,
  rows: SplitRows,
  plan: ArmPlan,
  settings: ValidationSettings,
): Promise<ValidatedArms> {
  if (rows.query.taskIndices.length === 0)
    return { choices: { cells: new Map(), blocks: null }, validation: null };
  const { sizeBucketEdges: edges } = settings;
  const impressions = adgroupImpressions(rows.query);
  const byCell = await triedLosses(context, rows, plan, settings);
  const cells = new Map<ArmName, Selection>();
  const grids = [
    ['global-shift', plan.shiftPriors],
    ['finetuned', plan.innerSteps],
    ['meta-adapted', plan.innerSteps],
  ] as const;
  for (const [arm, grid] of grids) {
    const tried = byCell.get(arm) ?? [];
    if (tried.length > 0) cells.set(arm, selectCell(arm, grid, tried, impressions));
  }
  const choosing: Choosing = {
    ...{ edges, impressions, supportRowCounts: supportRowCountsOf(rows) },
    adapted: byCell.get('meta-adapted') ?? [],
    unadapted: byCell.get('meta-unadapted')?.[0] ?? new Float64Array(),
  };
  const hasBlocks = plan.arms.has('meta-chosen') && choosing.adapted.length > 0;
  const validated = ARM_NAMES.flatMap((arm): ValidatedArm[] => {
    if (!plan.arms.has(arm)) return [];
    const tried = byCell.get(arm) ?? [];
    const lossesBy = (isCounted?: (adgroup: number) => boolean): AdgroupLosses =>
      arm === 'meta-chosen'
        ? chosenLosses(choosing, isCounted)
        : at(tried, bestCell(tried, isCounted));
    if (arm === 'meta-chosen' ? !hasBlocks : tried.length === 0) return [];
    return [{ arm, losses: lossesBy(), heldOut: heldOutLosses(impressions.length, lossesBy) }];
  });
  return {
    choices: { cells, blocks: hasBlocks ? chosenBlocks(choosing) : null },
    validation: chooseArm(validated, impressions),
  };
}

/**
 * The losses of every arm with each of its settings; arms without a grid have one. It takes one pass over the query rows
 * for each model, with all of its cells, and one over support rows for shifts.
 */
async function triedLosses(
  context: TaskJobContext,
  rows: SplitRows,
  { arms, global, meta, ...plan }: ArmPlan,
  { trainClickRate }: ValidationSettings,
): Promise<Map<ArmName, readonly AdgroupLosses[]>> {
  const losses = new Map<ArmName, readonly AdgroupLosses[]>();
  const lossesOf = (logits: Float32Array): AdgroupLosses => adgroupLosses(logits, rows.query);
  losses.set('constant', [lossesOf(constantLogits(rows.query, trainClickRate))]);
  const oracle = oracleLogits(rows.query);
  if (oracle !== null) losses.set('oracle', [lossesOf(oracle)]);
  const predict = async (
    model: AdaptableModel,
    role: 'query' | 'support',
    hasGrid: boolean,
  ): Promise<{ unadapted: Float32Array; byCell: readonly AdgroupLosses[] }> => {
    const keepsLogits = model === global && arms.has('global-shift');
    const cells = hasGrid ? plan.innerSteps.cells.map(adaptationOf) : [];
    const { lossSums, logits } = await predictLogits(context, {
      ...{ ...model, taskIndices: rows.query.taskIndices, role },
      ...{ adaptations: [UNADAPTED, ...cells], keep: keepsLogits ? [0] : [] },
    });
    return { unadapted: logits[0] ?? new Float32Array(), byCell: lossSums };
  };
  if (global !== null && plan.usesGlobal) {
    const query = await predict(global, 'query', arms.has('finetuned'));
    losses.set('global', query.byCell.slice(0, 1));
    losses.set('finetuned', query.byCell.slice(1));
    if (arms.has('global-shift')) {
      const support = await predict(global, 'support', false);
      const logits = { query: query.unadapted, support: support.unadapted };
      const shifted = plan.shiftPriors.cells.map((cell) => shiftedLogits(cell, logits, rows));
      losses.set('global-shift', shifted.map(lossesOf));
    }
  }
  if (plan.usesMeta) {
    const { byCell } = await predict(meta, 'query', plan.adaptsMeta);
    losses.set('meta-unadapted', byCell.slice(0, 1));
    losses.set('meta-adapted', byCell.slice(1));
  }
  return losses;
}

const BUCKET_ADGROUPS_MIN = 10;

/** How the arm meta-chosen chooses, in words, as reports have it. */
export const BLOCK_CHOICE_RULE =
  'adapted blocks where their loss on the validation adgroups of the bucket, paired and per impression, is below that of the ' +
  `unadapted ones; a bucket of fewer than ${BUCKET_ADGROUPS_MIN} goes by all validation adgroups`;

/** The validation losses that decide which blocks an adgroup is served. */
interface Choosing {
  readonly edges: readonly number[];
  readonly impressions: Float64Array;
  readonly supportRowCounts: readonly number[];
  /** With each cell of the grid. */
  readonly adapted: readonly AdgroupLosses[];
  readonly unadapted: AdgroupLosses;
}

/**
 * Decides by size bucket which blocks an adgroup is served: its own adapted ones, or those that all adgroups start
 * from. Personalisation may help small adgroups and hurt big ones, or the other way round.
 *
 * @param isCounted the adgroups that decide.
 */
export function chosenBlocks(
  { edges, impressions, supportRowCounts, adapted, unadapted }: Choosing,
  isCounted: (adgroup: number) => boolean = () => true,
): BlockChoice[] {
  const losses = at(adapted, bestCell(adapted, isCounted));
  const counted = [...unadapted.keys()].filter(isCounted);
  const differenceOf = (adgroups: readonly number[]): number | null => {
    const shown = sumOf(adgroups.map((adgroup) => at(impressions, adgroup)));
    const sum = sumOf(adgroups.map((adgroup) => at(losses, adgroup) - at(unadapted, adgroup)));
    return finiteOrNull(sum / shown);
  };
  const buckets = edges.length === 0 ? [EVERY_ADGROUP] : sizeBuckets(edges);
  return buckets.map((bucket, index): BlockChoice => {
    const own = counted.filter(
      (adgroup) => sizeBucketIndexOf(edges, at(supportRowCounts, adgroup)) === index,
    );
    const difference = differenceOf(own);
    const isOwn = difference !== null && own.length >= BUCKET_ADGROUPS_MIN;
    const deciding = (isOwn ? difference : differenceOf(counted)) ?? 0;
    return {
      ...bucket,
      ...{ adgroupCount: own.length, difference, decidedBy: isOwn ? 'bucket' : 'all' },
      serves: deciding < 0 ? 'adapted' : 'unadapted',
    };
  });
}

/** The losses of the arm meta-chosen, with the cell and the blocks that these adgroups choose. */
function chosenLosses(choosing: Choosing, isCounted?: (adgroup: number) => boolean): AdgroupLosses {
  const { adapted, unadapted, edges, supportRowCounts } = choosing;
  const losses = at(adapted, bestCell(adapted, isCounted));
  const blocks = chosenBlocks(choosing, isCounted);
  return unadapted.map((loss, adgroup) => {
    const bucket = sizeBucketIndexOf(edges, at(supportRowCounts, adgroup));
    return at(blocks, bucket).serves === 'adapted' ? at(losses, adgroup) : loss;
  });
}

interface BlockLogits {
  readonly adapted: Float32Array;
  readonly unadapted: Float32Array;
}

/** The logits that are served: for each adgroup, those chosen for the bucket that it is in. */
export function chosenLogits(
  choices: readonly BlockChoice[],
  { adapted, unadapted }: BlockLogits,
  query: TaskCounts,
  supportRowCounts: readonly number[],
): Float32Array {
  const served = Float32Array.from(unadapted);
  for (const [position, count] of supportRowCounts.entries()) {
    const choice = choices.find(
      ({ supportRowCountMin: least, supportRowCountMax: most }) =>
        count >= least && (most === null || count <= most),
    );
    if (choice?.serves !== 'adapted') continue;
    const [start, end] = spanAt(query.starts, position);
    served.set(adapted.subarray(start, end), start);
  }
  return served;
}
