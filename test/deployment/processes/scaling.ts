/**
 * An autoscaler in small, on a live run: it asks the coordinator how many workers the run wants, as KEDA does, and
 * starts and stops real workers. The run is paused in between, and a worker is taken away while it computes.
 */

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { Checks } from '../checks.js';
import { digestIn, endedWith, type RunningProgram } from '../programs.js';
import { startQianmo, writeRun, type Place } from './command-lines.js';

const OUTER_STEPS = 150;
const POLL_MS = 500;
const WAIT_MS_MAX = 120_000;
const Wanted = z.strictObject({ cpu: z.int().min(0), gpu: z.int().min(0) });

/** The rules of a ScaledObject. */
interface Bounds {
  readonly min: number;
  max: number;
}

/** A pool of workers on CPUs that follows what a run wants. */
class Pool {
  readonly #workers: RunningProgram[] = [];
  /** The number of workers after each change, such as `0 2 0 2 1`. */
  readonly sizes: number[] = [];
  readonly #place: Place;

  constructor(place: Place) {
    this.#place = place;
  }

  get size(): number {
    return this.#workers.length;
  }

  /** Workers that leave are asked to stop and have ended when this resolves. */
  async resize(size: number): Promise<void> {
    if (size === this.size) return;
    const data = join(this.#place.folder, 'data');
    const words = ['worker', '--device', 'cpu', '--store-allow', data];
    const coming = Array.from({ length: Math.max(0, size - this.size) }, () =>
      startQianmo(words, this.#place),
    );
    this.#workers.push(...coming);
    // One that is asked to stop before it listens to signals ends by the signal.
    for (const worker of coming) await worker.saw(/takes jobs from/);
    const leaving = this.#workers.splice(size);
    for (const worker of leaving) worker.signal('SIGTERM');
    for (const worker of leaving) endedWith(await worker.ended, 0);
    this.sizes.push(size);
  }
}

async function workersWanted(url: string): Promise<number> {
  const answer = await fetch(`${url}/workers-wanted`);
  return Wanted.parse(await answer.json()).cpu;
}

/** Lets the pool follow the run until it has a size. */
async function followUntil(size: number, url: string, { pool, bounds }: Scaled): Promise<void> {
  for (let waitedMs = 0; pool.size !== size; waitedMs += POLL_MS) {
    if (waitedMs > WAIT_MS_MAX)
      throw new Error(
        `${pool.size} workers and not ${size}; ${await workersWanted(url)} are wanted`,
      );
    await sleep(POLL_MS);
    const wanted = await workersWanted(url);
    await pool.resize(Math.min(bounds.max, Math.max(bounds.min, wanted)));
  }
}

interface Scaled {
  readonly pool: Pool;
  readonly bounds: Bounds;
}

async function order(verb: 'pause' | 'resume', place: Place): Promise<void> {
  endedWith(await startQianmo([verb, 'scaled'], place).ended, 0);
}

async function scaledRun(place: Place): Promise<{ output: string; sizes: readonly number[] }> {
  const config = await writeRun(place.folder, 'scaled', OUTER_STEPS);
  const scaled: Scaled = { pool: new Pool(place), bounds: { min: 0, max: 2 } };
  const { pool, bounds } = scaled;
  const words = ['train', config, '--resume', '--metrics-port', '0'];
  const coordinator = startQianmo(words, place);
  try {
    const [, url = ''] = await coordinator.saw(/metrics: (\S+)\/metrics/);
    await followUntil(2, url, scaled);
    await coordinator.saw(/checkpoint of outer step/);
    await order('pause', place);
    await followUntil(0, url, scaled);
    await order('resume', place);
    await followUntil(2, url, scaled);
    // A cluster that has less room takes a worker away, whatever it computes.
    bounds.max = 1;
    await followUntil(1, url, scaled);
    const output = endedWith(await coordinator.ended, 0);
    return { output, sizes: pool.sizes };
  } finally {
    coordinator.signal('SIGTERM');
    await coordinator.ended;
    await pool.resize(0);
  }
}

async function fixedRun(place: Place): Promise<string> {
  const config = await writeRun(place.folder, 'fixed', OUTER_STEPS);
  const pool = new Pool(place);
  await pool.resize(2);
  try {
    return digestIn(endedWith(await startQianmo(['train', config, '--resume'], place).ended, 0));
  } finally {
    await pool.resize(0);
  }
}

export async function checkScaling({ check }: Checks, place: Place): Promise<void> {
  await check('scaling by workers wanted', async () => {
    const { output, sizes } = await scaledRun(place);
    const lost = output.match(/^.*is tried again.*$/gm) ?? [];
    if (lost.length > 0) throw new Error(`work was lost: ${lost.join('; ')}`);
    const [digest, fixed] = [digestIn(output), await fixedRun(place)];
    if (digest !== fixed) throw new Error(`digest ${digest}, with a fixed pool ${fixed}`);
    return `workers ${sizes.join(', ')}; no job tried again; digest of a fixed pool, ${digest}`;
  });
}
