/**
 * The sections `model` and `method` of the average of several models: one model whose output is the mean of theirs. A sum of DeepFMs and
 * logistic regressions over the same features is a DeepFM again, so that it is stored, evaluated, exported and
 * served like any other:
 *
 *   embeddings, hidden layers    side by side; a layer's weights are those of the members in blocks, and 0 elsewhere
 *   linear weights and biases    means of the members'
 *   support inputs               those of all members; one that lacks an input has weights of 0 for it
 *   posterior blocks             those of the one member that has them, all times w; every adgroup has the same weights on the
 *                                units of the others
 *
 * With w = 1 / members, an embedding of the average has the members' embeddings side by side, each times sqrt(w), so that
 * the products of fields are w times those of the members; the tower's first weights are divided by sqrt(w), and its last
 * multiplied by w. Pure.
 */

import { at, float32At } from '../../shared/base/arrays.js';
import { canonicalJson } from '../../shared/base/canonical-json.js';
import { LOG_DEVIATION_SCALE } from '../../shared/methods/inner-loop/inner-loop-settings.js';
import { type MethodConfig, methodPlanOf } from '../../shared/methods/methods.js';
import { DEVIATION, MEAN_WEIGHT, TRUNK_START } from '../../shared/methods/posterior.js';
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
  const adapted = members.find(({ method }) => hasPosterior(method));
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
    adgroupEmbedding: false,
    embeddingDeviation: first.embeddingDeviation,
    personal: adapted?.model.personal ?? [],
    ...(supportInputs === undefined ? {} : { supportInputs }),
  };
}

