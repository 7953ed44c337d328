/**
 * Graphs that this machine keeps from process to process. Recording and rewriting a graph takes most of the
 * time of its first use, and gives the same graph whenever the code, the computation and the shapes are the
 * same. Whatever is wrong with a kept graph, it is recorded again.
 */

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { canonicalJson } from '../../../../shared/base/canonical-json.js';
import type { PlainForm } from './record-graph.js';

const FormSchema: z.ZodType<PlainForm> = z.lazy(() =>
  z.union([z.literal(0), z.array(FormSchema), z.record(z.string(), FormSchema)]),
);

const HeaderSchema = z.strictObject({
  inputCount: z.int().nonnegative(),
  resultCount: z.int().nonnegative(),
  output: FormSchema,
});

/** A graph as a SavedModel, and the form of its results. */
export type KeptGraph = z.infer<typeof HeaderSchema> & { readonly bytes: Uint8Array };

/** The graphs of one computation, by the signature of its input. */
export interface GraphShelf {
  find(signature: string): KeptGraph | null;
  /** A graph that cannot be kept is left out. */
  keep(signature: string, graph: KeptGraph): void;
}

/** The shelves of a process, by what decides the graphs beside their shapes. */
export type GraphShelves = (computation: unknown) => GraphShelf;

/** A run has some twenty shapes; a graph has about 100 kB. */
const KEPT_COUNT_MAX = 500;
const DIGEST_BYTE_COUNT = 32;
const LINE_END = 0x0a;
/**
 * @param folder one that only this user can write into.
 * @param maker what records here: libraries, processor, settings.
 */
export function graphShelvesIn(folder: string, maker: unknown): GraphShelves {
  const common = [maker, process.version, codeOf('worker'), codeOf('shared')];
  return (computation) => {
    const placeOf = (signature: string): string => {
      const owner = canonicalJson([common, computation, signature]);
      return join(folder, createHash('sha256').update(owner).digest('hex'));
    };
    return {
      find: (signature) => keptAt(placeOf(signature)),
      keep: (signature, graph) => {
        try {
          makeRoom(folder);
          const temporary = `${placeOf(signature)}.${process.pid}`;
          writeFileSync(temporary, encoded(graph), { mode: 0o600 });
          renameSync(temporary, placeOf(signature));
        } catch {
          // A full or read-only disk costs the next process some time.
        }
      },
    };
  };
}

/**
 * The state of the compiled code: names, sizes and times of files. The time of the last change of an inode
 * cannot be set, whereas packages are unpacked with one date for all files.
 */
function codeOf(room: string): string {
  const root = fileURLToPath(new URL(`../../../../${room}`, import.meta.url));
  const facts: string[] = [];
  const walk = (at: string): void => {
    for (const entry of readdirSync(at, { withFileTypes: true })) {
      const path = join(at, entry.name);
      if (entry.isDirectory()) walk(path);
      else if (/\.m?[jt]s$/.test(entry.name)) {
        const { size, mtimeMs, ctimeMs } = statSync(path);
        facts.push(`${path} ${size} ${mtimeMs} ${ctimeMs}`);
      }
    }
  };
  walk(root);
  return createHash('sha256').update(facts.sort().join('\n')).digest('hex');
}

function encoded({ bytes, ...header }: KeptGraph): Uint8Array {
  const content = Buffer.concat([Buffer.from(`${JSON.stringify(header)}\n`), bytes]);
  return Buffer.concat([createHash('sha256').update(content).digest(), content]);
}

function keptAt(path: string): KeptGraph | null {
  try {
    const file = readFileSync(path);
    const content = file.subarray(DIGEST_BYTE_COUNT);
    const digest = createHash('sha256').update(content).digest();
    if (!digest.equals(file.subarray(0, DIGEST_BYTE_COUNT))) return null;
    const headerEnd = content.indexOf(LINE_END);
    const header = HeaderSchema.parse(JSON.parse(content.toString('utf8', 0, headerEnd)));
    return { ...header, bytes: content.subarray(headerEnd + 1) };
  } catch {
    return null;
  }
}

/** Removes the older half when there are too many. */
function makeRoom(folder: string): void {
  const names = readdirSync(folder);
  if (names.length < KEPT_COUNT_MAX) return;
  const byAge = names
    .map((name) => ({ path: join(folder, name), mtimeMs: statSync(join(folder, name)).mtimeMs }))
    .sort((a, b) => a.mtimeMs - b.mtimeMs);
  for (const { path } of byAge.slice(0, Math.ceil(names.length / 2))) rmSync(path, { force: true });
}
