/**
 * The section `model` of the average of several models: one model whose output is the mean of theirs. A sum of DeepFMs and
 * logistic regressions over the same features is a DeepFM again, so that it is stored, evaluated, exported and
 * served like any other:
 *
 *   embeddings, hidden layers    side by side; a layer's weights are those of the members in blocks, and 0 elsewhere
 *   linear weights and biases    means of the members'
 *   support inputs               those of all members; one that lacks an input has weights of 0 for it
 *
 * `averaged-parameters.ts` has the values. Pure.
 */

import { at } from '../../shared/base/arrays.js';
import { canonicalJson } from '../../shared/base/canonical-json.js';
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

/** Null if no single model has the mean of these outputs. */
export function averagedModel(models: readonly ModelConfig[]): ModelConfig | null {
  const towers = models.filter(({ kind }) => kind === 'deepfm');
  const [tower] = towers;
  const depth = tower?.hiddenWidths.length ?? 0;
  const isSummed =
    models.length > 0 &&
    models.every(isOfPlainForm) &&
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
    personal: [],
    ...(supportInputs === undefined ? {} : { supportInputs }),
  };
}

function isOfPlainForm(model: ModelConfig): boolean {
  return (
    SUMMED_KINDS.includes(model.kind) &&
    !model.adgroupEmbedding &&
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
