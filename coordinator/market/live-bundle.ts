/**
 * A bundle in memory with a block for every adgroup of the world: that of the bundle, or what an unknown adgroup
 * gets. Blocks are written in place while the market runs, and scorers read them where they lie.
 */

import { at, float64At, int32At } from '../../shared/base/arrays.js';
import { QianmoError } from '../../shared/base/errors.js';
import { sigmoid } from '../../shared/base/logistic.js';
import { blockBytes, writeBlock } from '../../shared/bundle/block-codec.js';
import { blockOfKey, UNKNOWN_BLOCK } from '../../shared/bundle/key-index.js';
import type { BundleManifest } from '../../shared/bundle/bundle-manifest.js';
import type { PersonalBlocks, RankingModel } from '../../shared/bundle/ranking-model.js';
import type { LoadedBundle } from '../../shared/bundle/read-bundle.js';
import type { AdaptedTask } from '../../shared/queue/blobs/adapted-tasks.js';
import { calibrationIndexOf } from '../export/calibrate.js';

export class LiveBundle {
  readonly digest: string;
  readonly manifest: BundleManifest;
  /** Block `adgroup + 1` is that of an adgroup. */
  readonly model: RankingModel;
  /** The place among the calibrations: `[adgroupCount]`. */
  readonly #calibrations: Int32Array;
  /** Impressions of the log that the bundle has adapted to: `[adgroupCount]`. */
  readonly #loggedImpressions: Float64Array;

  /** @throws QianmoError of kind `usage` if blocks hold more than variables and a level. */
  constructor(digest: string, loaded: LoadedBundle, adgroupCount: number) {
    const { model, manifest, index, calibrations } = loaded;
    if (model.blocks.effects !== null || model.blocks.evidence.byValue !== null) throw tooRich();
    this.digest = digest;
    this.manifest = manifest;
    this.#calibrations = new Int32Array(adgroupCount);
    this.#loggedImpressions = new Float64Array(adgroupCount);
    const blocks = blocksFor(adgroupCount, model.blocks);
    for (let adgroup = 0; adgroup < adgroupCount; adgroup += 1) {
      const block = blockOfKey(index, String(adgroup));
      blockBytes(blocks, adgroup + 1).set(blockBytes(model.blocks, block));
      this.#calibrations[adgroup] = int32At(calibrations, block);
      this.#loggedImpressions[adgroup] = float64At(model.blocks.evidence.impressions, block);
    }
    blockBytes(blocks, UNKNOWN_BLOCK).set(blockBytes(model.blocks, UNKNOWN_BLOCK));
    this.model = { ...model, blocks };
  }

  /** The calibrated probability of a click. */
  probabilityOf(adgroup: number, logit: number): number {
    const { slope, offset } = at(this.manifest.calibrations, int32At(this.#calibrations, adgroup));
    return sigmoid(slope * logit + offset);
  }

  loggedImpressionsOf(adgroup: number): number {
    return float64At(this.#loggedImpressions, adgroup);
  }

  /** Replaces the block of an adgroup by one that was adapted to `rowCount` rows. */
  replace(adgroup: number, { blocks: variables, shift }: AdaptedTask, rowCount: number): void {
    const { blocks, dense: initial } = this.model;
    const target = blockBytes(blocks, adgroup + 1);
    writeBlock({ layout: blocks.layout, initial }, { variables, level: shift?.level ?? 0 }, target);
    this.#calibrations[adgroup] = calibrationIndexOf(this.manifest.calibrations, {
      labelIndex: 0,
      supportRowCount: rowCount,
    });
  }
}

function blocksFor(adgroupCount: number, { layout, evidence }: PersonalBlocks): PersonalBlocks {
  const blockCount = adgroupCount + 1;
  return {
    ...{ layout, blockCount, effects: null },
    blocksPerShard: 2 ** Math.ceil(Math.log2(blockCount)),
    shards: [new Uint8Array(new ArrayBuffer(blockCount * layout.strideByteCount))],
    evidence: {
      ...evidence,
      supportRowCounts: new Uint32Array(blockCount),
      clicks: new Float64Array(blockCount),
      impressions: new Float64Array(blockCount),
    },
    isOfValues: new Uint8Array(blockCount),
    isAlone: new Uint8Array(blockCount),
  };
}

function tooRich(): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: 'the market does not adapt blocks of this kind while it runs',
    where: 'run.method, run.model.supportInputs',
    expected: 'personal variables and at most a level shift: no shifts or sums by value',
    cure: 'write levelShift: true instead of a list of features, and leave supportInputs out',
  });
}
