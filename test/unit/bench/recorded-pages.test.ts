/**
 * Every recorded page whose figures are kept as JSON is exactly what its bench writes from them, so
 * that a change of a page's text is made in the bench and in the page. Seen to fail: a word changed
 * in one of them.
 */

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { adaptationPage } from '../../bench/adaptation/adaptation-page.js';
import { banditDelayPage } from '../../bench/bandit-delay/bandit-delay-page.js';
import { tableOf } from '../../bench/dbook/results-table.js';
import { digestsPage } from '../../bench/digests/digests-page.js';
import { distributedPeersPage } from '../../bench/distributed-peers/distributed-peers-page.js';
import { generatorMarkdown } from '../../bench/generator/generator-table.js';
import { ourMarkdown } from '../../bench/inner-loops/our-results-table.js';
import { comparisonMarkdown } from '../../bench/inner-loops/results-table.js';
import { marketPage, policiesPage } from '../../bench/market/market-page.js';
import { resultsPage } from '../../bench/meta-embedding/results-page.js';
import { readRecord } from '../../bench/meta-embedding/results-record.js';
import { offPolicyPage } from '../../bench/off-policy/off-policy-page.js';
import { overheadPage } from '../../bench/overhead/overhead-page.js';
import { realPage } from '../../bench/real/real-page.js';
import { sinusoidTable } from '../../bench/sinusoid/sinusoid-table.js';
import { soakPage } from '../../bench/soak/soak-page.js';
import { withoutMarks } from '../../bench/results/moved-figures.js';
import { startPage } from '../../bench/start/start-page.js';
import { experimentTable, type WorldCell } from '../../bench/synthetic-world-table.js';
import { trafficPage } from '../../bench/traffic-table.js';

/** The result has the type that the page function takes, because its bench wrote the file from it. */
function recorded(name: string): never {
  return JSON.parse(readFileSync(`infra/results/${name}.json`, 'utf8')) as never;
}

type RecordedWorld = Parameters<typeof experimentTable>[0] & {
  /** A recorded cell holds the parts of its report next to its own fields. */
  readonly cells: readonly (Omit<WorldCell, 'report'> & WorldCell['report'])[];
};

type RecordedSinusoid = Parameters<typeof sinusoidTable>[0] & {
  readonly rows: Parameters<typeof sinusoidTable>[1];
};

function syntheticWorldPage(): string {
  const world: RecordedWorld = recorded('synthetic-world');
  return experimentTable(
    world,
    world.cells.map((cell) => ({ ...cell, report: cell })),
  );
}

function sinusoidPage(): string {
  const { rows, ...header }: RecordedSinusoid = recorded('sinusoid');
  return sinusoidTable(header, rows);
}

type RecordedTraffic = Parameters<typeof trafficPage>[0] & {
  readonly runs: Parameters<typeof trafficPage>[1];
};

function trafficPageOfRecord(): string {
  const traffic: RecordedTraffic = recorded('traffic');
  return trafficPage(traffic, traffic.runs);
}

test.each([
  ['adaptation', () => adaptationPage(recorded('adaptation'))],
  ['bandit-delay', () => banditDelayPage(recorded('bandit-delay'))],
  ['dbook', () => tableOf(recorded('dbook'), recorded('dbook'))],
  ['digests', () => digestsPage(recorded('digests'))],
  ['generator', () => generatorMarkdown(recorded('generator'))],
  ['inner-loops', () => comparisonMarkdown(recorded('inner-loops'))],
  ['inner-loops-ours', () => ourMarkdown(recorded('inner-loops-ours'))],
  ['market', () => marketPage(recorded('market'))],
  ['market-policies', () => policiesPage(recorded('market-policies'))],
  ['meta-embedding', () => resultsPage(readRecord('infra/results/meta-embedding.json'))],
  ['ope', () => offPolicyPage(recorded('ope'))],
  ['overhead', () => overheadPage(recorded('overhead'))],
  ['real', () => realPage(recorded('real'))],
  ['sinusoid', sinusoidPage],
  ['soak', () => soakPage(recorded('soak'))],
  ['distributed-peers', () => distributedPeersPage(recorded('distributed-peers'))],
  ['start', () => startPage(recorded('start'))],
  ['synthetic-world', syntheticWorldPage],
  ['traffic', trafficPageOfRecord],
])('%s.md is what its bench writes from its figures', (name, page) => {
  // The marks of older figures are those that test/tidy/moved-figures.test.ts expects.
  expect(withoutMarks(page())).toBe(withoutMarks(readFileSync(`infra/results/${name}.md`, 'utf8')));
});
