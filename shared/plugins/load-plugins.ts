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
import { QianmoError } from '../base/errors.js';
import type { PluginFile } from '../names/kind-registry.js';
import { METHODS } from '../methods/methods.js';
import type { ModelDefinition } from '../models/kinds/model-definition.js';
import { MODEL_OPTIONS } from '../models/kinds/model-options.js';
import { MODELS } from '../models/kinds/models.js';
import { definitionOf } from './plugin-definition.js';

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
    throw new QianmoError({
      kind: 'environment',
      what: 'a plugin has changed since the process was started',
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
    throw new QianmoError({
      kind: 'usage',
      what: `the model ${kind} redefines an option`,
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
  return new QianmoError({
    kind: 'usage',
    what: 'a plugin does not load',
    where: path,
    found,
    cure,
    ...(cause === undefined ? {} : { cause }),
  });
}
