/** The run that a checkpoint must belong to, and why it may not be used. */

import { isRecord } from '../../shared/base/canonical-json.js';
import { configDifferences } from '../../shared/config/run-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { CheckpointManifest } from './checkpoint-manifest.js';

/** The run, config, store and model that a usable checkpoint was made from. */
export interface CheckpointIdentity {
  readonly runName: string;
  readonly configHash: string;
  /** The part of the config that the hash covers. */
  readonly deciding: Record<string, unknown>;
  /** The digest of the task store. */
  readonly storeDigest: string;
  readonly spec: ModelSpec;
  /** Absent where a checkpoint of the store as it was before logs were appended is of no use. */
  readonly growth?: StoreGrowth;
}

/** The task store as it was before logs were appended to it. */
export interface StoreGrowth {
  /** The model on the store when it had this digest; null if it never had. */
  specAt(storeDigest: string): ModelSpec | null;
}

/** The reason why this run must not use a checkpoint; null if it may. */
export function refusalOf(
  manifest: CheckpointManifest,
  identity: CheckpointIdentity,
  where: string,
): QianmoError | null {
  const refuse = (what: string, expected: string, found: string, cure: string): QianmoError =>
    new QianmoError({ kind: 'usage', what, where, expected, found, cure });
  if (manifest.run !== identity.runName)
    return refuse(
      'this output contains the checkpoints of another run',
      `checkpoints of run ${identity.runName}`,
      `checkpoints of run ${manifest.run}`,
      'choose another output for this run, or start again here with --fresh',
    );
  if (manifest.configHash !== identity.configHash && !isExtendedTo(identity, manifest)) {
    const differences = configDifferences(manifest.decidingConfig, identity.deciding);
    return refuse(
      'the checkpoint was made with another config',
      `the config of the checkpoint, ${manifest.configHash.slice(0, 12)}`,
      `${identity.configHash.slice(0, 12)}, which differs in (checkpoint -> now)\n${differences
        .map((difference) => `    ${difference}`)
        .join('\n')}`,
      differences.some((difference) => /\.plugin: /.test(difference))
        ? 'give --plugin the file that the run started with, choose another output, or start again here with --fresh'
        : 'restore these fields, choose another output, or start again here with --fresh',
    );
  }
  if (manifest.storeDigest === identity.storeDigest) return null;
  const { growth } = identity;
  if (growth === undefined || growth.specAt(manifest.storeDigest) === null)
    return refuse(
      'the checkpoint was made from another task store',
      `a store with digest ${manifest.storeDigest}${growth === undefined ? '' : ', or one that logs were appended to since'}`,
      `one with digest ${identity.storeDigest}`,
      'name the store that the run started with, choose another output, or start again with --fresh',
    );
  return null;
}

/** The model on the store that a checkpoint was made from. */
export function specOf(
  { storeDigest }: CheckpointManifest,
  { storeDigest: current, spec, growth }: CheckpointIdentity,
): ModelSpec {
  return storeDigest === current ? spec : (growth?.specAt(storeDigest) ?? spec);
}

/** Whether the config has the length that the run was extended to, and is otherwise that of the checkpoint. */
function isExtendedTo(
  { deciding }: CheckpointIdentity,
  { decidingConfig, extendedOuterSteps }: CheckpointManifest,
): boolean {
  if (extendedOuterSteps === undefined) return false;
  const training = { outerSteps: extendedOuterSteps };
  const extended = {
    ...decidingConfig,
    training: {
      ...(isRecord(decidingConfig['training']) ? decidingConfig['training'] : {}),
      ...training,
    },
  };
  return configDifferences(extended, deciding).length === 0;
}
