/** The measures of a soak: memory of every process, Redis, temporary files and what runs write. */

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../shared/base/clock.js';
import { familyOf, usageOf } from '../bench/resident-memory.js';
import type { GrowthRule, Point } from './flatness.js';
import type { Victim } from './soak-processes.js';
import { QUEUE_PREFIX, type SoakRoom } from './soak-room.js';

export interface Measured {
  readonly name: string;
  readonly unit: 'MiB' | 'count';
  readonly points: readonly Point[];
}

const SHARE_PER_HOUR = 0.1;
const AMOUNT_PER_HOUR: Readonly<Record<Measured['unit'], number>> = { MiB: 16, count: 10 };

const BLOBS = 'blobs in Redis';

/** @param blobLifetimeMinutes how long blobs of killed processes stay; their number rises until then */
export function ruleOf({ name, unit }: Measured, blobLifetimeMinutes: number): GrowthRule {
  return {
    ...{ sharePerHour: SHARE_PER_HOUR, amountPerHour: AMOUNT_PER_HOUR[unit] },
    // The least of a process that is started again and again is that of a start.
    level: unit === 'MiB' && name.includes('steady') ? 'least' : 'median',
    settledMinute: name === BLOBS ? blobLifetimeMinutes : 0,
  };
}

/** The processes of a soak. The steady ones live as long as it does. */
interface Watched {
  readonly room: SoakRoom;
  readonly steadyCoordinator: { readonly pid: number };
  readonly steadyWorker: { readonly pid: number };
  readonly struckCoordinator: Victim;
  readonly struckWorkers: readonly Victim[];
  /** Folders that runs write. */
  readonly outputs: Readonly<Record<'steady' | 'struck', string>>;
}

const INTERVAL_MS = 5_000;
const REDIS_WAIT_MS = 2_000;
const MIB = 1024 * 1024;

/** The name of a measure, its unit and the value; null while it cannot be had. */
type Reading = readonly [name: string, unit: Measured['unit'], value: number | null];

export class Sampler {
  readonly #watched: Watched;
  readonly #startMs = systemClock.monotonicMs();
  readonly #points = new Map<string, { unit: Measured['unit']; points: Point[] }>();

  constructor(watched: Watched) {
    this.#watched = watched;
  }

  async sampleUntil(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const minute = this.minutes();
      for (const [name, unit, value] of await readings(this.#watched)) {
        const known = this.#points.get(name) ?? { unit, points: [] };
        if (value !== null) known.points.push({ minute, value });
        this.#points.set(name, known);
      }
      await systemClock.sleep(INTERVAL_MS, signal);
    }
  }

  minutes(): number {
    return (systemClock.monotonicMs() - this.#startMs) / 60_000;
  }

  measured(): Measured[] {
    return [...this.#points].map(([name, { unit, points }]) => ({ name, unit, points }));
  }
}

async function readings(watched: Watched): Promise<Reading[]> {
  const { room, steadyCoordinator, steadyWorker, struckCoordinator, struckWorkers } = watched;
  const family = familyOf(steadyWorker.pid);
  const compute = family[1] ?? null;
  const struckPids = struckWorkers.map((worker) => worker.pid());
  const struckComputes = struckPids.map((pid) => familyOf(pid)[1] ?? null);
  const temporary = contentOf(room.temporary);
  return [
    ['steady coordinator', 'MiB', residentMiB([steadyCoordinator.pid])],
    ['steady worker', 'MiB', residentMiB([steadyWorker.pid])],
    ['compute process of the steady worker', 'MiB', residentMiB([compute])],
    ['struck coordinator', 'MiB', residentMiB([struckCoordinator.pid()])],
    ['struck workers, together', 'MiB', residentMiB(struckPids)],
    ['compute processes of the struck workers, together', 'MiB', residentMiB(struckComputes)],
    ['Redis primary', 'MiB', residentMiB([room.redis.primary().server.pid])],
    ['Redis replica', 'MiB', residentMiB([room.redis.replica().server.pid])],
    ['open files of the steady coordinator', 'count', openFileCount(steadyCoordinator.pid)],
    ['open files of the steady worker', 'count', openFileCount(steadyWorker.pid)],
    ['processes', 'count', processCount(room.temporary)],
    ...(await redisReadings(room)),
    ['temporary files', 'count', temporary.fileCount],
    ['temporary files, size', 'MiB', temporary.byteCount / MIB],
    ...outputReadings('steady', watched.outputs.steady),
    ...outputReadings('struck', watched.outputs.struck),
  ];
}

function outputReadings(run: string, folder: string): Reading[] {
  const checkpoints = contentOf(join(folder, 'checkpoints'));
  const whole = contentOf(folder);
  return [
    [`checkpoint files of the ${run} run`, 'count', checkpoints.fileCount],
    [
      `output of the ${run} run without its event log`,
      'MiB',
      (whole.byteCount - contentOf(join(folder, 'events')).byteCount) / MIB,
    ],
  ];
}

async function redisReadings({ redis }: SoakRoom): Promise<Reading[]> {
  const { client } = redis.primary();
  const asked = (async () => {
    const [memory, keyCount] = [await client.info('memory'), await client.dbsize()];
    let blobCount = 0;
    for await (const keys of client.scanStream({ match: `${QUEUE_PREFIX}:blob:*`, count: 1_000 }))
      // The stream gives lists of keys.
      blobCount += (keys as string[]).length;
    return { usedMiB: Number(/used_memory:(\d+)/.exec(memory)?.[1]) / MIB, keyCount, blobCount };
  })().catch(() => null);
  const answer = await Promise.race([asked, systemClock.sleep(REDIS_WAIT_MS).then(() => null)]);
  return [
    ['used memory of Redis', 'MiB', answer?.usedMiB ?? null],
    ['keys in Redis', 'count', answer?.keyCount ?? null],
    [BLOBS, 'count', answer?.blobCount ?? null],
  ];
}

/** Null if one of the processes is not there. */
function residentMiB(pids: readonly (number | null)[]): number | null {
  const each = pids.map((pid) => (pid === null ? 0 : usageOf(pid).residentKiB));
  return each.includes(0) ? null : each.reduce((sum, kib) => sum + kib, 0) / 1024;
}

function openFileCount(pid: number): number | null {
  try {
    return readdirSync(`/proc/${pid}/fd`).length;
  } catch {
    return null;
  }
}

/** All processes of the soak's commands, also those whose parent is gone. */
export function processCount(temporary: string): number {
  const mark = `TMPDIR=${temporary}\0`;
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(mark);
    } catch {
      return false;
    }
  }).length;
}

interface FolderContent {
  readonly fileCount: number;
  readonly byteCount: number;
}

export function contentOf(folder: string): FolderContent {
  const content = { fileCount: 0, byteCount: 0 };
  for (const entry of entriesIn(folder)) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      const inner = contentOf(path);
      content.fileCount += inner.fileCount;
      content.byteCount += inner.byteCount;
    } else {
      content.fileCount += 1;
      content.byteCount += statSync(path, { throwIfNoEntry: false })?.size ?? 0;
    }
  }
  return content;
}

/** Nothing if the folder has gone meanwhile. */
function entriesIn(folder: string): { name: string; isDirectory(): boolean }[] {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch {
    return [];
  }
}
