/**
 * Measures one cell. Every variant of every side first gets one short look, for accuracy and a
 * rough time. The best of each side are then kept alive and timed in turn, round after round, so
 * that other load on the machine affects all of them equally. Processes live only while their cell
 * is measured.
 */

import { mkdirSync, rmSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Accuracy } from './sides/accuracy.js';
import {
  ARRANGEMENTS,
  type Arrangement,
  type CellResult,
  type ContestantResult,
  type RoundResult,
  type VariantResult,
} from './cell-results.js';
import { startSide, type Launch, type SideProcess } from './sides/side-process.js';
import type { SideArguments } from './sides/side-protocol.js';
import type { SideName } from './sides/sides.js';
import { systemClock } from '../../../shared/base/clock.js';
import { TICKS_PER_SECOND, usageOf } from '../resident-memory.js';

/** Seconds of processor time since boot: of all processes, and stolen by the host. */
function busySeconds(): number {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n');
  const [user = 0, nice = 0, system = 0, , , irq = 0, softIrq = 0, steal = 0] = line
    .trim()
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return (user + nice + system + irq + softIrq + steal) / TICKS_PER_SECOND;
}

/** How many cores, on average, were used by other processes than this one and `pids`. */
async function othersLoadDuring<Result>(
  pids: readonly number[],
  work: () => Promise<Result>,
): Promise<{ readonly result: Result; readonly otherCores: number }> {
  const own = (): number =>
    [...pids, process.pid].reduce((sum, pid) => sum + usageOf(pid).ticks, 0) / TICKS_PER_SECOND;
  const before = busySeconds() - own();
  const startMs = systemClock.monotonicMs();
  const result = await work();
  const seconds = (systemClock.monotonicMs() - startMs) / 1000;
  const others = busySeconds() - own() - before;
  return { result, otherCores: Math.max(0, others) / seconds };
}

type MeasuredCell = Omit<CellResult, 'variants' | 'contestants'>;

interface MeasureOptions {
  readonly workloadFolder: string;
  /** Compares what a side wrote into a folder during its check. */
  readonly accuracyOf: (checkFolder: string, otherRowsChanged: number) => Accuracy;
  readonly sides: readonly SideName[];
  readonly variantsOf: (side: SideName) => readonly string[];
  readonly launchOf: (side: SideName, parameters: SideArguments, core: number | null) => Launch;
  readonly roundCount: number;
  readonly runMs: number;
  readonly say: (text: string) => void;
}

/** Time of the first step, including tracing and compiling. */
const FIRST_STEP_TIMEOUT_MS = 240_000;
/** Variants this close to the best look of their side take part in the rounds. */
const LOOK_SLACK = 1.2;
const CONTESTANTS_PER_SIDE_MAX = 3;

export async function measureCell(
  cell: MeasuredCell,
  options: MeasureOptions,
): Promise<CellResult> {
  const variants: VariantResult[] = [];
  for (const side of options.sides)
    for (const variant of options.variantsOf(side)) {
      const result = await lookAt(cell, side, variant, options);
      variants.push(result);
      const { skippedBecause, lookMs, relativeError } = result;
      options.say(
        `  ${side} ${variant}: ` +
          (skippedBecause ?? `${lookMs?.toFixed(1)} ms, error ${relativeError?.toExponential(1)}`),
      );
    }
  const chosen = options.sides.flatMap((side) => contestantsOf(variants, side));
  const contestants = await inRounds(cell, chosen, options);
  return { ...cell, variants, contestants };
}

/** Starts a variant on one thread, checks one step and times it briefly. */
async function lookAt(
  cell: MeasuredCell,
  side: SideName,
  variant: string,
  options: MeasureOptions,
): Promise<VariantResult> {
  const nothing = {
    ...{ side, variant, relativeError: null, furthestTensor: null, isAccurate: false },
    ...{ versions: null, firstStepMs: null, lookMs: null },
  };
  let started: SideProcess | null = null;
  const checkFolder = join(options.workloadFolder, 'check');
  try {
    mkdirSync(checkFolder, { recursive: true });
    started = await start(cell, side, variant, 1, 0, options);
    const checked = await started.check(checkFolder, FIRST_STEP_TIMEOUT_MS);
    const { tensor, ...accuracy } = options.accuracyOf(checkFolder, checked.otherRowsChanged);
    const timed = await started.run(options.runMs);
    return {
      ...{ side, variant, skippedBecause: null },
      ...{ ...accuracy, furthestTensor: tensor },
      versions: started.ready.versions,
      firstStepMs: checked.firstStepMs,
      lookMs: timed.medianMs,
    };
  } catch (error) {
    const skippedBecause = error instanceof Error ? error.message : String(error);
    return { ...nothing, skippedBecause };
  } finally {
    await started?.end();
    rmSync(checkFolder, { recursive: true, force: true });
  }
}

