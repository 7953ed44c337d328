// The addon of loops over table rows, which coordinators and workers use.
import { nativeAddon } from '../packages/native-addon.mjs';

export const rowAddon = nativeAddon({
  name: 'rows',
  folder: 'shared/tensors/native',
  headers: ['arguments.h', 'rows.h', 'row-loops.h', 'processor.h'],
  sources: [
    { name: 'rows-portable.cc', processor: 'x86-64' },
    { name: 'rows-addon.cc', processor: 'x86-64' },
    { name: 'rows-haswell.cc', processor: 'haswell' },
  ],
  // Results are those of TypeScript, bit for bit: products and sums are rounded apart.
  flags: ['-ffp-contract=off', '-fno-math-errno'],
  seconds: 5,
  withoutIt: 'rows of tables are gathered and updated in TypeScript, several times slower',
});
