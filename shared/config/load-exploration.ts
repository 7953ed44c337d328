/** Reads the policy of a ranking server: a YAML file with the section `exploration` of a run config alone. */

import { z } from 'zod';
import { ExplorationConfigSchema, type ExplorationConfig } from './exploration-config.js';
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
  const value = parseYaml(await readConfigFile(path, POLICY, read), path, POLICY);
  return checkedConfig(PolicyFileSchema, value, path, POLICY).exploration;
}
