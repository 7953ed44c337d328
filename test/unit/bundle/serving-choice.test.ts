/** What adgroups are served follows the evaluation of the exported checkpoint, and of no other. */

import { describe, expect, test } from 'vitest';
import {
  exportShardsOf,
  otherChoice,
  tasksInBlockOrder,
  servedBlocksOf,
  servingOf,
} from '../../../coordinator/export/adapted-shards.js';
import type { EvaluationReport } from '../../../coordinator/scoring/evaluation-report.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

const fomaml = methodOf({ kind: 'fomaml', innerSteps: 3, innerRate: 0.7 });
const source = { method: fomaml, metaDigest: 'a', storeDigest: 'b', where: 'run/evaluation.json' };

/** The parts of a report that say what was chosen. */
function reportOf(
  selection: Partial<EvaluationReport['selection']>,
  run: Partial<EvaluationReport['run']> = {},
): EvaluationReport {
  return {
    run: { metaDigest: 'a', storeDigest: 'b', ...run },
    selection: { criterion: '', cellsPerArm: 1, chosen: [], ...selection },
  } as unknown as EvaluationReport;
}

const chosen: EvaluationReport['selection']['chosen'] = [
  {
    ...{ arm: 'meta-adapted', validationLogloss: 1, atGridEdge: false, grid: [] },
    cell: { kind: 'inner-steps', innerRate: 0.3, innerSteps: 5 },
  },
];
const bucket = { name: '', adgroupCount: 1, difference: null, decidedBy: 'bucket' } as const;

describe('what is served', () => {
  test('is what validation chose, by size', () => {
    const serving = servingOf(
      reportOf({
        chosen,
        blocks: {
          rule: '',
          buckets: [
            { ...bucket, supportRowCountMin: 0, supportRowCountMax: 10, serves: 'unadapted' },
            { ...bucket, supportRowCountMin: 11, supportRowCountMax: null, serves: 'adapted' },
          ],
        },
      }),
      source,
    );
    expect(serving.adaptation).toEqual({ innerRate: 0.3, innerSteps: 5 });
    expect([0, 10, 11, 1000].map((count) => servedBlocksOf(serving, count))).toEqual([
      ...['unadapted', 'unadapted', 'adapted', 'adapted'],
    ]);
  });

  // Seen to fail: an export without a word.
  test('is not silent about another arm that validation would choose', () => {
    const choiceOf = (chosenArm: 'global-shift' | 'meta-adapted', standardError = 0.002) =>
      otherChoice({
        ...reportOf({ chosen }),
        validation: {
          ...{ adgroupCount: 9, foldCount: 3, chosen: chosenArm },
          arms: (['meta-adapted', 'global-shift'] as const).map((arm) => ({
            ...{ arm, logloss: 0.5, heldOutLogloss: 0.5 },
            fromChosen: arm === chosenArm ? null : { value: 0.0123, standardError },
          })),
        },
      });
    expect(choiceOf('global-shift')).toBe(
      'validation would choose global-shift; the bundle serves meta-adapted, whose loss is higher by 0.0123 ± 0.0020',
    );
    expect(choiceOf('meta-adapted')).toBeNull();
    expect(choiceOf('global-shift', 0.01), 'not told apart').toBeNull();
  });

  test.each([
    [null, /was not evaluated/],
    [reportOf({ chosen }, { metaDigest: 'other' }), /of other parameters/],
    [reportOf({ chosen }, { storeDigest: 'other' }), /of another task store/],
  ])('is refused without its evaluation', (report, what) => {
    expect(() => servingOf(report, source)).toThrow(what);
  });
});

describe('shards', () => {
  const store = tinyTaskStore({ taskCount: 40, losses: ['binary', 'squared'] });
  const serving = (least: number) => ({
    adaptation: { innerRate: 0.3, innerSteps: 5 },
    served: [
      { supportRowCountMin: 0, supportRowCountMax: least, blocks: 'unadapted' as const },
      { supportRowCountMin: least + 1, supportRowCountMax: null, blocks: 'adapted' as const },
    ],
  });

  test('hold every adgroup once, with others of its label, split and choice', () => {
    const shards = exportShardsOf(store, {
      ...{ serving: [serving(4), serving(8)], rows: 'support', tasksPerShard: 3 },
    });
    const tasks = tasksInBlockOrder(shards);
    expect([...tasks].sort((a, b) => a - b)).toEqual(store.tasks.map((task) => task.taskIndex));
    for (const { taskIndices, labelIndex, adaptation } of shards) {
      expect(taskIndices.length).toBeLessThanOrEqual(3);
      const own = taskIndices.map((taskIndex) => store.tasks[taskIndex]!);
      expect(new Set(own.map(({ split }) => split)).size).toBe(1);
      expect(own.every((task) => task.labelIndex === labelIndex)).toBe(true);
      const isAdapted = ({ supportRowCount }: (typeof own)[number]): boolean =>
        supportRowCount > (labelIndex === 0 ? 4 : 8);
      expect(own.every((task) => isAdapted(task) === adaptation.innerSteps > 0)).toBe(true);
    }
  });
});
