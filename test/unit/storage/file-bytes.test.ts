/** Reading and writing of whole files, whatever their size. */

import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import {
  makeFolderDurably,
  readBytes,
  replaceByPieces,
  writeDurably,
} from '../../../shared/storage/file-bytes.js';
import { openedForEach } from '../../fixtures/opened.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

const folder = openedForEach(temporaryFolder);

it.each([1, 7, 100, 1000])('reads a file in pieces of %i bytes', async (pieceByteCountMax) => {
  const bytes = Uint8Array.from({ length: 257 }, (_, index) => index % 251);
  const path = join(folder.path, 'file');
  await writeDurably(path, bytes);
  expect(Buffer.compare(await readBytes(path, pieceByteCountMax), bytes)).toBe(0);
});

it.each([1, 7, 100, 1000])('writes a file in pieces of %i bytes', async (pieceByteCountMax) => {
  const bytes = Uint8Array.from({ length: 257 }, (_, index) => index % 251);
  const path = join(folder.path, 'file');
  await writeDurably(path, bytes, 0o444, pieceByteCountMax);
  expect(Buffer.compare(await readBytes(path), bytes)).toBe(0);
});

it('syncs the folder of every folder that it creates', async () => {
  const synced: string[] = [];
  const sync = (path: string): Promise<void> => {
    synced.push(path);
    return Promise.resolve();
  };
  await mkdir(join(folder.path, 'a'));
  await makeFolderDurably(join(folder.path, 'a/b/c'), sync);
  expect(synced).toEqual([join(folder.path, 'a/b'), join(folder.path, 'a')]);
  synced.length = 0;
  await makeFolderDurably(join(folder.path, 'a/b/c'), sync);
  expect(synced).toEqual([]);
});

it('replaces a file, and leaves nothing beside it, also where it cannot', async () => {
  const path = join(folder.path, 'file');
  await replaceByPieces(path, [Buffer.from('old')]);
  await replaceByPieces(path, [Buffer.from('new')]);
  expect(Buffer.from(await readBytes(path)).toString()).toBe('new');
  await mkdir(join(folder.path, 'taken', 'by'), { recursive: true });
  await expect(
    replaceByPieces(join(folder.path, 'taken'), [Buffer.from('file')]),
  ).rejects.toThrow();
  expect((await readdir(folder.path)).sort()).toEqual(['file', 'taken']);
});
