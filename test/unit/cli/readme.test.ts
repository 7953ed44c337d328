/** What a user reads first must be true: README's configs parse, its commands are known. */

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { Command } from 'commander';
import type { CommandContext } from '../../../infra/cli/command-context.js';
import { buildProgram } from '../../../infra/cli/program.js';
import { parseRunConfig } from '../../../shared/config/load-run-config.js';
import { EXIT_CODE_BY_KIND } from '../../../shared/base/errors.js';
import { systemClock } from '../../../shared/base/clock.js';

const readme = readFileSync('README.md', 'utf8');

const context: CommandContext = {
  clock: systemClock,
  environment: {},
  print: () => undefined,
  outputColumns: 100,
  sink: () => undefined,
  signal: new AbortController().signal,
  onClose: () => undefined,
  endProgress: () => undefined,
  close: () => Promise.resolve(),
};

function blocksOf(language: string): string[] {
  const blocks = readme.matchAll(new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``, 'g'));
  return [...blocks].map((match) => match[1] ?? '');
}

function qianmoLines(text: string): string[][] {
  return text
    .split('\n')
    .filter((line) => /^\s*qianmo /.test(line))
    .map((line) =>
      line
        .replace(/\s+#.*$/, '')
        .trim()
        .split(/\s+/)
        .slice(1),
    );
}

/** Parses arguments with the verb's own options and arguments, without running it. */
function parseOnly(words: readonly string[]): void {
  const [verb = '', ...rest] = words;
  const command = buildProgram(context).commands.find((known) => known.name() === verb);
  if (command === undefined) throw new Error(`unknown verb ${verb}`);
  command.exitOverride((error) => {
    throw error;
  });
  command.action(() => undefined);
  command.parse(rest, { from: 'user' });
}

const verbs = (): readonly Command[] => buildProgram(context).commands;

describe('README', () => {
  test('its run configs parse', () => {
    const configs = blocksOf('yaml');
    expect(configs.length).toBeGreaterThan(0);
    for (const yaml of configs) expect(parseRunConfig(yaml, 'README.md').seed).toBe(7);
  });

  test('its commands are commands', () => {
    const lines = blocksOf('bash').flatMap(qianmoLines);
    expect(lines.length).toBeGreaterThan(5);
    for (const words of lines) expect(() => parseOnly(words), words.join(' ')).not.toThrow();
    expect(() => parseOnly(['train', 'run.yaml', '--wrkers', '2'])).toThrow(/unknown option/);
  });

  test('its exit codes are those of the code', () => {
    for (const code of new Set(Object.values(EXIT_CODE_BY_KIND)))
      expect(readme).toMatch(new RegExp(`\\| ${code} \\|`));
  });

  test('the example in every --help is a command', () => {
    for (const verb of verbs()) {
      let help = '';
      verb.configureOutput({ writeOut: (text) => (help += text) });
      verb.outputHelp();
      const examples = qianmoLines(help).filter(([name]) => name !== undefined);
      expect(examples.length, `qianmo ${verb.name()} --help`).toBeGreaterThan(0);
      for (const words of examples) expect(() => parseOnly(words), words.join(' ')).not.toThrow();
    }
  });
});
