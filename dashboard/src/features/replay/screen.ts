// A recorded terminal at any moment: writes on when time goes on, and from the beginning when it goes back.
//
// Laws:
// 1. One hand writes. What is wanted meanwhile is looked at after each part, so a scrubber may be moved faster than
//    a terminal can be drawn.
// 2. Nothing is sent anywhere: a recorded program's queries stay without an answer.

import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import { countUntil, type Recording } from './recording.ts';

const SCROLLBACK_LINES = 2_000;
const FONT_PX_MIN = 6;
const FONT_PX_MAX = 14;
/** Characters drawn before the wanted moment is looked at again. */
const PART_CHARS = 128 * 1024;
/** Makes a terminal as new, and forgets what was scrolled out. */
const AS_NEW = '\u001bc\u001b[3J';

export class ReplayScreen {
  readonly #terminal: Terminal;
  readonly #parent: HTMLElement;
  readonly #recording: Recording;
  readonly #observer: ResizeObserver;
  #wanted = 0;
  #done = 0;
  #isWriting = false;
  #isDisposed = false;

  constructor(parent: HTMLElement, recording: Recording) {
    this.#parent = parent;
    this.#recording = recording;
    const style = getComputedStyle(parent);
    this.#terminal = new Terminal({
      cols: recording.cols,
      rows: recording.rows,
      fontFamily: style.getPropertyValue('--mono'),
      fontSize: FONT_PX_MAX,
      scrollback: SCROLLBACK_LINES,
      disableStdin: true,
      cursorBlink: false,
      cursorInactiveStyle: 'outline',
      theme: { background: style.getPropertyValue('--terminal').trim(), foreground: '#d5dbe4', cursor: '#d5dbe4' },
    });
    this.#terminal.open(parent);
    this.#observer = new ResizeObserver(() => this.#fitLetters());
    this.#observer.observe(parent);
  }

  /** Shows what the terminal showed then. */
  show(at: number): void {
    this.#wanted = countUntil(this.#recording.pieces, at);
    if (!this.#isWriting) void this.#catchUp();
  }

  dispose(): void {
    this.#isDisposed = true;
    this.#observer.disconnect();
    this.#terminal.dispose();
  }

  async #catchUp(): Promise<void> {
    this.#isWriting = true;
    while (this.#done !== this.#wanted && !this.#isDisposed) {
      if (this.#wanted < this.#done) {
        await this.#write(AS_NEW);
        this.#resize(this.#recording.cols, this.#recording.rows);
        this.#done = 0;
        continue;
      }
      let text = '';
      while (this.#done < this.#wanted && text.length < PART_CHARS) {
        const piece = this.#recording.pieces[this.#done];
        if (piece?.type === 'resize') {
          if (text !== '') break;
          this.#resize(piece.cols, piece.rows);
        } else if (piece?.type === 'output') {
          text += piece.text;
        }
        this.#done += 1;
      }
      await this.#write(text);
    }
    this.#isWriting = false;
  }

  #write(text: string): Promise<void> {
    return text === '' || this.#isDisposed ? Promise.resolve() : new Promise((resolve) => this.#terminal.write(text, resolve));
  }

  #resize(cols: number, rows: number): void {
    if (this.#isDisposed || (cols === this.#terminal.cols && rows === this.#terminal.rows)) return;
    this.#terminal.resize(Math.max(2, cols), rows);
    this.#fitLetters();
  }

  /** Makes the letters as large as there is room for. */
  #fitLetters(): void {
    const screen = this.#parent.querySelector<HTMLElement>('.xterm-screen');
    if (this.#isDisposed || screen === null || screen.clientWidth === 0) return;
    const font = this.#terminal.options.fontSize ?? FONT_PX_MAX;
    const box = this.#parent.getBoundingClientRect();
    const share = Math.min((box.width - 16) / screen.clientWidth, box.height / screen.clientHeight);
    const wanted = Math.min(FONT_PX_MAX, Math.max(FONT_PX_MIN, Math.floor(font * share * 2) / 2));
    if (wanted !== font) this.#terminal.options.fontSize = wanted;
  }
}
