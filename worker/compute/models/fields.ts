/**
 * The variables and fields of a model, divided into those that differ by task and those that tasks share, and a forward
 * pass, written once, divided into two passes.
 *
 * Fields are tensors `[.., fieldCount * width]`, where the width is that of a table row.
 * If the model has linear terms, the last column of a field is its term, so sums over fields give
 * factors and linear terms together and no large tensor is sliced.
 *
 * A value of a forward pass belongs to one of three stages:
 *
 *   variables   computed from shared variables alone, in either pass
 *   trunk       computed from rows and shared variables, in the trunk pass, once per batch
 *   personal    depends on personal blocks; computed in the personal pass, which inner steps run and
 *               differentiate
 *
 * Both passes run the same code. The trunk pass hands over, by name, each trunk value that a personal
 * value depends on. The personal pass takes it and computes nothing below it. A value is computed at
 * its first use, and once.
 *
 * Rows are `[placeCount, ...]` in the trunk pass. In the personal pass they are grouped by task,
 * `[taskCount, rowExtent, ...]` (or `[taskCount, 1, ...]` if all rows of a task share the value), to be
 * combined with the task's own variables, `[taskCount, ...]`.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { Staged } from '../../../shared/models/kinds/model-definition.js';
import { GENERATED_BLOCK } from '../../../shared/methods/inner-loop/personal-blocks.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import type { Engine } from '../engine/load-engine.js';
import { placeCountsOf, type BagTensors, type BatchTensors } from './device-tasks.js';

/** Variables of a model, by name. */
export type Variables = ReadonlyMap<string, tfjs.Tensor>;

export function variableOf(variables: Variables, name: string): tfjs.Tensor {
  const variable = variables.get(name);
  if (variable === undefined) throw new Error(`the forward pass has no variable ${name}`);
  return variable;
}

/** The values that a trunk pass hands over, by name. */
export type TrunkPass = { readonly [name: string]: tfjs.Tensor };

export interface StagedPass {
  readonly variable: (name: string) => Staged;
  /** A value computed from rows and shared variables. */
  readonly ofRows: (name: string, compute: () => tfjs.Tensor) => Staged;
  /** @param name unique within the forward pass. */
  readonly apply: (
    name: string,
    inputs: readonly Staged[],
    compute: (...tensors: tfjs.Tensor[]) => tfjs.Tensor,
  ) => Staged;
}

interface Stages {
  readonly personalNames: ReadonlySet<string>;
  readonly variables: (name: string) => tfjs.Tensor;
  /** Null in the personal pass. */
  readonly handOver: ((value: Staged) => void) | null;
  /** Null in the trunk pass. */
  readonly takeOver: ((name: string) => tfjs.Tensor) | null;
}

/** The pass that computes trunk values; `handedOver` is complete when `forward` has run. */
export function trunkStage(
  tf: typeof tfjs,
  personalNames: ReadonlySet<string>,
  trunk: Variables,
  [taskCount, rowExtent]: readonly [number, number],
): { readonly pass: StagedPass; readonly handedOver: TrunkPass } {
  const handedOver: Record<string, tfjs.Tensor> = {};
  const pass = stagedPass({
    personalNames,
    variables: (name) => variableOf(trunk, name),
    handOver: ({ name, tensor }) => {
      if (handedOver[name] !== undefined) return;
      const [, ...rest] = tensor().shape;
      handedOver[name] = tf.reshape(tensor(), [taskCount, rowExtent, ...rest]);
    },
    takeOver: null,
  });
  return { pass, handedOver };
}

export function personalStage(
  personalNames: ReadonlySet<string>,
  handedOver: TrunkPass,
  trunk: Variables,
  personal: Variables,
): StagedPass {
  return stagedPass({
    personalNames,
    variables: (name) => variableOf(personalNames.has(name) ? personal : trunk, name),
    handOver: null,
    takeOver: (name) => {
      const tensor = handedOver[name];
      if (tensor === undefined) throw new Error(`the trunk pass handed over no ${name}`);
      return tensor;
    },
  });
}

function stagedPass({ personalNames, variables, handOver, takeOver }: Stages): StagedPass {
  const names = new Set<string>();
  const valueOf = (stage: Staged['stage'], name: string, compute: () => tfjs.Tensor): Staged => {
    if (names.has(name)) throw new Error(`two values of a forward pass are named ${name}`);
    names.add(name);
    if (stage === 'trunk' && takeOver !== null)
      return { stage, name, tensor: () => takeOver(name) };
    let known: tfjs.Tensor | null = null;
    return { stage, name, tensor: () => (known ??= compute()) };
  };
  return {
    variable: (name) => ({
      stage: personalNames.has(name) ? 'personal' : 'variables',
      name,
      tensor: () => variables(name),
    }),
    ofRows: (name, compute) => valueOf('trunk', name, compute),
    apply: (name, inputs, compute) => {
      const stage = stageOf(inputs);
      if (stage === 'personal' && handOver !== null)
        for (const input of inputs) if (input.stage === 'trunk') handOver(input);
      return valueOf(stage, name, () => compute(...inputs.map(({ tensor }) => tensor())));
    },
  };
}

