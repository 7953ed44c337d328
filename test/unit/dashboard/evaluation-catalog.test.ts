/** Adgroups of evaluated runs: of every segment, and read again only when a report was written anew. */

import { expect, it, test } from 'vitest';
import { EvaluationCatalog } from '../../../coordinator/dashboard/catalog/evaluated-adgroup.js';
import { adgroupPage } from '../../../coordinator/dashboard/pages/adgroup-page.js';
import {
  fileOfSegment,
  REPORT_FILE,
  segmentOfKey,
} from '../../../coordinator/scoring/evaluation-report.js';
import { TEST_LOGITS_KEY } from '../../../coordinator/scoring/test-logits.js';
import type { Clock } from '../../../shared/base/clock.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { evaluatedOutput } from '../../fixtures/evaluation/evaluated-runs.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

const LIST = { name: null, segment: null };

function handClock(): Clock & { nowMs: number } {
  return {
    nowMs: 0,
    epochMs: () => 0,
    monotonicMs() {
      return this.nowMs;
    },
    sleep: () => Promise.resolve(),
  };
}

/** The store with its reads counted. */
function counted(store: ObjectStore): { store: ObjectStore; reads: string[] } {
  const reads: string[] = [];
  const counting: ObjectStore = {
    address: store.address,
    get: (key, byteCountMax) => {
      reads.push(key);
      return store.get(key, byteCountMax);
    },
    put: (key, bytes, condition) => store.put(key, bytes, condition),
    list: (prefix, countMax) => store.list(prefix, countMax),
    listWithTimes: (prefix) => store.listWithTimes(prefix),
    delete: (key) => store.delete(key),
  };
  return { reads, store: counting };
}

const evaluated = () =>
  evaluatedOutput('near', { store: tinyTaskStore({ taskCount: 60, counts: true }) });

/** Moves the files of an evaluation to those of a segment. */
async function asSegment(output: ObjectStore, from: ObjectStore, segment: string): Promise<void> {
  for (const file of [TEST_LOGITS_KEY, REPORT_FILE]) {
    const object = await from.get(file);
    if (object === null) throw new Error(`no ${file}`);
    await output.put(fileOfSegment(file, segment), object.bytes, { kind: 'always' });
  }
}

it('reads an evaluation once, and again when its report was written anew', async () => {
  // Seen to fail: without what is kept, and with what is kept for ever.
  const { store, reads } = counted(await evaluated());
  const clock = handClock();
  const catalog = new EvaluationCatalog(clock);
  const first = await catalog.adgroupsOf(store, LIST);
  const name = first?.largest[0]?.name ?? '';
  for (clock.nowMs = 0; clock.nowMs < 60_000; clock.nowMs += 1_000)
    expect((await catalog.adgroupsOf(store, { name, segment: null }))?.found).not.toBeNull();
  expect(reads.filter((key) => key === TEST_LOGITS_KEY)).toHaveLength(1);
  const report = await store.get(REPORT_FILE);
  await store.put(REPORT_FILE, report?.bytes ?? new Uint8Array(), { kind: 'always' });
  reads.length = 0;
  clock.nowMs += 60_000;
  await catalog.adgroupsOf(store, LIST);
  expect(reads).toContain(TEST_LOGITS_KEY);
});

it('finds an adgroup in the segment that has it, whichever was asked for', async () => {
  const source = await evaluated();
  const output = await evaluatedOutput('other', {
    store: tinyTaskStore({ taskCount: 9, counts: true }),
  });
  for (const key of await output.list('')) await output.delete(key);
  await asSegment(output, source, 'new comers');
  await asSegment(output, source, 'buyers');
  const catalog = new EvaluationCatalog(handClock());
  const list = await catalog.adgroupsOf(output, { name: null, segment: 'new comers' });
  expect(list).toMatchObject({ segments: ['buyers', 'new comers'], segment: 'new comers' });
  const [largest] = list?.largest ?? [];
  const found = await catalog.adgroupsOf(output, { name: largest?.name ?? '', segment: 'none' });
  expect(found).toMatchObject({ segment: 'buyers', found: { impressions: largest?.impressions } });
  const page = adgroupPage({ key: 'r', run: 'r', name: null, adgroups: list, asked: null });
  const html = page.parts.map((part) => part.html).join('');
  expect(html).toContain(
    '<a aria-current="true" href="/runs/r/adgroup?segment=new+comers">new comers</a>',
  );
  expect(html).toContain('name="segment" value="new comers"');
  expect(html).toContain(`segment=new+comers&amp;name=${largest?.name ?? ''}`);
  const nobody = await catalog.adgroupsOf(output, { name: 'nobody', segment: null });
  const missing = adgroupPage({
    key: 'r',
    run: 'r',
    name: 'nobody',
    adgroups: nobody,
    asked: null,
  });
  expect(missing.parts.map((part) => part.html).join('')).toContain(
    'No segment has a test adgroup',
  );
});

it('finds an adgroup of several columns by its values with commas, as the form shows them', async () => {
  const store = tinyTaskStore({ taskCount: 60, counts: true });
  const tasks = store.tasks.map((task) => ({ ...task, key: `${task.key}\u001fbuyer` }));
  const output = await evaluatedOutput('near', { store: { ...store, tasks } });
  const catalog = new EvaluationCatalog(handClock());
  const [largest] = (await catalog.adgroupsOf(output, LIST))?.largest ?? [];
  const name = largest?.name.replace('\u001f', ', ') ?? '';
  expect(name).toMatch(/^\w+, buyer$/);
  const found = await catalog.adgroupsOf(output, { name, segment: null });
  // Servers are asked by the key.
  expect(found?.key).toBe(largest?.name);
  const unknown = await catalog.adgroupsOf(output, { name: 'other, ad 1, x', segment: null });
  expect(unknown).toMatchObject({ found: null, key: 'other\u001fad 1, x' });
  expect(found?.found).toMatchObject({ impressions: largest?.impressions });
});

it('is nothing before an evaluation', async () => {
  const output = await evaluated();
  for (const key of await output.list('')) await output.delete(key);
  expect(await new EvaluationCatalog(handClock()).adgroupsOf(output, LIST)).toBeNull();
});

test.each(['buyer', 'neu & alt', '=x', '\u65b0\u5ba2', 'a-b.json'])(
  'the file of the segment %s names it',
  (segment) => {
    expect(segmentOfKey(REPORT_FILE, fileOfSegment(REPORT_FILE, segment))).toBe(segment);
  },
);

test('other files name no segment', () => {
  expect(segmentOfKey(REPORT_FILE, REPORT_FILE)).toBeNull();
  for (const key of ['evaluation-x.html', 'evaluations.json', 'evaluation-=X.json'])
    expect(segmentOfKey(REPORT_FILE, key)).toBeUndefined();
});
