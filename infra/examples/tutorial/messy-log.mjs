// The log of the tutorial: 30,000 impressions of 300 ad groups, as an export of some ad server may look.
// Ad groups differ in how often they are clicked and in who clicks them. Every run writes the same bytes.
//
//   node messy-log.mjs > clicks.csv
const ADGROUPS = 300;
const ROWS = 30_000;
const SITES = ['news.example', 'sport.example', 'mail.example', 'video.example', 'cook.example'];
const DEVICES = ['phone', 'tablet', 'desktop'];
const INTERESTS = ['running', 'football', 'cooking', 'travel', 'music', 'games'];
const FIRST_SECOND = Date.UTC(2026, 9, 1) / 1000;
const SECONDS = 30 * 86_400;

/** A stream of numbers in [0, 1) that depends on the seed alone (mulberry32). */
function randomStream(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const random = randomStream(20261001);
const pick = (list) => list[Math.floor(random() * list.length)];
const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

/** What makes ad groups different: a level, a taste for devices and one interest. */
const adgroups = Array.from({ length: ADGROUPS }, (_, index) => ({
  name: `AG-${String(index + 1).padStart(4, '0')}`,
  level: -1.7 + 0.8 * normal(),
  byDevice: DEVICES.map(() => 0.6 * normal()),
  interest: pick(INTERESTS),
  price: Math.exp(3 + normal()),
  weight: 1 / (index + 15),
}));
const weightSum = adgroups.reduce((sum, { weight }) => sum + weight, 0);

function pickAdgroup() {
  let rest = random() * weightSum;
  return adgroups.find(({ weight }) => (rest -= weight) < 0) ?? adgroups[0];
}

function impression(second) {
  const adgroup = pickAdgroup();
  const device = Math.floor(random() * DEVICES.length);
  const interests = INTERESTS.filter(() => random() < 0.3);
  const site = pick(SITES);
  const hour = Math.floor(second / 3600) % 24;
  const logit =
    adgroup.level +
    adgroup.byDevice[device] +
    (interests.includes(adgroup.interest) ? 0.9 : 0) +
    (site === 'mail.example' ? -0.5 : 0) +
    (hour >= 19 ? 0.4 : 0);
  const isClicked = random() < 1 / (1 + Math.exp(-logit));
  return { adgroup, device: DEVICES[device], interests, site, isClicked };
}

/** A line of the log, with the flaws that such logs have. */
function lineOf(second, { adgroup, device, interests, site, isClicked }) {
  const time = new Date(second * 1000).toISOString().slice(0, 19).replace('T', ' ');
  const price = random() < 0.05 ? '' : adgroup.price.toFixed(2).replace('.', ',');
  const name = random() < 0.002 ? '' : adgroup.name;
  const shownSite = random() < 0.1 ? ` ${site.toUpperCase()}` : site;
  const clicked = random() < 0.001 ? '?' : isClicked ? 'yes' : 'no';
  return [time, name, clicked, shownSite, device, interests.join(' '), price].join(';');
}

const seconds = Array.from({ length: ROWS }, () => FIRST_SECOND + Math.floor(random() * SECONDS));
const lines = seconds.sort((a, b) => a - b).map((second) => lineOf(second, impression(second)));
process.stdout.write(
  `shown at;ad group;clicked;site;device;interests;price\n${lines.join('\n')}\n`,
);