function stageOf(inputs: readonly Staged[]): Staged['stage'] {
  if (inputs.some(({ stage }) => stage === 'personal')) return 'personal';
  return inputs.some(({ stage }) => stage === 'trunk') ? 'trunk' : 'variables';
}

export interface ModelPlan {
  readonly spec: ModelSpec;
  /** Names of the variables that differ by task; none if nothing is adapted. */
  readonly personal: ReadonlySet<string>;
  readonly trunk: readonly string[];
  readonly hasPersonalNumbers: boolean;
  readonly hasPersonalEmbedding: boolean;
  /** Place of the field that is a block of each task instead of a table's row; null if there is none. */
  readonly generatedPlace: number | null;
  /**
   * The number of fields that are the same function of a row for every task. They come first, apart from
   * the generated one.
   */
  readonly sharedFieldCount: number;
  /** The layers some of whose units are dropped: the rows come with their masks. */
  readonly maskedLayers: ReadonlySet<string>;
}

/** @param adapts with false, every variable is shared. */
export function modelPlanOf(
  spec: ModelSpec,
  adapts: boolean,
  maskedLayers: Iterable<string> = [],
): ModelPlan {
  const names = spec.variables.map(({ name }) => name);
  const personal = new Set(
    spec.variables.filter(({ block }) => adapts && block === 'personal').map(({ name }) => name),
  );
  const hasPersonalNumbers = names.some((n) => n.startsWith('numbers.') && personal.has(n));
  const hasPersonalEmbedding = personal.has('adgroupEmbedding');
  const isGenerated = personal.has(GENERATED_BLOCK);
  return {
    spec,
    personal,
    trunk: names.filter((name) => !personal.has(name)),
    hasPersonalNumbers,
    hasPersonalEmbedding,
    generatedPlace: isGenerated ? generatedPlaceOf(spec) : null,
    sharedFieldCount:
      spec.fieldCount -
      (hasPersonalNumbers ? spec.numberFeatures.length : 0) -
      (hasPersonalEmbedding ? 1 : 0) -
      (isGenerated ? 1 : 0),
    maskedLayers: new Set(maskedLayers),
  };
}

function generatedPlaceOf({ categoryFeatures, options }: ModelSpec): number {
  // Categories are the first fields.
  const place = categoryFeatures.indexOf(options.generated ?? '');
  if (place < 0) throw new Error(`the model has no category feature ${String(options.generated)}`);
  return place;
}

/** A range of the fields that are the same function of a row for every task. */
interface FieldRange {
  readonly first: number;
  /** The place after the last field; null for a range that extends to the last field. */
  readonly end: number | null;
}

const ALL_FIELDS: FieldRange = { first: 0, end: null };

/** The rows that `tablePlaces` refer to: rows of the pack, followed by the bags. */
export interface TableRows {
  /** `[packExtent, width]` */
  readonly pack: tfjs.Tensor2D;
  /** `[bagExtent, width]`; null when the model has no bags. */
  readonly bags: tfjs.Tensor2D | null;
}

/** The inputs of fields that all tasks share. */
export interface FieldSource {
  readonly data: BatchTensors;
  readonly rows: TableRows;
  readonly trunk: Variables;
}

/**
 * The fields that are the same function of a row for every task, `[placeCount, fieldCount * width]`;
 * null if there are none.
 */
export function sharedFields(
  engine: Engine,
  plan: ModelPlan,
  source: FieldSource,
  range = ALL_FIELDS,
): tfjs.Tensor2D | null {
  const { tf } = engine;
  const { spec } = plan;
  const { data, trunk } = source;
  const { numbers } = data;
  const { placeCount } = placeCountsOf(data);
  const width = spec.tableRowWidth;
  const parts = tableFields(engine, plan, source, range);
  // Only categories end a range.
  if (range.end !== null) return parts[0] ?? null;
  if (numbers !== undefined && !plan.hasPersonalNumbers)
    parts.push(sharedNumberFields(engine, plan, numbers, trunk));
  if (spec.hasAdgroupEmbedding && !plan.hasPersonalEmbedding) {
    const embedding = variableOf(trunk, 'adgroupEmbedding');
    const field = tf.reshape<tfjs.Rank.R2>(withLinearColumn(engine, plan, embedding), [1, width]);
    parts.push(tf.tile(field, [placeCount, 1]));
  }
  const [first] = parts;
  if (first === undefined) return null;
  return parts.length === 1 ? first : tf.concat(parts, 1);
}

