/** `npm run docs:reference`: writes the generated pages of infra/docs. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { configReference } from './config-reference.js';
import { withMetricsTable } from './metrics-table.js';

const CONFIG_PAGE = join('infra', 'docs', 'configuration.md');
const METRICS_PAGE = join('infra', 'docs', 'operation', 'metrics.md');

writeFileSync(CONFIG_PAGE, configReference());
writeFileSync(METRICS_PAGE, withMetricsTable(readFileSync(METRICS_PAGE, 'utf8')));
console.log(`wrote ${CONFIG_PAGE} and ${METRICS_PAGE}`);
