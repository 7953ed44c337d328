/** The `model` section of a run config: a kind, its options, and their cross-checks. */

import { z } from 'zod';
import { pluginDiffers } from '../names/kind-registry.js';
import type { OptionMisfit } from './kinds/model-definition.js';
import { MODEL_OPTIONS, PERSONAL_TEXT } from './kinds/model-options.js';
import { MODELS, ownOptions } from './kinds/models.js';
import { supportInputNames } from './kinds/support-inputs.js';

const PersonalPresetSchema = z.enum(['anil', 'boil', 'all']);
type PersonalPreset = z.infer<typeof PersonalPresetSchema>;

/**
 * @param blocks the model's blocks besides bias and embeddings.
 * @returns the blocks of the preset, or null if the model has no such block.
 */
function presetBlocks(
  preset: PersonalPreset,
  blocks: readonly string[],
  hasAdgroupEmbedding: boolean,
): string[] | null {
  const embedding = hasAdgroupEmbedding ? ['adgroupEmbedding'] : [];
  const body = blocks.filter((block) => block !== 'output');
  switch (preset) {
    case 'anil':
      return blocks.includes('output') ? ['bias', 'output'] : null;
    case 'boil':
      return body.length > 0 ? [...embedding, ...body] : null;
    case 'all':
      return ['bias', ...embedding, ...blocks];
  }
}

const PersonalSchema = z.union([z.array(z.string()), PersonalPresetSchema], {
  error: 'expected a list of blocks, or one of anil, boil, all',
});

/** The section `model` of a run config. Its first use builds it, after plugins were loaded. */
export const ModelConfigSchema = z.lazy(() =>
  z
    .strictObject({
      kind: z.enum(MODELS.seal().kinds()).default('deepfm').describe('The model.'),
      ...MODEL_OPTIONS,
      ...ownOptions(),
      personal: PersonalSchema.default(['bias']).describe(PERSONAL_TEXT),
      plugin: z
        .string()
        .optional()
        .describe(
          'SHA-256 of the plugin that defines the model. qianmo fills it in; leave it out.',
        ),
    })
    .superRefine(({ kind, plugin }, context) => {
      const defining = MODELS.pluginOf(kind);
      if (plugin === undefined || plugin === defining?.sha256) return;
      const message =
        defining === undefined
          ? `${kind} is built in: leave plugin out`
          : pluginDiffers(defining, plugin);
      context.addIssue({ code: 'custom', path: ['plugin'], message });
    })
    .transform(({ personal, plugin: _named, ...options }, context) => {
      const plugin = MODELS.pluginOf(options.kind)?.sha256;
      const named = { ...options, ...(plugin === undefined ? {} : { plugin }) };
      if (typeof personal !== 'string') return { ...named, personal };
      const blocks = MODELS.get(options.kind).blocks({ ...options, personal: [] });
      const chosen = presetBlocks(personal, blocks, options.adgroupEmbedding);
      if (chosen !== null) return { ...named, personal: chosen };
      context.addIssue({
        code: 'custom',
        path: ['personal'],
        message: `${options.kind} has no ${personal === 'anil' ? 'output layer' : 'hidden layer'} for ${personal} to adapt`,
      });
      return z.NEVER;
    })
    .superRefine((model, context) => {
      for (const { path, message } of misfitsOf(model))
        context.addIssue({ code: 'custom', path: [...path], message });
    }),
);

export type ModelConfig = z.infer<typeof ModelConfigSchema>;

function misfitsOf(model: ModelConfig): OptionMisfit[] {
  return [...optionMisfits(model), ...linearMisfits(model), ...personalMisfits(model)];
}

function optionMisfits(model: ModelConfig): OptionMisfit[] {
  const definition = MODELS.get(model.kind);
  const { kind, options, hasFactors, hasHiddenLayers } = definition;
  const misfits: OptionMisfit[] = Object.entries(model)
    .filter(([option, value]) => value !== undefined && isOwnOption(option) && !(option in options))
    .map(([option]) => ({
      path: [option],
      message: `${kind} has no such option; it is one of ${kindsWith(option).join(', ')}`,
    }));
  if (model.generated !== undefined && definition.weighsPairs?.(model) === true)
    misfits.push({
      path: ['generated'],
      message:
        `${kind} has weights for pairs of fields, and a generated embedding changes their order: ` +
        `${'interactions' in options ? 'set interactions: by-field, or ' : ''}take another model`,
    });
  if (!hasHiddenLayers && model.hiddenWidths.length > 0)
    misfits.push({
      path: ['hiddenWidths'],
      message: `${kind} has no hidden layers: set hiddenWidths: []`,
    });
  if (!hasFactors && model.adgroupEmbedding)
    misfits.push({
      path: ['adgroupEmbedding'],
      message: `${kind} has no embeddings: what adapts to an adgroup is its bias`,
    });
  return [...misfits, ...(MODELS.get(kind).misfitsOf?.(model) ?? [])];
}

function isOwnOption(option: string): boolean {
  return kindsWith(option).length > 0;
}

function kindsWith(option: string): string[] {
  return MODELS.all()
    .filter(({ options }) => option in options)
    .map(({ kind }) => kind);
}

