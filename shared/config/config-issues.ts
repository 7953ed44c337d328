/** Describes faults of a config in terms of its fields, not of the parser. */

import { z } from 'zod';
import { nearestName } from '../names/nearest-name.js';

type Issue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

const SHOWN_LENGTH_MAX = 60;

/** Lines such as `training.outerSteps: expected a whole number, found "many"`. */
export function describeIssues(
  issues: readonly Issue[],
  config: unknown,
  schema: z.ZodType,
): string[] {
  return issues.flatMap((issue) => describeIssue(issue, config, schema));
}

function describeIssue(issue: Issue, config: unknown, schema: z.ZodType): string[] {
  const field = nameOf(issue.path);
  if (issue.code === 'unrecognized_keys') {
    const known = schemasAt(schema, config, issue.path).flatMap(fieldsOf);
    return issue.keys.map((key) => {
      const path = [...issue.path, key];
      if (isRestOfText(key, valueAt(config, path))) return `${nameOf(issue.path)}: ${CUT_TEXT}`;
      const nearest = nearestName(key, known);
      const hint =
        nearest === null ? `expected one of ${known.join(', ')}` : `did you mean "${nearest}"?`;
      return `${nameOf(path)}: there is no such field; ${hint}`;
    });
  }
  const expected = expectedBy(issue);
  if (expected === null) return [`${field}: ${issue.message}`];
  const found = valueAt(config, issue.path);
  return [
    found === undefined || (found === null && issue.path.length > 0)
      ? `${field}: is missing; expected ${expected}`
      : `${field}: expected ${expected}, found ${show(found)}`,
  ];
}

const CUT_TEXT =
  'a comma within { } ends a value, and the rest of it is no field: put the whole value into quotes';

/** YAML cuts a value at a comma: `{ expression: coalesce(a, b) }` has a field `b)`. */
function isRestOfText(key: string, value: unknown): boolean {
  return value === null && /[()[\]{}'"]/.test(key);
}

/** Null if the issue's own message says everything. */
function expectedBy(issue: Issue): string | null {
  if (issue.message.startsWith('expected ')) return issue.message.slice('expected '.length);
  switch (issue.code) {
    case 'invalid_type':
      return WORD_BY_TYPE[issue.expected] ?? issue.expected;
    case 'invalid_value':
      return oneOf(issue.values);
    case 'invalid_union':
      return 'options' in issue ? oneOf(issue.options ?? []) : null;
    case 'invalid_format':
      return issue.format === 'url' ? 'a URL' : null;
    case 'too_small':
      return boundOf(issue.origin, issue.inclusive ? 'at least' : 'above', issue.minimum);
    case 'too_big':
      return boundOf(issue.origin, issue.inclusive ? 'at most' : 'below', issue.maximum);
    default:
      return null;
  }
}

const WORD_BY_TYPE: Readonly<Record<string, string>> = {
  string: 'text',
  int: 'a whole number',
  number: 'a number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a section of fields',
};

function oneOf(values: readonly unknown[]): string {
  return values.length === 1 ? String(values[0]) : `one of ${values.map(String).join(', ')}`;
}

function boundOf(origin: string, relation: string, bound: number | bigint): string {
  if (origin === 'string')
    return bound === 1 ? 'text that is not empty' : `${relation} ${bound} letters`;
  if (origin === 'array') return `${relation} ${bound} ${bound === 1 ? 'entry' : 'entries'}`;
  return `${relation} ${bound}`;
}

function show(value: unknown): string {
  // JSON cannot express .nan and .inf of YAML.
  const text = typeof value === 'number' ? String(value) : JSON.stringify(value);
  return text.length <= SHOWN_LENGTH_MAX ? text : `${text.slice(0, SHOWN_LENGTH_MAX)}...`;
}

function nameOf(path: Path): string {
  return path.length === 0 ? '(whole file)' : path.map(String).join('.');
}

function valueAt(config: unknown, path: Path): unknown {
  let value = config;
  for (const key of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    // Reading an absent field of an object or array gives undefined.
    value = (value as Record<PropertyKey, unknown>)[key];
  }
  return value;
}

/** The schemas that apply to the value at the path; several below a union. */
function schemasAt(schema: z.ZodType, config: unknown, path: Path): z.ZodType[] {
  const [key, ...rest] = path;
  const branches = branchesOf(schema, config);
  if (key === undefined) return branches;
  const value = valueAt(config, [key]);
  return branches.flatMap((branch) => {
    const child: unknown =
      branch instanceof z.ZodObject
        ? branch.shape[String(key)]
        : branch instanceof z.ZodArray
          ? branch.element
          : undefined;
    return child instanceof z.ZodType ? schemasAt(child, value, rest) : [];
  });
}

/** The schemas inside a wrapper; for a union, the branches that the value's discriminator allows. */
function branchesOf(schema: z.ZodType, value: unknown): z.ZodType[] {
  if (schema instanceof z.ZodPipe)
    return schema.in instanceof z.ZodType ? branchesOf(schema.in, value) : [];
  if (
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodPrefault ||
    schema instanceof z.ZodOptional ||
    schema instanceof z.ZodLazy
  ) {
    const inner: unknown = schema.unwrap();
    return inner instanceof z.ZodType ? branchesOf(inner, value) : [];
  }
  if (!(schema instanceof z.ZodUnion)) return [schema];
  const branches = schema.options.filter((option) => option instanceof z.ZodType);
  if (!(schema instanceof z.ZodDiscriminatedUnion)) return branches;
  const { discriminator } = schema.def;
  return branches.filter((branch) => {
    const literal: unknown = branch instanceof z.ZodObject ? branch.shape[discriminator] : null;
    return (
      literal instanceof z.ZodLiteral &&
      literal.values.has(valueAt(value, [discriminator]) as never)
    );
  });
}

function fieldsOf(schema: z.ZodType): string[] {
  return schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
}
