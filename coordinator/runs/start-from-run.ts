/** Reads what a training takes from other runs: meta-parameters (`training.startFrom`), and the record of a run to repeat. */

import { z } from 'zod';
import {
  LATEST_KEY,
  parseLatest,
  parseManifest,
  type CheckpointManifest,
} from '../checkpoints/checkpoint-manifest.js';
import { findLatestCheckpoint, leftOutOf } from '../checkpoints/checkpoint-reader.js';
import { readMetaParameters } from '../checkpoints/saved-parameters.js';
import { grownParameters } from '../checkpoints/grown-parameters.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import type { StartFrom } from '../training/start-from.js';
import { ModelConfigSchema } from '../../shared/models/model-config.js';
import type { ReplayRecord } from '../training/train-options.js';
import { QianmoError } from '../../shared/base/errors.js';
import { describeIssues } from '../../shared/config/config-issues.js';
import { configDifferences, decidingPart } from '../../shared/config/run-config.js';
import { MethodConfigSchema } from '../../shared/methods/methods.js';
import { modelSpecOf } from '../../shared/models/model-spec.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import type { EncodedFeature } from '../../shared/tasks/store-manifest.js';
import { featuresAt } from '../../shared/tasks/store-versions.js';
import type { RunContext } from './call/run-context.js';
import { joinAddress, newValueRowsOf, objectStoreOf } from './run-files.js';

/** Row servers read the tables themselves, piece by piece. */
const READ_ELSEWHERE = { of: {}, load: () => Promise.resolve() };

const ModelAndMethodSchema = z.object({ model: ModelConfigSchema, method: MethodConfigSchema });

/**
 * Null if the config names no run, or if a resume continues from the run's own checkpoint.
 *
 * @throws QianmoError `usage` if there is no checkpoint, or it belongs to another task store.
 */
export async function startFromRun(
  { config, store }: PreparedRun,
  {
    resume,
    areTablesServed = false,
  }: { readonly resume: boolean; readonly areTablesServed?: boolean },
  { sink }: RunContext,
): Promise<StartFrom | null> {
  const { startFrom } = config.training;
  if (startFrom === undefined) return null;
  if (resume) {
    const own = objectStoreOf(config, joinAddress(config.output, 'checkpoints'));
    if ((await own.get(LATEST_KEY)) !== null) return null;
  }
  const address = joinAddress(startFrom, 'checkpoints');
  const objects = objectStoreOf(config, address);
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
  const manifest = await latestManifest(objects, refused);
  // Logs may have been appended to the store since.
  const features = featuresAt(store, manifest.storeDigest);
  if (features === null) throw refused('a run on another task store');
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
  const specOn = (of: EncodedFeature[]) => modelSpecOf(parsed.data.model, of, parsed.data.method);
  const spec = specOn(features);
  const { run: runName, configHash, decidingConfig: deciding, storeDigest } = manifest;
  const identity = { runName, configHash, deciding, storeDigest, spec };
  if (areTablesServed) {
    if (manifest.storeDigest !== store.digest)
      throw refused(
        'a run on the store before logs were appended, whose tables row servers cannot grow',
      );
    const { found } = await findLatestCheckpoint(objects, identity, sink, READ_ELSEWHERE);
    if (found === null) throw refused('no checkpoint');
    const tables = { address, tables: found.manifest.tables };
    return { metaParameters: found.state.metaParameters, tables, where };
  }
  const saved = await readMetaParameters({ ...identity, store: objects, sink });
  if (saved === null) throw refused('no checkpoint');
  const grown = grownParameters(
    saved.metaParameters,
    specOn(store.manifest.features),
    newValueRowsOf(config),
  );
  return { metaParameters: grown, where };
}

/**
 * @throws QianmoError `usage` if there is no checkpoint, or that of another config or task store; `data` if the
 *   record is damaged.
 */
export async function replayOfRun(
  { config, store }: PreparedRun,
  output: string,
): Promise<ReplayRecord> {
  const objects = objectStoreOf(config, joinAddress(output, 'checkpoints'));
  const refused = (found: string): QianmoError =>
    new QianmoError({
      kind: 'usage',
      what: 'this run cannot be repeated',
      where: `--replay ${output}`,
      expected: 'the output of a run with this config, on this task store',
      found,
      cure: 'name the output of a run that differs in run, output, queue and closing only',
    });
  const manifest = await latestManifest(objects, refused);
  if (manifest.storeDigest !== store.digest) throw refused('a run on another task store');
  const differences = configDifferences(manifest.decidingConfig, decidingPart(config));
  if (differences.length > 0)
    throw refused(`\n${differences.map((difference) => `    ${difference}`).join('\n')}`);
  const { outerStep, quarantinedTasks, extendedOuterSteps } = manifest;
  return {
    outerSteps: outerStep,
    leftOut: (await leftOutOf(manifest, objects)) ?? [],
    ...(quarantinedTasks === undefined ? {} : { quarantinedTasks }),
    ...(extendedOuterSteps === undefined ? {} : { extendedOuterSteps }),
  };
}

/** The manifest of the latest checkpoint. */
async function latestManifest(
  objects: ObjectStore,
  refused: (found: string) => QianmoError,
): Promise<CheckpointManifest> {
  const latest = await objects.get(LATEST_KEY);
  if (latest === null) throw refused('no checkpoint');
  const { manifest: key } = parseLatest(latest.bytes, `${objects.address}/${LATEST_KEY}`);
  const object = await objects.get(key);
  if (object === null) throw refused(`no ${key}`);
  return parseManifest(object.bytes, `${objects.address}/${key}`);
}
