import { expect, it } from 'vitest';
import { browserName } from './browser.ts';

it('a browser has its own name, not one of those it also claims', () => {
  expect(browserName('Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/148.0.0.0 Safari/537.36')).toBe('Chrome 148 on Linux');
  expect(browserName('Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/148.0.0.0 Safari/537.36 Edg/148.0.0.0')).toBe('Edge 148 on Windows');
  expect(browserName('Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.1 Safari/605.1.15')).toBe('Safari 26 on macOS');
  expect(browserName('Mozilla/5.0 (Android 16; Mobile; rv:150.0) Gecko/150.0 Firefox/150.0')).toBe('Firefox 150 on Android');
  expect([browserName('curl/8.9'), browserName('')]).toEqual(['curl/8.9', 'unknown']);
});
