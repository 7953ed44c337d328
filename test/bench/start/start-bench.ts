/**
 * The time from `qianmo train` to the first outer step, on a machine that ran before, and the processor
 * time that it takes. Every round starts each way in each checkout, one after the other. Writes
 * `infra/results/start.json` and `.md`.
 *
 *   npm run bench:start -- --rounds 5
 *   npm run bench:start -- --base ../other-checkout
 */

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { packageRoot } from '../../../infra/library/package-root.js';
import { systemClock } from '../../../shared/base/clock.js';
import { benchHeader } from '../bench-header.js';
import {
  configFileOf,
  openRooms,
  prepareRoom,
  qianmoArgs,
  type ScalingRoom,
} from '../scaling/scaling-configs.js';
import { startPage, WAYS, type MeasuredStart, type StartResults } from './start-page.js';
import { benchOptions } from '../options/bench-options.js';
import { text, wholeNumber } from '../options/option-values.js';

const options = benchOptions(import.meta.url, {
  rounds: {
    value: wholeNumber(),
    default: '5',
    about: 'how often everything is measured, in turns',
  },
  base: {
    value: text,
    about: 'another checkout, compiled there, which is measured in every round as well',
  },
  output: {
    value: text,
    default: new URL('infra/results/', packageRoot).pathname,
    about: 'folder of the record and its page',
  },
});
const { rounds } = options;

const CONFIG = 'demo';
const MS_PER_TICK = 10;
const EventSchema = z.looseObject({ kind: z.string(), epochMs: z.number() });

/** Processor time of the children of this process that have ended, and of theirs. */
function childrenCpuMs(): number {
  const [, user = 0, system = 0] =
    /\) \S (?:\S+ ){12}(\d+) (\d+)/.exec(readFileSync('/proc/self/stat', 'utf8')) ?? [];
  return (Number(user) + Number(system)) * MS_PER_TICK;
}

function carryOut(room: ScalingRoom, words: string[]): { startMs: number; cpuMs: number } {
  const before = childrenCpuMs();
  const startMs = systemClock.epochMs();
  const { status, stderr } = spawnSync(process.execPath, qianmoArgs(room, words), {
    cwd: room.folder,
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`qianmo ${words.join(' ')} ended with ${status}: ${stderr}`);
  return { startMs, cpuMs: childrenCpuMs() - before };
}

function measuredStart(room: ScalingRoom, way: string): MeasuredStart {
  rmSync(join(room.folder, 'runs'), { recursive: true, force: true });
  const words = ['train', configFileOf(CONFIG), '--fresh', ...way.split(' ')];
  const { startMs, cpuMs } = carryOut(room, words);
  const log = join(room.folder, 'runs', CONFIG, 'events/events-000001.ndjson');
  const events = readFileSync(log, 'utf8')
    .trim()
    .split('\n')
    .map((line) => EventSchema.parse(JSON.parse(line)));
  const at = (wanted: string): number => {
    const event = events.find(({ kind }) => kind === wanted);
    if (event === undefined) throw new Error(`${log} has no ${wanted}`);
    return event.epochMs - startMs;
  };
  return {
    readyMs: at('compute-ready'),
    runMs: at('run-started'),
    stepMs: at('outer-step'),
    cpuMs,
  };
}

const scratch = mkdtempSync(join(tmpdir(), 'qianmo-start-'));
try {
  const rooms = openRooms(scratch, options.base).map((room) => {
    const outerSteps = { heavy: 1, demo: 1, synthetic: 1, w2: 1 };
    prepareRoom(room, [CONFIG], { rows: '1k', outerSteps });
    // What the first start of a checkout keeps for later ones is not measured.
    for (const way of WAYS) measuredStart(room, way);
    return {
      ...{ room, header: benchHeader(room.checkout), helpCpuMs: new Array<number>() },
      ways: new Map<string, MeasuredStart[]>(WAYS.map((way) => [way, []])),
    };
  });
  for (let round = 1; round <= rounds; round += 1) {
    for (const way of WAYS)
      for (const { room, header, ways } of rooms) {
        const start = measuredStart(room, way);
        ways.get(way)?.push(start);
        console.log(`${header.commit} ${way}, round ${round}: ${JSON.stringify(start)}`);
      }
    for (const { room, helpCpuMs } of rooms) helpCpuMs.push(carryOut(room, ['--help']).cpuMs);
  }
  const results: StartResults = {
    ...(rooms.at(-1)?.header ?? benchHeader()),
    rounds,
    loadAfter: Math.round((loadavg()[0] ?? 0) * 10) / 10,
    checkouts: rooms.map(({ header, ways, helpCpuMs }) => ({
      commit: header.commit,
      ways: Object.fromEntries(ways),
      helpCpuMs,
    })),
  };
  mkdirSync(options.output, { recursive: true });
  writeFileSync(join(options.output, 'start.json'), `${JSON.stringify(results, null, 1)}\n`);
  writeFileSync(join(options.output, 'start.md'), startPage(results));
  console.log(startPage(results));
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
