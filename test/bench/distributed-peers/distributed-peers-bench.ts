/**
 * Workload W2 over several processes: our coordinator and workers, PyTorch with gloo, and Ray actors, on the same data.
 * Every round runs all of them, one after the other, and the page is written after each: `infra/results/distributed-peers.json`
 * and `.md`.
 *
 *   npm run bench -- distributed-peers --rounds 3 --seconds 8
 *   npm run bench -- distributed-peers --only 'gloo 2,ours 2' --python PATH
 */

import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { initialMetaParameters } from '../../../shared/models/meta-parameters.js';
import { openBenchContext, type BenchContext } from '../bench-context.js';
import { benchHeader, writeResult } from '../bench-header.js';
import { accuracyOf } from '../inner-loops/sides/accuracy.js';
import { startSide, type Launch } from '../inner-loops/sides/side-process.js';
import { peerScript, threadEnvironment } from '../inner-loops/sides/sides.js';
import { withPython } from '../python-environment.js';
import { FULL_W2, type W2Size } from '../scaling/w2-run.js';
import { CONTESTANTS, isOurs, type Contestant } from './contestants.js';
import {
  distributedPeersPage,
  type CheckedContestant,
  type DistributedPeersRecord,
} from './distributed-peers-page.js';
import {
  learnedIn,
  openOurRoom,
  preparedIn,
  steadyRateIn,
  trainIn,
  type OurRoom,
} from './our-runs.js';
import { writeOurCheck, writeW2ForPeers } from './w2-for-peers.js';
import { benchOptions } from '../bench-options.js';
import {
  listOf,
  oneOf,
  outputOption,
  pythonOption,
  roundsOption,
  wholeNumber,
} from '../option-values.js';
import { scratchFolder } from '../scratch-folder.js';

const options = benchOptions(import.meta.url, {
  rounds: roundsOption('3'),
  seconds: { value: wholeNumber(), default: '8', about: 'seconds that each peer is measured for' },
  'outer-steps': { value: wholeNumber(), default: '120', about: 'the length of our runs' },
  only: {
    value: listOf(oneOf(CONTESTANTS.map(wordOf))),
    about: 'measures these alone, with commas between them',
  },
  python: pythonOption,
  output: outputOption,
});
const { rounds, seconds, 'outer-steps': outerSteps } = options;
const contestants = CONTESTANTS.filter((each) => options.only?.includes(wordOf(each)) ?? true);

/** The name of a contestant without its comma, since commas separate the words of an option. */
function wordOf({ name }: Contestant): string {
  return name.replace(', ', ' ');
}

const PEER_CELL = 'W2.first.5';

