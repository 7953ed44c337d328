/** Reads a run's YAML file and parses it into a frozen RunConfig. */

import { readFile } from 'node:fs/promises';
import { parseDocument } from 'yaml';
import type { z } from 'zod';
import { QianmoError } from '../errors.js';
import { RunConfigSchema, type RunConfig } from './run-config.js';

/**
 * @throws QianmoError of kind `usage` when the file cannot be read, is not YAML, or has fields
 *   that are wrong, missing or unknown; every fault is listed with its path.
 */
export async function loadRunConfig(path: string): Promise<RunConfig> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new QianmoError({
      kind: 'usage',
      what: 'the run config cannot be read',
      where: path,
      cure: 'give the path of a YAML file; `qianmo train --help` shows an example',
      cause,
    });
  }
  return parseRunConfig(text, path);
}

export function parseRunConfig(yaml: string, where: string): RunConfig {
  const document = parseDocument(yaml, { prettyErrors: true });
  const [syntaxError] = document.errors;
  if (syntaxError !== undefined)
    throw new QianmoError({
      kind: 'usage',
      what: 'the run config is not valid YAML',
      where,
      found: syntaxError.message,
      cure: 'mend the line named above',
    });
  const parsed = RunConfigSchema.safeParse(document.toJS());
  if (!parsed.success)
    throw new QianmoError({
      kind: 'usage',
      what: 'the run config has fields that are wrong, missing or unknown',
      where,
      found: `\n${parsed.error.issues.map(describeIssue).join('\n')}`,
      cure: 'mend the fields named above; infra/examples has commented configs',
    });
  return deepFreeze(parsed.data);
}

function describeIssue(issue: z.core.$ZodIssue): string {
  const path = issue.path.map(String).join('.');
  return `    ${path === '' ? '(top level)' : path}: ${issue.message}`;
}

function deepFreeze<Value>(value: Value): Value {
  if (typeof value === 'object' && value !== null) {
    Object.values(value).forEach(deepFreeze);
    Object.freeze(value);
  }
  return value;
}
