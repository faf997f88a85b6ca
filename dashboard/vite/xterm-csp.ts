// Lets xterm.js run under a content security policy without `unsafe-inline`.
//
// xterm 6.0 writes its theme and sizes into <style> elements and 24-bit colours into `style` attributes. A strict
// policy forbids both, and allows the same through the object model: constructed style sheets and style properties.
// xterm has no option for that (its issue 4445), so its four places are rewritten when the page is built.
//
// Law: a version of xterm in which these places are not found fails the build instead of shipping a broken terminal.

import type { Plugin } from 'vite';

const STYLE_ELEMENT = /[\w$.]+\.createElement\("style"\)/g;
const STYLE_ATTRIBUTE = /(\w+)\.setAttribute\("style",`\$\{\1\.getAttribute\("style"\)\|\|""\}\$\{(\w+)\};`\)/g;

/** Stands in for a <style> element: an inert element whose text goes into an adopted style sheet. */
const STAND_IN = `
function mosaicStyleElement() {
  const element = document.createElement('template');
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  Object.defineProperty(element, 'textContent', { set: (text) => sheet.replaceSync(text) });
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((adopted) => adopted !== sheet);
    Element.prototype.remove.call(element);
  };
  return element;
}
`;

export function rewriteXterm(code: string): string {
  const elements = code.match(STYLE_ELEMENT)?.length ?? 0;
  const attributes = code.match(STYLE_ATTRIBUTE)?.length ?? 0;
  if (elements !== 3 || attributes !== 1) {
    throw new Error(
      `xterm has changed how it writes styles (${elements} elements, ${attributes} attributes; known are 3 and 1): look at it again in vite/xterm-csp.ts`,
    );
  }
  return code.replace(STYLE_ELEMENT, 'mosaicStyleElement()').replace(STYLE_ATTRIBUTE, '($1.style.cssText+=$2+";")') + STAND_IN;
}

export function xtermUnderCsp(): Plugin {
  return {
    name: 'mosaic-xterm-csp',
    apply: 'build',
    transform: {
      filter: { id: /@xterm\/xterm\/lib\/xterm\.mjs$/ },
      handler: (code) => ({ code: rewriteXterm(code), map: null }),
    },
  };
}
