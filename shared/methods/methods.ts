/** The list of methods: a new one is a file beside this and a line here. */

import { z } from 'zod';
import { KindRegistry, pluginDigestSchema } from '../names/kind-registry.js';
import { fomaml } from './fomaml.js';
import { globalMethod } from './global.js';
import { metaEmbedding } from './meta-embedding.js';
import { pamlGate } from './paml-gate.js';
import { posterior } from './posterior.js';
import type { Variable } from '../tensors/named-tensors.js';
import {
  adapts,
  type Method,
  type MethodPlan,
  type ModelSettings,
  type ModelShape,
  type SettingMisfit,
} from './inner-loop/method.js';

const BUILT_IN = [fomaml, metaEmbedding, pamlGate, posterior, globalMethod] as const;

type SettingsOf<Listed extends readonly { readonly settings: z.ZodObject }[]> = {
  [Place in keyof Listed]: Listed[Place]['settings'];
};

/** The methods that a process knows. */
export const METHODS = new KindRegistry<Method<z.ZodObject>>(
  'method',
  BUILT_IN.map((method) => [method.settings.shape.kind.value, method]),
);

/**
 * The section `method` of a run config. Its first use builds it, after plugins were loaded. Settings
 * of a plugin's method pass as if they were of a built-in one: no reader but the method itself knows
 * more of settings than their kind.
 */
export const MethodConfigSchema = z.lazy(() =>
  z.discriminatedUnion(
    'kind',
    // `map` forgets which place holds which schema.
    METHODS.seal().all().map(settingsOf) as unknown as SettingsOf<typeof BUILT_IN>,
  ),
);

export type MethodConfig = z.infer<typeof MethodConfigSchema>;

/** @returns its settings; those of a plugin's method name the plugin's content. */
function settingsOf({ settings }: Method<z.ZodObject>): z.ZodObject {
  const plugin = METHODS.pluginOf(kindOf(settings));
  return plugin === undefined
    ? settings
    : settings.safeExtend({ plugin: pluginDigestSchema(plugin) });
}

function kindOf({ shape: { kind } }: z.ZodObject): string {
  if (!(kind instanceof z.ZodLiteral))
    throw new Error('the settings of a method have a literal kind');
  return String(kind.value);
}

/** The variables that the method learns in addition to the model's. */
export function methodVariablesOf(config: MethodConfig, model: ModelShape): readonly Variable[] {
  return methodPlanOf(config).variables?.(model) ?? [];
}

export function methodPlanOf(config: MethodConfig): MethodPlan {
  return methodOf(config).planOf(config);
}

type AdaptationWords = NonNullable<Method<z.ZodObject>['adaptationWords']>;

const OF_GRADIENTS: AdaptationWords = { rate: 'inner rate', step: 'inner step' };

/** @param kind null for gradient steps; one that this process does not know, as of a plugin, counts as such */
export function adaptationWordsOf(kind: string | null): AdaptationWords {
  const own = kind !== null && METHODS.kinds().includes(kind) ? METHODS.get(kind) : null;
  return own?.adaptationWords ?? OF_GRADIENTS;
}

/** The settings of a method that do not fit a model. */
export function methodMisfits(
  config: MethodConfig,
  model: ModelSettings,
): readonly SettingMisfit[] {
  const own = methodOf(config).misfitsOf?.(config, model) ?? [];
  return own.length > 0 || adaptsSomething(config, model) ? own : [NOTHING_ADAPTS];
}

const NOTHING_ADAPTS: SettingMisfit = {
  path: ['kind'],
  message: 'nothing adapts: name blocks in model.personal, or take global, which adapts nothing',
};

/** True as well of methods that are not about adapting a model's blocks. */
function adaptsSomething(config: MethodConfig, { personal }: ModelSettings): boolean {
  const plan = methodPlanOf(config);
  if (!adapts(plan) || plan.learns === 'method') return true;
  return personal.length > 0;
}

function methodOf({ kind }: MethodConfig): Method<z.ZodObject> {
  return METHODS.get(kind);
}
