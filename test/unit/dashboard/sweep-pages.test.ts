/** The pages of sweeps, searches and comparisons: their trials or arms, the best, and links to the runs of trials. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { partsHtml } from '../../../coordinator/dashboard/page.js';
import { RunCatalog } from '../../../coordinator/dashboard/run-catalog.js';
import { sweepListPage, sweepPage } from '../../../coordinator/dashboard/list-pages.js';
import type { SweepRecord } from '../../../coordinator/sweep/sweep-record.js';
import { systemClock } from '../../../shared/base/clock.js';
import { writeRecord } from '../../fixtures/written-record.js';
import { temporaryFolder, type TemporaryFolder } from '../../fixtures/temporary-folder.js';

const CELL = { kind: 'inner-steps', innerRate: 0.1, innerSteps: 3 } as const;

let folder: TemporaryFolder;
let catalog: RunCatalog;

beforeAll(async () => {
  folder = await temporaryFolder();
  const at = (name: string): string => join(folder.path, name);
  for (const [name, call] of [
    ['shop', 'sweep'],
    ['shop/auto', 'auto'],
    ['broken', 'compare'],
    ['shop/t1', 'train'],
  ] as const)
    await writeRecord(at(name), { run: name.replace('/', '-'), outerSteps: 4, call });
  await writeFile(at('shop/sweep.json'), JSON.stringify(record('t1')));
  await writeFile(at('shop/auto/auto.json'), JSON.stringify(record(null)));
  await writeFile(at('broken/comparison.json'), '{"formatVersion":99}');
  catalog = new RunCatalog({
    roots: [folder.path],
    s3: { region: 'us-east-1', forcePathStyle: true },
    clock: systemClock,
  });
});
afterAll(() => folder.remove());

function record(best: string | null): SweepRecord {
  const score = (validationLogloss: number | null) => ({
    ...{ rungIndex: 0, outerSteps: 40, validationLogloss, metaDigest: 'd' },
    cell: validationLogloss === null ? null : CELL,
  });
  const trial = (name: string, loss: number | null, rate: number) => ({
    ...{ name, run: `shop-${name}`, output: `elsewhere/../${name}`, configHash: 'h' },
    ...{ settings: { 'method.innerRate': rate }, scores: [score(loss)] },
  });
  return {
    ...{
      formatVersion: 1,
      kind: 'sweep',
      sweep: 'shop',
      base: 'run.yaml',
      planHash: 'p',
      storeDigest: 's',
    },
    ...{ criterion: 'logloss on validation adgroups', loss: 'logloss' },
    rungs: [{ outerSteps: 40, trialCount: 3 }],
    trials: [
      trial('t2', null, 3),
      trial('t3', 0.61, 0.3),
      { ...trial('t1', 0.5, 0.1), output: 'shop/t1' },
    ],
    best:
      best === null
        ? null
        : { trial: best, validationLogloss: 0.5, cell: CELL, config: 'shop/t1/run.yaml' },
  };
}

async function htmlOf(path: string): Promise<string> {
  const key = path.replace('/sweeps', '').slice(1);
  const page = key === '' ? await sweepListPage(catalog) : await sweepPage(catalog, key);
  return page === null ? 'none' : partsHtml(page);
}

it('lists sweeps and searches with the best that they have found, and no runs', async () => {
  const html = await htmlOf('/sweeps');
  expect(html).toMatch(/<a href="\/sweeps\/shop">shop<\/a>.*sweep.*>3<.*>t1<.*>0\.5000</);
  expect(html).toMatch(/<a href="\/sweeps\/shop:auto">.*search.*>-<.*>-</);
  expect(html).toContain('/sweeps/broken');
  expect(html).not.toContain('/sweeps/shop:t1');
});

it('shows trials, the best first, those that diverged last, with links to runs that are there', async () => {
  const html = await htmlOf('/sweeps/shop');
  expect(html).toContain('<a href="/runs/shop:t1">t1 *</a>');
  const places = ['>t1 *<', '>t3<', '>t2<'].map((text) => html.lastIndexOf(text));
  expect(places).toEqual([...places].sort((a, b) => a - b));
  expect(html).toContain('diverged');
  expect(html).toContain('inner rate 0.1, 3 inner steps');
  expect(html).toContain('>method.innerRate</th>');
  expect(html).toContain('<svg role="img" aria-label="Scores of the trials');
  expect(html).toContain('/runs/shop/files/sweep.html');
  expect(await htmlOf('/sweeps/shop:auto')).not.toContain('auto.html');
});

it('has no page for a run, and says of a file of another version that it cannot be read', async () => {
  expect(await htmlOf('/sweeps/shop:t1')).toBe('none');
  expect(await htmlOf('/sweeps/nobody')).toBe('none');
  expect(await htmlOf('/sweeps/broken')).toContain('another version');
});
