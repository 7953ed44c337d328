/**
 * Blocks of crowds: a row belongs to an adgroup i and to a crowd c, and both add to its logit,
 *
 *   logit(x) = z(x) + [1, h(x)]' (phi_i + psi_c)        psi_c ~ N(0, diag(sigma^2))
 *
 * Trunk and prior of adgroups are trained without crowds. Then adgroups and crowds are fitted in turn on the rows of training
 * adgroups, each with the score of the other as offset (GLMix: Zhang et al., KDD 2016), by the Newton steps that adapt an
 * adgroup. After each turn the variances of the prior follow from those that the crowds have (MacKay, Neural Computation 1992),
 *
 *   sigma_k^2 = sum_c psi_ck^2 / sum_c (1 - s_ck / sigma_k^2)
 *
 * with s_c the variances of the posterior: an effect that crowds do not have shrinks to nothing. Rows are added in the order of
 * their adgroups, so processes and machines decide no bit.
 */

import { setImmediate } from 'node:timers/promises';
import { at, float32At, int32At, spreadOver } from '../../shared/base/arrays.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { NormalPrior } from '../../shared/methods/inner-loop/inner-loop.js';
import {
  CROWD_MODES,
  CROWD_VARIANCES,
  personalVariables,
} from '../../shared/methods/inner-loop/personal-blocks.js';
import { methodPlanOf } from '../../shared/methods/methods.js';
import type { MetaParameters } from '../../shared/models/meta-parameters.js';
import type { NamedTensors } from '../../shared/tensors/named-tensors.js';
import { nativeRows } from '../../shared/tensors/native-rows.js';
import { rowFeatures, type AdaptableModel, type TaskJobContext } from './task-jobs.js';

/** Turns of adgroups and crowds. Variances of effects that crowds have settle within five, those of others go on falling. */
const TURN_COUNT = 20;
/** Newton steps of a fit, which begins at the mean of the prior. */
const STEP_COUNT = 5;
/** At most so many rows of training adgroups are read; if there are more, of adgroups spread over all of them. */
const ROW_COUNT_MAX = 4_000_000;
/** A variance below this has no effect on any logit. */
const VARIANCE_MIN = 1e-8;

/** Labelled rows, and what they are fitted with. */
interface FittedRows {
  /** The number of personal parameters. */
  readonly count: number;
  /** `[rowCount, count]` */
  readonly slopes: Float32Array;
  /** `[rowCount]` each. */
  readonly logits: Float32Array;
  readonly clicks: Float32Array;
  readonly impressions: Float32Array;
}

/** Rows by adgroup, or by crowd. */
interface Level {
  readonly groupOfRow: Int32Array;
  /** Where the rows of each group begin in `places`, and where the last ones end. */
  readonly starts: Int32Array;
  readonly places: Int32Array;
}

/** `[groupCount, count]` each. */
interface Blocks {
  readonly modes: Float32Array;
  readonly variances: Float32Array;
}

/**
 * The blocks of crowds by name. A value without rows, and that of unknown values, has a mode of 0 and the variances of
 * the prior.
 */
export async function crowdBlocksOf(
  context: TaskJobContext,
  model: AdaptableModel,
  taskIndices: readonly number[],
): Promise<NamedTensors> {
  const { spec } = context;
  const { dense } = model.parameters;
  const shape = dense.get(CROWD_MODES)?.shape;
  const personal = personalVariables(spec).map(({ name }) => name);
  const prior = methodPlanOf(model.method).innerLoop.prior?.(dense, personal);
  if (shape === undefined || prior === undefined) throw new Error('the method has no crowds');
  const { rows, adgroupOfRow, crowdOfRow } = await fittedRows(context, {
    ...{ ...model, taskIndices, count: at(shape, 1) },
  });
  const levels = {
    adgroups: levelOf(adgroupOfRow, taskIndices.length),
    // Rows of unknown crowds are of many crowds.
    crowds: levelOf(crowdOfRow, at(shape, 0), (id) => id > 0),
    prior,
  };
  const blocks = await fitInTurns(rows, levels, context.signal);
  return new Map([
    [CROWD_MODES, { shape, values: blocks.modes }],
    [CROWD_VARIANCES, { shape, values: blocks.variances }],
  ]);
}

/** Parameters with the blocks of crowds that a bundle or an evaluation has. */
export function withCrowdBlocksOf(
  parameters: MetaParameters,
  blocks: NamedTensors,
): MetaParameters {
  const own = [...blocks].filter(([name]) => name === CROWD_MODES || name === CROWD_VARIANCES);
  return { ...parameters, dense: new Map([...parameters.dense, ...own]) };
}

