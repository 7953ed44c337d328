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
import type { TaskEntry } from '../../shared/tasks/task-store.js';
import type { NamedTensors } from '../../shared/tensors/named-tensors.js';
import { nativeRows } from '../../shared/tensors/native-rows.js';
import { rowFeatures, type AdaptableModel, type TaskJobContext } from './task-jobs.js';

/** Turns of adgroups and crowds. Variances of effects that crowds have settle within five, those of others go on falling. */
const TURN_COUNT = 20;
/** Newton steps of a fit, which begins at the mean of the prior. */
const STEP_COUNT = 5;
/** Rows of training adgroups that are read; of more adgroups, every so manieth. */
const ROW_COUNT_MAX = 4_000_000;
/** A variance below this has no effect on any logit. */
const VARIANCE_MIN = 1e-8;

/** Labelled rows, and what they are fitted with. */
interface FittedRows {
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
  /** Of the prior, `[groupCount, count]`. */
  readonly means: Float32Array;
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
  { parameters, method }: AdaptableModel,
  taskIndices: readonly number[],
): Promise<NamedTensors> {
  const { spec, store } = context;
  const { crowd } = spec;
  const empty = parameters.dense.get(CROWD_MODES);
  const personal = personalVariables(spec).map(({ name }) => name);
  const prior = methodPlanOf(method).innerLoop.prior?.(parameters.dense, personal);
  if (crowd === undefined || empty === undefined || prior === undefined)
    throw new Error('the method has no crowds');
  const crowdColumn = spec.categoryFeatures.indexOf(crowd);
  const read = spreadOver(taskIndices, tasksWithin(store.tasks, taskIndices));
  const { rows, adgroups, crowdOfRow } = await fittedRows(
    context,
    { parameters, method, taskIndices: read },
    crowdColumn,
  );
  const crowdCount = at(empty.shape, 0);
  const means = new Float32Array(crowdCount * rows.count);
  // Rows of unknown crowds are of many crowds.
  const crowds = levelOf(crowdOfRow, means, crowdCount, (id) => id > 0);
  const blocks = fitInTurns(rows, { adgroups, crowds, prior });
  const tensor = (values: Float32Array) => ({ shape: empty.shape, values });
  return new Map([
    [CROWD_MODES, tensor(blocks.modes)],
    [CROWD_VARIANCES, tensor(blocks.variances)],
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

/** The number of tasks that have as many rows as are read, at most. */
function tasksWithin(entries: readonly TaskEntry[], taskIndices: readonly number[]): number {
  const rowCount = taskIndices.reduce((sum, index) => {
    const { supportRowCount, queryRowCount } = at(entries, index);
    return sum + supportRowCount + queryRowCount;
  }, 0);
  const share = Math.min(1, ROW_COUNT_MAX / Math.max(1, rowCount));
  return Math.max(1, Math.floor(share * taskIndices.length));
}

async function fittedRows(
  context: TaskJobContext,
  request: Parameters<typeof rowFeatures>[1],
  crowdColumn: number,
): Promise<{ rows: FittedRows; adgroups: Level; crowdOfRow: Int32Array }> {
  const { tasks: entries } = context.store;
  const rowCount = request.taskIndices.reduce((sum, index) => {
    const { supportRowCount, queryRowCount } = at(entries, index);
    return sum + supportRowCount + queryRowCount;
  }, 0);
  const columns = () => new Float32Array(rowCount);
  const [logits, clicks, impressions] = [columns(), columns(), columns()];
  const crowdOfRow = new Int32Array(rowCount);
  const adgroupOfRow = new Int32Array(rowCount);
  let [slopes, means] = [new Float32Array(), new Float32Array()];
  let [row, adgroup] = [0, 0];
  for await (const found of rowFeatures(context, request)) {
    const count = found.starts.length / found.tasks.length;
    if (adgroup === 0) {
      slopes = new Float32Array(rowCount * count);
      means = new Float32Array(request.taskIndices.length * count);
    }
    slopes.set(found.slopes, row * count);
    logits.set(found.logits, row);
    means.set(found.starts, adgroup * count);
    for (const task of found.tasks) {
      clicks.set(task.clicks, row);
      impressions.set(task.impressions, row);
      crowdOfRow.set(at(task.categoryIds, crowdColumn), row);
      adgroupOfRow.fill(adgroup, row, row + task.rowCount);
      row += task.rowCount;
      adgroup += 1;
    }
  }
  const count = means.length / Math.max(1, adgroup);
  return {
    rows: { ...{ count, slopes, logits, clicks, impressions } },
    adgroups: levelOf(adgroupOfRow, means, adgroup),
    crowdOfRow,
  };
}

/** @param isFitted groups whose rows are left out have none. */
export function levelOf(
  groupOfRow: Int32Array,
  means: Float32Array,
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
  return { groupOfRow, starts, places, means };
}

interface Levels {
  readonly adgroups: Level;
  readonly crowds: Level;
  /** Of adgroups. The prior of crowds begins with its variances. */
  readonly prior: Pick<NormalPrior, 'precisions' | 'stepLengthMax' | 'precisionMin'>;
}

/** Returns the blocks of crowds. */
export function fitInTurns(rows: FittedRows, { adgroups, crowds, prior }: Levels): Blocks {
  let variances: Float64Array = Float64Array.from(prior.precisions, (precision) => 1 / precision);
  let blocks: Blocks | null = null;
  for (let turn = 0; turn < TURN_COUNT; turn += 1) {
    const ofCrowds = blocks === null ? rows.logits : scoresAbove(rows, crowds, blocks.modes);
    const own = fit({ ...rows, logits: ofCrowds }, adgroups, prior.precisions, prior);
    const offset = scoresAbove(rows, adgroups, own.modes);
    const precisions = Float32Array.from(variances, (variance) => 1 / variance);
    blocks = fit({ ...rows, logits: offset }, crowds, precisions, prior);
    variances = variancesOfPrior(crowds, blocks, variances);
  }
  if (blocks === null) throw new Error('there is no turn');
  return blocks;
}

function fit(
  { slopes, logits, clicks, impressions }: FittedRows,
  { starts, places, means }: Level,
  precisions: Float32Array,
  { stepLengthMax, precisionMin }: Levels['prior'],
): Blocks {
  const native = nativeRows();
  if (native === null)
    throw new QianmoError({
      kind: 'environment',
      what: 'blocks of crowds are fitted by compiled code, which is missing',
      where: 'method.crowd',
      cure: 'run qianmo setup, which compiles it or says why it cannot',
    });
  const modes = new Float32Array(means.length);
  const variances = new Float32Array(means.length);
  const rows = [slopes, logits, clicks, impressions] as const;
  const numbers = Float64Array.of(STEP_COUNT, stepLengthMax, precisionMin);
  native.posteriors(starts, places, ...rows, means, precisions, numbers, modes, variances);
  return { modes, variances };
}

/** Logits of the rows with the blocks of a level. */
function scoresAbove(
  { count, slopes, logits }: FittedRows,
  { groupOfRow }: Level,
  modes: Float32Array,
): Float32Array {
  return logits.map((logit, row) => {
    const [slope, block] = [row * count, int32At(groupOfRow, row) * count];
    let sum = logit;
    for (let k = 0; k < count; k += 1)
      sum += float32At(slopes, slope + k) * float32At(modes, block + k);
    return sum;
  });
}

function variancesOfPrior(
  { starts }: Level,
  { modes, variances }: Blocks,
  before: Float64Array,
): Float64Array {
  const count = before.length;
  return before.map((variance, k) => {
    let [squares, determined] = [0, 0];
    for (let group = 0; group + 1 < starts.length; group += 1) {
      if (int32At(starts, group) === int32At(starts, group + 1)) continue;
      squares += float32At(modes, group * count + k) ** 2;
      determined += Math.max(0, 1 - float32At(variances, group * count + k) / variance);
    }
    if (determined === 0) return VARIANCE_MIN;
    return Math.max(VARIANCE_MIN, squares / determined);
  });
}
