// The one bounded cache: limits by count and by bytes, and the values it hands back to be freed.

import { describe, expect, test } from 'vitest';
import { LruCache } from '../../../shared/base/lru-cache.js';

describe('bounded by count', () => {
  test('evicts the entry that was used least recently', () => {
    const cache = new LruCache<string, number>({ countMax: 2 });
    expect(cache.put('a', 1)).toEqual([]);
    expect(cache.put('b', 2)).toEqual([]);
    expect(cache.get('a')).toBe(1);
    expect(cache.put('c', 3)).toEqual([2]);
    expect([cache.get('a'), cache.get('b'), cache.get('c')]).toEqual([1, undefined, 3]);
    expect(cache.size).toBe(2);
  });

  test('a replaced entry counts as used, and its old value is not handed back', () => {
    const cache = new LruCache<string, number>({ countMax: 2 });
    cache.put('a', 1);
    cache.put('b', 2);
    expect(cache.put('a', 10)).toEqual([]);
    expect(cache.put('c', 3)).toEqual([2]);
    expect(cache.get('a')).toBe(10);
  });
});

describe('bounded by bytes', () => {
  test('evicts as many entries as needed to make room, oldest first', () => {
    const cache = new LruCache<string, string>({ byteCountMax: 10 });
    cache.put('a', 'A', 4);
    cache.put('b', 'B', 4);
    expect(cache.put('c', 'C', 2)).toEqual([]);
    expect(cache.byteCount).toBe(10);
    expect(cache.put('d', 'D', 5)).toEqual(['A', 'B']);
    expect(cache.byteCount).toBe(7);
  });

  test('hands back an entry larger than the bound and keeps the others', () => {
    const cache = new LruCache<string, string>({ byteCountMax: 10 });
    cache.put('a', 'A', 4);
    expect(cache.put('b', 'B', 11)).toEqual(['B']);
    expect([cache.get('a'), cache.get('b')]).toEqual(['A', undefined]);
    expect(cache.byteCount).toBe(4);
  });

  test('releases the bytes of deleted or cleared entries', () => {
    const cache = new LruCache<string, string>({ byteCountMax: 10 });
    cache.put('a', 'A', 4);
    cache.put('b', 'B', 4);
    expect([cache.delete('a'), cache.delete('a')]).toEqual([true, false]);
    expect(cache.byteCount).toBe(4);
    cache.put('c', 'C', 1);
    cache.get('b');
    expect(cache.clear()).toEqual(['C', 'B']);
    expect([cache.size, cache.byteCount]).toEqual([0, 0]);
  });
});
