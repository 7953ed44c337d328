/** Writes a proposed config as YAML with a comment for each reason. */

import { flowYamlOf as inline } from '../../shared/config/yaml-file.js';
import type { ProposedData } from './propose-data.js';

interface ProposedRun {
  readonly run: string;
  readonly logs: readonly string[];
  readonly schema: string;
  readonly data: ProposedData;
}

export function proposedConfigText({ run, logs, schema, data }: ProposedRun): string {
  const { task, label, time, features, leftOut, hasLargeTasks } = data;
  const rowCounts = hasLargeTasks ? { supportRowsMin: 5, queryRowsMin: 5 } : {};
  const lines = [
    `# yaml-language-server: $schema=${schema}`,
    '# Proposed from the first rows of the log. Correct what is wrong, then: qianmo start with this file.',
    `run: ${run}`,
    'seed: 7',
    'data:',
    `  logs: ${inline(logs.length === 1 ? logs[0] : logs)}`,
    `  store: ${inline(`runs/${run}/store`)}`,
    commented(`  task: ${inline(task.value)}`, task.reason ?? 'one adgroup is one learning task'),
    commented(`  label: ${inline(label.value)}`, label.reason),
    ...(time === null ? [] : [commented(`  time: ${inline(time.value)}`, time.reason)]),
    '  features:',
    ...features.map(({ value, reason }) =>
      commented(`    - ${inline(withoutDefaults(value))}`, reason),
    ),
    ...leftOut.map(
      ({ column, reason }) => `    # left out: ${oneLine(column)} (${oneLine(reason)})`,
    ),
    `  rowSplit: ${inline({ by: time === null ? 'hash' : 'time', ...rowCounts })}`,
    `  taskSplit: ${inline({ by: 'hash', validationShare: 0.15, testShare: 0.25 })}`,
    'auto: {} # searches for model, method and training',
    `output: ${inline(`runs/${run}`)}`,
  ];
  return `${lines.join('\n')}\n`;
}

const DEFAULTS: Readonly<Record<string, unknown>> = {
  countMin: 1,
  lengthMax: 8,
  scale: 'standard',
};

function withoutDefaults(feature: object): object {
  return Object.fromEntries(
    Object.entries(feature).filter(
      ([field, value]) => DEFAULTS[field] !== value && value !== undefined,
    ),
  );
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ');
}

function commented(line: string, reason: string | null): string {
  return reason === null ? line : `${line} # ${oneLine(reason)}`;
}