/** Blocks that gradient steps adapt are parts of one model, and have no mean. */
function isOfPlainForm({ model, method }: AveragedForm): boolean {
  return (
    (hasPosterior(method) || method.kind === 'global') &&
    !model.adgroupEmbedding &&
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

/** Null if several members have posterior blocks. */
function averagedMethod(methods: readonly MethodConfig[]): MethodConfig | null {
  const own = methods.filter(hasPosterior);
  const hasCrowds = own.some((method) => methodPlanOf(method).crowd !== undefined);
  return own.length > 1 || hasCrowds ? null : (own[0] ?? methods[0] ?? null);
}

function hasPosterior({ kind }: MethodConfig): boolean {
  return kind === 'posterior';
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
    const own = placed.filter(({ parameters }) => parameters.dense.has(name));
    const [only] = own;
    if (only !== undefined && ownedBlock(name) !== null)
      return [name, { shape, values: ofPosterior(spec, name, only, share) }];
    const sums = new Float64Array(elementCountOf(shape));
    for (const member of own) addVariable(sums, { name, shape }, { spec, member, share });
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
  return members.map((member) => {
    const { embeddingWidth, options, numberFeatures } = member.spec;
    const numberPlaces = numberFeatures.map((name) => {
      const place = spec.numberFeatures.indexOf(name);
      if (place < 0) throw new Error(`the average has no number feature ${name}`);
      return place;
    });
    const placed = { ...member, firstFactor, firstUnits, numberPlaces };
    firstFactor += embeddingWidth;
    firstUnits = firstUnits.map((first, layer) => first + (options.hiddenWidths[layer] ?? 0));
    return placed;
  });
}

interface MemberShare {
  readonly spec: ModelSpec;
  readonly member: PlacedMember;
  /** One over all members. */
  readonly share: number;
}

function addVariable(
  sums: Float64Array,
  { name, shape }: Pick<Variable, 'name' | 'shape'>,
  part: MemberShare,
): void {
  const own = part.member.parameters.dense.get(name);
  if (own === undefined) throw new Error(`the member has no variable ${name}`);
  addMatrix(sums, columnsOf(shape), own, placementOf(name, part));
}

/** The block whose prior a variable describes; null for other variables. */
function ownedBlock(name: string): string | null {
  const prefix = [DEVIATION, MEAN_WEIGHT, TRUNK_START].find((start) => name.startsWith(start));
  return prefix === undefined ? null : name.slice(prefix.length);
}

/** The prior deviation of weights that are the same in every adgroup: as good as none. */
const NO_DEVIATION = 1e-3;

/**
 * A variable of the posterior blocks of a member, with the weights of all members' units beside its own. Prior means read the
 * linear weights of the average.
 */
function ofPosterior(
  spec: ModelSpec,
  name: string,
  member: PlacedMember,
  share: number,
): Float32Array {
  const block = ownedBlock(name);
  const values = member.parameters.dense.get(name)?.values ?? new Float32Array();
  const sizeIn = ({ variables }: ModelSpec): number =>
    elementCountOf(variables.find((variable) => variable.name === block)?.shape ?? []);
  const [size, ownSize] = [sizeIn(spec), sizeIn(member.spec)];
  const first = block === 'output.weight' ? (member.firstUnits.at(-1) ?? 0) : 0;
  // An average trains nothing.
  if (name.startsWith(TRUNK_START)) return new Float32Array(size);
  if (name.startsWith(DEVIATION)) {
    const target = new Float32Array(size).fill(Math.log(NO_DEVIATION) / LOG_DEVIATION_SCALE);
    for (const [place, value] of values.entries())
      target[first + place] = value + Math.log(share) / LOG_DEVIATION_SCALE;
    return target;
  }
  const { embeddingWidth, tableRowWidth, tables, numberFeatures } = member.spec;
  const fieldCount = spec.tables.length + spec.numberFeatures.length;
  const target = new Float32Array(fieldCount * spec.tableRowWidth * size);
  for (let row = 0; row < (tables.length + numberFeatures.length) * tableRowWidth; row += 1) {
    const place = fieldPlaceOf(member, Math.floor(row / tableRowWidth)) * spec.tableRowWidth;
    const column = row % tableRowWidth;
    const isLinear = column === embeddingWidth;
    const row0 = place + (isLinear ? spec.embeddingWidth : member.firstFactor + column);
    for (let own = 0; own < ownSize; own += 1)
      target[row0 * size + first + own] =
        (isLinear ? share : Math.sqrt(share)) * float32At(values, row * ownSize + own);
  }
  return target;
}

const LAYER = /^layer(\d+)\.(weight|bias)$/;

function placementOf(name: string, part: MemberShare): Placement {
  const { spec, member, share } = part;
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
    case 'output.weight':
      return placement((row) => at(firstUnits, lastLayer) + row, share);
    case 'bias':
      return placement((row) => row, share);
    default:
      throw new Error(`no part of an average is named ${name}`);
  }
}

function placement(rowOf: (row: number) => number, factor: number, firstColumn = 0): Placement {
  return { rowOf, firstColumn, factor };
}

/** The place of a member's field in the average: categories and bags, then numbers. */
function fieldPlaceOf({ spec: { tables }, numberPlaces }: PlacedMember, field: number): number {
  const number = field - tables.length;
  return number < 0 ? field : tables.length + at(numberPlaces, number);
}

/** Rows of weights that read embeddings of fields. */
function inputRowOf(spec: ModelSpec, member: PlacedMember): (row: number) => number {
  const { embeddingWidth: width } = member.spec;
  return (row) =>
    fieldPlaceOf(member, Math.floor(row / width)) * spec.embeddingWidth +
    member.firstFactor +
    (row % width);
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
  readonly factor: number;
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
  { rowOf, firstColumn, factor }: Placement,
): void {
  const ownColumns = columnsOf(shape);
  for (let row = 0, from = 0; from < values.length; row += 1) {
    const first = rowOf(row) * columnCount + firstColumn;
    for (let column = 0; column < ownColumns; column += 1, from += 1)
      sums[first + column] = at(sums, first + column) + factor * float32At(values, from);
  }
}
