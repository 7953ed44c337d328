/** Asks a person at a terminal to choose: numbered choices, of which the first is the default. */

import { once } from 'node:events';
import { createInterface } from 'node:readline/promises';
import type { Ask, Question } from '../../coordinator/propose/propose-data.js';

export type CommandInput = NodeJS.ReadableStream & { readonly isTTY?: boolean };

/** @returns undefined if the input is no terminal. */
export function askOnTerminal(input: CommandInput, write: (text: string) => void): Ask | undefined {
  if (input.isTTY !== true) return undefined;
  return async (question, signal) => {
    // The terminal edits the line and sends Ctrl-C as a signal, as for the rest of the command.
    const lines = createInterface({ input, terminal: false });
    const ended = once(lines, 'close').then(() => null);
    try {
      write(`${questionText(question)}\n`);
      for (;;) {
        const asked = lines.question('', { signal });
        write('Number, column or SQL [1]: ');
        const line = await Promise.race([asked, ended]);
        if (line === null) {
          write('\n');
          return null;
        }
        const answer = answerIn(line.trim(), question);
        if (answer !== null) return answer;
        write(`There is no choice ${line.trim()}.\n`);
      }
    } catch (cause) {
      signal.throwIfAborted();
      throw cause;
    } finally {
      lines.close();
    }
  };
}

function questionText({ what, choices }: Question): string {
  const width = Math.max(...choices.map(({ column }) => column.length));
  const shown = choices.map(({ column, values }, index) => {
    const examples = values.map((value) => JSON.stringify(value)).join(', ');
    return `  ${String(index + 1).padStart(String(choices.length).length)}  ${column.padEnd(width)}  ${examples}`;
  });
  return [what, ...shown].join('\n');
}

/** Null for the number of no choice. */
function answerIn(text: string, { choices }: Question): string | null {
  if (text !== '' && !/^\d+$/.test(text)) return text;
  return choices[text === '' ? 0 : Number(text) - 1]?.column ?? null;
}
