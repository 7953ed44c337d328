/** Checks that this process has the plugins that a job names, before the job is parsed. */

import { z } from 'zod';
import { isRecord } from '../base/canonical-json.js';
import type { KindRegistry } from '../names/kind-registry.js';
import { METHODS } from '../methods/methods.js';
import { MODELS } from '../models/kinds/models.js';

const NamedSchema = z.object({ kind: z.string(), plugin: z.string() });
const ModelOfJobSchema = z.object({ model: NamedSchema });
const MethodOfJobSchema = z.object({ work: z.object({ method: NamedSchema }) });

/**
 * Why this process cannot compute a job: it names a plugin that was not loaded here, or was loaded
 * with another content. Null if it names none, or those that are here.
 */
export function missingPluginOf(job: unknown): string | null {
  if (!isRecord(job) || !(namesPlugin(job['model']) || namesPluginBelow(job['work']))) return null;
  const method = MethodOfJobSchema.safeParse(job);
  const model = ModelOfJobSchema.safeParse(job);
  return (
    (method.success ? missing('method', METHODS, method.data.work.method) : null) ??
    (model.success ? missing('model', MODELS, model.data.model) : null)
  );
}

/** A schema that fails costs more than the rest of a job's checks, and few jobs have plugins. */
function namesPlugin(named: unknown): boolean {
  return isRecord(named) && 'plugin' in named;
}

function namesPluginBelow(work: unknown): boolean {
  return isRecord(work) && namesPlugin(work['method']);
}

function missing(
  noun: string,
  registry: KindRegistry<unknown>,
  { kind, plugin: sha256 }: z.infer<typeof NamedSchema>,
): string | null {
  const here = registry.pluginOf(kind);
  if (here?.sha256 === sha256) return null;
  const found =
    here === undefined
      ? 'this worker was started without it'
      : `this worker has another content of it, SHA-256 ${here.sha256}`;
  return (
    `the job needs the plugin that defines the ${noun} ${kind}, SHA-256 ${sha256}, and ${found}: ` +
    'start coordinator and workers with --plugin and the same file'
  );
}
