/** The config of a run and the policy of exploration as files, and how a run config is written. */

import { z } from 'zod';
import { isRecord } from '../base/canonical-json.js';
import { addressWithoutSecret, hasSecret } from '../base/redacted-address.js';
import { withAutoSection } from './auto-config.js';
import { ExplorationConfigSchema, type ExplorationConfig } from './exploration-config.js';
import { RunConfigSchema, type RunConfig } from './run-config.js';
import { checkedConfig, yamlOf, type ConfigKind } from './yaml-file.js';

export const RUN_CONFIG: ConfigKind<RunConfig> = {
  name: 'run config',
  examples: 'the README has a whole config, infra/examples has commented ones',
  check: (value, where) =>
    checkedConfig(RunConfigSchema, withAutoSection(value), where, RUN_CONFIG),
};

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
  return `${text}\n\n${yamlOf({ ...config, queue: { ...queue, redisUrl } })}`;
}

const PolicyFileSchema = z.strictObject({ exploration: ExplorationConfigSchema });

/** A policy of exploration: a file with the section `exploration` alone, or a whole run config. */
export const POLICY: ConfigKind<ExplorationConfig> = {
  name: 'policy of exploration',
  examples: 'infra/docs/exploration.md has one',
  check: (value, where) =>
    isRecord(value) && 'run' in value
      ? RUN_CONFIG.check(value, where).exploration
      : checkedConfig(PolicyFileSchema, value, where, POLICY).exploration,
};
