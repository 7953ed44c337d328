/** The generated pages of infra/docs, from the schemas, the verbs and the metrics. */

import '../library/index.js';
import './own-verbs.js';
import {
  flagOf,
  flagsOf,
  operandOf,
  tableCommands,
  type CommandField,
  type TableCommand,
} from './program.js';
import { definitionOf, METRIC_NAMES } from '../../shared/metrics/metric-definitions.js';
import { z } from 'zod';
import { at } from '../../shared/base/arrays.js';
import { RunConfigSchema } from '../../shared/config/run-config.js';
import { SweepConfigSchema } from '../../shared/config/sweep-config.js';

const INTRODUCTION = `# Configuration reference

<!-- Written by \`npm run docs:reference\` from the schemas; do not edit it by hand. -->

A run is described by one YAML file. Every field that is left out has the default shown here, and a misspelt field is an
error. Paths are relative to the folder in which the command runs. [infra/examples](../examples) has commented configs.

A name such as \`schedule.decay\` is a field of a section within the section; \`features[].name\` is a field of every entry of
a list. Every field can be linked to by its full name, such as \`#data.task\`.`;

/** The fields of a first config. A search decides about model, method and training. */
const FIRST_FIELDS = [
  ...['run', 'seed', 'output', 'data.logs', 'data.store', 'data.task', 'data.label'],
  ...['data.time', 'data.features', 'data.rowSplit'],
];

/** The JSON Schema of a run config, by which editors check and complete it. A search needs the data alone. */
export function configSchema(): string {
  const schema = z.toJSONSchema(RunConfigSchema, { io: 'input', unrepresentable: 'any' });
  return `${JSON.stringify({ ...schema, required: ['run', 'seed', 'data', 'output'] }, null, 2)}\n`;
}

export function configReference(): string {
  const parts = [
    INTRODUCTION,
    '## Ten fields to begin with',
    '`qianmo start` writes them for your file, and `qianmo auto` needs no others.',
    firstFields(),
    '## The run config',
    ...sectionsOf(RunConfigSchema),
    '## The sweep config',
    'The config of `qianmo sweep`.',
    ...fieldTables(schemaNodeOf(SweepConfigSchema), 'sweep.'),
  ];
  return `${parts.join('\n\n')}\n`;
}

function firstFields(): string {
  const rows = rowsOf(schemaNodeOf(RunConfigSchema), '');
  return [
    '| field | meaning |',
    '|---|---|',
    ...FIRST_FIELDS.map((wanted) => {
      const { name, meaning } = at(
        rows.filter(({ name }) => name === wanted),
        0,
      );
      return `| [\`${name}\`](#${name}) | ${cellText(meaning)} |`;
    }),
  ].join('\n');
}

/** The plain fields in one table, then a heading and tables for every section. */
function sectionsOf(schema: z.ZodType): string[] {
  const root = schemaNodeOf(schema);
  const fields = Object.entries(root.properties ?? {});
  const plain = fields.filter(([, field]) => !isSection(field));
  return [
    ...fieldTables({ ...root, properties: Object.fromEntries(plain) }, ''),
    ...fields
      .filter(([, field]) => isSection(field))
      .flatMap(([name, field]) => [
        `### ${name}`,
        ...(field.description === undefined ? [] : [field.description]),
        ...fieldTables(field, `${name}.`),
      ]),
  ];
}

function isSection({ properties, oneOf }: SchemaNode): boolean {
  return properties !== undefined || oneOf !== undefined;
}

/** Options of at least so many verbs are described once. */
const COMMON_VERBS_MIN = 4;
const OPTIONS_HEAD = '| option | default | meaning |\n|---|---|---|\n';

/** The options of every verb, with the functions of the library that take them. */
export function optionsReference(): string {
  const all = tableCommands();
  const ofAll = rowsIn(all, all.length);
  const commands = all.map((command) => ({
    ...command,
    options: command.options.filter((field) => !ofAll.has(optionRow(field))),
  }));
  const common = rowsIn(commands, COMMON_VERBS_MIN);
  const parts = [
    `# Options

<!-- Written by \`npm run docs:reference\` from the table of verbs; do not edit it by hand. -->

The options of each [verb](command-line.md). [Functions](library.md) take those of their request by name: \`--outer-steps\` is
\`outerSteps\`.

## Options of every verb

${OPTIONS_HEAD}${[...ofAll].join('\n')}

## Common options

${OPTIONS_HEAD}${[...common].join('\n')}`,
    ...commands.map((command) => verbSection(command, common)),
  ];
  return `${parts.join('\n\n')}\n`;
}

