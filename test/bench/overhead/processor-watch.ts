/** The processor time of the processes of a load, while its outer steps are measured. */

import { usageOf } from '../resident-memory.js';

const MS_PER_TICK = 10;

interface ProcessorWatch {
  /** Keyed by the name of the process; `coordinator` is the one that asks. */
  readonly processorMs: Readonly<Record<string, number>>;
  begins(): void;
  ends(): void;
}

export function processorWatch(pids: Readonly<Record<string, readonly number[]>>): ProcessorWatch {
  const ownMs = (): number => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1_000;
  };
  const spentMs = (): [string, number][] => [
    ['coordinator', ownMs()],
    ...Object.entries(pids).map(([name, ofName]): [string, number] => [
      name,
      MS_PER_TICK * ofName.reduce((sum, pid) => sum + usageOf(pid).ticks, 0),
    ]),
  ];
  const processorMs: Record<string, number> = {};
  const add = (sign: number): void => {
    for (const [name, ms] of spentMs()) processorMs[name] = (processorMs[name] ?? 0) + sign * ms;
  };
  return { processorMs, begins: () => add(-1), ends: () => add(1) };
}
