import { afterEach, beforeEach, expect, it } from 'vitest';
import { ReproducedRecord } from '../../bench/reproduce/reproduced-record.js';
import { temporaryFolder, type TemporaryFolder } from '../../fixtures/temporary-folder.js';

const header = { commit: 'abcdef12', date: '2026-11-29', machine: 'a machine', loadBefore: 0 };

let folder: TemporaryFolder;
beforeEach(async () => {
  folder = await temporaryFolder();
});
afterEach(() => folder.remove());

it('keeps what was made, and says what it took', () => {
  const path = `${folder.path}/abcdef12`;
  new ReproducedRecord(path).note('real', 5_400);
  const again = new ReproducedRecord(path);
  expect(again.has('real')).toBe(true);
  expect(again.has('scaling')).toBe(false);
  again.note('ope', 30);
  const page = new ReproducedRecord(path).page(['real', 'scaling', 'ope'], header);
  expect(page).toContain('commit abcdef12, a machine: 2 of 3 pages, in 90.5 minutes');
  expect(page).toContain('| real | 90.0 |\n| scaling |  |\n| ope | 0.5 |');
});