function linearMisfits({ kind, linear }: ModelConfig): OptionMisfit[] {
  const { linear: rule, linearAdvice } = MODELS.get(kind);
  const isRefused =
    (rule === 'always' && linear === false) || (rule === 'never' && linear === true);
  const message = linearAdvice ?? `${kind} fixes whether it has linear weights`;
  return isRefused ? [{ path: ['linear'], message }] : [];
}

function personalMisfits(model: ModelConfig): OptionMisfit[] {
  const known = [
    'bias',
    'numbers',
    ...(model.adgroupEmbedding ? ['adgroupEmbedding'] : []),
    ...MODELS.get(model.kind).blocks(model),
  ];
  const misfits: OptionMisfit[] = [...model.personal.entries()]
    .filter(([index, block]) => !known.includes(block) || model.personal.indexOf(block) !== index)
    .map(([index]) => ({
      path: ['personal', index],
      message: `expected each of ${known.join(', ')} at most once`,
    }));
  if (model.adgroupEmbedding && !model.personal.includes('adgroupEmbedding'))
    misfits.push({
      path: ['personal'],
      message: 'adgroupEmbedding must be personal: in the trunk it would be a second bias',
    });
  if (model.supportInputs !== undefined && model.personal.includes('numbers'))
    misfits.push({
      path: ['personal', model.personal.indexOf('numbers')],
      message:
        'numbers cannot be personal with supportInputs: within one support set, what the other ' +
        'rows have shown gives away the label that is left out, and inner steps would learn that',
    });
  return misfits;
}

/** A feature as the `data` section declares it; only numbers have a `scale`. */
interface DeclaredFeature {
  readonly name: string;
  readonly kind: 'category' | 'bag' | 'number';
  readonly scale?: string;
}

/** Options about features that do not match the features of the data section. */
export function featureMisfits(
  model: ModelConfig,
  features: readonly DeclaredFeature[],
): OptionMisfit[] {
  const names = features.map(({ name }) => name);
  const isCategory = (f: DeclaredFeature): boolean =>
    f.kind === 'category' || (f.kind === 'number' && f.scale === 'log-bucket');
  const tableNames = tableNamesOf(features);
  const supportInputs = supportInputNames(model.supportInputs);
  const fields = [
    ...names,
    ...supportInputs,
    ...(model.adgroupEmbedding ? ['adgroupEmbedding'] : []),
  ];
  const misfits: OptionMisfit[] = [
    ...unknownNames(
      ['generated'],
      model.generated === undefined ? [] : [model.generated],
      features.filter(isCategory).map(({ name }) => name),
    ).map(({ message }) => ({ path: ['generated'], message })),
    ...unknownNames(
      ['supportInputs', 'targetEncodings'],
      model.supportInputs?.targetEncodings ?? [],
      features.filter(isCategory).map(({ name }) => name),
    ),
    ...supportInputs
      .filter((name) => names.includes(name))
      .map((name) => ({
        path: ['supportInputs'],
        message: `gives an input the name ${name}, which is that of a feature: rename the feature`,
      })),
    ...unknownNames(['factorisedFields'], model.factorisedFields ?? [], fields),
    ...unknownNames(['wideFields'], model.wideFields ?? [], tableNames),
    ...Object.keys(model.initialisation?.tables ?? {})
      .filter((name) => !tableNames.includes(name))
      .map((name) => ({
        path: ['initialisation', 'tables', name],
        message: `there is no feature of this name with a table; it is one of ${tableNames.join(', ')}`,
      })),
  ];
  const wideCount = new Set(model.wideFields).size;
  if (wideCount > 0 && wideCount >= fields.length)
    misfits.push({ path: ['wideFields'], message: 'leaves no field to the tower' });
  const numbersPlace = model.personal.indexOf('numbers');
  if (numbersPlace >= 0 && tableNames.length === features.length && supportInputs.length === 0)
    misfits.push({
      path: ['personal', numbersPlace],
      message: 'there are no number features to adapt the weights of',
    });
  const weighsPairs = MODELS.get(model.kind).weighsPairs?.(model) === true;
  const needed = weighsPairs ? 2 : model.factorisedFields === undefined ? 0 : 1;
  const count = model.factorisedFields?.length ?? fields.length;
  if (count < needed)
    misfits.push({
      path: model.factorisedFields === undefined ? ['kind'] : ['factorisedFields'],
      message: `${model.kind} multiplies fields: expected at least ${needed} of them, found ${count}`,
    });
  return misfits;
}

function unknownNames(
  path: readonly string[],
  found: readonly string[],
  known: readonly string[],
): OptionMisfit[] {
  return [...found.entries()]
    .filter(([index, name]) => !known.includes(name) || found.indexOf(name) !== index)
    .map(([index]) => ({
      path: [...path, index],
      message: `expected each of ${known.join(', ')} at most once`,
    }));
}

/** The declared features that have ids, hence a table. */
export function tableNamesOf(features: readonly DeclaredFeature[]): string[] {
  return (
    features
      // A number in buckets is a category.
      .filter(({ kind, scale }) => kind !== 'number' || scale === 'log-bucket')
      .map(({ name }) => name)
  );
}

export function hasHiddenLayers({ kind, hiddenWidths }: ModelConfig): boolean {
  return MODELS.get(kind).hasHiddenLayers && hiddenWidths.length > 0;
}