/** Returns the rows of the options that at least so many verbs take. */
function rowsIn(commands: readonly TableCommand[], verbsMin: number): ReadonlySet<string> {
  const rows = commands.flatMap(({ options }) => options.map(optionRow));
  return new Set(rows.filter((row) => rows.filter((each) => each === row).length >= verbsMin));
}

function verbSection(command: TableCommand, common: ReadonlySet<string>): string {
  const { words, verbs, operands, options } = command;
  const names = verbs.filter(({ isOfLibrary }) => isOfLibrary).map(({ name }) => `\`${name}\``);
  const library = names.length === 0 ? '' : ` In the library: ${names.join(', ')}.`;
  const shared = options.filter((field) => common.has(optionRow(field))).map(flagOf);
  const rows = [...operands.map(operandRow), ...options.map(optionRow)].filter(
    (row) => !common.has(row),
  );
  const { about } = verbs[0].entry;
  return [
    `## ${words.join(' ')}`,
    `${about.slice(0, 1).toUpperCase()}${about.slice(1)}.${library}`,
    ...(shared.length === 0 ? [] : [`Common options: ${shared.map(inCode).join(', ')}.`]),
    ...(rows.length === 0 ? [] : [`${OPTIONS_HEAD}${rows.join('\n')}`]),
  ].join('\n\n');
}

const inCode = (text: string): string => `\`${text}\``;
const operandRow = (field: CommandField): string => rowOf(operandOf(field), field);
const optionRow = (field: CommandField): string =>
  rowOf(field.kind === 'flag' ? flagsOf(field) : `${flagsOf(field)} <${field.word}>`, field);

function rowOf(shown: string, field: CommandField): string {
  const { description, words, variable, isRequired, default: value } = field;
  const fallback = typeof value === 'string' || typeof value === 'number' ? inCode(`${value}`) : '';
  const meaning = [
    description,
    ...(words.length === 0 ? [] : [`one of ${words.join(', ')}`]),
    ...(variable === undefined ? [] : [`also the variable ${variable}`]),
  ].join('; ');
  return `| ${inCode(shown)} | ${isRequired ? 'required' : fallback} | ${meaning} |`;
}

const BEGIN = '<!-- The table is made by npm run docs:reference. -->';
const END = '<!-- End of the table. -->';

function metricsTable(): string {
  return [
    '| metric | kind | from | labels | meaning |',
    '|---|---|---|---|---|',
    ...METRIC_NAMES.map((name) => {
      const { kind, from, labels, help } = definitionOf(name);
      const sources = from.length === 4 ? 'all' : from.join(', ');
      return `| \`${name}\` | ${kind} | ${sources} | ${labelsText(labels ?? {})} | ${help} |`;
    }),
  ].join('\n');
}

function labelsText(labels: Readonly<Record<string, readonly string[] | null>>): string {
  return Object.entries(labels)
    .map(([label, values]) => `\`${label}\`${values === null ? '' : `: ${values.join(', ')}`}`)
    .join('; ');
}

/** @throws Error if the page has no place for the table. */
export function withMetricsTable(page: string): string {
  const [before, rest] = page.split(BEGIN);
  const after = rest?.split(END)[1];
  if (before === undefined || after === undefined) throw new Error(`a page without "${BEGIN}"`);
  return `${before}${BEGIN}\n\n${metricsTable()}\n\n${END}${after}`;
}

/** The parts of JSON Schema that the config schemas use. */
const NodeSchema = z.looseObject({
  type: z.string().optional(),
  description: z.string().optional(),
  default: z.unknown().optional(),
  const: z.unknown().optional(),
  enum: z.array(z.unknown()).optional(),
  minimum: z.number().optional(),
  maximum: z.number().optional(),
  exclusiveMinimum: z.number().optional(),
  exclusiveMaximum: z.number().optional(),
  minItems: z.number().optional(),
  maxItems: z.number().optional(),
  pattern: z.string().optional(),
  required: z.array(z.string()).optional(),
  get properties() {
    return z.record(z.string(), NodeSchema).optional();
  },
  get items() {
    return NodeSchema.optional();
  },
  get additionalProperties() {
    return z.union([z.boolean(), NodeSchema]).optional();
  },
  get anyOf() {
    return z.array(NodeSchema).optional();
  },
  get oneOf() {
    return z.array(NodeSchema).optional();
  },
});
type SchemaNode = z.infer<typeof NodeSchema>;

