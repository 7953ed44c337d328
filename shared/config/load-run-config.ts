/** Reads a YAML file and parses it into the frozen config of a run, or the policy of exploration alone. Writes run configs. */

import { stringify } from 'yaml';
import { z } from 'zod';
import { addressWithoutSecret, hasSecret } from '../base/redacted-address.js';
import { withAutoSection } from './auto-config.js';
import { ExplorationConfigSchema, type ExplorationConfig } from './exploration-config.js';
import { RunConfigSchema, type RunConfig } from './run-config.js';
import {
  checkedConfig,
  parseYaml,
  readConfigFile,
  readTextFile,
  type FileKind,
} from './yaml-file.js';

const RUN_CONFIG: FileKind = {
  name: 'run config',
  examples: 'the README has a whole config, infra/examples has commented ones',
};

/**
 * @throws QianmoError of kind `usage` when the file cannot be read, is not YAML, or has fields
 *   that are wrong, missing or unknown; every fault is listed with its path.
 */
export async function loadRunConfig(path: string, read = readTextFile): Promise<RunConfig> {
  return parseRunConfig(await readConfigFile(path, RUN_CONFIG, read), path);
}

export function parseRunConfig(yaml: string, where: string): RunConfig {
  return checkedRunConfig(parseYaml(yaml, where, RUN_CONFIG), where);
}

/** The file's content before it is checked, which a sweep changes. */
export async function loadUncheckedRunConfig(path: string, read = readTextFile): Promise<unknown> {
  return parseYaml(await readConfigFile(path, RUN_CONFIG, read), path, RUN_CONFIG);
}

export function checkedRunConfig(value: unknown, where: string): RunConfig {
  return checkedConfig(RunConfigSchema, withAutoSection(value), where, RUN_CONFIG);
}

/**
 * The YAML with every default filled in, so that it means the same to a later version. Many can read the
 * file, so the address of Redis stands in it without its password.
 */
export function runConfigYaml(config: RunConfig, comment: string): string {
  const { queue } = config;
  const isSecret = hasSecret(queue.redisUrl);
  const redisUrl = isSecret ? addressWithoutSecret(queue.redisUrl) : queue.redisUrl;
  const hint =
    'queue.redisUrl is without its user and password: set QIANMO_REDIS_URL, which has both.';
  const lines = [...comment.split('\n'), ...(isSecret ? [hint] : [])];
  const text = lines.map((line) => `# ${line}`.trimEnd()).join('\n');
  return `${text}\n\n${stringify({ ...config, queue: { ...queue, redisUrl } })}`;
}

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

/** Like `loadExploration`, for a file that may be a whole run config. */
export async function loadTargetPolicy(
  path: string,
  read = readTextFile,
): Promise<ExplorationConfig> {
  return targetPolicyIn(parseYaml(await readConfigFile(path, POLICY, read), path, POLICY), path);
}

/** @throws QianmoError of kind `usage` that lists every fault with its path. */
export function targetPolicyIn(value: unknown, where: string): ExplorationConfig {
  const isAlone =
    typeof value === 'object' && value !== null && Object.keys(value).join() === 'exploration';
  return isAlone
    ? checkedConfig(PolicyFileSchema, value, where, POLICY).exploration
    : checkedRunConfig(value, where).exploration;
}
