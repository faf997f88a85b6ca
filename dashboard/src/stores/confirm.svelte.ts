// The one way to ask before something destructive is done.

export interface Question {
  title: string;
  text: string;
  /** What the button that does it says. */
  action: string;
  cancel: string;
}

export class Confirm {
  question = $state.raw<Question | null>(null);
  #answer: ((yes: boolean) => void) | null = null;

  /** True if the person agreed. A second question withdraws the first. */
  ask(question: Question): Promise<boolean> {
    this.#answer?.(false);
    this.question = question;
    return new Promise((resolve) => (this.#answer = resolve));
  }

  answer(yes: boolean): void {
    const answer = this.#answer;
    this.#answer = null;
    this.question = null;
    answer?.(yes);
  }
}
