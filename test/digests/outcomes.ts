/** Digests of a command's output, without the fields that differ from run to run. */

import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { CaseValues } from './recorded-digests.js';

/** Fields that hold times, paths and the name of the device. */
const UNRECORDED = ['finishedEpochMs', 'durationMs', 'storeAddress', 'address', 'backends'];
/** Hashes of a parsed config. A new setting with a default changes them, so they are recorded separately. */
const OF_CONFIG = ['configHash', 'planHash'];

export function sha256(bytes: string | Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Digests of an evaluated run's files; the files of several segments are hashed together. */
export function evaluatedValues(output: string): CaseValues {
  const names = readdirSync(output).sort();
  const reports = names
    .filter((name) => /^evaluation.*\.json$/.test(name))
    .map((name) => readFileSync(join(output, name), 'utf8'));
  const logits = names
    .filter((name) => /^test-logits.*\.safetensors$/.test(name))
    .map((name) => readFileSync(join(output, name)));
  if (reports.length === 0 || logits.length !== reports.length)
    throw new Error(`${output}: ${reports.length} reports and ${logits.length} files of logits`);
  const { outcome: evaluation, ...config } = jsonValues(...reports);
  return { logits: sha256(Buffer.concat(logits)), evaluation, ...config };
}

/** `config` is present if the JSON contains config hashes. */
export function jsonValues(...texts: readonly string[]) {
  const hashes: string[] = [];
  const recorded = texts.map((text) => withoutPassing(JSON.parse(text), hashes));
  const config = hashes.length === 1 ? hashes[0] : sha256(hashes.join());
  return {
    outcome: sha256(JSON.stringify(recorded)),
    ...(hashes.length === 0 || config === undefined ? {} : { config }),
  };
}

/** Returns a copy with sorted keys and without unrecorded fields, and collects config hashes. */
function withoutPassing(value: unknown, hashes: string[]): unknown {
  if (Array.isArray(value)) return value.map((each) => withoutPassing(each, hashes));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [key, hash] of entries) if (OF_CONFIG.includes(key)) hashes.push(String(hash));
  return Object.fromEntries(
    entries
      .filter(([key]) => !UNRECORDED.includes(key) && !OF_CONFIG.includes(key))
      .map(([key, each]) => [key, withoutPassing(each, hashes)]),
  );
}
