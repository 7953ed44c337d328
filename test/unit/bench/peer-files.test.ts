import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { peerFiles, type CellFiles } from '../../bench/real/cell-files.js';
import { REAL_SETS } from '../../bench/real/real-sets.js';
import { at } from '../../../shared/base/arrays.js';
import { temporaryFolder, type TemporaryFolder } from '../../fixtures/temporary-folder.js';

let room: TemporaryFolder;
beforeEach(async () => {
  room = await temporaryFolder();
});
afterEach(() => room.remove());

const [tabmo, openBandit] = ['tabmo', 'open-bandit'].map((name) =>
  at(
    REAL_SETS.filter((set) => set.name === name),
    0,
  ),
);

function filesOf(commit: string, rows: string, roles: string): CellFiles {
  const folder = join(room.path, commit);
  mkdirSync(folder, { recursive: true });
  const files = { folder, log: join(folder, 'rows.csv'), split: join(folder, 'split.csv') };
  writeFileSync(files.log, rows);
  writeFileSync(files.split, roles);
  return files;
}

it('has one folder for the peers of two commits that read the same, and others for other rows, roles and features', () => {
  const folderOf = (commit: string, rows: string, roles: string, set = tabmo) =>
    peerFiles(filesOf(commit, rows, roles), set!, join(room.path, 'peers')).folder;
  const first = folderOf('one', 'a,1', 'train');
  expect(folderOf('two', 'a,1', 'train')).toBe(first);
  const described: unknown = JSON.parse(readFileSync(join(first, 'fields.json'), 'utf8'));
  expect(described).toMatchObject({ log: join(room.path, 'two', 'rows.csv') });
  expect(readFileSync(join(first, 'split.csv'), 'utf8')).toBe('train');
  const others = [
    folderOf('two', 'a,2', 'train'),
    folderOf('two', 'a,1', 'test'),
    folderOf('two', 'a,1', 'train', openBandit),
  ];
  expect(new Set([first, ...others]).size).toBe(4);
});
