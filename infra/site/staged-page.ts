/** A page of the repository as the site shows it: links that lead out of the site are rewritten, no other word is. */

import { dirname, join, relative } from 'node:path/posix';

/** The place of a folder's pages in the site. */
const PLACES: readonly (readonly [folder: string, place: string])[] = [
  ['infra/docs/', ''],
  ['infra/decisions/', 'decisions/'],
  ['infra/results/', 'results/'],
];
const FILES = 'files/';
/** The folder whose list the site makes: it has no README. */
const DECISIONS = 'infra/decisions';

/** A page that is copied, or null: `decisions/0001-rooms-and-contracts.md` for the decision. */
export function placeOf(path: string): string | null {
  if (path === 'README.md') return 'readme.md';
  if (!path.endsWith('.md')) return null;
  const [folder, place] = PLACES.find(([each]) => path.startsWith(each)) ?? [];
  if (folder === undefined || place === undefined) return null;
  return `${place}${path.slice(folder.length)}`.replace(/(^|\/)README\.md$/, '$1index.md');
}

interface StagedPage {
  readonly text: string;
  /** Files of the repository that the page links to or shows, which are copied beside the pages. */
  readonly files: readonly string[];
}

interface Staging {
  /** Whether a path of the repository is a file. */
  readonly isFile: (path: string) => boolean;
  /** The path that the site is served below, such as `/`. */
  readonly base: string;
  /**
   * A folder of the site that shall have the page and those of infra/docs that it links to, such as `zh/`. A link to
   * an anchor leads to the original, whose headings have that name.
   */
  readonly below: string;
}

/** A file in the site, below `files/`. */
export function fileAddress(path: string, base: string): string {
  return `${base}${FILES}${path}`;
}

export function stagedPage(path: string, source: string, staging: Staging): StagedPage {
  const files = new Set<string>();
  const fileLink = (target: string): string => {
    files.add(target);
    return fileAddress(target, staging.base);
  };
  const text = outsideOfCode(source, (prose) =>
    withPictures(prose, (target) => fileLink(join(dirname(path), target))).replace(
      /(?<!!)\[((?:[^[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)/g,
      (whole: string, label: string, target: string) => {
        if (/^[a-z]+:/.test(target) || target.startsWith('#')) return whole;
        const [file = '', anchor] = target.split('#');
        const wanted = join(dirname(path), file).replace(/\/$/, '');
        const page = [wanted, `${wanted}/README.md`].find((each) => placeOf(each) !== null);
        if (page !== undefined || wanted === DECISIONS) {
          const below = anchor === undefined ? staging.below : '';
          const place = page === undefined ? 'decisions/index.md' : placeBelow(page, below);
          return `[${label}](${linkBetween(placeBelow(path, staging.below), place)}${hash(anchor)})`;
        }
        if (staging.isFile(wanted)) return anchorElement(fileLink(wanted), label);
        return label.includes(wanted) ? label : `${label} (\`${wanted}\`)`;
      },
    ),
  );
  return { text, files: [...files] };
}

/** The place of a page, for pages of infra/docs in the folder `below`. */
function placeBelow(path: string, below: string): string {
  const place = placeOf(path) ?? path;
  return path.startsWith('infra/docs/') && !place.startsWith(below) ? `${below}${place}` : place;
}

function hash(anchor: string | undefined): string {
  return anchor === undefined ? '' : `#${anchor}`;
}

function linkBetween(from: string, page: string): string {
  const link = relative(dirname(from), page);
  return link.startsWith('.') ? link : `./${link}`;
}

/** An element instead of a Markdown link, since VitePress takes paths without a known ending for pages. */
function anchorElement(address: string, label: string): string {
  const code = label.replace(/`([^`]*)`/g, '<code>$1</code>');
  return `<a href="${address}" target="_self">${code}</a>`;
}

/** Both variants of a picture, of which the theme shows the one of its colours. */
function withPictures(prose: string, addressOf: (target: string) => string): string {
  const pictures =
    /<picture>\s*<source[^>]*srcset="([^"]+)"[^>]*>\s*<img alt="([^"]*)"[^>]*src="([^"]+)"[^>]*>\s*<\/picture>/g;
  return prose
    .replace(pictures, (_whole, dark: string, alt: string, light: string) =>
      [
        `<img class="shown-in-light" alt="${alt}" :src="'${addressOf(light)}'">`,
        `<img class="shown-in-dark" alt="${alt}" :src="'${addressOf(dark)}'">`,
      ].join('\n'),
    )
    .replace(/!\[([^\]]*)\]\(([^)\s]+)\)/g, (_whole, alt: string, target: string) =>
      /^[a-z]+:/.test(target) ? '' : `<img alt="${alt}" :src="'${addressOf(target)}'">`,
    );
}

/** Applies a change to the text between code blocks and code spans. */
function outsideOfCode(source: string, change: (prose: string) => string): string {
  return source
    .split(/(^```[\s\S]*?^```$)/gm)
    .map((part) => (part.startsWith('```') ? part : change(part)))
    .join('');
}
