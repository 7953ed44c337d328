/**
 * The command without its event log, for comparison: the product has no such switch. Given to Node with `--import`; all
 * other code is the product's own.
 */

import { register } from 'node:module';

const NOTHING =
  'const log = { sink: () => undefined, close: () => Promise.resolve() };\n' +
  'export const openEventLog = () => log;\nexport const createEventLog = () => log;\n';

const HOOK = `
const source = ${JSON.stringify(NOTHING)};
export async function load(url, context, next) {
  if (!url.endsWith('/dist/shared/events/event-log.js')) return next(url, context);
  return { format: 'module', source, shortCircuit: true };
}
`;

register(`data:text/javascript,${encodeURIComponent(HOOK)}`);
