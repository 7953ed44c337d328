/** Checks that a plugin exports a method or a model. Types cannot: a plugin is JavaScript. */

import { z } from 'zod';
import { QianmoError } from '../base/errors.js';
import type { Method } from '../methods/inner-loop/method.js';
import type { ModelDefinition } from '../models/kinds/model-definition.js';

type PluginDefinition =
  | { readonly kind: string; readonly method: Method<z.ZodObject>; readonly model: null }
  | { readonly kind: string; readonly method: null; readonly model: ModelDefinition };

const KIND = /^[a-z0-9][a-z0-9+-]{0,62}$/;

const aFunction = z.custom<unknown>((value) => typeof value === 'function', 'expected a function');
const kindName = z.string().regex(KIND, 'expected lower-case letters, digits, + and -');

/** A strict object: its unknown keys are faults, as those of every section of a config. */
const settings = z
  .custom<z.ZodObject>((value) => value instanceof z.ZodObject, 'expected z.strictObject({ ... })')
  .refine(({ def }) => def.catchall instanceof z.ZodNever, 'expected z.strictObject, not z.object')
  .refine(
    ({ shape: { kind } }) =>
      kind instanceof z.ZodLiteral && kind.values.size === 1 && KIND.test(String(kind.value)),
    "expected a field kind: z.literal('my-method')",
  );

const MethodShape = z.looseObject({
  settings,
  planOf: aFunction,
  misfitsOf: aFunction.optional(),
});

const ModelShape = z.looseObject({
  kind: kindName,
  options: z.record(
    z.string(),
    z.custom(
      (value) => value instanceof z.ZodOptional,
      'expected a schema that ends in .optional()',
    ),
  ),
  linear: z.enum(['always', 'never', 'by-default', 'on-demand']),
  hasFactors: z.boolean(),
  hasHiddenLayers: z.boolean(),
  linearAdvice: z.string().optional(),
  factorisedFieldsMin: aFunction.optional(),
  misfitsOf: aFunction.optional(),
  blocks: aFunction,
  variables: aFunction,
  forward: aFunction,
});

/**
 * @param loaded the namespace of the plugin's module.
 * @throws QianmoError of kind `usage`
 */
export function definitionOf(loaded: unknown, path: string): PluginDefinition {
  const exported = z.object({ default: z.looseObject({}) }).safeParse(loaded);
  if (!exported.success) throw misshapen(path, 'no object as default export');
  const definition = exported.data.default;
  if ('planOf' in definition) {
    const parsed = MethodShape.safeParse(definition);
    if (!parsed.success) throw misshapen(path, faultsOf('method', parsed.error));
    const { kind } = parsed.data.settings.shape;
    // The schema above checks each part that these types have.
    const method = definition as unknown as Method<z.ZodObject>;
    return { kind: String((kind as z.ZodLiteral).value), method, model: null };
  }
  if ('forward' in definition) {
    const parsed = ModelShape.safeParse(definition);
    if (!parsed.success) throw misshapen(path, faultsOf('model', parsed.error));
    const model = definition as unknown as ModelDefinition;
    return { kind: parsed.data.kind, method: null, model };
  }
  const keys = Object.keys(definition);
  throw misshapen(
    path,
    keys.length === 0 ? 'an empty object' : `an object with ${keys.join(', ')}`,
  );
}

function faultsOf(noun: string, error: z.ZodError): string {
  const faults = error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
  return `a ${noun} with faults: ${faults.join('; ')}`;
}

function misshapen(path: string, found: string): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: 'a plugin defines neither a method nor a model',
    where: path,
    expected: 'export default defineMethod({ ... }) or export default defineModel({ ... })',
    found,
    cure: 'correct its default export; infra/docs/plugins.md describes both',
  });
}
