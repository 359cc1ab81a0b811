/** One line of Prometheus's text format. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*/;
const LABEL = /^([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|(?=\}))/;

/**
 * Reads the text format 0.0.4 as a scraper does, and refuses what one would: a line of another form, a family without
 * TYPE or said twice, and the same series twice.
 */
export function parse(text: string): Sample[] {
  if (!text.endsWith('\n')) throw new Error('the last line must end with a line feed');
  const types = new Map<string, string>();
  const samples = new Map<string, Sample>();
  for (const line of text.split('\n').filter((each) => each !== '')) {
    const [, family, type] = /^# TYPE (\S+) (counter|gauge|histogram|summary|untyped)$/.exec(line) ?? [];
    if (family !== undefined && type !== undefined) {
      if (types.has(family)) throw new Error(`${family} has two types`);
      types.set(family, type);
    } else if (!/^# HELP \S+ /.test(line)) {
      const sample = parseSample(line);
      if (!familyOf(sample.name, types)) throw new Error(`no type: ${line}`);
      const series = JSON.stringify([sample.name, Object.entries(sample.labels).sort()]);
      if (samples.has(series)) throw new Error(`twice: ${line}`);
      samples.set(series, sample);
    }
  }
  return [...samples.values()];
}

function parseSample(line: string): Sample {
  const [name] = NAME.exec(line) ?? [];
  if (name === undefined) throw new Error(`no sample: ${line}`);
  let rest = line.slice(name.length);
  const labels: Record<string, string> = {};
  if (rest.startsWith('{')) {
    rest = rest.slice(1);
    for (let found = LABEL.exec(rest); found; found = LABEL.exec(rest)) {
      const [whole, label = '', value = ''] = found;
      labels[label] = value.replaceAll(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c));
      rest = rest.slice(whole.length);
    }
    if (!rest.startsWith('}')) throw new Error(`bad labels: ${line}`);
    rest = rest.slice(1);
  }
  const value = /^ (\S+)$/.exec(rest)?.[1] ?? '';
  const number = value === '+Inf' ? Number.POSITIVE_INFINITY : value === 'Nan' ? Number.NaN : Number(value);
  if (value === '' || (Number.isNaN(number) && value !== 'Nan')) throw new Error(`bad value: ${line}`);
  return { name, labels, value: number };
}

function familyOf(name: string, types: ReadonlyMap<string, string>): boolean {
  if (types.has(name)) return true;
  return (
    types.get(name.replace(/_(bucket|sum|count)$/, '')) === 'histogram' ||
    types.get(name.replace(/_(sum|count)$/, '')) === 'summary'
  );
}

/** The samples of one name as `{ 'value of label a,value of label b': number }`. */
export function valuesOf(samples: readonly Sample[], name: string, ...labels: string[]): Record<string, number> {
  return Object.fromEntries(
    samples
      .filter((sample) => sample.name === name)
      .map((sample) => [labels.map((label) => sample.labels[label] ?? '').join(','), sample.value]),
  );
}
