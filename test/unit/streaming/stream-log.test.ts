/** Logs as a stream: order, slots and crosses, refusals, and config errors. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { comparisonSettingsOf } from '../../../coordinator/streaming/comparison-settings.js';
import { readStreamLog } from '../../../coordinator/streaming/stream-log.js';
import { StreamConfigSchema, type StreamConfig } from '../../../shared/config/stream-config.js';
import type { QianmoError } from '../../../shared/base/errors.js';
import type { RunEventSink } from '../../../shared/events/run-events.js';
import type { StreamRows } from '../../../shared/streaming/stream-rows.js';
import { smallStream } from '../../fixtures/small-stream.js';
import { temporaryFolder, type TemporaryFolder } from '../../fixtures/temporary-folder.js';
import { warningsOf } from '../../fixtures/told.js';

let folder: TemporaryFolder;
beforeAll(async () => {
  folder = await temporaryFolder();
});
afterAll(() => folder.remove());

function configOf(change: Record<string, unknown>): Record<string, unknown> {
  return {
    run: 'small',
    data: { logs: 'log.csv', label: { column: 'click' }, time: 'at' },
    slots: [
      { name: 'ad' },
      { name: 'tag', expression: "string_split(tags, '|')" },
      { name: 'ad x tag', cross: ['ad', 'tag'] },
    ],
    output: 'out',
    ...change,
  };
}

async function streamOf(
  csv: string,
  label: unknown = { column: 'click' },
  sink: RunEventSink = () => undefined,
): Promise<StreamRows> {
  const logs = join(folder.path, 'log.csv');
  await writeFile(logs, csv);
  const config = StreamConfigSchema.parse(configOf({ data: { logs, label, time: 'at' } }));
  return readStreamLog(config, {
    sink,
    signal: new AbortController().signal,
    objectStoreOf: () => {
      throw new Error('there is no object store');
    },
    temporaryFolder: folder.path,
  });
}

function faultsOf(change: Record<string, unknown>): string[] {
  const parsed = StreamConfigSchema.safeParse(configOf(change));
  return parsed.success ? [] : parsed.error.issues.map(({ message }) => message);
}

describe('a log read as a stream', () => {
  test('rows are ordered by time, and by reading order when times are equal', async () => {
    const rows = await streamOf('at,ad,tags,click\n172800,b,x,0\n0,a,x|y,1\n172800,a,,1\n');
    expect([...rows.times]).toEqual([0, 2, 2]);
    expect([...rows.clicks]).toEqual([1, 0, 1]);
    // ad a = 0, tags x and y = 1 and 2, their crosses 3 and 4; then ad b = 5, its cross 6.
    expect([...rows.features]).toEqual([0, 1, 2, 3, 4, 5, 1, 6, 0]);
    expect([...rows.rowStarts]).toEqual([0, 5, 8, 9]);
  });

  test('times may be timestamps, labels conditions', async () => {
    const csv = 'at,ad,tags,click\n2019-11-24 12:00:00,a,x,3\n2019-11-24 00:00:00,b,y,5\n';
    const rows = await streamOf(csv, { expression: 'click >= 4' });
    expect([...rows.times]).toEqual([0, 0.5]);
    expect([...rows.clicks]).toEqual([1, 0]);
  });

  test('labels are 0 and 1 in any spelling', async () => {
    const rows = await streamOf('at,ad,tags,click\n0,a,x,TRUE\n1,a,x,false\n2,a,x,1.0\n3,a,x,0\n');
    expect([...rows.clicks]).toEqual([1, 0, 1, 0]);
  });

  test.each([
    ['a word', { column: 'click' }, ['maybe', '1'], 1],
    ['nothing', { column: 'click' }, ['', '1', '0'], 1],
    ['ratings', { column: 'click' }, ['1', '2', '5', '0.5', '-1', '0'], 4],
    ['a condition that fails', { expression: 'CAST(click AS INTEGER) = 1' }, ['1', 'x', 'y'], 2],
    ['a condition of nothing', { expression: "nullif(click, '2') = '1'" }, ['1', '2', 'y'], 1],
  ] as const)(
    'rows labelled with %s are refused, with their number',
    async (_, label, clicks, count) => {
      const lines = clicks.map((click, row) => `${row},a,x,${click}`);
      const failure = await streamOf(['at,ad,tags,click', ...lines, ''].join('\n'), label).catch(
        (error: unknown) => error,
      );
      expect((failure as QianmoError).report).toMatchObject({
        kind: 'data',
        found: `${count} lines that have a label that is neither 0 nor 1`,
      });
    },
  );

  test('a label expression that is not a condition is refused', async () => {
    const csv = 'at,ad,tags,click\n0,a,x,3\n1,b,y,5\n';
    await expect(streamOf(csv, { expression: 'click - 3' })).rejects.toMatchObject({
      kind: 'usage',
      report: { found: 'its type is BIGINT, not BOOLEAN: it must be true or false' },
    });
  });

  test.each([
    ['0', 'every row of the stream has label 0'],
    ['1', 'every row of the stream has label 1'],
  ])('reports that all labels are %s', async (click, sentence) => {
    const warnings: string[] = [];
    const sink: RunEventSink = (event) => void warnings.push(...warningsOf([event]));
    await streamOf(`at,ad,tags,click\n0,a,x,${click}\n1,b,y,${click}\n`, undefined, sink);
    expect(warnings).toEqual([expect.stringContaining(sentence)]);
    warnings.length = 0;
    await streamOf('at,ad,tags,click\n0,a,x,0\n1,b,y,1\n', undefined, sink);
    expect(warnings).toEqual([]);
  });
});

describe('a stream config', () => {
  test('crosses name earlier slots, and slot names are unique', () => {
    expect(faultsOf({ slots: [{ name: 'both', cross: ['ad', 'tag'] }, { name: 'ad' }] })).toEqual([
      'crosses "ad", which is no earlier slot',
      'crosses "tag", which is no earlier slot',
    ]);
    expect(faultsOf({ slots: [{ name: 'ad' }, { name: 'ad' }] })).toEqual(['"ad" names two slots']);
    expect(faultsOf({ learned: { embedded: ['ad', 'user'] } })).toEqual([
      'there is no slot "user"',
    ]);
  });

  test('a slot has one source, a label one value', () => {
    expect(faultsOf({ slots: [{ name: 'ad', column: 'a', expression: 'a' }] })).toHaveLength(1);
    const label = { clicks: 'c', impressions: 'i' };
    expect(faultsOf({ data: { logs: 'l', time: 't', label } })).toHaveLength(1);
  });

  test('a stream too short for its windows is refused', () => {
    const config: StreamConfig = StreamConfigSchema.parse(configOf({}));
    const rows = smallStream({ seed: 1, rowCount: 60 });
    expect(() => comparisonSettingsOf(config, rows)).toThrow('the stream is too short');
    const long = comparisonSettingsOf(config, smallStream({ seed: 1, rowCount: 200 }));
    expect(long).toMatchObject({ priorRowCount: 60, windowRows: 3, embeddedSlots: [0, 1] });
    expect(long.segmentStarts).toHaveLength(50);
    expect(long.segmentStarts[0]).toBe(60);
  });

  test('a prior part with a single time is refused: ages are measured in its length', () => {
    const config: StreamConfig = StreamConfigSchema.parse(configOf({}));
    const rows = smallStream({ seed: 1, rowCount: 200 });
    const timesThatDifferFrom = (first: number): StreamRows => ({
      ...rows,
      times: Float64Array.from({ length: 200 }, (_, row) => Math.max(0, row - first + 1)),
    });
    expect(comparisonSettingsOf(config, timesThatDifferFrom(59)).priorRowCount).toBe(60);
    expect(() => comparisonSettingsOf(config, timesThatDifferFrom(60))).toThrow(
      'all rows of the prior part have the same time',
    );
  });
});
