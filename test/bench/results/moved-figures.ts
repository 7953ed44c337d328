/**
 * Changes that moved the figures of results pages, with the commits of the pages as they were before. A page that still
 * states such a commit is older than the change and says so; made again, it states another commit, and the mark goes.
 */

interface MovedFigures {
  /** The commit of the change. */
  readonly change: string;
  /** Completes "older than `commit`, which ...". */
  readonly what: string;
  /** Within `infra/results/`: the commits of each page before the change. */
  readonly pages: Readonly<Record<string, readonly string[]>>;
}

export const MOVED_FIGURES: readonly MovedFigures[] = [
  {
    change: 'e0e78222',
    what: 'renews the lifetime of a blob in the round trip that reads it',
    pages: { 'traffic.md': ['6afc234'] },
  },
  {
    change: '38cf4426',
    what: 'hashes the texts of requests in half of the time',
    pages: { 'serving-server.md': ['bfb81ed'] },
  },
  {
    change: '781ebeb9',
    what: 'names inputs in the folder of local workers by a sketch instead of SHA-256',
    pages: { 'scaling.md': ['79a0fb7'] },
  },
  {
    change: '607e97be',
    what: 'lets rows of small tasks train the trunk',
    pages: { 'real.md': ['41ec62a5'] },
  },
  {
    change: 'bda77e81',
    what: 'gives the candidates of a search dropout and decay of looked-up rows',
    pages: { 'real.md': ['41ec62a5'] },
  },
  {
    change: '4237d23b',
    what: 'lets a search begin with another candidate',
    pages: { 'real.md': ['41ec62a5', '18610c19'] },
  },
  {
    change: '9eb2e48a',
    what: 'lets a search choose the safest of the candidates that few adgroups cannot tell apart, among other candidates',
    pages: { 'real.md': ['41ec62a5', '18610c19'] },
  },
  {
    change: '3f481683',
    what: 'reads outputs into memory that earlier ones had',
    pages: { 'overhead.md': ['d034a877'] },
  },
  {
    change: '6a0a84d8',
    what: 'lets the dashboard read the workers of a queue without a look-up for each',
    pages: { 'dashboard.md': ['626a3066'] },
  },
  {
    change: '0f374edd',
    what: 'lets a search train its regression over encodings at a higher rate',
    pages: { 'real.md': ['41ec62a5', '9eb2e48a', '01f38a3b'] },
  },
  {
    change: '16432fba',
    what: 'leaves jobs to idle workers while a long one is computed',
    pages: { 'scaling.md': ['79a0fb7'] },
  },
  {
    change: '8668f31a',
    what: 'tells a result in the script that finishes its job',
    pages: { 'scaling.md': ['79a0fb7'], 'overhead.md': ['9fbee46a'] },
  },
  {
    change: '95726274',
    what: 'spends less on a request beside its scores',
    pages: { 'serving-server.md': ['afac9e93'] },
  },
  {
    change: '5e4ba40b',
    what: 'lets a search average the trials that validation cannot tell apart',
    pages: { 'real.md': ['41ec62a5', '9eb2e48a', '01f38a3b'] },
  },
  {
    change: 'd387890c',
    what: 'takes candidates that are objects apart in the addon',
    pages: { 'serving-server.md': ['d3c7f065'] },
  },
  {
    change: 'f2e35c90',
    what: 'lets a search encode values and pairs that it had left out, with less smoothing',
    pages: { 'real.md': ['41ec62a5', '9eb2e48a', '01f38a3b'] },
  },
  {
    change: 'ef1374e6',
    what: 'lets training adgroups judge where few adgroups validate',
    pages: { 'real.md': ['41ec62a5', '9eb2e48a', '01f38a3b', 'f2e35c90'] },
  },
  {
    change: 'a5647f43',
    what: 'lets a search over few training adgroups begin with the regression over encodings',
    pages: { 'real.md': ['41ec62a5', '9eb2e48a', '01f38a3b', 'f2e35c90'] },
  },
  {
    change: '1f415659',
    what: 'lets a search try a ridge regression over encodings, and begin with it over few training adgroups',
    pages: { 'real.md': ['41ec62a5', '9eb2e48a', '01f38a3b', 'f2e35c90'] },
  },
  {
    change: 'a5dd3de5',
    what: 'lets a refresh write the catalog by column, check files once and compile late',
    pages: { 'refresh.md': ['0b5e4e47'], 'refresh-million.md': ['0b5e4e47'] },
  },
  {
    change: '65cdcd66',
    what: 'puts two local workers into one main process',
    pages: { 'scaling.md': ['eff9a2c3'] },
  },
  {
    change: 'b8bf2e7f',
    what: 'lets a search draw fewer adgroups in more outer steps, and begin with a wide network',
    pages: {
      'real.md': ['41ec62a5', '01f38a3b', '5a2e6e32', 'bf0ad6d4', '9efe6f42', '08ce508c'],
    },
  },
  {
    change: '92586325',
    what: 'lets a search draw rows one by one, and plain models of the bench always',
    pages: {
      'real.md': [
        ...['41ec62a5', '01f38a3b', '5a2e6e32', 'bf0ad6d4', '9efe6f42', '08ce508c'],
        ...['87809916', '7fa3a2cd'],
      ],
    },
  },
  {
    change: 'a9c848c0',
    what: 'lets all trials of a search with 30 validation adgroups or more continue while its time lasts',
    pages: { 'real.md': ['6f9c9e58'] },
  },
  {
    change: '5834e413',
    what: 'scores trials that shift alone with the shift that is served',
    pages: { 'real.md': ['6f9c9e58', 'a9c848c0'] },
  },
  {
    change: '02aaf8d0',
    what: 'lets searches generate blocks, and average networks of two kinds',
    pages: { 'real.md': ['6f9c9e58', 'a9c848c0'] },
  },
];

/** The commits that a page states: `commit 6afc234`, ``Commit `6afc234` ``. */
export function statedCommits(page: string): string[] {
  const found = page.matchAll(/\bcommit `?([0-9a-f]{7,12})\b/gi);
  return [...new Set([...found].map(([, commit = '']) => commit))];
}

/** The lines that a page carries below its title, one for each change that it is older than. */
export function marksOf(name: string, page: string): string[] {
  const stated = statedCommits(page);
  return MOVED_FIGURES.flatMap(({ change, what, pages }) => {
    const old = (pages[name] ?? []).filter((commit) => stated.includes(commit));
    return old.length === 0
      ? []
      : [
          `> Figures of commit ${old.join(', commit ')} are older than \`${change}\`, which ${what}.`,
        ];
  });
}

/** A page as its bench wrote it. A mark stands alone between empty lines. */
export function withoutMarks(page: string): string {
  return page.replaceAll(/^> Figures of commit .*\n(?:\n|(?=> Figures of commit ))/gm, '');
}
