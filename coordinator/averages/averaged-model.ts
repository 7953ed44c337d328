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
 * `averaged-parameters.ts` has the values. Pure.
 */

import { at } from '../../shared/base/arrays.js';
import { canonicalJson } from '../../shared/base/canonical-json.js';
import type { MethodConfig } from '../../shared/methods/methods.js';
import type { ModelConfig } from '../../shared/models/model-config.js';

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
export interface AveragedForm {
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
