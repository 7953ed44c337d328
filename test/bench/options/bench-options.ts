/**
 * The options of a bench command and its `--help`. What it measures, and how it is called, is told by the comment at the head
 * of its file, which the help repeats.
 */

import { readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { wrap } from '../../../coordinator/reports/text-format.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { EXIT_CODE_BY_KIND, formatFailure, QianmoError } from '../../../shared/base/errors.js';

/** An option without a default may be left out. */
type BenchOption =
  | { readonly type: 'string'; readonly default?: string; readonly about: string }
  | { readonly type: 'boolean'; readonly default: false; readonly about: string };

type BenchOptions = Readonly<Record<string, BenchOption>>;

const COLUMNS = 100;
const NAME_COLUMNS = 24;
const PackageSchema = z.looseObject({ scripts: z.record(z.string(), z.string()) });

/**
 * The values of the options on the command line. With `--help` it prints them and ends the process with 0; an option that does
 * not exist ends it as a usage error.
 *
 * @param url that of the command's own module.
 */
export function benchOptions<const Options extends BenchOptions>(url: string, options: Options) {
  const script = scriptOf(fileURLToPath(url));
  if (process.argv.slice(2).some((word) => word === '--help' || word === '-h')) {
    process.stdout.write(helpOf(script, options));
    process.exit(0);
  }
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    const failure = new QianmoError({
      kind: 'usage',
      what: error instanceof Error ? error.message : String(error),
      where: script.name,
      cure: `\`npm run ${script.name} -- --help\` lists the options`,
    });
    process.stderr.write(`${formatFailure(failure)}\n`);
    process.exit(EXIT_CODE_BY_KIND.usage);
  }
}

interface Script {
  /** As `npm run` takes it. */
  readonly name: string;
  /** The source of the module. */
  readonly source: string;
}

function scriptOf(modulePath: string): Script {
  const root = fileURLToPath(packageRoot);
  const compiled = relative(root, modulePath);
  const { scripts } = PackageSchema.parse(
    JSON.parse(readFileSync(new URL('package.json', packageRoot), 'utf8')),
  );
  const found = Object.entries(scripts).find(([, command]) => command.endsWith(` ${compiled}`));
  const source = compiled.replace(/^dist\//, '').replace(/\.js$/, '.ts');
  return { name: found?.[0] ?? compiled, source: `${root}/${source}` };
}

function helpOf({ name, source }: Script, options: BenchOptions): string {
  const { paragraphs, examples } = headOf(readFileSync(source, 'utf8'));
  const lines = Object.entries(options).map(([option, { type, about, ...rest }]) => {
    const words = `  --${option}${type === 'boolean' ? '' : ' VALUE'}`;
    const otherwise = rest.default;
    const told = typeof otherwise === 'string' ? ` [${shown(otherwise)}]` : '';
    const gap = words.length < NAME_COLUMNS ? '' : `\n${' '.repeat(NAME_COLUMNS)}`;
    return `${words.padEnd(NAME_COLUMNS)}${gap}${about}${told}`;
  });
  return [
    ...paragraphs.map((text) => wrap(text, COLUMNS).replace(/\n {2}/g, '\n')),
    ['Options:', ...lines, `${'  --help'.padEnd(NAME_COLUMNS)}prints this`].join('\n'),
    ['Examples:', ...(examples.length === 0 ? [`npm run ${name}`] : examples)].join('\n  '),
    '',
  ].join('\n\n');
}

/** Paths below the checkout as they are from there. */
function shown(value: string): string {
  const root = fileURLToPath(packageRoot);
  const path = value.startsWith(root) ? value.slice(root.length) : value;
  return path === '' ? 'none' : path;
}

/** The first comment of a source: its text, and the lines of commands. */
function headOf(text: string): {
  readonly paragraphs: readonly string[];
  readonly examples: readonly string[];
} {
  const [, comment = ''] = /^\/\*\*(.*?)\*\//s.exec(text) ?? [];
  const lines = comment.split('\n').map((line) => line.replace(/^\s*\* ?/, '').trimEnd());
  const isExample = (line: string): boolean => /^ +npm run /.test(line);
  const paragraphs = lines
    .map((line) => (isExample(line) ? '' : line.trim()))
    .join('\n')
    .split(/\n{2,}/)
    .map((paragraph) => paragraph.trim().replace(/\n/g, ' '));
  return {
    paragraphs: paragraphs.filter((paragraph) => paragraph !== ''),
    examples: lines.filter(isExample).map((line) => line.trim()),
  };
}
