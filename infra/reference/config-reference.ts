/**
 * The page infra/docs/configuration.md: every field of every config, from the schemas that parse
 * them.
 */

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
