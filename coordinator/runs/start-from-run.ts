/** Reads the meta-parameters of the run that `training.startFrom` names. */

import { z } from 'zod';
import { LATEST_KEY, parseLatest, parseManifest } from '../checkpoints/checkpoint-manifest.js';
import { readMetaParameters } from '../checkpoints/checkpoint-writer.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import type { StartFrom } from '../training/start-from.js';
import { ModelConfigSchema } from '../../shared/models/model-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import { describeIssues } from '../../shared/config/config-issues.js';
import { MethodConfigSchema } from '../../shared/methods/methods.js';
import { modelSpecOf } from '../../shared/models/model-spec.js';
import type { RunContext } from './call/run-context.js';
import { joinAddress, objectStoreOf } from './run-files.js';

const ModelAndMethodSchema = z.object({ model: ModelConfigSchema, method: MethodConfigSchema });

/**
 * Null if the config names no run, or if a resume continues from the run's own checkpoint.
 *
 * @throws QianmoError `usage` if there is no checkpoint, or it belongs to another task store.
 */
export async function startFromRun(
  { config, store }: PreparedRun,
  { resume }: { readonly resume: boolean },
  { sink }: RunContext,
): Promise<StartFrom | null> {
  const { startFrom } = config.training;
  if (startFrom === undefined) return null;
  if (resume) {
    const own = objectStoreOf(config, joinAddress(config.output, 'checkpoints'));
    if ((await own.get(LATEST_KEY)) !== null) return null;
  }
  const objects = objectStoreOf(config, joinAddress(startFrom, 'checkpoints'));
  const where = `training.startFrom: ${startFrom}`;
  const refused = (found: string): QianmoError =>
    new QianmoError({
      kind: 'usage',
      what: 'training cannot start from this run',
      where,
      expected: 'the output of a run that was trained on the same task store',
      found,
      cure: 'train that run first, with the same data section, and name its output',
    });
  const latest = await objects.get(LATEST_KEY);
  if (latest === null) throw refused('no checkpoint');
  const { manifest: key } = parseLatest(latest.bytes, `${objects.address}/${LATEST_KEY}`);
  const object = await objects.get(key);
  if (object === null) throw refused(`no ${key}`);
  const manifest = parseManifest(object.bytes, `${objects.address}/${key}`);
  if (manifest.storeDigest !== store.digest) throw refused('a run on another task store');
  const { model, method } = manifest.decidingConfig;
  const parsed = ModelAndMethodSchema.safeParse({ model, method });
  if (!parsed.success) {
    const [fault = 'a config that this version cannot read'] = describeIssues(
      parsed.error.issues,
      { model, method },
      ModelAndMethodSchema,
    );
    throw refused(fault);
  }
  const spec = modelSpecOf(parsed.data.model, store.manifest.features, parsed.data.method);
  const saved = await readMetaParameters({
    store: objects,
    runName: manifest.run,
    configHash: manifest.configHash,
    deciding: manifest.decidingConfig,
    storeDigest: manifest.storeDigest,
    spec,
    sink,
  });
  if (saved === null) throw refused('no checkpoint');
  return { metaParameters: saved.metaParameters, where };
}
