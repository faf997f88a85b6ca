// Notifications of the browser: only for those who asked for them, and only while nobody looks at the page.

export type NotifyState = 'unsupported' | 'off' | 'on' | 'blocked';

const KEY = 'mosaic.notify';

export class Notify {
  #isWanted = $state(localStorage.getItem(KEY) === 'on');
  #permission = $state<NotificationPermission | null>('Notification' in globalThis ? Notification.permission : null);

  get state(): NotifyState {
    if (this.#permission === null) return 'unsupported';
    if (this.#permission === 'denied') return 'blocked';
    return this.#isWanted && this.#permission === 'granted' ? 'on' : 'off';
  }

  /** Turns them on, which asks the person, or off. */
  async toggle(): Promise<void> {
    if (this.state === 'on') this.#want(false);
    else if (this.#permission !== null) {
      this.#permission = await Notification.requestPermission();
      this.#want(this.#permission === 'granted');
    }
  }

  /** Tells of something, if it is wanted and nobody looks. The same `tag` replaces what was told before. */
  tell(title: string, body: string, tag: string, onclick: () => void): void {
    if (this.state !== 'on' || (document.visibilityState === 'visible' && document.hasFocus())) return;
    const shown = new Notification(title, { body, tag });
    shown.onclick = () => {
      window.focus();
      onclick();
      shown.close();
    };
  }

  #want(isWanted: boolean): void {
    this.#isWanted = isWanted;
    localStorage.setItem(KEY, isWanted ? 'on' : 'off');
  }
}
