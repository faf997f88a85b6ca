// Copies a text. Where the browser has no clipboard (plain HTTP), by way of a selection.

/** `area` holds the text, and stands where it can be selected: inside of the dialog, if one is open. */
export async function copyText(text: string, area: HTMLTextAreaElement | null): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    area?.select();
    return area !== null && document.execCommand('copy');
  }
}
