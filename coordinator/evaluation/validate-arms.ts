/**
 * Predicts the validation adgroups with every setting of every arm, chooses the settings, and says what
 * each arm loses there. Only validation tasks are passed in, so nothing here sees a test row.
 */

import { at } from '../../shared/base/arrays.js';
import { ARM_NAMES, BLENDED_ARMS, type ArmName } from '../../shared/config/arms.js';
import type { EvaluationConfig } from '../../shared/config/evaluation-config.js';
import type { Selection, ValidationSummary } from '../scoring/evaluation-report.js';
import { chooseBlend, type FittedBlend } from '../scoring/blend-weights.js';
import { chooseArm, type ValidatedArm } from '../scoring/arm-choice.js';
import { supportRowCountsOf, type SplitRows, type TaskCounts } from '../scoring/held-out-rows.js';
import { adgroupImpressions, adgroupLosses } from '../scoring/score-arms.js';
import { sizeBucketIndexOf } from '../scoring/size-buckets.js';
import {
  bestCell,
  heldOutLosses,
  type EntryLosses,
  type ValidatedEntries,
} from '../scoring/validated-losses.js';
import type { ArmPlan } from './arm-plan.js';
import { chooseBlocks, servedByBucket, type ValidatedAdgroup } from './block-choice.js';
import { predictLogits } from './predict-logits.js';
import {
  constantLogits,
  oracleLogits,
  outputOf,
  predictArms,
  type ArmChoices,
} from './run-arms.js';
import { adaptationOf, selectCell, shiftedLogits, shiftPriorOf, UNADAPTED } from './selection.js';
import type { AdaptableModel, TaskJobContext } from './task-jobs.js';

/** The validation adgroups, all in the same order, with one division of their rows. */
export interface ValidationDraw {
  readonly context: TaskJobContext;
  readonly rows: SplitRows;
}

interface ValidationSettings {
  readonly evaluation: EvaluationConfig;
  /** Seeds the bootstrap. */
  readonly seed: number;
  /** As `ArmKnowledge` has it; null leaves out the arm `constant`. */
  readonly trainClickRate: number | null;
}

interface ValidatedArms {
  readonly choices: ArmChoices;
  /** Null if there are no validation adgroups. */
  readonly validation: ValidationSummary | null;
}

/** The losses of every arm with every setting that it may be given. */
interface TriedLosses {
  readonly entries: ValidatedEntries;
  /** Arms without a grid have one cell. */
  readonly byCell: ReadonlyMap<ArmName, readonly EntryLosses[]>;
}

/** @param draws at least one */
export async function validateArms(
  draws: readonly ValidationDraw[],
  plan: ArmPlan,
  settings: ValidationSettings,
): Promise<ValidatedArms> {
  if (at(draws, 0).rows.query.taskIndices.length === 0)
    return { choices: { cells: new Map(), blocks: null, blend: null }, validation: null };
  const tried = await triedLosses(draws, plan, settings);
  const choices = choicesOf(tried, plan, settings);
  const blend = await fittedBlend(draws, plan, choices, { ...settings, entries: tried.entries });
  const validated = validatedArms(tried, choices, plan, settings);
  if (blend !== null) validated.push({ arm: 'blend', ...blend });
  validated.sort((a, b) => ARM_NAMES.indexOf(a.arm) - ARM_NAMES.indexOf(b.arm));
  return {
    choices: { ...choices, blend: blend?.choice ?? null },
    validation: chooseArm(validated, tried.entries),
  };
}

/** Null without the arm blend. */
async function fittedBlend(
  draws: readonly ValidationDraw[],
  plan: ArmPlan,
  choices: ArmChoices,
  settings: ValidationSettings & { readonly entries: ValidatedEntries },
): Promise<FittedBlend | null> {
  const { trainClickRate, entries, evaluation } = settings;
  if (!plan.arms.has('blend') || trainClickRate === null) return null;
  const arms = BLENDED_ARMS.filter((arm) => plan.arms.has(arm));
  const perDraw: ReadonlyMap<ArmName, Float32Array>[] = [];
  for (const { context, rows } of draws)
    perDraw.push((await predictArms(context, plan, { choices, trainClickRate }, rows)).logits);
  const outputs = arms.map((arm) =>
    joined(perDraw.map((ofDraw) => ofDraw.get(arm) ?? new Float32Array())),
  );
  const rows = joinedRows(draws.map(({ rows: { query } }) => query));
  const centre = outputOf(rows)(trainClickRate);
  return chooseBlend({ arms, outputs, centre, rows }, entries, evaluation.sizeBucketEdges);
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const whole = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let start = 0;
  for (const part of parts) {
    whole.set(part, start);
    start += part.length;
  }
  return whole;
}

