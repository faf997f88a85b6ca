// Dark, light, or what the system prefers. A matter of the screen, hence kept in this browser and not on the server.

export type Theme = 'system' | 'dark' | 'light';

const KEY = 'mosaic.theme';

export class ThemeStore {
  theme = $state<Theme>('system');
  /** What is shown now. */
  isDark = $state(true);
  readonly #preference = matchMedia('(prefers-color-scheme: light)');

  constructor() {
    const kept = localStorage.getItem(KEY);
    this.theme = kept === 'dark' || kept === 'light' ? kept : 'system';
    this.#preference.addEventListener('change', () => this.#apply());
    this.#apply();
  }

  next(): void {
    this.theme = this.theme === 'system' ? (this.isDark ? 'light' : 'dark') : this.theme === 'dark' ? 'light' : 'dark';
    localStorage.setItem(KEY, this.theme);
    this.#apply();
  }

  #apply(): void {
    this.isDark = this.theme === 'dark' || (this.theme === 'system' && !this.#preference.matches);
    document.documentElement.dataset['theme'] = this.isDark ? 'dark' : 'light';
  }
}
