/** House rules that a compiler does not check. Each violation names what to use instead. */

import { describe, expect, test } from 'vitest';
import { cyclesOf, files, importedFiles, importsOf, production, sources } from './sources.js';

const ROOMS = ['shared', 'coordinator', 'worker', 'infra', 'test'] as const;
const TOP_LEVEL_FILES = new Set(['package.json', 'package-lock.json', 'tsconfig.json']);
const FILE_LINES_MAX = 700;

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
    instead: 'randomStream of shared/base/random.ts',
  },
  {
    name: 'randomness without a seed',
    pattern: /\b(randomBytes|randomUUID)\(/,
    except: /^(shared\/(base\/nonce|storage\/)|coordinator\/checkpoints\/checkpoint-writer)/,
    instead: 'a nonce that is passed in, drawn by freshNonce where a process is composed',
  },
  {
    name: 'timers outside the clock',
    pattern: /\b(setTimeout|setInterval)\(/,
    // The browser's script has no Clock.
    except:
      /(^|\/)main\.ts$|^shared\/(base\/clock|queue\/redis-connection)\.ts$|^coordinator\/dashboard\/page\.ts$/,
    instead: 'the sleep of a Clock that is passed in',
  },
  {
    name: 'time outside the clock',
    pattern: /Date\.now\(|new Date\(\)|performance\.now\(/,
    except: /^shared\/base\/clock\.ts$/,
    instead: 'a Clock that is passed in',
  },
  {
    name: 'environment read outside main.ts',
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
  // Methods receive the library as an argument and import only its types; a separate test checks
  // that.
  {
    vendor: /^@tensorflow\//,
    allowed: /^(worker\/compute|shared\/methods|shared\/models\/kinds)\//,
  },
  {
    vendor: /^bullmq$/,
    allowed: /^(shared\/queue\/(bullmq-|finishing\/)|coordinator\/dashboard\/)/,
  },
  { vendor: /^ioredis$/, allowed: /^shared\/(queue|storage)\/redis-/ },
  { vendor: /^@aws-sdk\//, allowed: /^shared\/storage\/s3-/ },
  {
    vendor: /^@duckdb\//,
    allowed:
      /^coordinator\/(logs|prepare|evaluation|synthesize)\/[a-z-]*(duckdb|predictions|parquet)/,
  },
  { vendor: /^apache-arrow/, allowed: /^shared\/tasks\/arrow-files\.ts$/ },
  { vendor: /^(hono|@hono\/|@bull-board\/)/, allowed: /^coordinator\/dashboard\// },
  { vendor: /^echarts/, allowed: /^coordinator\/reports\/document\/[a-z-]*chart/ },
  { vendor: /^yaml$/, allowed: /^shared\/config\// },
  { vendor: /^commander$/, allowed: NOWHERE },
];

describe('house rules', () => {
  test.each(PRODUCTION_RULES)('no $name', ({ pattern, except, instead }) => {
    const offences = production
      .filter(({ path, text }) => !except.test(path) && pattern.test(text))
      .map(({ path }) => `${path}: use ${instead}`);
    expect(offences).toEqual([]);
  });

  test('the library and the verbs leave the process alone', () => {
    const ofLibrary = /^(coordinator\/runs|infra\/library)\//;
    const offences = sources
      .filter(({ path }) => ofLibrary.test(path))
      .map(({ path, text }) => ({
        path,
        // The entry is the only file that reads the environment of the process.
        text: path === 'infra/library/verb.ts' ? text.replace('= process.env', '') : text,
      }))
      .filter(({ text }) =>
        /\bprocess\.(env|stdout|stderr|exit|exitCode|on|once)\b|console\./.test(text),
      )
      .map(({ path }) => `${path}: print and exit in infra/cli/main.ts`);
    expect(offences).toEqual([]);
  });

  test('a vendor is imported only by the files named for it', () => {
    const offences = production.flatMap(({ path, text }) =>
      importsOf(text).flatMap((imported) =>
        VENDORS.filter(({ vendor, allowed }) => vendor.test(imported) && !allowed.test(path)).map(
          () => `${path} imports ${imported}`,
        ),
      ),
    );
    expect(offences).toEqual([]);
  });

  test('methods and models import only types from the tensor library', () => {
    const offences = production
      .filter(({ path }) => path.startsWith('shared/'))
      .filter(({ text }) => /^import (?!type\b)[^;]*'@tensorflow\//m.test(text))
      .map(({ path }) => `${path}: use import type`);
    expect(offences).toEqual([]);
  });

  test('no import cycles', () => {
    const graph = new Map(sources.map((source) => [source.path, importedFiles(source)]));
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

  test('the top level holds the five rooms and nothing else', () => {
    const unexpected = files.filter((path) => {
      const [first = '', ...rest] = path.split('/');
      if (rest.length > 0) return !ROOMS.some((room) => room === first) && !first.startsWith('.');
      return (
        !first.startsWith('.') &&
        !TOP_LEVEL_FILES.has(first) &&
        !/^[A-Z]+((\.zh)?\.md)?$/.test(first)
      );
    });
    expect(unexpected).toEqual([]);
  });
});
