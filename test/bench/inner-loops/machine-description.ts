/** The machine that produced a result, as far as it affects the numbers. */

import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { benchHeader, grouped, type BenchHeader } from '../bench-header.js';

export interface MachineDescription extends BenchHeader {
  readonly cpuModel: string;
  readonly coreCount: number;
  /** The vector instructions only: `avx2 fma avx512f`. */
  readonly vectorFlags: string;
  readonly cacheKiB: string;
  readonly memoryMiB: number;
  readonly kernel: string;
}

export function machineDescription(): MachineDescription {
  const text = readFileSync('/proc/cpuinfo', 'utf8');
  const field = (name: string): string =>
    new RegExp(`^${name}\\s*:\\s*(.*)$`, 'm').exec(text)?.[1]?.trim() ?? 'unknown';
  return {
    ...benchHeader(),
    cpuModel: `${field('model name')} (family ${field('cpu family')}, model ${field('model')})`,
    coreCount: cpus().length,
    vectorFlags: field('flags')
      .split(' ')
      .filter((flag) => /^(sse4_2|fma|avx|f16c|amx|vnni)/.test(flag))
      .join(' '),
    cacheKiB: field('cache size'),
    memoryMiB: Math.round(totalmem() / 2 ** 20),
    kernel: release(),
  };
}

/** Two lines of Markdown: commit, date and machine; then the libraries, and the load before. */
export function machineLines(
  machine: MachineDescription,
  versions: Readonly<Record<string, string>>,
): string[] {
  const named = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  return [
    `Commit ${machine.commit}, ${machine.date}; ${machine.cpuModel}, ${machine.coreCount} cores,` +
      ` ${grouped(machine.memoryMiB)} MiB, kernel ${machine.kernel}; ${machine.vectorFlags}.`,
    `${named.join(', ')}; load before ${machine.loadBefore}.`,
  ];
}
