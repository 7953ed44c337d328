/** Named checks of one command: each prints a line as it ends, and all of them make the page that is kept. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { systemClock } from '../../shared/base/clock.js';
import { benchHeader, markdownTable, withText } from '../bench/bench-header.js';

export interface Checks {
  /** @param work resolves with what is worth recording, and rejects when the check fails */
  readonly check: (name: string, work: () => Promise<string> | string) => Promise<void>;
  /** A check that this machine cannot make, with the reason. */
  readonly leftOut: (name: string, reason: string) => void;
  /**
   * Writes the text of this title into the page, if there is a place for it, above the sections that it has already. Texts of
   * other titles stay. @returns the number of failures
   */
  finish(page: {
    readonly path?: string;
    readonly title: string;
    readonly command: string;
  }): number;
}

export function openChecks(): Checks {
  const header = benchHeader();
  const rows: (readonly string[])[] = [];
  let failures = 0;
  const tell = (state: string, name: string, found: string): void => {
    rows.push([name, state, found.replaceAll('|', '\\|').replaceAll('\n', ' ')]);
    console.log(`${state.padEnd(8)} ${name}: ${found}`);
  };
  return {
    check: async (name, work) => {
      const startedMs = systemClock.monotonicMs();
      try {
        const found = await work();
        const seconds = (systemClock.monotonicMs() - startedMs) / 1000;
        tell('ok', name, `${found} (${seconds.toFixed(1)} s)`);
      } catch (error) {
        failures += 1;
        tell('FAILED', name, error instanceof Error ? error.message : String(error));
      }
    },
    leftOut: (name, reason) => tell('left out', name, reason),
    finish: ({ path, title, command }) => {
      const { commit, date, machine, loadBefore } = header;
      const text = [
        `# ${title}`,
        '',
        `\`${command}\` on ${date}, commit ${commit}, ${machine}, load ${loadBefore} at the start. Seconds are those of a busy machine.`,
        '',
        ...markdownTable(['check', 'result', 'found'], rows),
        '',
      ].join('\n');
      if (path !== undefined) {
        const page = existsSync(path) ? readFileSync(path, 'utf8') : '';
        writeFileSync(path, withText(page, text + sectionsOf(title, page)));
      }
      console.log(failures === 0 ? 'all checks passed' : `${failures} checks failed`);
      return failures;
    },
  };
}

/** The sections below the table of this title, which were written by hand. */
function sectionsOf(title: string, page: string): string {
  const parts = page.split(/^(?=# )/m);
  const part = parts.find((each) => each.startsWith(`# ${title}\n`)) ?? '';
  const start = part.indexOf('\n## ');
  return start < 0 ? '' : part.slice(start);
}
