/**
 * What a client of a converted model must know beside the model: `inputs.json` describes each input, and
 * lists of texts, one a line as JSON, say which number an adgroup or a value has. The number is the line's, from 0.
 */

import { open, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { at, uint32At } from '../../../shared/base/arrays.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import { ADGROUP_INPUT } from './model-arrays.js';

const LINES_PER_PIECE = 10_000;
const FOLDER = 'vocabulary';

/** Texts one after the other, each from an offset to the next. */
export interface PackedTexts {
  readonly bytes: Uint8Array;
  /** `[count + 1]` */
  readonly offsets: Uint32Array;
}

interface GuidedModel extends Pick<LoadedBundle, 'manifest' | 'index'> {
  readonly digest: string;
  /** By feature that is encoded by dictionary. */
  readonly dictionaries: ReadonlyMap<string, PackedTexts>;
}

export async function writeInputGuide(
  folder: string,
  { digest, manifest, index, dictionaries }: GuidedModel,
): Promise<void> {
  await mkdir(join(folder, FOLDER));
  const adgroups = `${FOLDER}/adgroups.jsonl`;
  await writeTexts(join(folder, adgroups), { bytes: index.keyBytes, offsets: index.keyOffsets });
  const files = new Map<string, string>();
  for (const [name, texts] of dictionaries) {
    const file = `${FOLDER}/${files.size}.jsonl`;
    files.set(name, file);
    await writeTexts(join(folder, file), texts);
  }
  const guide = {
    bundle: digest,
    run: manifest.provenance.run,
    outputs: {
      score: 'the logit, or the standardised value',
      expected: 'the calibrated probability, or the expected value',
    },
    adgroup: { input: ADGROUP_INPUT, file: adgroups, unknown: 0, columns: manifest.taskColumns },
    features: manifest.encodedFeatures.map((feature) => ({
      ...feature,
      ...(files.has(feature.name) ? { file: files.get(feature.name), unknown: 0 } : {}),
    })),
  };
  await writeFile(join(folder, 'inputs.json'), `${JSON.stringify(guide, null, 2)}\n`, {
    flush: true,
  });
}

/** The first text is of what is unknown: null. */
async function writeTexts(path: string, { bytes, offsets }: PackedTexts): Promise<void> {
  // A byte order mark at the start of a value is part of it.
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  const file = await open(path, 'wx');
  try {
    const count = offsets.length - 1;
    for (let start = 0; start < count; start += LINES_PER_PIECE) {
      const length = Math.min(LINES_PER_PIECE, count - start);
      const lines = Array.from({ length }, (_, line) => {
        const place = start + line;
        const text = bytes.subarray(uint32At(offsets, place), at(offsets, place + 1));
        return place === 0 ? 'null' : JSON.stringify(decoder.decode(text));
      });
      await file.write(`${lines.join('\n')}\n`);
    }
    await file.sync();
  } finally {
    await file.close();
  }
}
