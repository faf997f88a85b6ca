import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Turns } from './frame.ts';

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal('requestAnimationFrame', (run: () => void) => setTimeout(run, 16));
  vi.stubGlobal('cancelAnimationFrame', (id: ReturnType<typeof setTimeout>) => clearTimeout(id));
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function painters(count: number) {
  const turns = new Turns(() => undefined);
  const drawn = Array.from({ length: count }, () => 0);
  const all = drawn.map((_, i) => turns.join(() => (drawn[i] = (drawn[i] ?? 0) + 1)));
  return { drawn, all };
}

describe('turns', () => {
  it('draw a lone change with the next frame, once however often it is asked for', () => {
    const { drawn, all } = painters(1);
    for (let i = 0; i < 50; i += 1) all[0]?.request();
    vi.advanceTimersByTime(20);
    expect(drawn).toEqual([1]);
    vi.advanceTimersByTime(1_000);
    expect(drawn).toEqual([1]);
  });

  it('are taken by all in the same measure', () => {
    const { drawn, all } = painters(40);
    for (let ms = 0; ms < 4_000; ms += 10) {
      for (const each of all) each.request();
      vi.advanceTimersByTime(10);
    }
    expect(Math.max(...drawn) - Math.min(...drawn)).toBeLessThanOrEqual(1);
    expect(Math.min(...drawn)).toBeGreaterThan(10);
  });

  it('rest longer when drawing is dear, up to a bound', () => {
    const cheap = new Turns(() => undefined);
    expect(cheap.restMs()).toBe(80);
    let wait = 0;
    const dear = new Turns(() => (wait += 40));
    vi.spyOn(performance, 'now').mockImplementation(() => Date.now() + wait);
    const all = Array.from({ length: 16 }, () => dear.join(() => undefined));
    for (let ms = 0; ms < 3_000; ms += 10) {
      for (const each of all) each.request();
      vi.advanceTimersByTime(10);
    }
    expect(dear.restMs()).toBe(250);
    vi.restoreAllMocks();
  });

  it('draw one with a first change at once, also while others rest', () => {
    const { drawn, all } = painters(2);
    all[0]?.request();
    vi.advanceTimersByTime(20);
    all[0]?.request();
    all[1]?.request();
    vi.advanceTimersByTime(20);
    expect(drawn).toEqual([1, 1]);
    vi.advanceTimersByTime(200);
    expect(drawn).toEqual([2, 1]);
  });

  it('draw in a page without frames, and nothing that has left', () => {
    vi.stubGlobal('requestAnimationFrame', () => 0);
    const { drawn, all } = painters(2);
    all[0]?.request();
    all[1]?.request();
    all[1]?.leave();
    vi.advanceTimersByTime(1_000);
    expect(drawn).toEqual([1, 0]);
  });
});
