/** Plants each mutant in a copy of the compiled code, and simulates clusters on it. */

import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type * as Simulation from '../../infra/simulation/simulate.js';
import { MUTANTS, type Mutant } from './mutants.js';

/** Of the compiled code that a simulation imports. */
const FOLDERS = ['shared', 'coordinator', 'worker', 'infra/simulation'];
const WORKERS = 3;
const SEED_COUNT_MAX = 2_000;
/** The order of events changes with the code, and then a seed near by finds the mutant. */
const SEEDS_BEHIND_RECORDED = 60;

interface FoundMutant {
  readonly name: string;
  /** The seed that was tried last. */
  readonly seed: number;
  /** Null if no seed found the mutant. */
  readonly invariant: string | null;
}

/**
 * Call it in the project's root, after a build.
 *
 * @param seeds those from the recorded one of each mutant on, or all from 0 on, until one finds it.
 */
export async function foundMutants(
  seeds: 'recorded' | 'all',
  onFound: (found: FoundMutant) => void = () => undefined,
): Promise<FoundMutant[]> {
  const all: FoundMutant[] = [];
  for (const mutant of MUTANTS) {
    const { seed } = mutant;
    const [first, last] =
      seeds === 'recorded' ? [seed, seed + SEEDS_BEHIND_RECORDED] : [0, SEED_COUNT_MAX - 1];
    const found = await foundBySeeds(mutant, first, last);
    onFound(found);
    all.push(found);
  }
  return all;
}

async function foundBySeeds(mutant: Mutant, first: number, last: number): Promise<FoundMutant> {
  const folder = mkdtempSync(join(tmpdir(), 'qianmo-mutant-'));
  try {
    const isCode = (path: string): boolean => !/\.(map|d\.ts)$/.test(path);
    for (const each of FOLDERS)
      cpSync(join('dist', each), join(folder, each), { recursive: true, filter: isCode });
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
    symlinkSync(join(process.cwd(), 'node_modules'), join(folder, 'node_modules'));
    plant(mutant, folder);
    const entry = pathToFileURL(join(folder, 'infra/simulation/simulate.js'));
    // The copy has the types of the original.
    const { simulate } = (await import(entry.href)) as typeof Simulation;
    for (let seed = first; seed <= last; seed += 1) {
      const { violation } = await simulate({ seed, workers: WORKERS }).catch(withoutReference);
      if (violation !== null) return { name: mutant.name, seed, invariant: violation.invariant };
    }
    return { name: mutant.name, seed: last, invariant: null };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Most mutants spoil runs under faults. One that spoils the undisturbed run too has no run to compare with. */
function withoutReference(error: unknown): { readonly violation: { readonly invariant: string } } {
  return { violation: { invariant: error instanceof Error ? error.message : String(error) } };
}

/** @throws Error when the code has changed and the text of the mutant is not there. */
function plant({ name, changes }: Mutant, folder: string): void {
  for (const { file, text, instead } of changes) {
    const path = join(folder, `${file}.js`);
    const code = readFileSync(path, 'utf8');
    if (!code.includes(text)) throw new Error(`mutant "${name}": ${file} has no ${text}`);
    writeFileSync(path, code.replaceAll(text, instead));
  }
}
