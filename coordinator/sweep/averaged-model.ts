/**
 * The sections `model` and `method` of the average of several models: one model whose output is the mean of theirs. A sum of DeepFMs and
 * logistic regressions over the same features is a DeepFM again, so that it is stored, evaluated, exported and
 * served like any other:
 *
 *   embeddings, hidden layers    side by side; a layer's weights are those of the members in blocks, and 0 elsewhere
 *   linear weights and biases    means of the members'
 *   support inputs               those of all members; one that lacks an input has weights of 0 for it
 *   generated blocks             shifts of the members' parts, made by their encoders side by side
 *
 * With w = 1 / members, an embedding of the average has the members' embeddings side by side, each times sqrt(w), so that
 * the products of fields are w times those of the members; the tower's first weights are divided by sqrt(w), and its last
 * multiplied by w. Pure.
 */

import { at, float32At } from '../../shared/base/arrays.js';
import { canonicalJson } from '../../shared/base/canonical-json.js';
import { ROW_BIAS, ROW_WEIGHT, SHIFT, TASK_WEIGHT } from '../../shared/methods/encoder.js';
import type { MethodConfig } from '../../shared/methods/methods.js';
import type { MetaParameters } from '../../shared/models/meta-parameters.js';
import type { ModelConfig } from '../../shared/models/model-config.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import {
  elementCountOf,
  type DenseTensor,
  type EmbeddingTable,
  type Variable,
} from '../../shared/tensors/named-tensors.js';

/** Kinds in the order in which one holds the others: a logistic regression is a DeepFM without factors and tower. */
const SUMMED_KINDS = ['logistic', 'deepfm'];

/** Options that change what the parts of a model mean. Where one is set, sums are of another form. */
const OPTIONS_OF_OTHER_FORMS = [
  'generated',
  'padding',
  'linear',
  'factorisedFields',
  'interactions',
  'wideFields',
] as const;

/** The sections of a config that say what a model is, and how it adapts. */
interface AveragedForm {
  readonly model: ModelConfig;
  readonly method: MethodConfig;
}

/** Null if no single model has the mean of these outputs, for every adgroup. */
export function averagedForm(members: readonly AveragedForm[]): AveragedForm | null {
  const method = averagedMethod(members.map((member) => member.method));
  const model = members.every(isOfPlainForm) ? averagedModel(members) : null;
  return method === null || model === null ? null : { model, method };
}

function averagedModel(members: readonly AveragedForm[]): ModelConfig | null {
  const models = members.map(({ model }) => model);
  const generated = members.filter(({ method }) => isEncoder(method)).map(({ model }) => model);
  const towers = models.filter(({ kind }) => kind === 'deepfm');
  const [tower] = towers;
  const depth = tower?.hiddenWidths.length ?? 0;
  const isSummed =
    models.length > 0 &&
    towers.every(({ hiddenWidths }) => hiddenWidths.length === depth && depth > 0);
  const supportInputs = summedInputs(models);
  if (!isSummed || supportInputs === null) return null;
  const first = tower ?? at(models, 0);
  return {
    kind: first.kind,
    embeddingWidth:
      tower === undefined
        ? first.embeddingWidth
        : towers.reduce((sum, { embeddingWidth }) => sum + embeddingWidth, 0),
    hiddenWidths: first.hiddenWidths.map((_, layer) =>
      towers.reduce((sum, { hiddenWidths }) => sum + at(hiddenWidths, layer), 0),
    ),
    adgroupEmbedding: generated.some(({ adgroupEmbedding }) => adgroupEmbedding),
    embeddingDeviation: first.embeddingDeviation,
    personal: [...new Set(generated.flatMap(({ personal }) => personal))],
    ...(supportInputs === undefined ? {} : { supportInputs }),
  };
}

/** Blocks that steps adapt are parts of one model, and have no mean. */
function isOfPlainForm({ model, method }: AveragedForm): boolean {
  const isOneOutput =
    isEncoder(method) ||
    (!model.adgroupEmbedding && (method.kind === 'global' || model.personal.length === 0));
  return (
    isOneOutput &&
    SUMMED_KINDS.includes(model.kind) &&
    OPTIONS_OF_OTHER_FORMS.every((option) => model[option] === undefined)
  );
}