interface FieldRow {
  readonly name: string;
  readonly expected: string;
  readonly default: string;
  readonly meaning: string;
}

/** Bounds beyond this are those of the number type and are not shown. */
const BOUND_SHOWN_MAX = 1e15;

/** The schema of the user's input, before defaults and transformations. */
function schemaNodeOf(schema: z.ZodType): SchemaNode {
  const json = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any', reused: 'inline' });
  return NodeSchema.parse(json);
}

/** One table for an object, or one table per alternative for a union of objects. Anchors are the names of fields behind `section`. */
function fieldTables(node: SchemaNode, section: string): string[] {
  const alternatives = objectAlternatives(node);
  if (alternatives.length === 0) return [tableOf(rowsOf(node, ''), section)];
  const anchored = new Set<string>();
  return alternatives.map((alternative) => {
    const { label, node: rest } = labelled(alternative);
    const heading = label === '' ? '' : `**\`${label}\`**${textAfterColon(alternative)}\n\n`;
    return `${heading}${tableOf(rowsOf(rest, ''), section, anchored)}`;
  });
}

function textAfterColon({ description }: SchemaNode): string {
  return description === undefined ? '' : `: ${description}`;
}

/** A name that several alternatives have is an anchor once. */
function tableOf(rows: readonly FieldRow[], section: string, anchored = new Set<string>()): string {
  if (rows.length === 0) return 'No settings.';
  return [
    '| field | expected | default | meaning |',
    '|---|---|---|---|',
    ...rows.map(({ name, expected, default: value, meaning }) => {
      const anchor = anchored.has(name) ? '' : `<a id="${section}${name}"></a>`;
      anchored.add(name);
      const cells = [`${anchor}\`${name}\``, expected, value, meaning];
      return `| ${cells.map(cellText).join(' | ')} |`;
    }),
  ].join('\n');
}

/** The rows of a section. Sections alike are described once, and the others refer to it. */
function rowsOf(node: SchemaNode, prefix: string): FieldRow[] {
  const described = new Map<string, string>();
  let rows = allRowsOf(node, prefix);
  for (let place = 0; place < rows.length; place += 1) {
    const row = at(rows, place);
    const isWithin = ({ name }: FieldRow): boolean =>
      /^(\[\])?\./.test(name.slice(row.name.length));
    const isBelow = (other: FieldRow): boolean =>
      other.name.startsWith(row.name) && isWithin(other);
    const below = rows.filter(isBelow);
    if (below.length === 0) continue;
    const key = JSON.stringify(
      below.map((each) => ({ ...each, name: each.name.slice(row.name.length) })),
    );
    const same = described.get(key);
    described.set(key, same ?? row.name);
    if (same === undefined) continue;
    const meaning = `${row.meaning} Its fields are those of \`${same}\`.`;
    rows = rows.filter((other) => !isBelow(other)).with(place, { ...row, meaning });
  }
  return rows;
}

function allRowsOf(node: SchemaNode, prefix: string): FieldRow[] {
  const required = new Set(node.required);
  return Object.entries(node.properties ?? {}).flatMap(([name, field]) =>
    rowsOfField(`${prefix}${name}`, field, required.has(name)),
  );
}

function rowsOfField(name: string, field: SchemaNode, isRequired: boolean): FieldRow[] {
  const own: FieldRow = {
    name,
    expected: expectedOf(field),
    default: defaultOf(field, isRequired),
    meaning: field.description ?? '',
  };
  const inner = field.type === 'array' ? field.items : field;
  if (inner === undefined) return [own];
  const innerPrefix = field.type === 'array' ? `${name}[].` : `${name}.`;
  const alternatives = objectAlternatives(inner);
  if (alternatives.length > 0) return [own, ...rowsOfAlternatives(alternatives, innerPrefix)];
  return [own, ...allRowsOf(inner, innerPrefix)];
}

