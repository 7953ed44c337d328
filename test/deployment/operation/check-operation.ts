/**
 * `npm run check -- operation`: reads the endpoints of real processes with the tools that operators use. promtool reads each
 * live scrape, rules and their tests; every expression of a dashboard parses and finds its metric. Fetches what it needs into the cache of the user.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { METRIC_NAMES } from '../../../shared/metrics/metric-definitions.js';
import { markdownTable } from '../../bench/bench-header.js';
import { seenScene, type SeenScene } from './live-scene.js';
import {
  demandCleanMetrics,
  demandSoundRules,
  namedMetrics,
  promtool,
} from './monitoring-tools.js';
import { benchOptions } from '../../bench/options/bench-options.js';

const WantedSchema = z.strictObject({ cpu: z.literal(4), gpu: z.literal(0) });

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

type Row = readonly [check: string, found: string];

function checkedRows(scene: SeenScene): Row[] {
  const tool = promtool(say);
  const scraped = Object.entries(scene.scrapes).map(([name, text]): Row => {
    demandCleanMetrics(tool, text);
    return [`promtool check metrics: ${name}`, `${familiesIn(text).length} metrics, clean`];
  });
  const version = demandSoundRules(tool);
  const { names, expressionCount } = namedMetrics(say);
  const live = new Set(Object.values(scene.scrapes).flatMap(familiesIn));
  const missing = names.filter((name) => !live.has(name));
  if (missing.length > 0) throw new Error(`in no live scrape: ${missing.join(', ')}`);
  const undefinedOnes = [...live].filter((name) => !METRIC_NAMES.some((each) => each === name));
  if (undefinedOnes.length > 0) throw new Error(`not defined: ${undefinedOnes.join(', ')}`);
  WantedSchema.parse(scene.workersWanted);
  return [
    ...scraped,
    ['promtool check rules, test rules', `sound; ${version}`],
    ['expressions of the dashboards', `${expressionCount} parse`],
    ['metrics that dashboards and rules name', `${names.length}, all in a live scrape`],
    ['workers wanted', JSON.stringify(scene.workersWanted)],
  ];
}

function familiesIn(scrape: string): string[] {
  return [...scrape.matchAll(/^# TYPE (\w+)/gm)].map((match) => match[1] ?? '');
}

async function main(): Promise<void> {
  benchOptions(import.meta.url, {});
  const folder = mkdtempSync(join(tmpdir(), 'qianmo-operation-'));
  try {
    const rows = checkedRows(await seenScene(folder, say));
    console.log(markdownTable(['check', 'found'], rows).join('\n'));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

await main();
