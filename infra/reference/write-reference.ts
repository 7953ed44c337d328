/** `npm run docs:reference`: writes the generated pages of infra/docs. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import '../library/index.js';
import '../cli/own-verbs.js';
import {
  flagOf,
  operandOf,
  tableCommands,
  type CommandField,
  type TableCommand,
} from '../cli/program.js';
import { definitionOf, METRIC_NAMES } from '../../shared/metrics/metric-definitions.js';
import type { z } from 'zod';
import { RunConfigSchema } from '../../shared/config/run-config.js';
import { SweepConfigSchema } from '../../shared/config/sweep-config.js';
import { fieldTables, schemaNodeOf, type SchemaNode } from './schema-table.js';

const INTRODUCTION = `# Configuration reference

<!-- Written by \`npm run docs:reference\` from the schemas; do not edit it by hand. -->

A run is described by one YAML file. Every field that is left out has the default shown here, and a misspelt field is an
error. Paths are relative to the folder in which the command runs. [infra/examples](../examples) has commented configs.

A name such as \`schedule.decay\` is a field of a section within the section; \`features[].name\` is a field of every entry of
a list.`;

export function configReference(): string {
  const parts = [
    INTRODUCTION,
    '## The run config',
    ...sectionsOf(RunConfigSchema),
    '## The sweep config',
    'The config of `qianmo sweep`.',
    ...fieldTables(schemaNodeOf(SweepConfigSchema)),
  ];
  return `${parts.join('\n\n')}\n`;
}

/** The plain fields in one table, then a heading and tables for every section. */
function sectionsOf(schema: z.ZodType): string[] {
  const root = schemaNodeOf(schema);
  const fields = Object.entries(root.properties ?? {});
  const plain = fields.filter(([, field]) => !isSection(field));
  return [
    ...fieldTables({ ...root, properties: Object.fromEntries(plain) }),
    ...fields
      .filter(([, field]) => isSection(field))
      .flatMap(([name, field]) => [
        `### ${name}`,
        ...(field.description === undefined ? [] : [field.description]),
        ...fieldTables(field),
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
  const commands = tableCommands();
  const rows = commands.flatMap(({ options }) => options.map(optionRow));
  const common = new Set(
    rows.filter((row) => rows.filter((each) => each === row).length >= COMMON_VERBS_MIN),
  );
  const parts = [
    `# Options

<!-- Written by \`npm run docs:reference\` from the table of verbs; do not edit it by hand. -->

The options of each [verb](command-line.md). [Functions](library.md) take those of their request by name: \`--outer-steps\` is
\`outerSteps\`.

## Common options

${OPTIONS_HEAD}${[...common].join('\n')}`,
    ...commands.map((command) => verbSection(command, common)),
  ];
  return `${parts.join('\n\n')}\n`;
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
  rowOf(field.kind === 'flag' ? flagOf(field) : `${flagOf(field)} <${field.word}>`, field);

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

const CONFIG_PAGE = join('infra', 'docs', 'configuration.md');
const METRICS_PAGE = join('infra', 'docs', 'operation', 'metrics.md');

const OPTIONS_PAGE = join('infra', 'docs', 'options.md');

writeFileSync(CONFIG_PAGE, configReference());
writeFileSync(OPTIONS_PAGE, optionsReference());
writeFileSync(METRICS_PAGE, withMetricsTable(readFileSync(METRICS_PAGE, 'utf8')));
console.log(`wrote ${CONFIG_PAGE}, ${OPTIONS_PAGE} and ${METRICS_PAGE}`);