/** Identical fields of several alternatives share one row, which names the alternatives. */
function rowsOfAlternatives(alternatives: readonly SchemaNode[], prefix: string): FieldRow[] {
  const merged = new Map<string, { readonly row: FieldRow; readonly labels: string[] }>();
  for (const alternative of alternatives) {
    const { label, node } = labelled(alternative);
    for (const row of allRowsOf(node, prefix)) {
      const known = merged.get(JSON.stringify(row));
      if (known === undefined) merged.set(JSON.stringify(row), { row, labels: [label] });
      else known.labels.push(label);
    }
  }
  return [...merged.values()].map(({ row, labels }) => {
    const named = labels.filter((label) => label !== '').map((label) => `\`${label}\``);
    if (named.length === 0 || named.length === alternatives.length) return row;
    return { ...row, meaning: `With ${named.join(', ')}. ${row.meaning}`.trim() };
  });
}

function objectAlternatives(node: SchemaNode): SchemaNode[] {
  return (node.oneOf ?? node.anyOf ?? []).filter(({ properties }) => properties !== undefined);
}

/** The constant field that selects an alternative, such as `kind: adam`, and the other fields. */
function labelled(node: SchemaNode): { readonly label: string; readonly node: SchemaNode } {
  const constant = Object.entries(node.properties ?? {}).find(
    ([, field]) => field.const !== undefined,
  );
  if (constant === undefined) return { label: '', node };
  const [name, field] = constant;
  const rest = Object.entries(node.properties ?? {}).filter(([other]) => other !== name);
  return {
    label: `${name}: ${String(field.const)}`,
    node: { ...node, properties: Object.fromEntries(rest) },
  };
}

function defaultOf(field: SchemaNode, isRequired: boolean): string {
  if (field.default !== undefined) return codeText(field.default);
  return isRequired ? 'required' : '';
}

function expectedOf(node: SchemaNode): string {
  if (node.const !== undefined) return codeText(node.const);
  if (node.enum !== undefined) return node.enum.map(codeText).join(', ');
  const alternatives = node.anyOf ?? node.oneOf;
  if (alternatives !== undefined)
    return [...new Set(alternatives.map(alternativeText))].join(' or ');
  if (node.type === 'array') return arrayText(node);
  if (node.type === 'integer' || node.type === 'number') return numberText(node);
  if (node.type === 'boolean') return '`true` or `false`';
  if (node.type === 'object') return objectText(node);
  return node.type === 'string' ? 'text' : 'any value';
}

function alternativeText(node: SchemaNode): string {
  const { label } = labelled(node);
  if (label !== '') return `\`${label}\``;
  if (node.properties === undefined) return expectedOf(node);
  const names = node.required ?? Object.keys(node.properties);
  return `\`{ ${names.join(', ')} }\``;
}

function arrayText({ items, minItems, maxItems }: SchemaNode): string {
  const ofItems = items === undefined ? '' : ` of ${expectedOf(items)}`;
  const entries = (count: number): string => (count === 1 ? '1 entry' : `${count} entries`);
  const bounds = [
    ...(minItems === undefined ? [] : [`at least ${entries(minItems)}`]),
    ...(maxItems === undefined ? [] : [`at most ${entries(maxItems)}`]),
  ];
  return `list${ofItems}${bounds.length === 0 ? '' : ` (${bounds.join(', ')})`}`;
}

function numberText(node: SchemaNode): string {
  const bound = (words: string, value: number | undefined): string[] =>
    value === undefined || Math.abs(value) >= BOUND_SHOWN_MAX
      ? []
      : [`${words} ${value.toLocaleString('en-US')}`];
  const bounds = [
    ...bound('at least', node.minimum),
    ...bound('above', node.exclusiveMinimum),
    ...bound('at most', node.maximum),
    ...bound('below', node.exclusiveMaximum),
  ];
  return [node.type === 'integer' ? 'whole number' : 'number', ...bounds].join(', ');
}

function objectText({ additionalProperties }: SchemaNode): string {
  if (typeof additionalProperties !== 'object') return 'section';
  return `section of names to ${expectedOf(additionalProperties)}`;
}

/** As YAML flow text, in backticks. */
function codeText(value: unknown): string {
  return `\`${JSON.stringify(value).replace(/"([a-zA-Z][\w./ -]*)"/g, '$1')}\``;
}

/** One line, with the characters escaped that would end a cell. */
function cellText(text: string): string {
  return text.replace(/\s+/g, ' ').replace(/\|/g, '\\|');
}
