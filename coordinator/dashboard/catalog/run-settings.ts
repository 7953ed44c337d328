/** The settings that decide what a run computes, as its latest checkpoint has them, and how two runs differ. */

import { latestManifestOf } from '../../checkpoints/checkpoint-manifest.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';

/** Values by path, as `method.innerRate`, in the order of the paths. */
export type RunSettings = ReadonlyMap<string, string>;

interface DifferentSetting {
  readonly path: string;
  /** Null: the run has no such setting. */
  readonly value: string | null;
  readonly otherValue: string | null;
}

/** More than any config has. */
const SETTINGS_MAX = 1_000;

/** Null before the first checkpoint. */
export async function settingsOf(checkpoints: ObjectStore): Promise<RunSettings | null> {
  const manifest = await latestManifestOf(checkpoints);
  if (manifest === null) return null;
  const settings: [string, string][] = [];
  collect('', manifest.decidingConfig, settings);
  settings.push(['store', manifest.storeDigest]);
  const machine = manifest.computedOn.at(-1);
  if (machine !== undefined) settings.push(['computed on', machine.fingerprint]);
  return new Map(settings.sort(([a], [b]) => (a < b ? -1 : 1)).slice(0, SETTINGS_MAX));
}

export function differencesOf(settings: RunSettings, others: RunSettings): DifferentSetting[] {
  const paths = [...new Set([...settings.keys(), ...others.keys()])].sort();
  return paths
    .filter((path) => settings.get(path) !== others.get(path))
    .map((path) => ({
      path,
      value: settings.get(path) ?? null,
      otherValue: others.get(path) ?? null,
    }));
}

function collect(path: string, value: unknown, settings: [string, string][]): void {
  const isSection = typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!isSection) {
    settings.push([path, typeof value === 'string' ? value : JSON.stringify(value)]);
    return;
  }
  for (const [name, each] of Object.entries(value))
    collect(path === '' ? name : `${path}.${name}`, each, settings);
}
