/**
 * Converted models in the runtimes that serve them: random models of every kind at every encoding, as ONNX in
 * onnxruntime-node and as SavedModels in Python TensorFlow, against the reference scorer. Installs both into the
 * user's cache. Writes `infra/results/interchange.json` and `.md`; exits with 1 where a score differs.
 *
 *   npm run bench:interchange
 */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../../../infra/library/package-root.js';
import { at } from '../../../../shared/base/arrays.js';
import { randomStream } from '../../../../shared/base/random.js';
import { BLOCK_ENCODINGS } from '../../../../shared/bundle/ranking-model.js';
import { MODELS } from '../../../../shared/models/kinds/models.js';
import { modelGraphOf } from '../../../../worker/serving/interchange/model-graph.js';
import {
  writeOnnxModel,
  writeSavedModel,
} from '../../../../worker/serving/interchange/written-model.js';
import { ReferenceScorer } from '../../../../worker/serving/reference-scorer.js';
import { coverageOf } from '../../../../worker/serving/scoring-plan.js';
import { bundleAround, expectedOf, modelInputs } from '../../../fixtures/serving/converted-case.js';
import {
  randomRankingCase,
  randomRequest,
} from '../../../fixtures/serving/random-ranking-model.js';
import { benchHeader, markdownTable } from '../../bench-header.js';
import {
  onnxOutputs,
  tensorflowOutputs,
  type ConvertedFolder,
  type RuntimeOutputs,
} from './runtimes.js';
import { benchOptions } from '../../options/bench-options.js';

benchOptions(import.meta.url, {});

const RESULTS = new URL('infra/results/', packageRoot).pathname;
const CASES_PER_KIND = 12;
const ROWS = 50;
/** The largest difference, relative to the score beyond 1. */
const DIFFERENCE_MAX = 1e-5;

interface BenchCase {
  readonly kind: string;
  readonly encoding: string;
  readonly onnx: ConvertedFolder;
  readonly saved: ConvertedFolder;
  readonly score: readonly number[];
  readonly expected: readonly number[];
}

async function casesOf(kind: string, folder: string): Promise<BenchCase[]> {
  const cases: BenchCase[] = [];
  for (let seed = 0; cases.length < CASES_PER_KIND; seed += 1) {
    const random = randomStream(seed, 'interchange', kind);
    const encoding = at(BLOCK_ENCODINGS, seed % BLOCK_ENCODINGS.length);
    const model = randomRankingCase(random, kind, encoding)?.model;
    if (model === undefined || !coverageOf(model).isCovered) continue;
    const drawn = { model, contextFeatures: [] };
    const bundle = bundleAround(model, random);
    const request = randomRequest(random, drawn, ROWS);
    const logits = new Float32Array(ROWS);
    new ReferenceScorer(model, []).score(request, logits);
    const inputs = modelInputs(drawn, request);
    const own = join(folder, `${kind}-${seed}`);
    const [onnx, saved] = [join(own, 'onnx'), join(own, 'saved')];
    for (const each of [onnx, saved]) mkdirSync(each, { recursive: true });
    const graph = modelGraphOf(bundle);
    await writeOnnxModel(graph, onnx, {});
    await writeSavedModel(graph, saved);
    cases.push({
      ...{ kind, encoding, onnx: { folder: onnx, inputs }, saved: { folder: saved, inputs } },
      score: [...logits],
      expected: [...logits].map((score, row) => expectedOf(bundle, at(request.blocks, row), score)),
    });
  }
  return cases;
}

/** By kind. */
function largestDifferences(
  cases: readonly BenchCase[],
  { found }: RuntimeOutputs,
): Record<string, number> {
  const largest: Record<string, number> = {};
  for (const [place, { kind, score, expected }] of cases.entries()) {
    const outputs = at(found, place);
    for (const [values, wanted] of [
      [outputs.score, score],
      [outputs.expected, expected],
    ] as const)
      for (const [row, value] of wanted.entries()) {
        const difference = Math.abs(at(values, row) - value) / Math.max(1, Math.abs(value));
        // An output that is not a number is no small difference.
        if (!(difference <= (largest[kind] ?? 0))) largest[kind] = difference;
        largest[kind] ??= 0;
      }
  }
  return largest;
}

const header = benchHeader();
const folder = mkdtempSync(join(tmpdir(), 'qianmo-interchange-'));
try {
  const cases: BenchCase[] = [];
  for (const { kind } of MODELS.all()) cases.push(...(await casesOf(kind, folder)));
  const sides = [
    await onnxOutputs(cases.map(({ onnx }) => onnx)),
    tensorflowOutputs(cases.map(({ saved }) => saved)),
  ].map((side) => ({ name: side.version, differences: largestDifferences(cases, side) }));
  const record = { ...header, casesPerKind: CASES_PER_KIND, rows: ROWS, sides };
  writeFileSync(`${RESULTS}interchange.json`, `${JSON.stringify(record, null, 1)}\n`);
  writeFileSync(`${RESULTS}interchange.md`, pageOf(record));
  const all = sides.flatMap(({ differences }) => Object.values(differences));
  if (all.some((difference) => !(difference <= DIFFERENCE_MAX))) process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}

interface InterchangeRecord extends ReturnType<typeof benchHeader> {
  readonly casesPerKind: number;
  readonly rows: number;
  readonly sides: readonly {
    readonly name: string;
    readonly differences: Record<string, number>;
  }[];
}

function pageOf({ sides, casesPerKind, rows, ...found }: InterchangeRecord): string {
  return [
    ...['# Bundles in other servers', ''],
    `Commit ${found.commit}, ${found.date}, ${found.machine}. Made by \`npm run bench:interchange\`.`,
    '',
    `For every kind of model, ${casesPerKind} random models with random blocks in float32, float16 and int8 in turn are written as ONNX and as a SavedModel.`,
    `The table has the largest difference of a score or an expected value from plain TypeScript over ${rows} rows each, relative beyond 1; the bar is ${DIFFERENCE_MAX}.`,
    '',
    ...markdownTable(
      ['model', ...sides.map(({ name }) => name)],
      MODELS.all().map(({ kind }) => [
        kind,
        ...sides.map(({ differences }) => (differences[kind] ?? NaN).toExponential(1)),
      ]),
    ),
    '',
  ].join('\n');
}
