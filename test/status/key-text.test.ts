import { afterAll, beforeAll, expect, test } from 'vitest';
import { getSource } from '../../src/catalog/source.js';
import { keyText } from '../../src/status/key-text.js';
import { type Fixture, openFixture } from '../support/fixture.js';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await openFixture();
  await fixture.db.exec(`CREATE TABLE one (id bigint PRIMARY KEY, body text);
    CREATE TABLE two (tenant text, id bigint, body text, PRIMARY KEY (tenant, id))`);
  for (const table of ['one', 'two'])
    await fixture.add({ table, content: { columns: ['body'] }, model: 'fake/m@4', index: 'none' });
});
afterAll(() => fixture.close());

const textOf = async (name: string, key: Parameters<typeof keyText>[2]) =>
  keyText(fixture.db, await getSource(fixture.db, name), key);

test('a key beyond 2^53 is taken as it is, or refused; never another one', async () => {
  expect(await textOf('one', 9007199254740993n)).toBe('9007199254740993');
  expect(await textOf('one', '9007199254740993')).toBe('9007199254740993');
  const unsafe = Number('9007199254740993');
  await expect(textOf('one', unsafe)).rejects.toMatchObject({ code: 'key_invalid' });
  await expect(textOf('two', { tenant: 'x', id: unsafe })).rejects.toMatchObject({ code: 'key_invalid' });
  expect(await textOf('two', '["x",9007199254740993]')).toBe('["x", "9007199254740993"]');
  expect(await textOf('two', '{"id":9007199254740993,"tenant":"x"}')).toBe('["x", "9007199254740993"]');
  await expect(textOf('two', 'x')).rejects.toMatchObject({ code: 'key_invalid' });
});
