/** `npm run docs:reference`: writes the generated pages of infra/docs. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { configReference } from './config-reference.js';

const PAGE = join('infra', 'docs', 'configuration.md');

writeFileSync(PAGE, configReference());
console.log(`wrote ${PAGE}`);