/** Null if members compute one input in two ways; undefined if none has inputs. */
function summedInputs(models: readonly ModelConfig[]): ModelConfig['supportInputs'] | null {
  const given = models.flatMap(({ supportInputs }) => supportInputs ?? []);
  const [first] = given;
  if (first === undefined) return undefined;
  const { smoothing, priorRate } = first;
  const isOneFormula = given.every(
    (inputs) =>
      canonicalJson([inputs.smoothing, inputs.priorRate]) === canonicalJson([smoothing, priorRate]),
  );
  if (!isOneFormula) return null;
  return {
    clickRate: given.some(({ clickRate }) => clickRate),
    count: given.some(({ count }) => count),
    targetEncodings: [...new Set(given.flatMap(({ targetEncodings }) => targetEncodings))],
    ...{ smoothing, priorRate },
  };
}

type Encoder = Extract<MethodConfig, { kind: 'encoder' }>;

/** Null if no single method adapts the mean as these adapt their models. */
function averagedMethod(methods: readonly MethodConfig[]): MethodConfig | null {
  const [first] = methods;
  const encoders = methods.filter(isEncoder);
  const [encoder] = encoders;
  if (first === undefined) return null;
  if (encoder === undefined) return areAlike(methods) ? first : null;
  const others = methods.filter((method) => !isEncoder(method));
  const isSummed =
    others.every(({ kind }) => kind === 'global') &&
    encoders.every(isOfSummedForm) &&
    areAlike(encoders.map((each) => ({ ...each, rowWidth: 0, taskWidth: 0 })));
  if (!isSummed) return null;
  return {
    ...encoder,
    rowWidth: encoders.reduce((sum, { rowWidth }) => sum + rowWidth, 0),
    taskWidth: encoders.reduce((sum, { taskWidth }) => sum + taskWidth, 0),
  };
}

function isEncoder(method: MethodConfig): method is Encoder {
  return method.kind === 'encoder';
}

/** Linear weights of the average are means, in which those that an encoder has read are lost; steps go along the gradient of one model. */
function isOfSummedForm({ innerSteps, linearWeights, features }: Encoder): boolean {
  return innerSteps === 0 && linearWeights === false && features === undefined;
}

function areAlike(methods: readonly object[]): boolean {
  return new Set(methods.map((method) => canonicalJson(method))).size === 1;
}

/** Units of an encoder; 0 without one. */
interface EncoderWidths {
  readonly row: number;
  readonly task: number;
}

const NO_ENCODER: EncoderWidths = { row: 0, task: 0 };

function encoderWidthsOf({ variables }: ModelSpec): EncoderWidths {
  const shapeOf = (wanted: string): readonly number[] =>
    variables.find(({ name }) => name === wanted)?.shape ?? [0, 0];
  return { row: at(shapeOf(ROW_BIAS), 0), task: at(shapeOf(TASK_WEIGHT), 1) };
}

interface EncoderPlaces {
  /** The first of the member's units. */
  readonly first: EncoderWidths;
  /** The encodings of rows of the member, and of the average. */
  readonly own: EncoderWidths;
  readonly all: EncoderWidths;
  /** Rows of weights that read the fields of a row; labels follow the fields. */
  readonly inputRowOf: (row: number) => number;
  readonly inputCounts: { readonly own: number; readonly all: number };
  readonly share: number;
}

/** Null for variables that are not of an encoder, or are shifts of blocks. */
function encoderPlacementOf(name: string, places: EncoderPlaces): Placement | null {
  const { first, own, all, inputRowOf, inputCounts, share } = places;
  switch (name) {
    case ROW_WEIGHT:
      return {
        rowOf: (row) => (row === inputCounts.own ? inputCounts.all : inputRowOf(row)),
        firstColumn: first.row,
        factorOf: (row) => (row === inputCounts.own ? 1 : 1 / Math.sqrt(share)),
      };
    case ROW_BIAS:
      return { rowOf: (row) => first.row + row, firstColumn: 0, factorOf: () => 1 };
    case TASK_WEIGHT:
      return {
        // Size and level follow the encodings of rows.
        rowOf: (row) => (row < own.row ? first.row + row : all.row + row - own.row),
        firstColumn: first.task,
        factorOf: () => 1,
      };
    default:
      return null;
  }
}

/** The variable whose shifts these are; null for other variables. */
function shiftedName(name: string): string | null {
  return name.startsWith(SHIFT) ? name.slice(SHIFT.length) : null;
}

interface ShiftedBlock {
  /** The width of the block in the average. */
  readonly shape: readonly number[];
  readonly ownShape: readonly number[];
  readonly placement: Placement;
  readonly firstTaskUnit: number;
}

