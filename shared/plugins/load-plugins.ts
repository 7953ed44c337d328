/**
 * Loads methods and models from files that a user names when a process starts, and from nowhere
 * else: no config, job or message makes a process load code.
 *
 * A plugin is one self-contained file of JavaScript. Its only import is `qianmo/plugin`, which is
 * resolved to this package wherever the file lies. The bytes that are hashed are the bytes that run,
 * so equal digests mean equal code.
 */

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { type QianmoError, errorOf } from '../base/errors.js';
import type { Method } from '../methods/inner-loop/method.js';
import { METHODS } from '../methods/methods.js';
import type { ModelDefinition } from '../models/kinds/model-definition.js';
import { MODEL_OPTIONS } from '../models/kinds/model-options.js';
import { MODELS } from '../models/kinds/models.js';
import type { PluginFile } from '../names/kind-registry.js';

const TOOLKIT = 'qianmo/plugin';
const RESERVED_OPTIONS = ['kind', 'plugin', ...Object.keys(MODEL_OPTIONS)];

/**
 * Loads plugins and adds what they define to the methods and models of this process.
 *
 * @param paths relative to the working directory, or absolute.
 * @throws QianmoError of kind `usage` if a file does not load, defines no method or model, or defines
 *   one whose kind is taken.
 */
export async function loadPlugins(paths: readonly string[]): Promise<void> {
  for (const path of paths) await loadPlugin(resolve(path));
}

/** The plugins of this process, in the order of loading: methods, then models. */
export function loadedPlugins(): readonly PluginFile[] {
  return [...METHODS.plugins(), ...MODELS.plugins()];
}

/** The arguments by which a process gives its plugins to a process that it starts. */
export function pluginArguments(): string[] {
  return loadedPlugins().flatMap(({ path, sha256 }) => ['--plugin', `${sha256}:${path}`]);
}

/** Loads the plugins of a process or thread whose arguments are `pluginArguments` of the one that started it. */
export async function loadPluginsOfArguments(): Promise<void> {
  const options = { plugin: { type: 'string', multiple: true } } as const;
  const { values } = parseArgs({ options, allowPositionals: true });
  await loadGivenPlugins(values.plugin ?? []);
}

/**
 * Loads the plugins that `pluginArguments` of the starting process names.
 *
 * @throws QianmoError of kind `environment` if a file has changed in between.
 */
export async function loadGivenPlugins(given: readonly string[]): Promise<void> {
  for (const text of given) {
    const match = /^([0-9a-f]{64}):(.+)$/s.exec(text);
    if (match === null) await loadPlugins([text]);
    else await loadPlugin(match[2] ?? '', match[1]);
  }
}

async function loadPlugin(path: string, expectedSha256?: string): Promise<void> {
  const bytes = await readFile(path).catch((cause: unknown) => {
    throw notLoaded(path, 'the file cannot be read', 'name a file of JavaScript', cause);
  });
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  if (expectedSha256 !== undefined && sha256 !== expectedSha256)
    throw errorOf('environment', 'a plugin has changed since the process was started', {
      where: path,
      expected: `SHA-256 ${expectedSha256}`,
      found: `SHA-256 ${sha256}`,
      cure: 'restart coordinator and workers with the new file, or restore the old one',
      isOfThisMachine: true,
    });
  const source = withToolkit(bytes.toString('utf8'), path);
  const loaded = await importSource(source, path);
  const { method, model, kind } = definitionOf(loaded, path);
  if (method !== null) METHODS.add(kind, method, { path, sha256 });
  else {
    refuseRedefinedOptions(model, path);
    MODELS.add(kind, model, { path, sha256 });
  }
}

/** Options share one section of the config, so a name has one meaning for all models. */
function refuseRedefinedOptions({ kind, options }: ModelDefinition, path: string): void {
  const others = MODELS.all().filter((other) => other.kind !== kind);
  for (const [name, schema] of Object.entries(options)) {
    const other = others.find((each) => name in each.options && each.options[name] !== schema);
    if (other === undefined && !RESERVED_OPTIONS.includes(name)) continue;
    throw errorOf('usage', `the model ${kind} redefines an option`, {
      where: path,
      found: `${name}, an option of ${other?.kind ?? 'every model'}`,
      cure: 'give the option another name, or take the schema of FIELD_OPTIONS',
    });
  }
}

/** The source with the toolkit's import resolved; refuses all other imports. */
function withToolkit(source: string, path: string): string {
  return source.replace(
    /\b(from\s*|import\s*\(?\s*)(['"])([^'"\n]+)\2/g,
    (found, before: string, quote: string, name: string) => {
      if (name === TOOLKIT) return `${before}${quote}${toolkitUrl()}${quote}`;
      throw notLoaded(
        path,
        `it has the import ${found.trim()}`,
        `import nothing but ${TOOLKIT}; bundle other code into the file`,
      );
    },
  );
}

/** The compiled toolkit, also when this file runs as TypeScript source. */
function toolkitUrl(): string {
  const here = import.meta.url;
  const relative = here.endsWith('.ts') ? '../../dist/shared/plugins/toolkit.js' : './toolkit.js';
  return new URL(relative, here).href;
}

async function importSource(source: string, path: string): Promise<unknown> {
  // Traces name the file in place of the data URL.
  const named = `${source}\n//# sourceURL=${pathToFileURL(path).href}\n`;
  const url = `data:text/javascript;base64,${Buffer.from(named).toString('base64')}`;
  try {
    return await import(/* @vite-ignore */ url);
  } catch (cause) {
    const reason = cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause);
    throw notLoaded(path, reason, 'correct the file; infra/docs/plugins.md has a whole one', cause);
  }
}

function notLoaded(path: string, found: string, cure: string, cause?: unknown): QianmoError {
  return errorOf('usage', 'a plugin does not load', {
    where: path,
    found,
    cure,
    ...(cause === undefined ? {} : { cause }),
  });
}

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
  misfitsOf: aFunction.optional(),
  weighsPairs: aFunction.optional(),
  terms: aFunction.optional(),
  blocks: aFunction,
  variables: aFunction,
  forward: aFunction,
});

/**
 * @param loaded the namespace of the plugin's module.
 * @throws QianmoError of kind `usage`
 */
function definitionOf(loaded: unknown, path: string): PluginDefinition {
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
  return errorOf('usage', 'a plugin defines neither a method nor a model', {
    where: path,
    expected: 'export default defineMethod({ ... }) or export default defineModel({ ... })',
    found,
    cure: 'correct its default export; infra/docs/plugins.md describes both',
  });
}
