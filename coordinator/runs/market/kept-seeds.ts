/** Outcomes of seeds that are done, so that a market that was stopped goes on with the next seed. */

import { z } from 'zod';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { ArmOutcomeSchema } from '../../market/arm-outcome.js';
import type { SeedOutcome } from '../../market/seed-measures.js';

const FOLDER = 'outcomes/';

const KeptSchema = z.strictObject({
  configDigest: z.string(),
  seed: z.int(),
  arms: z.array(ArmOutcomeSchema),
});

export class KeptSeeds {
  readonly #output: ObjectStore;
  readonly #configDigest: string;

  constructor(output: ObjectStore, configDigest: string) {
    this.#output = output;
    this.#configDigest = configDigest;
  }

  /** Outcomes of another config, or that cannot be read, count as not there. */
  async read(seeds: readonly number[]): Promise<Map<number, SeedOutcome>> {
    const found = new Map<number, SeedOutcome>();
    for (const seed of seeds) {
      const object = await this.#output.get(keyOf(seed));
      if (object === null) continue;
      const kept = parsedOrNull(Buffer.from(object.bytes).toString('utf8'));
      if (kept?.configDigest === this.#configDigest && kept.seed === seed)
        found.set(seed, { seed, arms: kept.arms });
    }
    return found;
  }

  async write({ seed, arms }: SeedOutcome): Promise<void> {
    const text = `${JSON.stringify({ configDigest: this.#configDigest, seed, arms })}\n`;
    await this.#output.put(keyOf(seed), Buffer.from(text), { kind: 'always' });
  }
}

function keyOf(seed: number): string {
  return `${FOLDER}${seed}.json`;
}

function parsedOrNull(text: string): z.infer<typeof KeptSchema> | null {
  try {
    return KeptSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