/** The mean of each bag's members: `[bagExtent, width]`. */
export function bagRows(
  { tf, kernels }: Engine,
  rows: tfjs.Tensor2D,
  { members, bagOfMember, shares }: BagTensors,
): tfjs.Tensor2D {
  const sums = kernels.sumSegments(kernels.gatherRows(rows, members), bagOfMember, shares.shape[0]);
  return tf.mul(sums, shares);
}

/** The fields with tables in a range, concatenated, in one part or two. */
function tableFields(
  engine: Engine,
  { spec }: ModelPlan,
  { data, rows: { pack, bags } }: FieldSource,
  { first, end }: FieldRange,
): tfjs.Tensor2D[] {
  const { tf } = engine;
  const { tables, categoryFeatures } = spec;
  const { tablePlaces } = data;
  const last = end ?? tables.length;
  if (tablePlaces === undefined || last === first) return [];
  const gathered = (from: tfjs.Tensor2D, places: Places): tfjs.Tensor2D =>
    fieldsAt(engine, from, places);
  const placesFrom = (start: number, stop: number): Places =>
    columnsOf(tf, { places: tablePlaces, count: tables.length }, start, stop);
  const bagStart = Math.max(first, categoryFeatures.length);
  if (bags === null || bagStart >= last) return [gathered(pack, placesFrom(first, last))];
  const { placeCount } = placeCountsOf(data);
  const [packExtent] = pack.shape;
  const isLearned = spec.learned.tables.length > 0;
  if (isLearned || packExtent <= placeCount * (last - first))
    return [gathered(tf.concat([pack, bags], 0), placesFrom(first, last))];
  // Frozen tables that are present in full are larger than the rows gathered from them: do not copy them.
  const ofBags = placesFrom(bagStart, last);
  // Padding is at place 0.
  const fromBags = tf.sub<tfjs.Tensor1D>(ofBags.places, tf.scalar(packExtent, 'int32'));
  const bagPlaces = tf.maximum<tfjs.Tensor1D>(fromBags, tf.scalar(0, 'int32'));
  return [
    ...(bagStart === first ? [] : [gathered(pack, placesFrom(first, bagStart))]),
    gathered(bags, { ...ofBags, places: bagPlaces }),
  ];
}

/** The places of some columns of the tables, `[placeCount * count]`. */
interface Places {
  readonly places: tfjs.Tensor1D;
  readonly count: number;
}

/** The columns from `start` up to `stop`. */
function columnsOf(
  tf: typeof tfjs,
  { places, count: columnCount }: Places,
  start: number,
  stop: number,
): Places {
  const count = stop - start;
  if (count === columnCount) return { places, count };
  const placeCount = places.size / columnCount;
  const byRow = tf.reshape<tfjs.Rank.R2>(places, [placeCount, columnCount]);
  const chosen = tf.slice(byRow, [0, start], [placeCount, count]);
  return { places: tf.reshape(chosen, [placeCount * count]), count };
}

/** `[placeCount, count * width]` */
function fieldsAt(
  { tf, kernels }: Engine,
  from: tfjs.Tensor2D,
  { places, count }: Places,
): tfjs.Tensor2D {
  const [, width] = from.shape;
  return tf.reshape(kernels.gatherRows(from, places), [-1, count * width]);
}

function sharedNumberFields(
  engine: Engine,
  plan: ModelPlan,
  numbers: tfjs.Tensor2D,
  trunk: Variables,
): tfjs.Tensor2D {
  const { tf } = engine;
  const [placeCount, count] = numbers.shape;
  const names = numberVariables(plan);
  const table = numberTable(
    engine,
    names,
    names.map((name) => variableOf(trunk, name)),
  );
  const fields = tf.mul(tf.reshape(numbers, [placeCount, count, 1]), table);
  return tf.reshape(fields, [placeCount, count * plan.spec.tableRowWidth]);
}

/** Adjacent fields of one stage. */
export interface FieldGroup {
  /** Shared: `[.., fieldCount * width]`; personal: `[taskCount, rowExtent or 1, fieldCount, width]`. */
  readonly values: Staged;
  readonly name: 'before' | 'generated' | 'shared' | 'numbers' | 'adgroup';
  readonly firstPlace: number;
  readonly fieldCount: number;
}