/** All rows of the tasks, or of some of the tasks where there are too many. */
async function fittedRows(
  context: TaskJobContext,
  request: Parameters<typeof rowFeatures>[1],
): Promise<{
  readonly rows: FittedRows;
  readonly adgroupOfRow: Int32Array;
  readonly crowdOfRow: Int32Array;
}> {
  const { store, spec } = context;
  const rowCountOf = (taskIndices: readonly number[]): number =>
    taskIndices.reduce((sum, taskIndex) => {
      const { supportRowCount, queryRowCount } = at(store.tasks, taskIndex);
      return sum + supportRowCount + queryRowCount;
    }, 0);
  const share = Math.min(1, ROW_COUNT_MAX / rowCountOf(request.taskIndices));
  const taskCount = Math.ceil(share * request.taskIndices.length);
  const taskIndices = spreadOver(request.taskIndices, taskCount);
  const rowCount = rowCountOf(taskIndices);
  const { count } = request;
  const rows = {
    ...{ count, slopes: new Float32Array(rowCount * count), logits: new Float32Array(rowCount) },
    ...{ clicks: new Float32Array(rowCount), impressions: new Float32Array(rowCount) },
  };
  const [adgroupOfRow, crowdOfRow] = [new Int32Array(rowCount), new Int32Array(rowCount)];
  const crowdColumn = spec.categoryFeatures.indexOf(spec.crowd ?? '');
  let [row, adgroup] = [0, 0];
  for await (const { tasks, slopes, logits } of rowFeatures(context, { ...request, taskIndices })) {
    rows.slopes.set(slopes, row * count);
    rows.logits.set(logits, row);
    for (const task of tasks) {
      rows.clicks.set(task.clicks, row);
      rows.impressions.set(task.impressions, row);
      crowdOfRow.set(at(task.categoryIds, crowdColumn), row);
      adgroupOfRow.fill(adgroup, row, row + task.rowCount);
      row += task.rowCount;
      adgroup += 1;
    }
  }
  return { rows, adgroupOfRow, crowdOfRow };
}

/** @param isFitted groups whose rows are left out have none. */
export function levelOf(
  groupOfRow: Int32Array,
  groupCount: number,
  isFitted: (group: number) => boolean = () => true,
): Level {
  const starts = new Int32Array(groupCount + 1);
  for (const group of groupOfRow)
    if (isFitted(group)) starts[group + 1] = int32At(starts, group + 1) + 1;
  for (let group = 0; group < groupCount; group += 1)
    starts[group + 1] = int32At(starts, group + 1) + int32At(starts, group);
  const places = new Int32Array(int32At(starts, groupCount));
  const next = starts.slice();
  for (const [row, group] of groupOfRow.entries()) {
    if (!isFitted(group)) continue;
    places[int32At(next, group)] = row;
    next[group] = int32At(next, group) + 1;
  }
  return { groupOfRow, starts, places };
}

interface Levels {
  readonly adgroups: Level;
  readonly crowds: Level;
  /** The prior of adgroups, with whose variances that of crowds begins. */
  readonly prior: Pick<NormalPrior, 'precisions' | 'stepLengthMax' | 'precisionMin'>;
}

/** Returns the blocks of crowds. Between fits, which take seconds for millions of rows, the process does what else is due. */
export async function fitInTurns(
  rows: FittedRows,
  { adgroups, crowds, prior }: Levels,
  signal?: AbortSignal,
): Promise<Blocks> {
  let precisions = prior.precisions;
  let blocks = nothingOf(crowds, rows.count);
  for (let turn = 0; turn < TURN_COUNT; turn += 1) {
    if (turn > 0) precisions = precisionsOfPrior(crowds, blocks, precisions);
    const own = fit(scoredAbove(rows, crowds, blocks), adgroups, prior);
    await setImmediate();
    signal?.throwIfAborted();
    blocks = fit(scoredAbove(rows, adgroups, own), crowds, { ...prior, precisions });
  }
  return blocks;
}

function nothingOf({ starts }: Level, count: number): Blocks {
  const size = (starts.length - 1) * count;
  return { modes: new Float32Array(size), variances: new Float32Array(size) };
}

function fit(
  { count, slopes, logits, clicks, impressions }: FittedRows,
  level: Level,
  { precisions, stepLengthMax, precisionMin }: Levels['prior'],
): Blocks {
  const native = nativeRows();
  if (native === null)
    throw new QianmoError({
      kind: 'environment',
      what: 'blocks of crowds are fitted by compiled code, which is missing',
      where: 'method.crowd',
      cure: 'run qianmo setup, which compiles it or says why it cannot',
    });
  const { starts, places } = level;
  const blocks = nothingOf(level, count);
  const numbers = Float64Array.of(STEP_COUNT, stepLengthMax, precisionMin);
  native.posteriors(
    ...([starts, places, slopes, logits, clicks, impressions, precisions, numbers] as const),
    ...([blocks.modes, blocks.variances] as const),
  );
  return blocks;
}

/** The rows with the blocks of a level in their logits. */
function scoredAbove(rows: FittedRows, { groupOfRow }: Level, { modes }: Blocks): FittedRows {
  const { count, slopes } = rows;
  const logits = rows.logits.map((logit, row) => {
    const [slope, block] = [row * count, int32At(groupOfRow, row) * count];
    let sum = logit;
    for (let k = 0; k < count; k += 1)
      sum += float32At(slopes, slope + k) * float32At(modes, block + k);
    return sum;
  });
  return { ...rows, logits };
}

function precisionsOfPrior(
  { starts }: Level,
  { modes, variances }: Blocks,
  before: Float32Array,
): Float32Array {
  const count = before.length;
  return before.map((precision, k) => {
    let [squares, determined] = [0, 0];
    for (let group = 0; group + 1 < starts.length; group += 1) {
      if (int32At(starts, group) === int32At(starts, group + 1)) continue;
      squares += float32At(modes, group * count + k) ** 2;
      determined += Math.max(0, 1 - float32At(variances, group * count + k) * precision);
    }
    return 1 / Math.max(VARIANCE_MIN, determined === 0 ? 0 : squares / determined);
  });
}
