/**
 * Files for clients of a converted model: `inputs.json` describes each input, and
 * lists of texts, one a line as JSON, say which number an adgroup or a value has. The number is the line's, from 0.
 * Lists of target encodings say what values, given by their numbers, have; others have 0.
 */

import { open, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { at, uint32At } from '../../../shared/base/arrays.js';
import { blockOfKey } from '../../../shared/bundle/key-index.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import type { EncodedFeature } from '../../../shared/tasks/store-manifest.js';
import {
  targetEncodingNameOf,
  type TargetEncoding,
} from '../../../shared/tasks/target-encoding.js';
import { ADGROUP_INPUT } from './model-graph.js';

const LINES_PER_PIECE = 10_000;
const FOLDER = 'vocabulary';

/** Texts one after the other, each from an offset to the next. */
interface PackedTexts {
  readonly bytes: Uint8Array;
  /** `[count + 1]` */
  readonly offsets: Uint32Array;
}

interface GuidedModel extends Pick<LoadedBundle, 'manifest' | 'index'> {
  readonly digest: string;
  /** By feature that is encoded by dictionary. */
  readonly dictionaries: ReadonlyMap<string, PackedTexts>;
  /** By `targetEncodingNameOf`. */
  readonly targetEncodings: ReadonlyMap<string, TargetEncoding>;
}

export async function writeInputGuide(
  folder: string,
  { digest, manifest, index, dictionaries, targetEncodings }: GuidedModel,
): Promise<void> {
  await mkdir(join(folder, FOLDER));
  const adgroups = `${FOLDER}/adgroups.jsonl`;
  const keys = { bytes: index.keyBytes, offsets: index.keyOffsets };
  // An adgroup that has changed also has a place for each of its earlier blocks.
  const isNewest = (key: string, block: number): boolean => blockOfKey(index, key) === block;
  await writeTexts(join(folder, adgroups), keys, isNewest);
  const files = new Map<string, string>();
  for (const [name, texts] of dictionaries) {
    const file = `${FOLDER}/${files.size}.jsonl`;
    files.set(name, file);
    await writeTexts(join(folder, file), texts);
  }
  for (const [name, encoding] of targetEncodings) {
    const file = `${FOLDER}/${files.size}.jsonl`;
    files.set(name, file);
    await writeEncoding(join(folder, file), encoding);
  }
  const fileOf = (feature: EncodedFeature): string | undefined =>
    feature.kind === 'number' && feature.encodes !== undefined
      ? files.get(targetEncodingNameOf(feature.encodes.of))
      : files.get(feature.name);
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
      ...(fileOf(feature) === undefined ? {} : { file: fileOf(feature), unknown: 0 }),
    })),
  };
  await writeFile(join(folder, 'inputs.json'), `${JSON.stringify(guide, null, 2)}\n`, {
    flush: true,
  });
}

/** A line has the ids of a value, its rate and its count. */
async function writeEncoding(path: string, { ids, rates, counts }: TargetEncoding): Promise<void> {
  await writeLines(path, rates.length, (place) =>
    JSON.stringify([...ids, rates, counts].map((values) => at(values, place))),
  );
}

/** An empty text is of what is unknown or unseen: null, as are texts that are not listed. */
async function writeTexts(
  path: string,
  { bytes, offsets }: PackedTexts,
  isListed: (text: string, place: number) => boolean = () => true,
): Promise<void> {
  // A byte order mark at the start of a value is part of it.
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  await writeLines(path, offsets.length - 1, (place) => {
    const text = decoder.decode(bytes.subarray(uint32At(offsets, place), at(offsets, place + 1)));
    return place > 0 && text !== '' && isListed(text, place) ? JSON.stringify(text) : 'null';
  });
}

async function writeLines(
  path: string,
  count: number,
  lineOf: (place: number) => string,
): Promise<void> {
  const file = await open(path, 'wx');
  try {
    for (let start = 0; start < count; start += LINES_PER_PIECE) {
      const length = Math.min(LINES_PER_PIECE, count - start);
      const lines = Array.from({ length }, (_, line) => lineOf(start + line));
      await file.write(`${lines.join('\n')}\n`);
    }
    await file.sync();
  } finally {
    await file.close();
  }
}
