/** Starts the processes of a load, lets them run to the end, and returns what the coordinator measured. */

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startEmbeddedRedis } from '#bootstrap/embedded-redis.mjs';
import {
  BARE_LOAD,
  LOADS,
  MeasuredLoadSchema,
  SIMULATED_LOAD,
  type CaseName,
  type MeasuredLoad,
  type Part,
} from './overhead-cases.js';

/** Starts a script of this folder with this process's own flags, as `--cpu-prof`, and awaits its first line. */
function started(script: string, args: readonly string[]) {
  const path = fileURLToPath(new URL(`${script}.js`, import.meta.url));
  const child = spawn(process.execPath, [...process.execArgv, path, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  const firstLine = new Promise<string>((resolve, reject) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (output.includes('\n')) resolve(output.slice(0, output.indexOf('\n')));
    });
    child.once('close', () => reject(new Error(`${script} ended early`)));
  });
  return { child, firstLine };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  await once(child, 'close');
}

/** @param checkout the one that is measured */
export async function measuredLoad(name: CaseName, checkout: string): Promise<MeasuredLoad> {
  if (name === 'simulated') {
    const part: Part = {
      ...{ checkout, redisUrl: '', load: SIMULATED_LOAD, place: 0, pids: {} },
    };
    const { firstLine } = started('thousand-workers', [JSON.stringify(part)]);
    return MeasuredLoadSchema.parse(JSON.parse(await firstLine));
  }
  const load = name === 'bare' ? BARE_LOAD : LOADS[name];
  const scripts = name === 'bare' ? 'bare' : 'overhead';
  const dataDir = mkdtempSync(join(tmpdir(), 'qianmo-overhead-redis-'));
  const redis = await startEmbeddedRedis({ dataDir, password: '' });
  const children: ChildProcess[] = [];
  try {
    let redisUrl = redis.url;
    const pids: Record<string, number[]> = { redis: [redis.pid], proxy: [], workers: [] };
    const start = (of: string, script: string, args: readonly string[]) => {
      const process = started(script, args);
      children.push(process.child);
      pids[of]?.push(process.child.pid ?? 0);
      return process;
    };
    if (load.latencyMs > 0) {
      const args = [String(redis.port), String(load.latencyMs)];
      redisUrl = `redis://127.0.0.1:${await start('proxy', 'latency-proxy', args).firstLine}`;
    }
    const partAt = (place: number): string => {
      const part: Part = { checkout, redisUrl, load, place, pids };
      return JSON.stringify(part);
    };
    const places = Array.from({ length: load.processCount }, (_, place) => place);
    await Promise.all(
      places.map((place) => start('workers', `${scripts}-workers`, [partAt(place)]).firstLine),
    );
    const { child, firstLine } = start('coordinator', `${scripts}-coordinator`, [partAt(0)]);
    const measured = MeasuredLoadSchema.parse(JSON.parse(await firstLine));
    // It ends by itself, as the others do when they are told.
    if (child.exitCode === null) await once(child, 'close');
    return measured;
  } finally {
    for (const child of children.reverse()) await ended(child);
    await redis.stop();
    rmSync(dataDir, { recursive: true, force: true });
  }
}