/** All fields of a model in order: shared ones, with a generated one among them, then personal ones. */
export function fieldGroups(
  engine: Engine,
  plan: ModelPlan,
  pass: StagedPass,
  /** Null in the personal pass, which takes shared fields from the trunk pass. */
  source: FieldSource | null,
): FieldGroup[] {
  const { spec, generatedPlace } = plan;
  const groups: FieldGroup[] = [];
  const add = (name: FieldGroup['name'], fieldCount: number, values: Staged): void => {
    const firstPlace = groups.reduce((sum, group) => sum + group.fieldCount, 0);
    groups.push({ values, name, firstPlace, fieldCount });
  };
  const addShared = (name: 'before' | 'shared', fieldCount: number, range: FieldRange): void => {
    if (fieldCount === 0) return;
    const values = pass.ofRows(name === 'shared' ? 'fields' : 'fields.before', () => {
      const fields = source === null ? null : sharedFields(engine, plan, source, range);
      if (fields === null) throw new Error('the batch has no shared fields');
      return fields;
    });
    add(name, fieldCount, values);
  };
  const beforeCount = generatedPlace ?? 0;
  addShared('before', beforeCount, { first: 0, end: beforeCount });
  if (generatedPlace !== null) add('generated', 1, generatedField(engine, plan, pass));
  addShared('shared', plan.sharedFieldCount - beforeCount, {
    first: generatedPlace === null ? 0 : generatedPlace + 1,
    end: null,
  });
  if (plan.hasPersonalNumbers)
    add('numbers', spec.numberFeatures.length, personalNumbers(engine, plan, pass, source));
  if (plan.hasPersonalEmbedding)
    add(
      'adgroup',
      1,
      pass.apply('fields.adgroup', [pass.variable('adgroupEmbedding')], (embedding) => {
        const field = withLinearColumn(engine, plan, embedding);
        return engine.tf.reshape(field, [
          field.size / spec.tableRowWidth,
          1,
          1,
          spec.tableRowWidth,
        ]);
      }),
    );
  return groups;
}

/** A row of the table's width for each task, or for each row of each task. */
function generatedField({ tf }: Engine, { spec }: ModelPlan, pass: StagedPass): Staged {
  const width = spec.tableRowWidth;
  return pass.apply('fields.generated', [pass.variable(GENERATED_BLOCK)], (block) => {
    const [taskCount = 1] = block.shape;
    return tf.reshape(block, [taskCount, block.size / (taskCount * width), 1, width]);
  });
}

/** `[taskCount, rowExtent, numberCount, width]` */
function personalNumbers(
  engine: Engine,
  plan: ModelPlan,
  pass: StagedPass,
  source: FieldSource | null,
): Staged {
  const { tf } = engine;
  const width = plan.spec.tableRowWidth;
  const numbers = pass.ofRows('numbers', () => {
    if (source?.data.numbers === undefined) throw new Error('the batch has no numbers');
    return source.data.numbers;
  });
  const names = numberVariables(plan);
  return pass.apply('fields.numbers', [numbers, ...names.map(pass.variable)], (x, ...parts) => {
    const [taskCount = 0, rowExtent = 0, count = 0] = x.shape;
    const table = tf.reshape(numberTable(engine, names, parts), [taskCount, 1, count, width]);
    return tf.mul(tf.reshape(x, [taskCount, rowExtent, count, 1]), table);
  });
}

/** The variables of the number features: factors, linear weights, or both. */
function numberVariables({ spec }: ModelPlan): string[] {
  return [
    ...(spec.embeddingWidth > 0 ? ['numbers.factors'] : []),
    ...(spec.hasLinear ? ['numbers.linear'] : []),
  ];
}

/** Factors and linear weight of each number: `[(taskCount,) numberCount, width]`. */
function numberTable(
  { tf }: Engine,
  names: readonly string[],
  variables: readonly tfjs.Tensor[],
): tfjs.Tensor {
  const parts = variables.map((variable, index) =>
    names[index] === 'numbers.linear' ? tf.expandDims(variable, -1) : variable,
  );
  const [first] = parts;
  if (first === undefined) throw new Error('numbers have neither factors nor linear weights');
  return parts.length === 1 ? first : tf.concat(parts, -1);
}

/** `[(taskCount,) width]`; an adgroup embedding has no linear term. */
function withLinearColumn(
  { tf }: Engine,
  { spec }: ModelPlan,
  embedding: tfjs.Tensor,
): tfjs.Tensor {
  if (!spec.hasLinear) return embedding;
  const paddings = embedding.shape.map((_, axis): [number, number] => [
    0,
    axis === embedding.rank - 1 ? 1 : 0,
  ]);
  return tf.pad(embedding, paddings);
}
