/** The processor time of the processes that this one has started, and of theirs, from the kernel's records. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const MS_PER_TICK = 10;
/** After so many looks, the processes are taken to be the same for good. */
const LISTINGS = 8;

export class OtherProcesses {
  readonly #pid: number;
  readonly #records: string;
  #listings = 0;
  #pids: readonly number[] = [];

  /** @param records where the kernel lists processes; tests have a folder of their own. */
  constructor(pid: number, records = '/proc') {
    this.#pid = pid;
    this.#records = records;
  }

  /** The sum over processes that run at present; 0 where the kernel keeps no such records. */
  processorMs(): number {
    if (this.#listings < LISTINGS) {
      this.#pids = descendantsOf(this.#pid, this.#records);
      this.#listings += 1;
    }
    return this.#pids.reduce(
      (sum, pid) => sum + (recordOf(pid, this.#records)?.processorMs ?? 0),
      0,
    );
  }
}

function descendantsOf(pid: number, records: string): number[] {
  const pids = namesIn(records).flatMap((name) => (/^\d+$/.test(name) ? Number(name) : []));
  const parents = new Map(pids.map((each) => [each, recordOf(each, records)?.parent]));
  const found = new Set([pid]);
  // Each round finds the children of those that were found before.
  for (let before = 0; before < found.size;) {
    before = found.size;
    for (const [each, parent] of parents)
      if (parent !== undefined && found.has(parent)) found.add(each);
  }
  found.delete(pid);
  return [...found];
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Null if the process has ended. */
function recordOf(
  pid: number,
  records: string,
): { readonly parent: number; readonly processorMs: number } | null {
  try {
    const text = readFileSync(join(records, String(pid), 'stat'), 'utf8');
    // The name of the program stands in brackets and may hold spaces.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    const ticks = Number(fields[11]) + Number(fields[12]);
    return { parent: Number(fields[1]), processorMs: ticks * MS_PER_TICK };
  } catch {
    return null;
  }
}
