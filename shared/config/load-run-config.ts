/** Reads a YAML file and parses it into a frozen config: of a run, or of a stream. */

import { readFile } from 'node:fs/promises';
import { LineCounter, parseDocument, type ErrorCode, type YAMLError } from 'yaml';
import type { z } from 'zod';
import { QianmoError } from '../errors.js';
import { systemCodeOf } from '../system-errors.js';
import { describeIssues } from './config-issues.js';
import { RunConfigSchema, type RunConfig } from './run-config.js';
import { StreamConfigSchema, type StreamConfig } from './stream-config.js';

/**
 * @throws QianmoError of kind `usage` when the file cannot be read, is not YAML, or has fields
 *   that are wrong, missing or unknown; every fault is listed with its path.
 */
export async function loadRunConfig(path: string): Promise<RunConfig> {
  return parseRunConfig(await configText(path), path);
}

/** Like `loadRunConfig`, for `qianmo stream`. */
export async function loadStreamConfig(path: string): Promise<StreamConfig> {
  return parseConfig(await configText(path), path, StreamConfigSchema);
}

async function configText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new QianmoError({
      kind: 'usage',
      what: 'the run config cannot be read',
      where: path,
      ...(systemCodeOf(cause) === 'ENOENT' ? { found: 'no such file' } : {}),
      ...(systemCodeOf(cause) === 'EISDIR' ? { found: 'a folder, not a file' } : {}),
      expected: 'a YAML file',
      cure: 'mend the path; the README has a whole config, infra/examples has commented ones',
      cause,
    });
  }
}

export function parseRunConfig(yaml: string, where: string): RunConfig {
  return parseConfig(yaml, where, RunConfigSchema);
}

function parseConfig<Schema extends z.ZodType>(
  yaml: string,
  where: string,
  schema: Schema,
): z.infer<Schema> {
  const lines = new LineCounter();
  const document = parseDocument(yaml, { prettyErrors: false, lineCounter: lines });
  const [syntaxError] = document.errors;
  if (syntaxError !== undefined) throw notYaml(syntaxError, lines, where);
  const config: unknown = document.toJS();
  if (config === null || config === undefined)
    throw new QianmoError({
      kind: 'usage',
      what: 'the run config is empty',
      where,
      cure: 'write one; the README has a whole config, infra/examples has commented ones',
    });
  const parsed = schema.safeParse(config);
  if (!parsed.success) {
    const faults = describeIssues(parsed.error.issues, config, schema);
    throw new QianmoError({
      kind: 'usage',
      what: 'the run config has fields that are wrong, missing or unknown',
      where,
      found: `\n${faults.map((fault) => `    ${fault}`).join('\n')}`,
      cure: 'mend the fields named above; infra/examples has commented configs',
    });
  }
  return deepFreeze(parsed.data);
}

function notYaml(
  { code, message, pos }: YAMLError,
  lines: LineCounter,
  where: string,
): QianmoError {
  const { line, col } = lines.linePos(pos[0]);
  return new QianmoError({
    kind: 'usage',
    what: 'the run config is not valid YAML',
    where: `${where}, line ${line}, column ${col}`,
    found: FOUND_BY_YAML_CODE[code] ?? message,
    cure: 'mend that line or the one above it',
  });
}

/** Where the parser's own words speak to programmers. */
const FOUND_BY_YAML_CODE: Partial<Record<ErrorCode, string>> = {
  MULTIPLE_DOCS: 'a second document: one file describes one run',
  DUPLICATE_KEY: 'a field that is given twice',
  TAB_AS_INDENT: 'a tab: YAML is indented with spaces',
  BAD_ALIAS: 'an alias without its anchor: put text that begins with * into quotes',
};

function deepFreeze<Value>(value: Value): Value {
  if (typeof value === 'object' && value !== null) {
    Object.values(value).forEach(deepFreeze);
    Object.freeze(value);
  }
  return value;
}