/** The adgroups of one draw after another. */
function joinedRows(parts: readonly TaskCounts[]): TaskCounts {
  const starts = [0];
  for (const part of parts) {
    const before = starts.at(-1) ?? 0;
    for (const start of part.starts.subarray(1)) starts.push(before + start);
  }
  const { label } = at(parts, 0);
  return {
    ...(label === undefined ? {} : { label }),
    starts: Int32Array.from(starts),
    clicks: joined(parts.map(({ clicks }) => clicks)),
    impressions: joined(parts.map(({ impressions }) => impressions)),
  };
}

async function triedLosses(
  draws: readonly ValidationDraw[],
  plan: ArmPlan,
  settings: ValidationSettings,
): Promise<TriedLosses> {
  const perDraw: ReadonlyMap<ArmName, readonly EntryLosses[]>[] = [];
  for (const draw of draws) perDraw.push(await lossesOfDraw(draw, plan, settings));
  const byCell = new Map<ArmName, readonly EntryLosses[]>();
  for (const [arm, cells] of at(perDraw, 0))
    byCell.set(
      arm,
      cells.map((_, cell) =>
        Float64Array.from(perDraw.flatMap((losses) => [...at(losses.get(arm) ?? [], cell)])),
      ),
    );
  const entries = {
    adgroupCount: at(draws, 0).rows.query.taskIndices.length,
    drawCount: draws.length,
    impressions: Float64Array.from(
      draws.flatMap(({ rows }) => [...adgroupImpressions(rows.query)]),
    ),
    supportRowCounts: draws.flatMap(({ rows }) => supportRowCountsOf(rows)),
  };
  return { entries, byCell };
}

/** One pass over the query rows for each model, with all of its cells, and one over support rows for shifts. */
async function lossesOfDraw(
  { context, rows }: ValidationDraw,
  plan: ArmPlan,
  { trainClickRate }: ValidationSettings,
): Promise<Map<ArmName, readonly EntryLosses[]>> {
  const { arms, global, meta } = plan;
  const losses = new Map<ArmName, readonly EntryLosses[]>();
  const constant = trainClickRate === null ? null : constantLogits(rows.query, trainClickRate);
  if (constant !== null) losses.set('constant', [adgroupLosses(constant, rows.query)]);
  const oracle = oracleLogits(rows.query);
  if (oracle !== null) losses.set('oracle', [adgroupLosses(oracle, rows.query)]);
  const predict = async (
    model: AdaptableModel,
    role: 'query' | 'support',
    hasGrid: boolean,
  ): Promise<{ unadapted: Float32Array; byCell: readonly EntryLosses[] }> => {
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
      const lossesWith = (prior: Parameters<typeof shiftedLogits>[0]): EntryLosses =>
        adgroupLosses(shiftedLogits(prior, logits, rows), rows.query);
      losses.set(
        'global-shift',
        plan.shiftPriors.cells.map((cell) => lossesWith(shiftPriorOf(cell))),
      );
    }
  }
  if (plan.usesMeta) {
    const { byCell } = await predict(meta, 'query', plan.adaptsMeta);
    losses.set('meta-unadapted', byCell.slice(0, 1));
    losses.set('meta-adapted', byCell.slice(1));
  }
  return losses;
}

