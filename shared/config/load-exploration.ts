/** Reads policies of exploration: a YAML file with the section `exploration` of a run config alone, or a whole run config. */

import { z } from 'zod';
import { ExplorationConfigSchema, type ExplorationConfig } from './exploration-config.js';
import { checkedRunConfig } from './load-run-config.js';
import {
  checkedConfig,
  parseYaml,
  readConfigFile,
  readTextFile,
  type FileKind,
} from './yaml-file.js';

const POLICY: FileKind = {
  name: 'policy of exploration',
  examples: 'infra/docs/exploration.md has one',
};

const PolicyFileSchema = z.strictObject({ exploration: ExplorationConfigSchema });

/**
 * @throws QianmoError of kind `usage` when the file cannot be read, is not YAML, or has fields
 *   that are wrong, missing or unknown; every fault is listed with its path.
 */
export async function loadExploration(
  path: string,
  read = readTextFile,
): Promise<ExplorationConfig> {
  return explorationIn(parseYaml(await readConfigFile(path, POLICY, read), path, POLICY), path);
}

/** @throws QianmoError of kind `usage` that lists every fault with its path. */
export function explorationIn(value: unknown, where: string): ExplorationConfig {
  const isRunConfig = typeof value === 'object' && value !== null && 'run' in value;
  return isRunConfig
    ? checkedRunConfig(value, where).exploration
    : checkedConfig(PolicyFileSchema, value, where, POLICY).exploration;
}
