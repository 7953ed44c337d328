/** The check of a built site: every link and anchor leads somewhere, and nothing is fetched from another origin. */

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path/posix';

interface SiteFile {
  /** Below the folder of the site, such as `zh/concepts.html`. */
  readonly path: string;
  readonly text: string;
}

const TEXTS = /\.(html|css|js|svg)$/;
/** Elements and rules that make a browser fetch; `<a href>` does not. */
const FETCHES = [
  /<(?:script|img|source|iframe|video|audio|embed)\b[^>]*?\s(?:src|srcset)="([^"]+)"/g,
  /<link\b[^>]*?\shref="([^"]+)"/g,
  /@import\s+(?:url\()?["']?([^"')]+)/g,
  /url\(\s*["']?([^"')\s]+)/g,
];

export function siteFiles(folder: string): SiteFile[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .map((path) => ({
      path,
      text: TEXTS.test(path) ? readFileSync(join(folder, path), 'utf8') : '',
    }));
}

/** All that is wrong with a site that is served below `base`, a line each. */
export function faultsOf(files: readonly SiteFile[], base: string): string[] {
  const byPath = new Map(files.map((file) => [file.path, file]));
  const pages = files.filter(({ path }) => path.endsWith('.html') && !path.startsWith('files/'));
  return [
    ...files
      .filter(({ path }) => !path.startsWith('files/'))
      .flatMap((file) => foreignFetches(file).map((address) => `${file.path} fetches ${address}`)),
    ...pages.flatMap((page) =>
      deadLinks(page, byPath, base).map(
        (link) => `${page.path} links to ${link}, which is not there`,
      ),
    ),
  ];
}

function foreignFetches({ path, text }: SiteFile): string[] {
  const patterns = path.endsWith('.js') ? [/\bimport\s*\(?\s*["'](https?:[^"']+)/g] : FETCHES;
  return patterns
    .flatMap((pattern) => [...text.matchAll(pattern)].map((match) => match[1] ?? ''))
    .filter((address) => /^(https?:)?\/\//.test(address));
}

function deadLinks(page: SiteFile, byPath: ReadonlyMap<string, SiteFile>, base: string): string[] {
  const links = [...page.text.matchAll(/<(?:a|link)\b[^>]*?\shref="([^"]+)"/g)];
  const pictures = [...page.text.matchAll(/<img\b[^>]*?\ssrc="([^"]+)"/g)];
  return [...links, ...pictures]
    .map((match) => (match[1] ?? '').replace(/&amp;/g, '&'))
    .filter((link) => !/^([a-z]+:|\/\/)/.test(link))
    .filter((link) => !isThere(link, page, byPath, base));
}

function isThere(
  link: string,
  page: SiteFile,
  byPath: ReadonlyMap<string, SiteFile>,
  base: string,
): boolean {
  const [path = '', anchor] = link.split('#');
  const target = path === '' ? page : byPath.get(fileOf(path, page, base));
  if (target === undefined) return false;
  if (anchor === undefined || anchor === '') return true;
  return target.text.includes(` id="${decodeURIComponent(anchor)}"`);
}

function fileOf(path: string, page: SiteFile, base: string): string {
  const decoded = decodeURIComponent(path.replace(/\?.*$/, ''));
  const absolute = decoded.startsWith(base)
    ? decoded.slice(base.length)
    : join(dirname(page.path), decoded);
  return /(^|\/)$/.test(absolute) ? join(absolute, 'index.html') : absolute;
}

/** The bytes of all files of a folder. */
export function byteCountOf(folder: string): number {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
}
