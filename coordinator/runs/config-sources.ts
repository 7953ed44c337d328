/** Configs as the library is given them: read from a path or address, or handed in as an object. */

import {
  checkedRunConfig,
  loadRunConfig,
  loadTargetPolicy,
  targetPolicyIn,
} from '../../shared/config/load-run-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { ExplorationConfig } from '../../shared/config/exploration-config.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import {
  checkedSweepConfig,
  loadSweepConfig,
  type SweepConfig,
} from '../../shared/config/sweep-config.js';
import { configReaderOf, searchOutputOf } from './places.js';
import type { PolicySource, RunConfigSource, SweepConfigSource } from './requests.js';
import type { Environment } from './run-context.js';

/** The place of a config object in messages. */
export const OBJECT_PLACE = 'config';

export async function runConfigOf(
  source: RunConfigSource,
  environment: Environment,
): Promise<RunConfig> {
  return typeof source === 'string'
    ? await loadRunConfig(source, configReaderOf(environment))
    : checkedRunConfig(source, OBJECT_PLACE);
}

/**
 * The config of a run that is trained, evaluated or exported.
 *
 * @throws QianmoError of kind `usage` if its model and method are still to be searched for.
 */
export async function chosenConfigOf(
  source: RunConfigSource,
  environment: Environment,
): Promise<RunConfig> {
  const config = await runConfigOf(source, environment);
  if (config.auto === undefined) return config;
  const best = `${searchOutputOf(config.output)}/best.yaml`;
  throw new QianmoError({
    kind: 'usage',
    what: 'this config leaves model, method and training to a search',
    where: typeof source === 'string' ? source : OBJECT_PLACE,
    expected: 'a config without the section auto, or method: auto',
    found: 'auto',
    cure: `search first, with \`qianmo auto run.yaml\`; what it chose is trained, and ${best} is its config`,
  });
}

/** The section `exploration` of a run config, or of a file that has no other section. */
export async function targetPolicyOf(
  source: PolicySource,
  environment: Environment,
): Promise<ExplorationConfig> {
  return typeof source === 'string'
    ? await loadTargetPolicy(source, configReaderOf(environment))
    : targetPolicyIn(source, OBJECT_PLACE);
}

export async function sweepConfigOf(
  source: SweepConfigSource,
  environment: Environment,
): Promise<SweepConfig> {
  return typeof source === 'string'
    ? await loadSweepConfig(source, configReaderOf(environment))
    : checkedSweepConfig(source, OBJECT_PLACE);
}

/** The place of a sweep in messages: its file, when it has one. */
export function placeOf(source: SweepConfigSource): string {
  return typeof source === 'string' ? source : OBJECT_PLACE;
}