/** Adds the shifts of a block, `[taskWidth, size of the block]`, to those of the average. */
function addShifts(
  sums: Float64Array,
  { shape: [taskWidth = 0, size = 0], values }: DenseTensor,
  { shape, ownShape, placement, firstTaskUnit }: ShiftedBlock,
): void {
  const sizeOfAll = shape.reduce((product, extent) => product * extent, 1);
  for (let unit = 0; unit < taskWidth; unit += 1) {
    const first = (firstTaskUnit + unit) * sizeOfAll;
    const own = values.subarray(unit * size, (unit + 1) * size);
    const target = sums.subarray(first, first + sizeOfAll);
    addMatrix(target, columnsOf(shape), { shape: ownShape, values: own }, placement);
  }
}

export interface AveragedMember {
  readonly spec: ModelSpec;
  readonly parameters: MetaParameters;
}

/** A member with the place of its part in the average. */
interface PlacedMember extends AveragedMember {
  /** The first of its factors in an embedding of the average. */
  readonly firstFactor: number;
  /** The first of its units, by hidden layer. */
  readonly firstUnits: readonly number[];
  readonly firstEncoded: EncoderWidths;
  /** The number feature of the average, by that of the member. */
  readonly numberPlaces: readonly number[];
}

/** @param spec that of the average, on the same features. */
export function averagedParameters(
  spec: ModelSpec,
  members: readonly AveragedMember[],
): MetaParameters {
  const share = 1 / members.length;
  const placed = placedMembers(spec, members);
  const dense = spec.variables.map(({ name, shape }): [string, DenseTensor] => {
    const sums = new Float64Array(elementCountOf(shape));
    const own = placed.filter(({ parameters }) => parameters.dense.has(name));
    for (const member of own)
      addVariable(sums, { name, shape }, { spec, member, share, ownShare: 1 / own.length });
    return [name, { shape, values: Float32Array.from(sums) }];
  });
  const tables = spec.tables.map(({ name, rowCount }): [string, EmbeddingTable] => [
    name,
    averagedTable(spec, placed, { name, rowCount, share }),
  ]);
  return { dense: new Map(dense), tables: new Map(tables) };
}

function placedMembers(spec: ModelSpec, members: readonly AveragedMember[]): PlacedMember[] {
  let firstFactor = 0;
  let firstUnits = spec.options.hiddenWidths.map(() => 0);
  let firstEncoded = NO_ENCODER;
  return members.map((member) => {
    const { embeddingWidth, options, numberFeatures } = member.spec;
    const numberPlaces = numberFeatures.map((name) => {
      const place = spec.numberFeatures.indexOf(name);
      if (place < 0) throw new Error(`the average has no number feature ${name}`);
      return place;
    });
    const placed = { ...member, firstFactor, firstUnits, firstEncoded, numberPlaces };
    const encoded = encoderWidthsOf(member.spec);
    firstFactor += embeddingWidth;
    firstUnits = firstUnits.map((first, layer) => first + (options.hiddenWidths[layer] ?? 0));
    firstEncoded = { row: firstEncoded.row + encoded.row, task: firstEncoded.task + encoded.task };
    return placed;
  });
}

interface MemberShare {
  readonly spec: ModelSpec;
  readonly member: PlacedMember;
  /** One over all members, and over those that have the variable. */
  readonly share: number;
  readonly ownShare: number;
}

function addVariable(
  sums: Float64Array,
  { name, shape }: Pick<Variable, 'name' | 'shape'>,
  part: MemberShare,
): void {
  const { spec, member } = part;
  const own = member.parameters.dense.get(name);
  if (own === undefined) throw new Error(`the member has no variable ${name}`);
  const block = shiftedName(name);
  if (block === null) return addMatrix(sums, columnsOf(shape), own, placementOf(name, part));
  addShifts(sums, own, {
    shape: shapeIn(spec, block),
    ownShape: shapeIn(member.spec, block),
    placement: placementOf(block, part),
    firstTaskUnit: member.firstEncoded.task,
  });
}

function shapeIn({ variables }: ModelSpec, wanted: string): readonly number[] {
  const found = variables.find(({ name }) => name === wanted);
  if (found === undefined) throw new Error(`a model has no variable ${wanted}`);
  return found.shape;
}

const LAYER = /^layer(\d+)\.(weight|bias)$/;

