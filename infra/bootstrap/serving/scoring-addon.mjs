// The scoring kernel, compiled once for each instruction set. Where it is missing, rankings are scored in
// TypeScript.
import { nativeAddon } from '../packages/native-addon.mjs';

const HEADERS = [
  'addon.h',
  'model.h',
  'vectors.h',
  'ahead.h',
  'layers.h',
  'score.h',
  'buckets.h',
  'dictionary.h',
  'json-reader.h',
  '../../../shared/tensors/native/arguments.h',
  '../../../shared/tensors/native/processor.h',
];
const SOURCES = [
  { name: 'kernel-portable.cc', processor: 'x86-64' },
  { name: 'mapping.cc', processor: 'x86-64' },
  { name: 'columns.cc', processor: 'x86-64' },
  {
    name: 'ranking.cc',
    processor: 'x86-64',
    flags: ['-ffp-contract=off', '-fno-associative-math', '-fsigned-zeros', '-ftrapping-math'],
  },
  { name: 'addon.cc', processor: 'x86-64' },
  { name: 'kernel-avx2.cc', processor: 'haswell' },
  { name: 'kernel-avx512.cc', processor: 'skylake-avx512', flags: ['-mprefer-vector-width=512'] },
];
// Sums may associate in any order; what is not a number stays so.
const FLAGS = [
  ...['-ffp-contract=fast', '-fno-math-errno', '-fno-trapping-math'],
  ...['-fno-signed-zeros', '-fassociative-math', '-Wno-psabi'],
];

export const scoringAddon = nativeAddon({
  name: 'scoring',
  folder: 'worker/serving/native',
  headers: HEADERS,
  sources: SOURCES,
  flags: FLAGS,
  seconds: 15,
  withoutIt: 'requests are scored in TypeScript, some twenty times slower',
});
