/** The rules of the house that a compiler does not know. Each offence names what to use instead. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, test } from 'vitest';

const ROOMS = ['shared', 'coordinator', 'worker', 'infra', 'test'] as const;
const TOP_LEVEL_FILES = new Set(['package.json', 'package-lock.json', 'tsconfig.json']);
const FILE_LINES_MAX = 400;

const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  encoding: 'utf8',
})
  .split('\n')
  .filter((path) => path !== '' && isThere(path));
const sources = files
  .filter((path) => /\.(ts|mts|mjs)$/.test(path))
  .map((path) => ({ path, text: readFileSync(path, 'utf8') }));
const production = sources.filter(({ path }) => /^(shared|coordinator|worker)\//.test(path));

interface Rule {
  readonly name: string;
  readonly pattern: RegExp;
  readonly except: RegExp;
  readonly instead: string;
}

const MAIN_FILES = /(^|\/)main\.ts$/;
const NOWHERE = /^$/;

const PRODUCTION_RULES: readonly Rule[] = [
  {
    name: 'randomness outside seeded streams',
    pattern: /Math\.random\(/,
    except: NOWHERE,
    instead: 'randomStream of shared/random.ts',
  },
  {
    name: 'time outside the clock',
    pattern: /Date\.now\(|new Date\(\)|performance\.now\(/,
    except: /^shared\/clock\.ts$/,
    instead: 'a Clock that is passed in',
  },
  {
    name: 'environment read in the middle',
    pattern: /process\.env\b/,
    except: MAIN_FILES,
    instead: 'a value passed in from main.ts',
  },
  {
    name: 'a vague name',
    pattern: /\b(utils|helpers|[A-Za-z]*Manager)\b/,
    except: NOWHERE,
    instead: 'a name of the glossary',
  },
];

const VENDORS: readonly { vendor: RegExp; allowed: RegExp }[] = [
  // Methods are handed the library and know its types alone: see the test of that.
  { vendor: /^@tensorflow\//, allowed: /^(worker\/compute|shared\/methods)\// },
  {
    vendor: /^bullmq$/,
    allowed: /^(coordinator\/(training\/queue-|dashboard\/)|worker\/(worker|queue-|job-|main))/,
  },
  {
    vendor: /^ioredis$/,
    allowed: /^(shared\/(redis-|storage\/redis-)|coordinator\/(training\/queue-|dashboard\/))/,
  },
  { vendor: /^@aws-sdk\//, allowed: /^shared\/storage\/s3-/ },
  {
    vendor: /^@duckdb\//,
    allowed:
      /^coordinator\/(prepare|evaluation|synthesize)\/[a-z-]*(duckdb|database|predictions|parquet)/,
  },
  {
    vendor: /^apache-arrow$/,
    allowed: /^(shared\/tasks|coordinator\/prepare)\//,
  },
  { vendor: /^(hono|@hono\/|@bull-board\/)/, allowed: /^coordinator\/dashboard\// },
  { vendor: /^echarts/, allowed: /^coordinator\/evaluation\/[a-z-]*(plot|chart)/ },
  { vendor: /^yaml$/, allowed: /^shared\/config\// },
  { vendor: /^commander$/, allowed: NOWHERE },
];

function isThere(path: string): boolean {
  try {
    readFileSync(path);
    return true;
  } catch {
    return false;
  }
}

function importsOf(text: string): string[] {
  const found = text.matchAll(/(?:from|import\(|import)\s*['"]([^'"]+)['"]/g);
  return [...found].flatMap((match) => (match[1] === undefined ? [] : [match[1]]));
}

function resolved(path: string, imported: string): string {
  return normalize(join(dirname(path), imported)).replace(/\.js$/, '.ts');
}

describe('house rules', () => {
  test.each(PRODUCTION_RULES)('no $name', ({ pattern, except, instead }) => {
    const offences = production
      .filter(({ path, text }) => !except.test(path) && pattern.test(text))
      .map(({ path }) => `${path}: use ${instead}`);
    expect(offences).toEqual([]);
  });

  test('imports point one way: coordinator -> shared <- worker', () => {
    const forbidden: Readonly<Record<string, readonly string[]>> = {
      shared: ['coordinator', 'worker', 'infra', 'test'],
      coordinator: ['worker', 'infra', 'test'],
      worker: ['coordinator', 'infra', 'test'],
      infra: ['test'],
    };
    const offences = sources.flatMap(({ path, text }) => {
      const room = path.split('/')[0] ?? '';
      return importsOf(text)
        .filter((imported) => imported.startsWith('.'))
        .map((imported) => resolved(path, imported))
        .filter((target) => forbidden[room]?.includes(target.split('/')[0] ?? ''))
        .map((target) => `${path} imports ${target}: move the contract to shared/`);
    });
    expect(offences).toEqual([]);
  });

  test('a vendor is imported by the files named for it', () => {
    const offences = production.flatMap(({ path, text }) =>
      importsOf(text).flatMap((imported) =>
        VENDORS.filter(({ vendor, allowed }) => vendor.test(imported) && !allowed.test(path)).map(
          () => `${path} imports ${imported}`,
        ),
      ),
    );
    expect(offences).toEqual([]);
  });

  test('methods import types of the tensor library and nothing else of it', () => {
    const offences = production
      .filter(({ path }) => path.startsWith('shared/'))
      .filter(({ text }) => /^import (?!type\b)[^;]*'@tensorflow\//m.test(text))
      .map(({ path }) => `${path}: use import type`);
    expect(offences).toEqual([]);
  });

  test('no import cycles', () => {
    const graph = new Map(
      sources.map(({ path, text }) => [
        path,
        importsOf(text)
          .filter((imported) => imported.startsWith('.'))
          .map((imported) => resolved(path, imported)),
      ]),
    );
    expect(cyclesOf(graph)).toEqual([]);
  });

  test('files are small', () => {
    const offences = sources
      .map(({ path, text }) => ({ path, lines: text.split('\n').length }))
      .filter(({ lines }) => lines > FILE_LINES_MAX)
      .map(({ path, lines }) => `${path}: ${lines} lines; split it by subject`);
    expect(offences).toEqual([]);
  });

  test('every source file says what it owns', () => {
    const offences = sources
      .filter(({ path }) => !path.startsWith('test/'))
      .filter(({ text }) => !/^(#!.*\n)?\/(\*\*|\/)/.test(text))
      .map(({ path }) => `${path}: starts without a comment on what it owns`);
    expect(offences).toEqual([]);
  });

  test('the top level holds the five rooms and nothing unexpected', () => {
    const unexpected = files.filter((path) => {
      const [first = '', ...rest] = path.split('/');
      if (rest.length > 0) return !ROOMS.some((room) => room === first) && !first.startsWith('.');
      return (
        !first.startsWith('.') && !TOP_LEVEL_FILES.has(first) && !/^[A-Z]+(\.md)?$/.test(first)
      );
    });
    expect(unexpected).toEqual([]);
  });
});

/** Each cycle once, as `a -> b -> a`. */
function cyclesOf(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const cycles: string[] = [];
  const finished = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path);
    if (start >= 0) {
      cycles.push([...trail.slice(start), path].join(' -> '));
      return;
    }
    if (finished.has(path)) return;
    for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
    finished.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
  return cycles;
}