interface PeerRoom {
  readonly python: string;
  /** An empty folder for the files of Ray and of torch.compile; a short path, because sockets are in it. */
  readonly scratch: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** @param folder that of the workload */
function peerLaunch(
  { system, workerCount, computes }: Contestant,
  folder: string,
  { python, scratch, environment }: PeerRoom,
): Launch {
  const given = { folder, cell: PEER_CELL, workerCount, computes, scratch };
  return {
    command: python,
    args: ['-B', '-W', 'ignore', peerScript(`${system}_side.py`), JSON.stringify(given)],
    environment: {
      ...environment,
      ...threadEnvironment(1),
      PYTHONPATH: peerScript(''),
      PYTHONDONTWRITEBYTECODE: '1',
      RAY_USAGE_STATS_ENABLED: '0',
      RAY_AUTH_MODE: 'disabled',
      TORCHINDUCTOR_CACHE_DIR: `${scratch}/compiled`,
      TORCHINDUCTOR_COMPILE_THREADS: '1',
    },
    // Each of its workers pins itself.
    core: null,
  };
}

/** The small case of which every contestant computes one step. */
const CHECKED_SIZE: W2Size = {
  ...{ taskCount: 16, rowsPerTable: 500, tasksPerOuterStep: 16 },
};
/** The peers store a row once for each worker that has touched it, and each time it is rounded. */
const RELATIVE_ERROR_MAX = 1e-3;
const FIRST_STEP_TIMEOUT_MS = 400_000;

async function checked(peers: PeerRoom, context: BenchContext): Promise<CheckedContestant[]> {
  const folder = join(peers.scratch, 'small');
  mkdirSync(folder);
  const room = await openOurRoom(folder, CHECKED_SIZE, 1);
  const run = await preparedIn(room, context);
  const workload = join(folder, 'workload');
  const initial = initialMetaParameters(run.spec, run.config.seed);
  const arrays = await writeW2ForPeers(workload, run, initial);
  const exact = join(folder, 'exact');
  const given = { folder: workload, cells: [PEER_CELL], output: exact };
  const { environment } = peerLaunch(contestants[0] ?? never(), workload, peers);
  execFileSync(peers.python, ['-B', peerScript('reference.py'), JSON.stringify(given)], {
    env: environment,
  });
  const results: CheckedContestant[] = [];
  for (const contestant of contestants.filter(({ computes }) => computes)) {
    const to = join(folder, 'check');
    rmSync(to, { recursive: true, force: true });
    mkdirSync(to);
    const changed = await checkedStep(contestant, { to, room, workload, peers, context });
    const of = accuracyOf(arrays, 'W2', join(exact, PEER_CELL), to, changed);
    const { relativeError, tensor } = of;
    console.log(`${contestant.name}: error ${relativeError.toExponential(1)} (${tensor})`);
    if (!(relativeError <= RELATIVE_ERROR_MAX))
      throw new Error(`${contestant.name} differs from the exact step by ${relativeError}`);
    results.push({ name: contestant.name, relativeError, tensor });
  }
  return results;

  /** Writes the parameters after one step. Returns how many rows have changed beside those of the batch. */
  async function checkedStep(contestant: Contestant, terms: CheckTerms): Promise<number> {
    if (isOurs(contestant.system)) {
      await trainIn(terms.room, contestant);
      return writeOurCheck(terms.to, arrays, await learnedIn(terms.room, terms.context));
    }
    const side = await startSide(peerLaunch(contestant, terms.workload, terms.peers));
    try {
      return (await side.check(terms.to, FIRST_STEP_TIMEOUT_MS)).otherRowsChanged;
    } finally {
      await side.end();
    }
  }
}

interface CheckTerms {
  readonly to: string;
  readonly room: OurRoom;
  readonly workload: string;
  readonly peers: PeerRoom;
  readonly context: BenchContext;
}

function never(): never {
  throw new Error('--only names no contestant');
}

async function bench(peers: PeerRoom, context: BenchContext): Promise<void> {
  const header = benchHeader();
  const agreement = await checked(peers, context);
  const folder = join(peers.scratch, 'whole');
  mkdirSync(folder);
  const room = await openOurRoom(folder, FULL_W2, outerSteps);
  const run = await preparedIn(room, context);
  const workload = join(folder, 'workload');
  await writeW2ForPeers(workload, run, initialMetaParameters(run.spec, run.config.seed));
  const versions: Record<string, string> = {};
  const rates = contestants.map((contestant) => ({
    ...contestant,
    tasksPerSecond: new Array<number>(),
    bareStepMs: new Array<number>(),
  }));
  for (let round = 1; round <= rounds; round += 1) {
    for (const contestant of rates) {
      const rate = await measuredRate(contestant, contestant.bareStepMs);
      contestant.tasksPerSecond.push(rate);
      console.log(`${contestant.name}, round ${round} of ${rounds}: ${rate.toFixed(0)}`);
    }
    const record: DistributedPeersRecord = {
      ...{ ...header, outerSteps, versions, tasksPerStep: FULL_W2.tasksPerOuterStep },
      ...{ measured: rates, checked: agreement },
    };
    writeResult(options.output, 'distributed-peers', record, distributedPeersPage(record));
  }

  async function measuredRate(contestant: Contestant, bareMs: number[]): Promise<number> {
    if (isOurs(contestant.system)) {
      const bareStep = await trainIn(room, contestant);
      if (bareStep !== null) bareMs.push(bareStep);
      return steadyRateIn(room);
    }
    const side = await startSide(peerLaunch(contestant, workload, peers));
    try {
      Object.assign(versions, side.ready.versions);
      // Compiles, and keeps the gradient of each batch where nothing is computed.
      await side.run(1);
      const { stepCount, wallMs } = await side.run(seconds * 1_000);
      return (FULL_W2.tasksPerOuterStep * stepCount * 1_000) / wallMs;
    } finally {
      await side.end();
    }
  }
}

const environment = {
  ...{ name: 'distributed', requirements: peerScript('distributed-requirements.txt') },
  ...{ script: 'bench -- distributed-peers', size: '6 GB, for PyTorch and Ray' },
};
await withPython(environment, options.python, async (python) => {
  const scratch = scratchFolder('dist');
  const context = openBenchContext();
  try {
    await bench({ python, scratch, environment: process.env }, context);
  } finally {
    await context.close();
  }
});
