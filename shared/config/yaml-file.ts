/** Reads and writes YAML files, and checks them against a schema; every fault is listed with its path. */

import { readFile } from 'node:fs/promises';
import { LineCounter, parseDocument, stringify, type ErrorCode, type YAMLError } from 'yaml';
import type { z } from 'zod';
import { QianmoError, errorOf } from '../base/errors.js';
import { systemCodeOf } from '../base/system-errors.js';
import { describeIssues } from './config-issues.js';

interface FileKind {
  /** For messages. */
  readonly name: string;
  readonly examples: string;
}

export interface ConfigKind<Config> extends FileKind {
  /** @throws QianmoError of kind `usage` that lists every field that is wrong, missing or unknown with its path. */
  check(value: unknown, where: string): Config;
}

/** Reads the text at a path or address; rejects with the system's error if there is none. */
type TextReader = (path: string) => Promise<string>;

const readTextFile: TextReader = (path) => readFile(path, 'utf8');

/** @throws QianmoError of kind `usage` when the file cannot be read, is not YAML, or has faults. */
export async function loadConfig<Config>(
  kind: ConfigKind<Config>,
  path: string,
  read = readTextFile,
): Promise<Config> {
  return kind.check(await loadUnchecked(kind, path, read), path);
}

/** The content of a file before it is checked, which a sweep changes. */
export async function loadUnchecked(
  kind: FileKind,
  path: string,
  read: TextReader,
): Promise<unknown> {
  return parseYaml(await readConfigFile(path, kind, read), path, kind);
}

export function parseConfig<Config>(kind: ConfigKind<Config>, yaml: string, where: string): Config {
  return kind.check(parseYaml(yaml, where, kind), where);
}

/** @throws QianmoError of kind `usage` when the file cannot be read. */
async function readConfigFile(path: string, kind: FileKind, read: TextReader): Promise<string> {
  try {
    return await read(path);
  } catch (cause) {
    if (cause instanceof QianmoError) throw cause;
    throw errorOf('usage', `the ${kind.name} cannot be read`, {
      where: path,
      ...(systemCodeOf(cause) === 'ENOENT' ? { found: 'no such file' } : {}),
      ...(systemCodeOf(cause) === 'EISDIR' ? { found: 'a folder, not a file' } : {}),
      expected: 'a YAML file',
      cure: `correct the path; ${kind.examples}`,
      cause,
    });
  }
}

/** The text of a file. Readers of YAML 1.1 take a bare `off` for false, so such words are in quotes. */
export function yamlOf(value: object): string {
  return stringify(value, { compat: 'yaml-1.1' });
}

/** A value on one line of such a file. */
export function flowYamlOf(value: unknown): string {
  return stringify(value, {
    compat: 'yaml-1.1',
    collectionStyle: 'flow',
    lineWidth: 0,
  }).trimEnd();
}

/** @throws QianmoError of kind `usage` when the text is not YAML, or empty. */
export function parseYaml(yaml: string, where: string, kind: FileKind): unknown {
  const lines = new LineCounter();
  const document = documentOf(yaml, lines, where, kind);
  const [syntaxError] = document.errors;
  if (syntaxError !== undefined) throw notYaml(syntaxError, lines, where, kind);
  const value = valueOf(document, where, kind);
  if (value === null || value === undefined)
    throw errorOf('usage', `the ${kind.name} is empty`, {
      where,
      cure: `write one; ${kind.examples}`,
    });
  return value;
}

/** The parser calls itself for each level of nesting. */
function documentOf(
  yaml: string,
  lineCounter: LineCounter,
  where: string,
  kind: FileKind,
): ReturnType<typeof parseDocument> {
  try {
    return parseDocument(yaml, { prettyErrors: false, lineCounter });
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw errorOf('usage', `the ${kind.name} is nested too deeply`, {
      where,
      cure: `write it in fewer levels; ${kind.examples}`,
      cause,
    });
  }
}

/** Aliases can repeat a value without end, or within itself. */
function valueOf(
  document: ReturnType<typeof parseDocument>,
  where: string,
  kind: FileKind,
): unknown {
  try {
    const value: unknown = document.toJS();
    // A value within itself has no JSON text.
    JSON.stringify(value);
    return value;
  } catch (cause) {
    throw errorOf('usage', `the ${kind.name} has aliases that cannot be resolved`, {
      where,
      cure: 'write the values out in place of their aliases',
      cause,
    });
  }
}

/** @throws as `check` of the kind. */
export function checkedConfig<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  where: string,
  kind: FileKind,
): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return deepFreeze(parsed.data);
  const faults = describeIssues(parsed.error.issues, value, schema);
  throw errorOf('usage', `the ${kind.name} has fields that are wrong, missing or unknown`, {
    where,
    found: `\n${faults.map((fault) => `    ${fault}`).join('\n')}`,
    cure: 'correct the fields named above; infra/examples has commented configs',
  });
}

function notYaml(
  { code, message, pos }: YAMLError,
  lines: LineCounter,
  where: string,
  kind: FileKind,
): QianmoError {
  const { line, col } = lines.linePos(pos[0]);
  return errorOf('usage', `the ${kind.name} is not valid YAML`, {
    where: `${where}, line ${line}, column ${col}`,
    found: FOUND_BY_YAML_CODE[code] ?? message,
    cure:
      'correct that line or the one above it' +
      (MAY_BE_UNQUOTED.has(code)
        ? '; text that begins with a quote, or has a comma, a colon or a quote within { }, needs quotes around all of it'
        : ''),
  });
}

/** Codes of the parser for text, such as SQL, that is not quoted as a whole. */
const MAY_BE_UNQUOTED: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'MISSING_CHAR',
  'UNEXPECTED_TOKEN',
  'BLOCK_AS_IMPLICIT_KEY',
]);

/** Replaces messages of the parser that are written for programmers. */
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