/** Variables of the method, such as a prior, are means of those members that have them. */
function placementOf(name: string, part: MemberShare): Placement {
  const { spec, member, share, ownShare } = part;
  const { firstFactor, firstUnits, numberPlaces } = member;
  const [, layerText, kind] = LAYER.exec(name) ?? [];
  const lastLayer = firstUnits.length - 1;
  if (layerText !== undefined) {
    const layer = Number(layerText);
    const unit = at(firstUnits, layer);
    if (kind === 'bias') return placement((row) => unit + row, 1);
    if (layer === 0) return placement(inputRowOf(spec, member), 1 / Math.sqrt(share), unit);
    const before = at(firstUnits, layer - 1);
    return placement((row) => before + row, 1, unit);
  }
  switch (name) {
    case 'numbers.linear':
      return placement((row) => at(numberPlaces, row), share);
    case 'numbers.factors':
      return placement((row) => at(numberPlaces, row), Math.sqrt(share), firstFactor);
    case 'adgroupEmbedding':
      return placement((row) => firstFactor + row, Math.sqrt(share));
    case 'output.weight':
      return placement((row) => at(firstUnits, lastLayer) + row, share);
    case 'bias':
      return placement((row) => row, share);
    default:
      return encoderPlacement(name, part) ?? placement((row) => row, ownShare);
  }
}

function placement(rowOf: (row: number) => number, factor: number, firstColumn = 0): Placement {
  return { rowOf, firstColumn, factorOf: () => factor };
}

function encoderPlacement(name: string, { spec, member, share }: MemberShare): Placement | null {
  return encoderPlacementOf(name, {
    first: member.firstEncoded,
    own: encoderWidthsOf(member.spec),
    all: encoderWidthsOf(spec),
    inputRowOf: inputRowOf(spec, member),
    inputCounts: { own: inputCountOf(member.spec), all: inputCountOf(spec) },
    share,
  });
}

/** Factors of the fields of a row that no block fills. */
function inputCountOf({ tables, numberFeatures, embeddingWidth }: ModelSpec): number {
  return (tables.length + numberFeatures.length) * embeddingWidth;
}

/** Rows of weights that read embeddings of fields: categories, bags, numbers, and last that of the adgroup. */
function inputRowOf(spec: ModelSpec, member: PlacedMember): (row: number) => number {
  const { embeddingWidth: width, tables, numberFeatures } = member.spec;
  return (row) => {
    const field = Math.floor(row / width);
    const isOfTable = field < tables.length;
    const isOfNumber = !isOfTable && field < tables.length + numberFeatures.length;
    const place = isOfTable
      ? field
      : isOfNumber
        ? tables.length + at(member.numberPlaces, field - tables.length)
        : tables.length + spec.numberFeatures.length;
    return place * spec.embeddingWidth + member.firstFactor + (row % width);
  };
}

interface AveragedTable {
  readonly name: string;
  readonly rowCount: number;
  readonly share: number;
}

function averagedTable(
  { tableRowWidth: width }: ModelSpec,
  members: readonly PlacedMember[],
  { name, rowCount, share }: AveragedTable,
): EmbeddingTable {
  const values = new Float32Array(rowCount * width);
  const linear = new Float64Array(rowCount);
  for (const { spec, parameters, firstFactor } of members) {
    const table = parameters.tables.get(name);
    if (table?.rowCount !== rowCount) throw new Error(`a member has another table ${name}`);
    const { embeddingWidth } = spec;
    for (let row = 0; row < rowCount; row += 1) {
      const from = row * table.width;
      for (let k = 0; k < embeddingWidth; k += 1)
        values[row * width + firstFactor + k] =
          Math.sqrt(share) * float32At(table.values, from + k);
      linear[row] = at(linear, row) + share * float32At(table.values, from + embeddingWidth);
    }
  }
  for (let row = 0; row < rowCount; row += 1) values[row * width + width - 1] = at(linear, row);
  return { rowCount, width, values };
}

interface Placement {
  /** The row of the average, by that of the member. */
  readonly rowOf: (row: number) => number;
  readonly firstColumn: number;
  /** By the row of the member. */
  readonly factorOf: (row: number) => number;
}

/** Vectors are matrices of one column. */
function columnsOf(shape: readonly number[]): number {
  return shape[1] ?? 1;
}

/** @param columnCount that of the average. */
function addMatrix(
  sums: Float64Array,
  columnCount: number,
  { shape, values }: DenseTensor,
  { rowOf, firstColumn, factorOf }: Placement,
): void {
  const ownColumns = columnsOf(shape);
  for (let row = 0, from = 0; from < values.length; row += 1) {
    const first = rowOf(row) * columnCount + firstColumn;
    const factor = factorOf(row);
    for (let column = 0; column < ownColumns; column += 1, from += 1)
      sums[first + column] = at(sums, first + column) + factor * float32At(values, from);
  }
}