function choicesOf(
  { entries, byCell }: TriedLosses,
  plan: ArmPlan,
  { evaluation, seed }: ValidationSettings,
): ArmChoices {
  const { isShiftAlone } = plan;
  const cells = new Map<ArmName, Selection>();
  const grids = [
    ['global-shift', plan.shiftPriors],
    ['finetuned', plan.innerSteps],
    ['meta-adapted', plan.own],
  ] as const;
  for (const [arm, grid] of grids) {
    const tried = byCell.get(arm) ?? [];
    if (tried.length > 0) cells.set(arm, selectCell(arm, grid, tried, entries));
  }
  const cell = cells.get('meta-adapted')?.cell;
  if (cell === undefined || !plan.arms.has('meta-chosen'))
    return { cells, blocks: null, blend: null };
  const chosen = bestCell(byCell.get('meta-adapted') ?? []);
  const adgroups = validatedAdgroups({ entries, byCell }, chosen, evaluation.sizeBucketEdges);
  return {
    cells,
    blocks: chooseBlocks(adgroups, { ...evaluation, seed, isShiftAlone }),
    blend: null,
  };
}

/** Draws of an adgroup that are in one bucket are one adgroup there. */
function validatedAdgroups(
  { entries, byCell }: TriedLosses,
  cell: number,
  edges: readonly number[],
  isCounted: (entry: number) => boolean = () => true,
): ValidatedAdgroup[] {
  const adapted = at(byCell.get('meta-adapted') ?? [], cell);
  const unadapted = at(byCell.get('meta-unadapted') ?? [], 0);
  const found = new Map<string, ValidatedAdgroup>();
  for (const [entry, supportRowCount] of entries.supportRowCounts.entries()) {
    if (!isCounted(entry)) continue;
    const bucket = sizeBucketIndexOf(edges, supportRowCount);
    const key = `${entry % entries.adgroupCount} in ${bucket}`;
    const before = found.get(key);
    found.set(key, {
      supportRowCount,
      impressions: (before?.impressions ?? 0) + at(entries.impressions, entry),
      adaptedLoss: (before?.adaptedLoss ?? 0) + at(adapted, entry),
      unadaptedLoss: (before?.unadaptedLoss ?? 0) + at(unadapted, entry),
    });
  }
  return [...found.values()];
}

/** The losses of the arm meta-chosen where a cell is adapted with and these buckets are served adapted blocks. */
function chosenLosses(
  { entries, byCell }: TriedLosses,
  cell: number,
  served: readonly ('adapted' | 'unadapted')[],
  edges: readonly number[],
): EntryLosses {
  const adapted = at(byCell.get('meta-adapted') ?? [], cell);
  const unadapted = at(byCell.get('meta-unadapted') ?? [], 0);
  return unadapted.map((loss, entry) => {
    const bucket = sizeBucketIndexOf(edges, at(entries.supportRowCounts, entry));
    return at(served, bucket) === 'adapted' ? at(adapted, entry) : loss;
  });
}

/** Every arm but the blend. */
function validatedArms(
  tried: TriedLosses,
  { blocks }: ArmChoices,
  plan: ArmPlan,
  { evaluation }: ValidationSettings,
): ValidatedArm[] {
  const { entries, byCell } = tried;
  const { isShiftAlone } = plan;
  const { sizeBucketEdges: edges } = evaluation;
  const ofChosen = (isCounted?: (entry: number) => boolean): EntryLosses => {
    const cell = bestCell(byCell.get('meta-adapted') ?? [], isCounted);
    const adgroups = validatedAdgroups(tried, cell, edges, isCounted);
    const served = servedByBucket(adgroups, { sizeBucketEdges: edges, isShiftAlone });
    return chosenLosses(tried, cell, served, edges);
  };
  return ARM_NAMES.flatMap((arm): ValidatedArm[] => {
    if (!plan.arms.has(arm)) return [];
    if (arm === 'meta-chosen')
      return blocks === null
        ? []
        : [{ arm, losses: ofChosen(), heldOut: heldOutLosses(entries, ofChosen) }];
    const cells = byCell.get(arm) ?? [];
    if (cells.length === 0) return [];
    const heldOut = heldOutLosses(entries, (isOther) => at(cells, bestCell(cells, isOther)));
    return [{ arm, losses: at(cells, bestCell(cells)), heldOut }];
  });
}
