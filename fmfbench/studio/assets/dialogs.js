// Questions and explanations above the page. Text is always text, whatever a recording is called.

import { element } from "./drawing.js";

function open(title, content, buttons, escape) {
  return new Promise((resolve) => {
    const heading = element("h2", { id: "dialog-title" }, title);
    const row = element("div", { className: "row" });
    const dialog = element("dialog", {}, heading, ...content, row);
    dialog.setAttribute("aria-labelledby", "dialog-title");
    let answer = escape;
    for (const [value, text] of buttons) {
      const press = () => {
        answer = value;
        dialog.close();
      };
      row.append(element("button", { type: "button", onclick: press }, text));
    }
    dialog.addEventListener("cancel", (event) => {
      if (escape === undefined) event.preventDefault(); // a choice has to be made
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(answer);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Ask for one of [[value, text], ...]; the promise gives the value. */
export const ask = (title, text, choices) => open(title, [element("p", {}, text)], choices);

/** Show elements and close again. */
export const show = (title, ...content) => open(title, content, [[null, "Close"]], null);

/** Elements with buttons, Escape among the answers: null. */
export const form = (title, content, choices) => open(title, content, [...choices, [null, "Cancel"]], null);
