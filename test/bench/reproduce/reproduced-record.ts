/** The pages that `npm run reproduce` made at one commit, with their time, so a stopped command can continue. */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { markdownTable, type BenchHeader } from '../bench-header.js';

const RecordSchema = z.record(z.string(), z.strictObject({ seconds: z.number().nonnegative() }));
type Made = z.infer<typeof RecordSchema>;

const SECONDS_PER_MINUTE = 60;

export class ReproducedRecord {
  readonly #file: string;
  #made: Made;

  /** @param folder that of the commit. */
  constructor(folder: string) {
    mkdirSync(folder, { recursive: true });
    this.#file = join(folder, 'made.json');
    this.#made = existsSync(this.#file)
      ? RecordSchema.parse(JSON.parse(readFileSync(this.#file, 'utf8')))
      : {};
  }

  has(name: string): boolean {
    return this.#made[name] !== undefined;
  }

  note(name: string, seconds: number): void {
    this.#made = { ...this.#made, [name]: { seconds } };
    writeFileSync(this.#file, `${JSON.stringify(this.#made, null, 1)}\n`);
  }

  /** Lists the pages in the given order. */
  page(names: readonly string[], { commit, machine }: BenchHeader): string {
    const rows = names.map((name) => [name, minutesOf(this.#made[name]?.seconds)]);
    const all = Object.values(this.#made).reduce((sum, { seconds }) => sum + seconds, 0);
    const madeCount = names.filter((name) => this.has(name)).length;
    return [
      '# Pages of one commit',
      '',
      `\`npm run reproduce\`, commit ${commit}, ${machine}: ${madeCount} of ${names.length} pages, in ${minutesOf(all)} minutes.`,
      'A page without minutes is of another commit, which it names.',
      '',
      ...markdownTable(['page', 'minutes'], rows),
      '',
    ].join('\n');
  }
}

function minutesOf(seconds: number | undefined): string {
  return seconds === undefined ? '' : (seconds / SECONDS_PER_MINUTE).toFixed(1);
}
