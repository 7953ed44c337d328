/** The order of the documentation: one list, of which the site makes its navigation and its sidebar in both languages. */

type Language = 'en' | 'zh';

interface Section {
  readonly title: Readonly<Record<Language, string>>;
  /** Pages below infra/docs. */
  readonly pages: readonly string[];
}

const SECTIONS: readonly Section[] = [
  {
    title: { en: 'Start', zh: '入门' },
    pages: ['tutorial/own-logs-to-ranking.md', 'concepts.md', 'results.md'],
  },
  {
    title: { en: 'How to', zh: '操作指南' },
    pages: [
      'own-logs.md',
      'auto/auto.md',
      'evaluation.md',
      'bundles.md',
      'serving.md',
      'exploration.md',
      'machines.md',
      'plugins.md',
      'market/market.md',
    ],
  },
  {
    title: { en: 'Operation', zh: '运维' },
    pages: [
      'operation/deployment.md',
      'operation/watching.md',
      'operation/metrics.md',
      'operation/trackers.md',
      'operation/dashboard.md',
      'runbook.md',
      'fault-matrix.md',
      'determinism.md',
    ],
  },
  {
    title: { en: 'Reference', zh: '参考' },
    pages: [
      'command-line.md',
      'configuration.md',
      'expressions.md',
      'methods.md',
      'library.md',
      'engine.md',
      'architecture.md',
    ],
  },
];

interface NavigationLink {
  readonly text: string;
  readonly link: string;
}

interface Navigation {
  readonly nav: readonly NavigationLink[];
  readonly sidebar: readonly { readonly text: string; readonly items: readonly NavigationLink[] }[];
}

/** The navigation of a language. `headingOf` gives the first heading of a page below infra/docs, or null if it has none. */
export function navigationOf(
  language: Language,
  headingOf: (page: string) => string | null,
): Navigation {
  const below = language === 'en' ? '' : `${language}/`;
  const linkTo = (page: string): NavigationLink => ({
    text: headingOf(`${below}${page}`) ?? headingOf(page) ?? page,
    link: `/${below}${page.replace(/\.md$/, '')}`,
  });
  const sidebar = SECTIONS.map(({ title, pages }) => ({
    text: title[language],
    items: pages.map(linkTo),
  }));
  const nav = SECTIONS.flatMap(({ title, pages: [first] }) =>
    first === undefined ? [] : [{ text: title[language], link: linkTo(first).link }],
  );
  const records = [
    { text: { en: 'Measurements', zh: '测量记录' }[language], link: '/results/' },
    { text: { en: 'Decisions', zh: '设计决策' }[language], link: '/decisions/' },
  ];
  return {
    nav,
    sidebar: [...sidebar, { text: { en: 'Records', zh: '记录' }[language], items: records }],
  };
}
