/**
 * The methods of the methods' world: their entries in `methods.yaml`, and the resulting run
 * configs.
 */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { packageRoot } from '../../../infra/library/package-root.js';
import { canonicalJson } from '../../../shared/base/canonical-json.js';

export interface Cell {
  readonly setting: string;
  readonly clickRate: number;
  readonly seed: number;
}

/** Parameters of the log of every cell. */
export interface WorldSize {
  readonly rows: string;
  readonly adgroups: string;
}

/** Its run has the arms that all methods are compared with. */
export const FIRST_METHOD = 'fomaml';
/** Arms of the first run in addition to its own method; those after the first are in page order. */
export const REFERENCE_ARMS = [
  'finetuned',
  'constant',
  'global',
  'global-shift',
  'oracle',
] as const;

const section = z.looseObject({});
const WorldConfigSchema = z.looseObject({
  data: section,
  model: section,
  method: section,
  evaluation: z.looseObject({ sizeBucketEdges: z.array(z.int().positive()) }),
});
const ChangesSchema = z.record(
  z.string(),
  z.strictObject({ model: section.optional(), method: section.optional() }),
);

type WorldConfig = z.infer<typeof WorldConfigSchema>;
type Changes = z.infer<typeof ChangesSchema>;

export class WorldMethods {
  readonly #world: WorldConfig;
  readonly #changes: Changes;

  constructor(worldYaml: string, methodsYaml: string) {
    this.#world = WorldConfigSchema.parse(parse(worldYaml));
    this.#changes = ChangesSchema.parse(parse(methodsYaml));
  }

  static ofProject(): WorldMethods {
    const read = (path: string): string =>
      readFileSync(new URL(`test/bench/${path}`, packageRoot), 'utf8');
    return new WorldMethods(read('methods-world/world.yaml'), read('methods-world/methods.yaml'));
  }

  get names(): string[] {
    return Object.keys(this.#changes);
  }

  get sizeBucketEdges(): readonly number[] {
    return this.#world.evaluation.sizeBucketEdges;
  }

  /**
   * Digest of everything except the code that decides a method's figures in a cell. Figures with an
   * equal digest need not be recomputed.
   */
  digestOf(name: string, { rows, adgroups }: WorldSize): string {
    const meaning = canonicalJson({ rows, adgroups, ...this.#configOf(name) });
    return createHash('sha256').update(meaning).digest('hex').slice(0, 16);
  }

  /** The run config of a method in the folder of a cell. */
  runConfigOf(name: string, cell: Cell, folder: string): string {
    const config = this.#configOf(name);
    return stringify({
      ...config,
      seed: cell.seed,
      data: { ...config.data, logs: join(folder, 'log.csv'), store: join(folder, 'store') },
      output: join(folder, name),
    });
  }

  #configOf(name: string): WorldConfig {
    const change = this.#changes[name];
    if (change === undefined) throw new Error(`no method ${name} in methods.yaml`);
    const world = this.#world;
    return {
      ...world,
      model: { ...world.model, ...change.model },
      method: change.method ?? world.method,
      evaluation: {
        ...world.evaluation,
        ...(name === FIRST_METHOD ? {} : { arms: ['meta-unadapted', 'meta-adapted'] }),
      },
    };
  }
}
