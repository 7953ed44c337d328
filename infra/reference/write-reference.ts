/** `npm run docs:reference`: writes the generated pages of infra/docs. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
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

const BEGIN = '<!-- The table is made by npm run docs:reference. -->';
const END = '<!-- End of the table. -->';

function metricsTable(): string {
  return [
    '| metric | kind | from | labels | meaning |',
    '|---|---|---|---|---|',
    ...METRIC_NAMES.map((name) => {
      const { kind, from, labels = {}, help } = definitionOf(name);
      const sources = from.length === 4 ? 'all' : from.join(', ');
      return `| \`${name}\` | ${kind} | ${sources} | ${labelsText(labels)} | ${help} |`;
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

writeFileSync(CONFIG_PAGE, configReference());
writeFileSync(METRICS_PAGE, withMetricsTable(readFileSync(METRICS_PAGE, 'utf8')));
console.log(`wrote ${CONFIG_PAGE} and ${METRICS_PAGE}`);
