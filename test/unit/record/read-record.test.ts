/** The events of a record, from folders and from an object store, whole, from the end, and as they come. */

import { appendFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { RecordFollower, RunRecord } from '../../../coordinator/record/run-record.js';
import { encodeEvent } from '../../../shared/events/event-lines.js';
import { openedForEach } from '../../fixtures/opened.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

const S3 = { region: 'r', forcePathStyle: true };
const folder = openedForEach(temporaryFolder);

const line = (epochMs: number): string =>
  `${encodeEvent({ kind: 'run-started', epochMs, runId: 'r', outerStep: 0, outerSteps: 5 })}\n`;
const LINE_LENGTH = line(1).length;
const segment = (output: string, number: number): string =>
  join(folder.path, output, 'events', `events-00000${number}.ndjson`);

async function write(output: string, number: number, text: string): Promise<void> {
  await mkdir(join(folder.path, output, 'events'), { recursive: true });
  await writeFile(segment(output, number), text);
}
const recordOf = (output: string) => new RunRecord(join(folder.path, output), S3);
async function next(follower: RecordFollower) {
  const events = [];
  for await (const part of follower.parts()) events.push(...part.events);
  return { events };
}
const timesOf = ({ events }: { readonly events: readonly { readonly epochMs: number }[] }) =>
  events.map(({ epochMs }) => epochMs);

test('the end of a log begins with a whole line, and crosses segments', async () => {
  await write('run', 1, line(1) + line(2));
  await write('run', 2, line(3) + line(4));
  const last = (byteCount: number) => recordOf('run').lastEvents(byteCount);
  expect(timesOf(await last(10_000))).toEqual([1, 2, 3, 4]);
  expect(timesOf(await last(2 * LINE_LENGTH + 5))).toEqual([3, 4]);
  expect(timesOf(await last(3 * LINE_LENGTH + 5))).toEqual([2, 3, 4]);
  expect(timesOf(await last(LINE_LENGTH - 1))).toEqual([]);
});

test('lines of another version are counted, and half a line is not read', async () => {
  const later = '{"schemaVersion":2,"kind":"run-started"}\n';
  await write('run', 1, `${line(1)}${later}no json\n${line(2)}{"schemaVersion":1,"ki`);
  const read = await recordOf('run').lastEvents(10_000);
  expect(timesOf(read)).toEqual([1, 2]);
  expect(read.unknownCount).toBe(2);
});

test('a follower takes each event once, also when the log is rolled and its old part removed', async () => {
  const follower = new RecordFollower(recordOf('run'));
  expect(timesOf(await next(follower))).toEqual([]);
  await write('run', 1, line(1) + line(2).slice(0, 10));
  expect(timesOf(await next(follower))).toEqual([1]);
  await appendFile(segment('run', 1), line(2).slice(10) + line(3));
  expect(timesOf(await next(follower))).toEqual([2, 3]);
  await write('run', 2, line(4));
  expect(timesOf(await next(follower))).toEqual([4]);
  await rm(segment('run', 1));
  await appendFile(segment('run', 2), line(5));
  expect(timesOf(await next(follower))).toEqual([5]);
});

test('a follower begins anew with a log that takes the place of another', async () => {
  const follower = new RecordFollower(recordOf('run'));
  const coming = async (): Promise<[number[], boolean][]> => {
    const parts: [number[], boolean][] = [];
    for await (const part of follower.parts()) parts.push([timesOf(part), part.isAnew]);
    return parts;
  };
  await write('run', 1, line(1) + line(2) + line(3));
  expect(await coming()).toEqual([[[1, 2, 3], false]]);
  await write('run', 1, line(4));
  expect(await coming()).toEqual([[[4], true]]);
  await write('run', 2, line(5));
  expect(await coming()).toEqual([[[5], false]]);
  await rm(join(folder.path, 'run'), { recursive: true });
  expect(await coming()).toEqual([]);
  await write('run', 1, line(6) + line(7));
  expect(await coming()).toEqual([[[6, 7], true]]);
});

test('a follower goes on where its segment is removed after the segments were listed', async () => {
  const record = recordOf('run');
  let afterListing = (): Promise<void> => Promise.resolve();
  const follower = new RecordFollower({
    segment: (sequence) => record.segment(sequence),
    sequences: async () => {
      const found = await record.sequences();
      await afterListing();
      return found;
    },
  });
  await write('run', 1, line(1));
  expect(timesOf(await next(follower))).toEqual([1]);
  await write('run', 2, line(2));
  afterListing = () => rm(segment('run', 1), { force: true });
  const parts: [number[], boolean][] = [];
  for await (const part of follower.parts()) parts.push([timesOf(part), part.isAnew]);
  expect(parts).toEqual([[[2], false]]);
});
