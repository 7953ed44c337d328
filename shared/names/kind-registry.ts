/**
 * Definitions by kind: those built in and those that plugins add when a process starts. The schema of
 * configs that is built from a registry seals it: what a config may say is fixed from then on.
 */

import { z } from 'zod';
import { errorOf } from '../base/errors.js';

/** The file that defines a kind, by place and content. */
export interface PluginFile {
  readonly path: string;
  /** The digest of the bytes that were loaded. */
  readonly sha256: string;
}

interface Entry<Definition> {
  readonly definition: Definition;
  /** Null for a definition that is built in. */
  readonly plugin: PluginFile | null;
}

export class KindRegistry<Definition> {
  readonly #noun: string;
  readonly #entries: Map<string, Entry<Definition>>;
  #isSealed = false;

  /** @param noun as messages name a definition, such as `method`. */
  constructor(noun: string, builtIn: readonly (readonly [string, Definition])[]) {
    this.#noun = noun;
    this.#entries = new Map(
      builtIn.map(([kind, definition]) => [kind, { definition, plugin: null }]),
    );
  }

  /** @throws QianmoError of kind `usage` if the kind is taken or the registry is sealed. */
  add(kind: string, definition: Definition, plugin: PluginFile): void {
    const present = this.#entries.get(kind);
    if (present?.plugin?.sha256 === plugin.sha256) return;
    if (present !== undefined)
      throw errorOf('usage', `the ${this.#noun} ${kind} is defined twice`, {
        where: plugin.path,
        found: `${kind} is ${present.plugin === null ? 'built in' : `defined by ${present.plugin.path}`}`,
        cure: `give the ${this.#noun} of the plugin another kind`,
      });
    if (this.#isSealed)
      throw errorOf('usage', 'a plugin was loaded too late', {
        where: plugin.path,
        expected: 'plugins before the first config',
        found: `a config that was parsed without the ${this.#noun} ${kind}`,
        cure: 'load every plugin when the process starts',
      });
    this.#entries.set(kind, { definition, plugin });
  }

  /** Refuses further definitions. */
  seal(): this {
    this.#isSealed = true;
    return this;
  }

  all(): readonly Definition[] {
    return [...this.#entries.values()].map(({ definition }) => definition);
  }

  kinds(): readonly string[] {
    return [...this.#entries.keys()];
  }

  /** @throws Error for a kind that no config can have. */
  get(kind: string): Definition {
    const entry = this.#entries.get(kind);
    if (entry === undefined) throw new Error(`no ${this.#noun} ${kind}`);
    return entry.definition;
  }

  /** The plugin that defines the kind; undefined if it is built in or unknown. */
  pluginOf(kind: string): PluginFile | undefined {
    return this.#entries.get(kind)?.plugin ?? undefined;
  }

  /** The plugins that added definitions. */
  plugins(): readonly PluginFile[] {
    return [...this.#entries.values()].flatMap(({ plugin }) => plugin ?? []);
  }
}

/**
 * The field by which a parsed config names the content of a plugin. Whoever writes a config leaves it
 * out; a config that was parsed with another content is refused.
 */
export function pluginDigestSchema(plugin: PluginFile): z.ZodDefault<z.ZodLiteral<string>> {
  return z
    .literal(plugin.sha256, { error: ({ input }) => pluginDiffers(plugin, String(input)) })
    .default(plugin.sha256);
}

export function pluginDiffers({ path, sha256 }: PluginFile, named: string): string {
  return (
    'the config was made with another content of the plugin: ' +
    `${path} has SHA-256 ${sha256}, the config says ${named}`
  );
}
