import { appendFile, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import {
  folderLogPlace,
  objectLogPlace,
  logFilePlace,
  type SegmentBounds,
  type createEventLog,
} from '../../../shared/events/event-log.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { openedForEach } from '../../fixtures/opened.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

type EventLogPlace = Parameters<typeof createEventLog>[0]['place'];

const BOUNDS = { segmentByteCountMax: 100, segmentCountMax: 3 };
/** 10 bytes. */
const line = (index: number): string => `line ${String(index).padStart(4, '0')}\n`;
const lines = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, index) => line(from + index));

const folder = openedForEach(temporaryFolder);
const opened: EventLogPlace[] = [];
const placeIn = (bounds?: SegmentBounds): EventLogPlace => {
  const place = folderLogPlace(folder.path, bounds);
  opened.push(place);
  return place;
};
afterEach(async () => {
  await Promise.all(opened.splice(0).map((place) => place.close()));
});

describe('in a folder', () => {
  const segmentsIn = async (): Promise<Record<string, string>> => {
    const events = join(folder.path, 'events');
    const names = (await readdir(events)).sort();
    const found: Record<string, string> = {};
    for (const name of names) found[name] = await readFile(join(events, name), 'utf8');
    return found;
  };

  it('rolls at a size, keeps the newest segments, and continues the last', async () => {
    const first = placeIn(BOUNDS);
    for (const each of lines(0, 35)) await first.append(each);
    expect(await segmentsIn()).toEqual({
      'events-000002.ndjson': lines(10, 20).join(''),
      'events-000003.ndjson': lines(20, 30).join(''),
      'events-000004.ndjson': lines(30, 35).join(''),
    });
    await placeIn(BOUNDS).append(line(35));
    expect((await segmentsIn())['events-000004.ndjson']).toBe(lines(30, 36).join(''));
  });

  it('removes the partial line of a process that was killed', async () => {
    await placeIn().append(line(0));
    await appendFile(join(folder.path, 'events', 'events-000001.ndjson'), 'line 00');
    await placeIn().append(line(1));
    expect(Object.values(await segmentsIn())).toEqual([line(0) + line(1)]);
  });
});

describe('in one file', () => {
  const path = (): string => join(folder.path, 'logs', 'worker.ndjson');
  const fileIn = (byteCountMax?: number): EventLogPlace => {
    const place = logFilePlace(path(), byteCountMax);
    opened.push(place);
    return place;
  };

  it('moves a full file aside, in place of the one before', async () => {
    const place = fileIn(100);
    for (const each of lines(0, 25)) await place.append(each);
    expect(await readFile(path(), 'utf8')).toBe(lines(20, 25).join(''));
    expect(await readFile(`${path()}.1`, 'utf8')).toBe(lines(10, 20).join(''));
    expect(await readdir(join(folder.path, 'logs'))).toHaveLength(2);
  });
});

describe('in an object store', () => {
  const segmentsOf = async (store: MemoryObjectStore): Promise<Record<string, string>> => {
    const found: Record<string, string> = {};
    for (const key of await store.list(''))
      found[key] = Buffer.from((await store.get(key))?.bytes ?? []).toString();
    return found;
  };

  it('is put when it is saved, rolls at a size and keeps the newest segments', async () => {
    const store = new MemoryObjectStore();
    const place = objectLogPlace(store, BOUNDS);
    await place.append(line(0));
    expect(await store.list('')).toEqual([]);
    await place.save();
    for (const each of lines(1, 35)) {
      await place.append(each);
      await place.save();
    }
    await objectLogPlace(store, BOUNDS).save();
    const next = objectLogPlace(store, BOUNDS);
    await next.append(line(35));
    await next.save();
    expect(await segmentsOf(store)).toEqual({
      'events/events-000002.ndjson': lines(10, 20).join(''),
      'events/events-000003.ndjson': lines(20, 30).join(''),
      'events/events-000004.ndjson': lines(30, 36).join(''),
    });
  });
});
