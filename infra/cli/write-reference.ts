/** `npm run docs:reference`: writes the generated pages of infra/docs. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  configReference,
  configSchema,
  optionsReference,
  withMetricsTable,
} from './reference-pages.js';

const CONFIG_PAGE = join('infra', 'docs', 'configuration.md');
const SCHEMA_FILE = join('infra', 'examples', 'run.schema.json');
const METRICS_PAGE = join('infra', 'docs', 'operation', 'metrics.md');
const OPTIONS_PAGE = join('infra', 'docs', 'options.md');

writeFileSync(CONFIG_PAGE, configReference());
writeFileSync(SCHEMA_FILE, configSchema());
writeFileSync(OPTIONS_PAGE, optionsReference());
writeFileSync(METRICS_PAGE, withMetricsTable(readFileSync(METRICS_PAGE, 'utf8')));
console.log(`wrote ${CONFIG_PAGE}, ${SCHEMA_FILE}, ${OPTIONS_PAGE} and ${METRICS_PAGE}`);