/** The fastest accurate variant of a side, and others that are as fast or nearly so. */
export function contestantsOf(
  variants: readonly VariantResult[],
  side: SideName,
): readonly VariantResult[] {
  const own = variants
    .filter((variant) => variant.side === side && variant.lookMs !== null)
    .sort((a, b) => (a.lookMs ?? 0) - (b.lookMs ?? 0));
  const accurate = own.find(({ isAccurate }) => isAccurate);
  const limitMs = LOOK_SLACK * (accurate?.lookMs ?? own[0]?.lookMs ?? 0);
  const near = own.filter((variant) => (variant.lookMs ?? Infinity) <= limitMs);
  const first = near.slice(0, CONTESTANTS_PER_SIDE_MAX);
  if (accurate === undefined || first.includes(accurate)) return first;
  return [...first.slice(0, -1), accurate];
}

interface Contestant {
  readonly variant: VariantResult;
  readonly processes: Readonly<Record<Arrangement, readonly SideProcess[]>>;
  readonly rounds: Readonly<Record<Arrangement, RoundResult[]>>;
}

async function inRounds(
  cell: MeasuredCell,
  chosen: readonly VariantResult[],
  options: MeasureOptions,
): Promise<ContestantResult[]> {
  const started: SideProcess[] = [];
  const alive = async (variant: VariantResult, threads: number, core: number | null) => {
    const side = await start(cell, variant.side, variant.variant, threads, core, options);
    started.push(side);
    // The first step compiles, and just-in-time code warms up; none of it is timed.
    await side.run(options.runMs);
    return side;
  };
  try {
    const contestants: Contestant[] = [];
    for (const variant of chosen) {
      const first = await alive(variant, 1, 0);
      const second = await alive(variant, 1, 1);
      const threaded = await alive(variant, 2, null);
      contestants.push({
        variant,
        processes: {
          'one thread': [first],
          'two threads': [threaded],
          'two processes': [first, second],
        },
        rounds: { 'one thread': [], 'two threads': [], 'two processes': [] },
      });
    }
    const pids = started.map(({ pid }) => pid);
    for (let round = 0; round < options.roundCount; round += 1) {
      for (const arrangement of ARRANGEMENTS)
        for (const { processes, rounds } of contestants)
          rounds[arrangement].push(await roundOf(cell, processes[arrangement], pids, options));
      options.say(`  round ${round + 1} of ${options.roundCount}`);
    }
    return contestants.flatMap(({ variant: { side, variant, isAccurate }, rounds }) =>
      ARRANGEMENTS.map((arrangement) => ({
        ...{ side, variant, isAccurate, arrangement },
        rounds: rounds[arrangement],
      })),
    );
  } finally {
    for (const side of started) await side.end();
  }
}

async function roundOf(
  { taskCount }: MeasuredCell,
  processes: readonly SideProcess[],
  pids: readonly number[],
  { runMs }: MeasureOptions,
): Promise<RoundResult> {
  const { result, otherCores } = await othersLoadDuring(pids, () =>
    Promise.all(processes.map((side) => side.run(runMs))),
  );
  const rates = result.map(({ medianMs }) => (1000 * taskCount) / medianMs);
  return { tasksPerSecond: rates.reduce((sum, rate) => sum + rate, 0), otherCores };
}

function start(
  { cell }: MeasuredCell,
  side: SideName,
  variant: string,
  threadCount: number,
  core: number | null,
  { workloadFolder, launchOf }: MeasureOptions,
): Promise<SideProcess> {
  const parameters = { folder: workloadFolder, cell, variant, threadCount };
  return startSide(launchOf(side, parameters, core));
}
