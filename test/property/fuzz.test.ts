// A small part of `npm run fuzz`, and a parser with known faults, which it must find.
import { describe, expect, it } from 'vitest';
import { runTarget, type FuzzTarget } from '../fuzz/fuzz-target.js';
import { FUZZ_TARGETS } from '../fuzz/targets.js';

const INPUT_COUNT = 250;
/** Bounds the time of slow parsers, which get more inputs in `npm run fuzz`. */
const SLOW_SHARE = 2;
const SEED = 1;

it.each(FUZZ_TARGETS.map((target) => [target.name, target] as const))(
  'every parser of what comes from outside returns or refuses: %s',
  async (_, target) => {
    const inputCount = Math.ceil(INPUT_COUNT * Math.min(1, target.share * SLOW_SHARE));
    const { accepted, refused, findings } = await runTarget(target, {
      ...{ seed: SEED, inputCount, findingsMax: 1 },
    });
    expect(
      findings.map(({ what, input }) => [what, Buffer.from(input).toString('base64')]),
    ).toEqual([]);
    expect(accepted + refused).toBe(inputCount);
    expect(refused).toBeLessThan(inputCount);
  },
);

const target = (parse: FuzzTarget['parse']): FuzzTarget => ({
  ...{ name: 'faulty', share: 1, parse },
  inputOf: (stream) => Uint8Array.from({ length: 40 }, () => stream.below(256)),
});

describe('the fuzzer', () => {
  it('finds an undocumented error and shrinks the input that causes it', async () => {
    const faulty = target((input) => {
      if (input.includes(7)) throw new TypeError('a seven');
    });
    const terms = { seed: SEED, inputCount: 1_000, findingsMax: 1 };
    const { findings } = await runTarget(faulty, terms);
    expect(findings).toMatchObject([{ what: expect.stringContaining('a seven') as string }]);
    expect([...(findings[0]?.input ?? [])]).toEqual([7]);
  });

  it('finds a parser that believes a size', async () => {
    const faulty = target(() => new Uint8Array(2 ** 29));
    const { findings } = await runTarget(faulty, { seed: SEED, inputCount: 1, findingsMax: 1 });
    expect(findings).toMatchObject([{ what: expect.stringContaining('allocates') as string }]);
  });
});
